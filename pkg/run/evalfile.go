package run

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/vlaring/vlaring/internal/atomicfile"
	"github.com/vlaring/vlaring/internal/regular"
	"github.com/vlaring/vlaring/internal/rollout"
	"github.com/vlaring/vlaring/pkg/eval"
	"github.com/vlaring/vlaring/pkg/job"
)

// EvalFile holds the measurements of a run's checkpoints on the held-out
// split, one object a line, in order of steps.
const EvalFile = "eval.jsonl"

// heldoutSplit is its name in options, reports and messages.
const heldoutSplit = "heldout"

// Heldout is one line of it: an object with the fields below, and each metric
// under its name.
type Heldout struct {
	Step    uint64
	Samples int
	Loss    float64
	Metrics []HeldoutMetric  // as the job's head has them: l1 of actions, normalised; accuracy of tokens
	Seconds float64          // that it took
	At      time.Time        // when it was known; lines of older releases do not say
	DoF     []eval.DoFReport // of each action dimension, in its unit, of the weights that were trained; nil where there is none

	Sets map[string]map[string]float64 // of a mixture, by name: samples, loss and each metric
}

// HeldoutMetric is a metric's value.
type HeldoutMetric struct {
	Name  string
	Value float64
}

// Metric is the value of the metric called name, without heldout_.
func (h Heldout) Metric(name string) (value float64, ok bool) {
	if name == "loss" {
		return h.Loss, true
	}
	for _, m := range h.Metrics {
		if m.Name == name {
			return m.Value, true
		}
	}
	return 0, false
}

// MarshalJSON writes the line.
func (h Heldout) MarshalJSON() ([]byte, error) {
	type field struct {
		name  string
		value any
	}
	fields := []field{{"step", h.Step}, {"samples", h.Samples}, {"loss", h.Loss}}
	for _, m := range h.Metrics {
		fields = append(fields, field{m.Name, m.Value})
	}
	var b []byte
	if h.Sets != nil {
		fields = append(fields, field{"sets", h.Sets})
	}
	if h.DoF != nil {
		fields = append(fields, field{"dof", h.DoF})
	}
	if fields = append(fields, field{"seconds", h.Seconds}); !h.At.IsZero() {
		fields = append(fields, field{"at", h.At})
	}
	for _, f := range fields {
		v, err := json.Marshal(f.value)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.name, err)
		}
		b = fmt.Appendf(b, ",%q:%s", f.name, v)
	}
	b[0] = '{'
	return append(b, '}'), nil
}

// UnmarshalJSON reads a line; every number that is none of the fields is a metric.
func (h *Heldout) UnmarshalJSON(b []byte) error {
	var x struct {
		Step    uint64  `json:"step"`
		Samples int     `json:"samples"`
		Loss    float64 `json:"loss"`
		Seconds float64 `json:"seconds"`

		Sets map[string]map[string]float64 `json:"sets"`
		DoF  []eval.DoFReport              `json:"dof"`
		At   time.Time                     `json:"at"`
	}
	var all map[string]json.RawMessage
	if err := errors.Join(json.Unmarshal(b, &x), json.Unmarshal(b, &all)); err != nil {
		return err
	}
	*h = Heldout{Step: x.Step, Samples: x.Samples, Loss: x.Loss, Seconds: x.Seconds, Sets: x.Sets, DoF: x.DoF, At: x.At}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		var v float64
		if !slices.Contains([]string{"step", "samples", "loss", "seconds"}, name) && json.Unmarshal(all[name], &v) == nil {
			h.Metrics = append(h.Metrics, HeldoutMetric{name, v})
		}
	}
	return nil
}

// heldoutOf is the line of a checkpoint's reports: of its weights and, where there
// is one, of their average, whose loss and metrics are metrics by names of their own.
func heldoutOf(reps []eval.Report, seconds float64) Heldout {
	raw := reps[0]
	h := Heldout{Step: raw.Step, Samples: raw.Samples, Loss: raw.Loss, Seconds: seconds}
	if raw.Actions != nil {
		h.DoF = raw.Actions.DoF
	}
	for i, rep := range reps {
		of := ""
		if i > 0 {
			of = job.Averaged
			h.Metrics = append(h.Metrics, HeldoutMetric{of + "loss", rep.Loss})
		}
		for _, m := range rep.Metrics {
			h.Metrics = append(h.Metrics, HeldoutMetric{of + m.Name, m.Value})
		}
		for _, s := range rep.Sets {
			if h.Sets == nil {
				h.Sets = map[string]map[string]float64{}
			}
			if h.Sets[s.Name] == nil {
				h.Sets[s.Name] = map[string]float64{"samples": float64(s.Samples)}
			}
			h.Sets[s.Name][of+"loss"] = s.Loss
			for name, v := range s.Metrics {
				h.Sets[s.Name][of+name] = v
			}
		}
	}
	return h
}

// heldoutText is a line for people, of the reports that it was made of.
func heldoutText(reps []eval.Report, rolled []rollout.Report, seconds float64) string {
	s := fmt.Sprintf("held-out, step %d: ", reps[0].Step)
	for i, rep := range reps {
		if i > 0 {
			s += "; averaged: "
		}
		s += fmt.Sprintf("loss %.5f", rep.Loss)
		for _, m := range rep.Metrics {
			s += ", " + m.Text(m.Value)
		}
	}
	s += fmt.Sprintf(" (%d samples, %.1f s)", reps[0].Samples, seconds)
	if rolled != nil {
		s += "\n" + rolledText(rolled)
	}
	return s
}

// evalFields are the reports for scripts.
func evalFields(reps []eval.Report, rolled []rollout.Report) map[string]any {
	f := map[string]any{"step": reps[0].Step, "report": reps[0]}
	if len(reps) > 1 {
		f[job.Average] = reps[1]
	}
	if rolled != nil {
		f["rollouts"] = rolled
	}
	return f
}

// ReadEval reads the lines of a run up to and including step, and says
// whether there are others. A torn last line is none.
func ReadEval(dir string, step uint64) (lines []Heldout, more bool, err error) {
	f, _, err := regular.Open(filepath.Join(dir, EvalFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	defer f.Close()
	for rd := bufio.NewReader(f); ; {
		line, err := rd.ReadBytes('\n')
		if len(line) == 0 {
			return lines, more, nil
		}
		var h Heldout
		if err != nil || json.Unmarshal(line, &h) != nil || h.Step > step {
			more = true
			continue
		}
		lines = append(lines, h)
	}
}

// writeEval writes a run's measurements, all of them or none.
func writeEval(dir string, lines []Heldout) error {
	var b bytes.Buffer
	for _, h := range lines {
		if err := json.NewEncoder(&b).Encode(h); err != nil {
			return fmt.Errorf("%s, step %d: %w", EvalFile, h.Step, err)
		}
	}
	return atomicfile.Write(filepath.Join(dir, EvalFile), b.Bytes(), 0o644)
}

// heldoutScores are the values of a held-out metric by step.
func heldoutScores(lines []Heldout, metric string) map[uint64]float64 {
	out := map[uint64]float64{}
	for _, h := range lines {
		if v, ok := h.Metric(strings.TrimPrefix(metric, job.Held)); ok {
			out[h.Step] = v
		}
	}
	return out
}
