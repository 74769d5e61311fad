package rollout

import (
	"fmt"
	"strings"
	"text/tabwriter"
)

// Text is the report as a table for people.
func (r Report) Text() string {
	var b strings.Builder
	who := r.Policy
	if r.Weights != "" {
		who += " (" + r.Weights + ")"
	}
	if who == Policies[0] || r.Weights != "" {
		who += fmt.Sprintf(" of step %d", r.Step)
	}
	fmt.Fprintf(&b, "%s in %s scenes, seed %d, at most %d steps an episode", who, r.Scene, r.Seed, r.Steps)
	if r.Execute > 1 {
		fmt.Fprintf(&b, ", %d actions of an answer", r.Execute)
	}
	b.WriteString(":\n")
	w := tabwriter.NewWriter(&b, 0, 4, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\tsuccess\t95 %\tof\tmean steps\t")
	row := func(name string, x Rate, steps float64) {
		if x.Episodes == 0 {
			fmt.Fprintf(w, "%s\t-\t-\t0\t-\t\n", name)
			return
		}
		took := "-"
		if steps > 0 {
			took = fmt.Sprintf("%.1f", steps)
		}
		fmt.Fprintf(w, "%s\t%.1f %%\t%s\t%d\t%s\t\n", name, 100*x.Success, x.Interval(), x.Episodes, took)
	}
	steps, wins := 0.0, 0
	for _, t := range r.Tasks {
		row(t.Task, t.Rate, t.MeanSteps)
		steps, wins = steps+float64(t.MeanSteps*float64(t.Successes)), wins+t.Successes
	}
	row("all", r.Rate, steps/float64(max(wins, 1)))
	w.Flush()
	lines := strings.Split(b.String(), "\n")
	for i, l := range lines {
		lines[i] = strings.TrimRight(l, " ")
	}
	return strings.Join(lines, "\n") + "trace " + r.Trace + "\n"
}

// Interval is the 95 % interval for people, such as [12, 34].
func (x Rate) Interval() string { return fmt.Sprintf("[%.0f, %.0f]", 100*x.Low, 100*x.High) }
