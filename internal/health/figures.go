package health

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vlaring/vlaring/pkg/cluster"
	"github.com/vlaring/vlaring/pkg/run"
)

// figures are a run's, as a coordinator's screen is told of it. Each metric has a
// lock of its own; mu is of what lies below it.
type figures struct {
	all []prometheus.Collector

	step, rate, loss, norm, lr, lastStep prometheus.Gauge
	heldStep, generation, stored, at     prometheus.Gauge
	steps, samples, refused              prometheus.Counter
	joins, losses, checkpoints           prometheus.Counter
	took                                 prometheus.Histogram
	parts, said                          *prometheus.CounterVec
	held, workers, phases                *prometheus.GaugeVec

	batch   float64 // samples of a step
	mu      sync.Mutex
	members map[string]int // pid, by worker
	saved   time.Time
}

// phases are the values of a label.
var phases = []cluster.Phase{cluster.Gathering, cluster.Forming, cluster.Running, cluster.Settling, cluster.Paused, cluster.Saving, cluster.Ended}

// newFigures are those of a run of so many steps of batch samples each.
func newFigures(steps, batch int) *figures {
	f := &figures{batch: float64(batch), members: map[string]int{}, saved: time.Now()}
	f.step = f.gauge("run_step", "Newest committed step.")
	f.gauge("run_planned_steps", "Steps that the job has (train.steps).").Set(float64(steps))
	f.lastStep = f.gauge("run_last_step_timestamp_seconds", "When the newest step was committed, in seconds since 1970; of this process's start before the first.")
	f.lastStep.SetToCurrentTime()
	f.steps = f.counter("run_steps_total", "Steps that were committed since this process began.")
	f.samples = f.counter("run_samples_total", "Samples of those steps.")
	f.refused = f.counter("run_refused_steps_total", "Steps that made no update: a loss or a gradient was not finite, or there was no target.")
	f.rate = f.gauge("run_samples_per_second", "Samples of the newest step over the time that it took.")
	f.loss = f.gauge("run_loss", "Training loss of the newest step that made an update.")
	f.norm = f.gauge("run_gradient_norm", "Norm of that step's gradient.")
	f.lr = f.gauge("run_learning_rate", "Learning rate of that step.")
	f.took = prometheus.NewHistogram(prometheus.HistogramOpts{Name: "vlaring_run_step_duration_seconds", Help: "Time of steps, that of the slowest rank.",
		Buckets: prometheus.ExponentialBuckets(0.004, 2.5, 12)})
	f.all = append(f.all, f.took)
	f.parts = f.counters("run_part_seconds_total", "part", "Time of the parts of steps, of the slowest rank in each; parts overlap.")
	f.held = f.gauges("run_heldout", "metric", "Newest held-out measures; loss, and what else the head has.")
	f.heldStep = f.gauge("run_heldout_step", "Step of the checkpoint that they are of.")

	f.workers = f.gauges("cluster_workers", "state", "Workers that take part in steps (training), follow them without computing (spare), or do neither yet (waiting).")
	f.phases = f.gauges("cluster_phase", "phase", "1 for the phase that the job is in, 0 for the others.")
	f.generation = f.gauge("cluster_generation", "Generation of the newest step: it grows whenever somebody comes, goes or fails.")
	f.joins = f.counter("cluster_joins_total", "Workers that have joined since this process began.")
	f.losses = f.counter("cluster_losses_total", "Workers that have gone since then, for whatever reason.")

	f.stored = f.gauge("checkpoint_step", "Step of the newest checkpoint; 0 for none.")
	f.at = f.gauge("checkpoint_timestamp_seconds", "When it was stored, in seconds since 1970; where it was there before, when this process began.")
	f.at.SetToCurrentTime()
	f.checkpoints = f.counter("checkpoint_stored_total", "Checkpoints that were stored since this process began.")
	f.all = append(f.all, prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "vlaring_checkpoint_age_seconds", Help: "Time since then: what a loss of all workers would cost."}, func() float64 {
		f.mu.Lock()
		defer f.mu.Unlock()
		return time.Since(f.saved).Seconds()
	}))
	f.said = f.counters("log_messages_total", "level", "Lines of the log.")
	for _, l := range []string{"warn", "error"} {
		f.said.WithLabelValues(l)
	}
	for _, s := range []string{"training", "spare", "waiting"} {
		f.workers.WithLabelValues(s)
	}
	f.phase(cluster.Gathering)
	return f
}

