package run

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/vlaring/vlaring/pkg/cluster"
)

// Metrics is one line of metrics.jsonl: what happened in one committed step.
type Metrics struct {
	Step       uint64                     `json:"step"` // committed steps, from 1
	Loss       float64                    `json:"loss"` // mean over the global batch, before the update
	GradNorm   float64                    `json:"grad_norm"`
	LR         float64                    `json:"lr"`
	SamplesSec float64                    `json:"samples_per_s"` // of the global batch over Time.Step
	World      int                        `json:"world"`
	Generation uint64                     `json:"generation"`
	Sets       map[string]cluster.SetLoss `json:"sets,omitempty"` // of a mixture of data, by name

	Weights string        `json:"weights,omitempty"` // checksum of the weights after the update, the same for all who compute the job
	Targets int           `json:"targets"`           // that the loss is the mean over: tokens, or action values
	Refused string        `json:"refused,omitempty"` // why no update was made; then there is no loss
	Time    cluster.Times `json:"time"`              // seconds, of the slowest rank in each part
	Ring    []RingWait    `json:"-"`                 // by rank; events.jsonl has their sums
	At      time.Time     `json:"at,omitzero"`       // when the coordinator knew of it; lines of older releases do not say
}

// RingWait is what a worker has waited for the ring in a step, of the time of it, in seconds.
type RingWait struct {
	Worker     string
	Wait, Step float64
}

// combine makes a step's metrics of the reports of it, which had so many
// samples. Its loss came out of the
// ring, summed in the order of the micro-batches and divided once, so the
// figure is the job's and not the cluster's; any one report has it.
func combine(reports []*cluster.Report, samples int) Metrics {
	r0 := reports[0]
	m := Metrics{Step: r0.Step, Loss: r0.Loss, Targets: r0.Targets, GradNorm: r0.GradNorm, LR: r0.LR, World: r0.World, Generation: r0.Generation, Refused: r0.Refused, Weights: r0.Weights}
	for _, r := range reports {
		t := &m.Time
		t.Data, t.Forward, t.Backward = max(t.Data, r.Times.Data), max(t.Forward, r.Times.Forward), max(t.Backward, r.Times.Backward)
		t.Ring, t.Optimizer, t.Step = max(t.Ring, r.Times.Ring), max(t.Optimizer, r.Times.Optimizer), max(t.Step, r.Times.Step)
		t.Hash = max(t.Hash, r.Times.Hash)
		m.Ring = append(m.Ring, RingWait{r.Worker, r.Times.Ring, r.Times.Step})
	}
	m.SamplesSec = float64(samples) / max(m.Time.Step, 1e-9) // clocks are coarse
	return m
}

// writeMetrics appends one line.
func writeMetrics(w io.Writer, m Metrics) error {
	b, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("metrics of step %d: %w", m.Step, err)
	}
	_, err = w.Write(append(b, '\n'))
	return err
}
