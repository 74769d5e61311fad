package attention

import (
	"fmt"
	"math"
	"strings"
	"text/tabwriter"
)

// manyPositions is the longest sequence that is listed position by position
// without being asked.
const manyPositions = 32

// Text is the report for people. Of a long sequence it lists the first position
// alone, unless all is set.
func (r *Report) Text(all bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, step %d: %s, %d layers\n", r.Checkpoint, r.Step, r.Kind, len(r.Layers))
	if r.LeftOut != "" {
		fmt.Fprintln(&b, r.LeftOut)
	}
	for _, l := range r.Layers {
		n := len(l.Positions)
		fmt.Fprintf(&b, "\n=== %s: %d positions, entropy at most %.2f ===\n", l.Name, n, math.Log(float64(n)))
		w := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
		fmt.Fprint(w, "  head")
		for _, h := range l.Heads {
			fmt.Fprintf(w, "\t%d", h.Head)
		}
		fmt.Fprint(w, "\n  entropy (nats)")
		for _, h := range l.Heads {
			fmt.Fprintf(w, "\t%.2f", h.MeanEntropy)
		}
		if l.Heads[0].Distance != nil {
			fmt.Fprintf(w, "\n  distance (%s)", l.Heads[0].DistanceUnit)
			for _, h := range l.Heads {
				fmt.Fprintf(w, "\t%.1f", *h.Distance)
			}
		}
		fmt.Fprintln(w)
		left := 0
		for q, name := range l.Positions {
			if !l.Visible[q] {
				continue
			}
			if n > manyPositions && !all && q > 0 {
				left++
				continue
			}
			fmt.Fprintf(w, "  %s →", position(q, name))
			for _, h := range l.Heads {
				k := h.LooksAt[q]
				if k < 0 {
					fmt.Fprint(w, "\tnothing")
					continue
				}
				fmt.Fprintf(w, "\t%s %.2f", position(k, l.Positions[k]), h.Weights[q*n+k])
			}
			fmt.Fprintln(w)
		}
		w.Flush()
		if left > 0 {
			fmt.Fprintf(&b, "  and %d more: --all lists them, --json has every weight\n", left)
		}
	}
	b.WriteString("\n=== attention rollout: what the last layer's results are made of ===\n")
	w := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	for _, s := range r.Rollout {
		n := len(s.Positions)
		from, how := r.readOut(s)
		fmt.Fprintf(w, "  %s, %s:", s.Stack, how)
		for _, k := range greatest(from, 5) {
			fmt.Fprintf(w, "\t%s %.3f", position(k, s.Positions[k]), from[k])
		}
		if n > 5 {
			fmt.Fprint(w, "\t…")
		}
		fmt.Fprintln(w)
	}
	w.Flush()
	return b.String()
}

// greatest lists the places of the n greatest values, greatest first.
func greatest(v []float32, n int) []int {
	var at []int
	for range min(n, len(v)) {
		best := -1
		for i, x := range v {
			taken := false
			for _, j := range at {
				taken = taken || i == j
			}
			if !taken && (best < 0 || x > v[best]) {
				best = i
			}
		}
		at = append(at, best)
	}
	return at
}

// position is a position with its word.
func position(i int, label string) string { return fmt.Sprintf("%d:%s", i, label) }
