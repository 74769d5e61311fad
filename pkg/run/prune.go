package run

import (
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/vlaring/vlaring/internal/plain"
	"github.com/vlaring/vlaring/pkg/checkpoint"
)

// Pruning is what retention by some policy would remove of a run's checkpoints,
// and why, to be shown before anything is.
type Pruning struct {
	DryRun      bool     `json:"dry_run"` // it will not be done
	Keep        int      `json:"keep"`
	KeepEvery   int      `json:"keep_every"`
	Best        int      `json:"best"`
	Metric      string   `json:"metric"`
	Checkpoints []Pruned `json:"checkpoints"` // oldest first
	Freed       int64    `json:"freed"`       // bytes of those that are removed
}

// Pruned is a checkpoint's line of it.
type Pruned struct {
	checkpoint.Decision
	Size  int64    `json:"size"` // bytes
	Dir   string   `json:"dir"`
	Score *float64 `json:"score,omitempty"` // by the metric, where it has been measured
}

// PlanPrune plans for the checkpoints of the run directory dir. It changes nothing.
func PlanPrune(dir string, p checkpoint.Policy) (*Pruning, error) {
	entries, err := checkpoint.List(filepath.Join(dir, "checkpoints"))
	if err != nil {
		return nil, err
	}
	lines, _, err := ReadEval(dir, math.MaxUint64)
	if err != nil {
		return nil, err
	}
	scores := scoresOf(p.Metric, entries, lines)
	plan := &Pruning{Keep: p.Keep, KeepEvery: p.KeepEvery, Best: p.Best, Metric: p.Metric, Checkpoints: []Pruned{}}
	for i, d := range checkpoint.Retain(entries, p, scores, nil) {
		e := Pruned{Decision: d, Size: entries[i].Size, Dir: entries[i].Dir}
		if s, ok := scores[d.Step]; ok {
			e.Score = &s
		}
		if !d.Keep {
			plan.Freed += e.Size
		}
		plan.Checkpoints = append(plan.Checkpoints, e)
	}
	return plan, nil
}

// Prune does what a plan for dir says. Its caller holds the directory's lock.
// cleaned is told what else was put in order there.
func (plan *Pruning) Prune(dir string, cleaned func(line string)) error {
	store, err := checkpoint.OpenDisk(filepath.Join(dir, "checkpoints"))
	if err != nil {
		return err
	}
	for _, line := range store.Cleaned() {
		cleaned(line)
	}
	for _, e := range plan.Checkpoints {
		if e.Keep {
			continue
		}
		if err := store.Remove(e.Step); err != nil {
			return err
		}
	}
	return nil
}

// Text is the plan for people.
func (p *Pruning) Text() string {
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "STEP\tSIZE\t\tREASON")
	removed := 0
	for _, e := range p.Checkpoints {
		word := "keep"
		if !e.Keep {
			word = "remove"
			removed++
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\n", e.Step, plain.Bytes(e.Size), word, e.Reason)
	}
	w.Flush()
	verb := "removing"
	if p.DryRun {
		verb = "would remove"
	}
	fmt.Fprintf(&out, "%s %d of %d checkpoints, %s\n", verb, removed, len(p.Checkpoints), plain.Bytes(p.Freed))
	return out.String()
}
