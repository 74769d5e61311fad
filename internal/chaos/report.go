package chaos

import (
	"fmt"
	"sort"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/vlaring/vlaring/pkg/run"
)

// Report is the verdict.
type Report struct {
	Equal    bool     `json:"equal"` // every disturbed run gave the weights of the undisturbed one
	SHA256   string   `json:"model_sha256"`
	Runs     int      `json:"runs"`
	Faults   int      `json:"faults"`
	Steps    int      `json:"steps"` // of one run
	StepTime float64  `json:"step_s"`
	Seed     uint64   `json:"seed"`
	Kinds    []Kind   `json:"kinds"`
	Problems []string `json:"problems,omitempty"`
	all      []Fault  // in order
}

// Text is the report for people.
func (r *Report) Text() string {
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 4, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "fault\ttimes\twithout a commit, median\tmost\t")
	for _, k := range r.Kinds {
		fmt.Fprintf(w, "%s\t%d\t%.2f s\t%.2f s\t\n", k.Kind, k.Count, k.Median, k.Most)
	}
	w.Flush()
	fmt.Fprintf(&out, "a step takes %.2f s (median)\n", r.StepTime)
	for _, p := range r.Problems {
		fmt.Fprintln(&out, "PROBLEM", p)
	}
	verdict := "the same bits as undisturbed"
	if !r.Equal {
		verdict = "NOT the undisturbed run's weights"
	}
	fmt.Fprintf(&out, "%d faults in %d runs: %s\n", r.Faults, r.Runs, verdict)
	return out.String()
}

// Kind sums up the faults of one kind: seconds without a commit, from the
// fault on, or from the restart where something was restarted.
type Kind struct {
	Kind   string  `json:"kind"`
	Count  int     `json:"count"`
	Median float64 `json:"median_s"`
	Most   float64 `json:"max_s"`
}

// Fault is a line of RUN.faults.jsonl.
type Fault struct {
	Time    time.Time `json:"time"`
	Step    int       `json:"step"` // committed before
	Kind    string    `json:"kind"`
	Worker  string    `json:"worker,omitempty"` // that was hit
	Workers int       `json:"workers"`          // before
	Seconds float64   `json:"seconds"`
}

// sum fills Kinds. Faults that hit the only worker, or one from elsewhere, which
// no coordinator had started, have lines of their own.
func (r *Report) sum() {
	by := map[string][]float64{}
	for _, f := range r.all {
		switch {
		case f.Worker == "":
		case f.Workers == 1: // with it goes all state: back to the last checkpoint
			f.Kind += ", the only one"
		case !run.Local(f.Worker):
			f.Kind += ", from elsewhere"
		}
		by[f.Kind] = append(by[f.Kind], f.Seconds)
	}
	for k, l := range by {
		sort.Float64s(l)
		r.Kinds = append(r.Kinds, Kind{k, len(l), l[len(l)/2], l[len(l)-1]})
	}
	sort.Slice(r.Kinds, func(i, j int) bool { return r.Kinds[i].Kind < r.Kinds[j].Kind })
}
