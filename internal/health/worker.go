package health

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vlaring/vlaring/pkg/worker"
)

// unheard is for how long a coordinator may say nothing and its worker still takes part.
const unheard = 10 * time.Second

// Worker shows how a worker does, from before it has found its job.
type Worker struct {
	standing atomic.Pointer[func() worker.Standing]
}

// Watch says whose standing it is from now on.
func (w *Worker) Watch(standing func() worker.Standing) { w.standing.Store(&standing) }

func (w *Worker) now() worker.Standing {
	if f := w.standing.Load(); f != nil {
		return (*f)()
	}
	return worker.Standing{}
}

// Serve shows it until end is called, and has say tell where. A part of a step that
// goes on here for longer than hang, without another rank being waited for, is taken
// for one that never ends; 0: none is.
func (w *Worker) Serve(o Options, hang time.Duration, say func(text string)) (end func(), err error) {
	return show(o, func() error { return hung(w.now(), hang, time.Now()) }, func() error { return takesPart(w.now()) }, say, standings(w.now))
}

func hung(s worker.Standing, hang time.Duration, now time.Time) error {
	if d := now.Sub(s.Looked); !s.Looked.IsZero() && d > stuck {
		return fmt.Errorf("the worker has not looked at its messages for %v", d.Round(time.Second))
	}
	if hang > 0 && s.Busy > hang {
		return fmt.Errorf("the step after %d stands still here: the same part of it has gone on for %v, and --hang-timeout is %v", s.Step, s.Busy.Round(time.Second), hang)
	}
	return nil
}

func takesPart(s worker.Standing) error {
	switch {
	case !s.Loaded:
		return errors.New("it has not joined and loaded the job yet")
	case s.Silence > unheard:
		return fmt.Errorf("no coordinator has been heard for %v", s.Silence.Round(time.Second))
	}
	return nil
}

// standings are a worker's figures: its standing at the moment of a scrape.
type standings func() worker.Standing

// figure is one of them.
type figure struct {
	name, help string
	kind       prometheus.ValueType
	of         func(s worker.Standing) map[string]float64 // by the label's value
	label      string                                     // empty: none
}

// only is a figure without a label.
func only(v float64) map[string]float64 { return map[string]float64{"": v} }

var workerFigures = []figure{
	{"worker_step", "Newest step that is committed here.", prometheus.GaugeValue, func(s worker.Standing) map[string]float64 { return only(float64(s.Step)) }, ""},
	{"worker_steps_total", "Steps that this process has committed.", prometheus.CounterValue, func(s worker.Standing) map[string]float64 { return only(float64(s.Steps)) }, ""},
	{"worker_micro_batches_total", "Micro-batches that it has computed for them.", prometheus.CounterValue, func(s worker.Standing) map[string]float64 { return only(float64(s.Micro)) }, ""},
	{"worker_stalls_total", "Times that its ring has waited for another worker for longer than cluster.stall.", prometheus.CounterValue, func(s worker.Standing) map[string]float64 { return only(float64(s.Stalls)) }, ""},
	{"worker_frame_faults_total", "Lost, doubled, corrupt and stale frames that its links have mended.", prometheus.CounterValue, func(s worker.Standing) map[string]float64 { return only(float64(s.Faults)) }, ""},
	{"worker_busy_seconds", "For how long the same part of a step goes on here; 0 where another rank is waited for.", prometheus.GaugeValue, func(s worker.Standing) map[string]float64 { return only(s.Busy.Seconds()) }, ""},
	{"worker_coordinator_silence_seconds", "Time since the coordinator was last heard.", prometheus.GaugeValue, func(s worker.Standing) map[string]float64 { return only(s.Silence.Seconds()) }, ""},
	{"worker_gradient_bytes_total", "Bytes of gradients that it has passed on: laid into memory that its host's ranks share (shm), sent over NATS or over direct connections.", prometheus.CounterValue,
		func(s worker.Standing) map[string]float64 {
			return map[string]float64{"shm": float64(s.Sent.Shared), "nats": float64(s.Sent.NATS), "direct": float64(s.Sent.Direct)}
		}, "road"},
}

func (f figure) desc() *prometheus.Desc {
	var labels []string
	if f.label != "" {
		labels = []string{f.label}
	}
	return prometheus.NewDesc("vlaring_"+f.name, f.help, labels, nil)
}

// Describe and Collect are prometheus.Collector's.
func (standings) Describe(c chan<- *prometheus.Desc) {
	for _, f := range workerFigures {
		c <- f.desc()
	}
}

func (w standings) Collect(c chan<- prometheus.Metric) {
	s := w()
	for _, f := range workerFigures {
		for label, v := range f.of(s) {
			var values []string
			if f.label != "" {
				values = []string{label}
			}
			c <- prometheus.MustNewConstMetric(f.desc(), f.kind, v, values...)
		}
	}
}