func (f *figures) gauge(name, help string) prometheus.Gauge {
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: "vlaring_" + name, Help: help})
	f.all = append(f.all, g)
	return g
}

func (f *figures) counter(name, help string) prometheus.Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: "vlaring_" + name, Help: help})
	f.all = append(f.all, c)
	return c
}

func (f *figures) gauges(name, label, help string) *prometheus.GaugeVec {
	v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "vlaring_" + name, Help: help}, []string{label})
	f.all = append(f.all, v)
	return v
}

func (f *figures) counters(name, label, help string) *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "vlaring_" + name, Help: help}, []string{label})
	f.all = append(f.all, v)
	return v
}

var _ prometheus.Collector = (*figures)(nil)

// Describe and Collect are prometheus.Collector's.
func (f *figures) Describe(c chan<- *prometheus.Desc) {
	for _, m := range f.all {
		m.Describe(c)
	}
}

func (f *figures) Collect(c chan<- prometheus.Metric) {
	for _, m := range f.all {
		m.Collect(c)
	}
}

// stepped counts a committed step.
func (f *figures) stepped(m run.Metrics) {
	f.step.Set(float64(m.Step))
	f.lastStep.SetToCurrentTime()
	f.steps.Inc()
	f.samples.Add(f.batch)
	f.generation.Set(float64(m.Generation))
	f.rate.Set(m.SamplesSec)
	f.took.Observe(m.Time.Step)
	for part, s := range map[string]float64{"data": m.Time.Data, "forward": m.Time.Forward, "backward": m.Time.Backward, "ring": m.Time.Ring, "optimizer": m.Time.Optimizer, "hash": m.Time.Hash} {
		f.parts.WithLabelValues(part).Add(max(s, 0))
	}
	if m.Refused != "" {
		f.refused.Inc()
		return
	}
	f.loss.Set(m.Loss)
	f.norm.Set(m.GradNorm)
	f.lr.Set(m.LR)
}

// roll shows who takes part.
func (f *figures) roll(phase cluster.Phase, members []cluster.Member) {
	var training, spare, waiting float64
	now := make(map[string]int, len(members))
	for _, m := range members {
		now[m.Worker] = m.PID
		switch {
		case m.Spare:
			spare++
		case m.Status == cluster.Listening || m.Status == cluster.Stepping:
			training++
		default:
			waiting++
		}
	}
	f.workers.WithLabelValues("training").Set(training)
	f.workers.WithLabelValues("spare").Set(spare)
	f.workers.WithLabelValues("waiting").Set(waiting)
	f.phase(phase)
	f.mu.Lock()
	defer f.mu.Unlock()
	for worker, pid := range f.members {
		if now[worker] != pid {
			f.losses.Inc()
		}
	}
	for worker, pid := range now {
		if f.members[worker] != pid {
			f.joins.Inc()
		}
	}
	f.members = now
}

func (f *figures) phase(is cluster.Phase) {
	for _, p := range phases {
		v := 0.0
		if p == is {
			v = 1
		}
		f.phases.WithLabelValues(p.String()).Set(v)
	}
}

// keep counts a checkpoint; the first that is told of was there before.
func (f *figures) keep(step uint64, stored bool) {
	f.stored.Set(float64(step))
	if !stored {
		return
	}
	f.checkpoints.Inc()
	f.at.SetToCurrentTime()
	f.mu.Lock()
	f.saved = time.Now()
	f.mu.Unlock()
}
