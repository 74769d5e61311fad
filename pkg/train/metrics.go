package train

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/vlaring/vlaring/pkg/cluster"
)

// Metrics is one line of metrics.jsonl: what happened in one committed step.
type Metrics struct {
	Step       uint64        `json:"step"` // committed steps, from 1
	Loss       float64       `json:"loss"` // mean over the global batch, before the update
	GradNorm   float64       `json:"grad_norm"`
	LR         float64       `json:"lr"`
	SamplesSec float64       `json:"samples_per_s"`
	World      int           `json:"world"`
	Generation uint64        `json:"generation"`
	Time       cluster.Times `json:"time"` // seconds, of the slowest rank in each part
}

// Combine folds the ranks' reports of one step into its metrics. Losses are
// summed in float64 in the order of the micro-batches, so the figure is the
// job's and not the cluster's.
func Combine(reports []*cluster.Report) Metrics {
	r0 := reports[0]
	m := Metrics{Step: r0.Step, GradNorm: r0.GradNorm, LR: r0.LR, World: len(reports), Generation: r0.Generation}
	n := 0
	for _, r := range reports {
		for _, l := range r.Losses {
			m.Loss += l
			n++
		}
		t := &m.Time
		t.Data, t.Forward, t.Backward = max(t.Data, r.Times.Data), max(t.Forward, r.Times.Forward), max(t.Backward, r.Times.Backward)
		t.Ring, t.Optimizer = max(t.Ring, r.Times.Ring), max(t.Optimizer, r.Times.Optimizer)
	}
	m.Loss /= float64(n)
	return m
}

// WriteMetrics appends one line.
func WriteMetrics(w io.Writer, m Metrics) error {
	b, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("metrics of step %d: %w", m.Step, err)
	}
	_, err = w.Write(append(b, '\n'))
	return err
}
