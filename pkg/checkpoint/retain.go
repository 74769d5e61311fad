package checkpoint

import (
	"fmt"
	"slices"
	"strings"
)

// Policy says which checkpoints of a run are worth their disk. What several
// rules keep is kept once; what none keeps is removed.
type Policy struct {
	Keep      int    // the newest complete ones; 0: all
	KeepEvery int    // those of a step that it divides; 0: none
	Best      int    // those with the best scores; 0: none
	Metric    string // what a score is, for reasons
	Higher    bool   // more is better
}

// Decision is what retention says of one checkpoint, and why.
type Decision struct {
	Step   uint64 `json:"step"`
	Keep   bool   `json:"keep"`
	Reason string `json:"reason"` // all rules that keep it, or what it lacks
}

// Retain decides which checkpoints to keep: those that the policy names, the
// one committed last, those in use (by step, with the use in words), and every
// damaged one, which is for people to look at. scores has the metric of the
// checkpoints that have one; those without are never among the best. Of equal
// scores the later step is the better one.
//
// It is a pure function. Entries are oldest first, as List returns them, and
// so are the decisions.
func Retain(entries []Entry, p Policy, scores map[uint64]float64, inUse map[uint64]string) []Decision {
	rank := ranks(entries, p, scores)
	left := 0 // complete checkpoints from the one in turn on
	for _, e := range entries {
		if e.State == Complete {
			left++
		}
	}
	out := make([]Decision, len(entries))
	for i, e := range entries {
		var why, lacks []string
		keep := func(format string, a ...any) { why = append(why, fmt.Sprintf(format, a...)) }
		switch {
		case e.State != Complete:
			keep("damaged (%s): left to be looked at", e.Problem)
		case p.Keep <= 0:
			keep("all are kept")
		case left <= p.Keep:
			keep("one of the newest %d", p.Keep)
		default:
			lacks = append(lacks, fmt.Sprintf("%d newer ones are complete, and %d are kept", left-1, p.Keep))
		}
		if e.State == Complete && p.Keep > 0 {
			if e.Latest && left > p.Keep {
				keep("committed last")
			}
			if p.KeepEvery > 0 && e.Step%uint64(p.KeepEvery) == 0 {
				keep("step is a multiple of %d", p.KeepEvery)
			}
			if r, ok := rank[e.Step]; ok && r <= p.Best {
				keep("number %d by %s, %.6g", r, p.Metric, scores[e.Step])
			} else if ok {
				lacks = append(lacks, fmt.Sprintf("number %d by %s, %.6g", r, p.Metric, scores[e.Step]))
			} else if p.Best > 0 {
				lacks = append(lacks, "without "+p.Metric)
			}
			if use := inUse[e.Step]; use != "" {
				keep("%s", use)
			}
		}
		if e.State == Complete {
			left--
		}
		out[i] = Decision{Step: e.Step, Keep: len(why) > 0, Reason: strings.Join(why, "; ")}
		if len(why) == 0 {
			out[i].Reason = strings.Join(lacks, "; ")
		}
	}
	return out
}

// ranks is the place of each complete checkpoint that has a score, from 1.
func ranks(entries []Entry, p Policy, scores map[uint64]float64) map[uint64]int {
	if p.Best <= 0 {
		return nil
	}
	var steps []uint64
	for _, e := range entries {
		if s, ok := scores[e.Step]; ok && s == s && e.State == Complete {
			steps = append(steps, e.Step)
		}
	}
	slices.SortFunc(steps, func(a, b uint64) int {
		x, y := scores[a], scores[b]
		switch {
		case x == y && a > b, x != y && x > y == p.Higher:
			return -1
		}
		return 1
	})
	out := map[uint64]int{}
	for i, s := range steps {
		out[s] = i + 1
	}
	return out
}
