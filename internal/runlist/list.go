// Package runlist looks at runs side by side, from what their directories hold: a list
// of them, and how two differ in their jobs, curves, measures and bits.
//
//	list, err := runlist.List("runs", train.Kinds(), time.Now())
//	fmt.Print(runlist.Table(list))
//	d, err := runlist.Compare("runs/a", "runs/b", train.Kinds(), time.Now())
//	fmt.Print(d.Text())
package runlist

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/vlaring/vlaring/internal/plain"
	"github.com/vlaring/vlaring/internal/regular"
	"github.com/vlaring/vlaring/internal/usage"
	"github.com/vlaring/vlaring/pkg/checkpoint"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/run"
)

// Summary is a run in a line.
type Summary struct {
	Dir        string   `json:"dir"`
	Job        string   `json:"job,omitempty"`
	State      string   `json:"state"` // running, died (its coordinator has), done, stopped, failed, abandoned; unreadable, with Problem
	Problem    string   `json:"problem,omitempty"`
	Step       uint64   `json:"step"`
	Steps      int      `json:"steps,omitempty"`
	Loss       *float64 `json:"loss"` // mean of the last steps
	Heldout    *float64 `json:"heldout_loss"`
	Best       *Best    `json:"best"` // of the metric that checkpoints are kept by, or of the held-out loss
	SamplesSec float64  `json:"samples_per_s"`
	World      int      `json:"world,omitempty"`
	Seconds    *float64 `json:"age_s"` // since the last record; null where the record does not say when

	job *job.Job
}

// Best is the best measure of a run.
type Best struct {
	Metric string  `json:"metric"`
	Value  float64 `json:"value"`
	Step   uint64  `json:"step"`
}

// lastSteps is how many steps a loss and a speed of a run are the mean of.
const lastSteps = 20

// List summarises the runs in dir: dir itself, or the directories below it, two deep.
func List(dir string, kinds job.Kinds, now time.Time) (list []Summary, err error) {
	found := []string{}
	list = []Summary{} // in JSON none is no null
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			if path == dir {
				return err
			}
			return nil
		}
		rel, _ := filepath.Rel(dir, path)
		if !d.IsDir() {
			if d.Name() == run.OriginFile {
				found = append(found, filepath.Dir(path))
			}
			return nil
		}
		if n := d.Name(); rel != "." && (strings.Count(rel, string(filepath.Separator)) > 2 || n == "checkpoints" || n == "rescue" || n == "logs" || n == "tensorboard" || n[0] == '.') {
			return fs.SkipDir
		}
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no %s: give a directory of runs, such as runs", dir)
	}
	if err != nil {
		return nil, err
	}
	for _, d := range found {
		list = append(list, summarise(d, kinds, now))
	}
	slices.SortStableFunc(list, func(a, b Summary) int { return cmp.Compare(a.Dir, b.Dir) })
	return list, nil
}

// summarise never fails: a run that cannot be read is one whose Problem says so.
func summarise(dir string, kinds job.Kinds, now time.Time) Summary {
	s := Summary{Dir: dir, State: "unreadable"}
	o, err := run.ReadOrigin(dir)
	if err != nil {
		s.Problem = err.Error()
		return s
	}
	s.State, s.Step = o.State, o.Step
	if o.State == run.StateRunning && !alive(dir) {
		s.State = "died"
	}
	text, err := regular.Read(filepath.Join(dir, run.JobCopy), 1<<20)
	if err == nil {
		s.job, err = kinds.Parse(filepath.Join(dir, run.JobCopy), text, nil)
	}
	if err != nil {
		s.Problem = err.Error()
	} else {
		s.Job, s.Steps = s.job.Name, s.job.Train.Steps
	}
	last, err := run.LastMetrics(dir, lastSteps)
	if err != nil {
		s.Problem = err.Error()
	}
	loss, n := 0.0, 0
	for _, m := range last {
		s.SamplesSec += m.SamplesSec / float64(len(last))
		if m.Refused == "" {
			loss, n = loss+m.Loss, n+1
		}
	}
	if n > 0 {
		loss /= float64(n)
		s.Loss = &loss
	}
	if len(last) > 0 {
		m := last[len(last)-1]
		s.Step, s.World = m.Step, m.World
		if age := now.Sub(m.At).Seconds(); !m.At.IsZero() {
			s.Seconds = &age
		}
	}
	lines, _, err := run.ReadEval(dir, math.MaxUint64)
	if err != nil {
		s.Problem = err.Error()
	}
	if len(lines) > 0 {
		s.Heldout = &lines[len(lines)-1].Loss
		s.Best = bestOf(s.job, kinds, lines)
	}
	return s
}

// alive says whether somebody has the run directory.
func alive(dir string) bool {
	lock, err := checkpoint.LockRunDir(dir)
	if err == nil {
		lock.Unlock()
	}
	return err != nil
}

// bestOf is the best value of the metric that the job keeps checkpoints by, or else of
// the held-out loss.
func bestOf(j *job.Job, kinds job.Kinds, lines []run.Heldout) *Best {
	name := job.Held + "loss"
	if j != nil && strings.HasPrefix(j.Checkpoint.Best.Metric, job.Held) {
		name = j.Checkpoint.Best.Metric
	}
	m, _ := kinds.Metric(name)
	var best *Best
	for _, h := range lines {
		v, ok := h.Metric(strings.TrimPrefix(name, job.Held))
		if ok && (best == nil || m.HigherIsBetter && v > best.Value || !m.HigherIsBetter && v < best.Value) {
			best = &Best{name, v, h.Step}
		}
	}
	return best
}

// Table is the list for people.
func Table(list []Summary) string {
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "RUN\tSTATE\tSTEP\tLOSS\tHELD-OUT\tBEST\tSAMPLES/S\tWORKERS\tLAST RECORD")
	for _, s := range list {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%.1f\t%d\t%s\n", plain.Line(s.Dir, 60), s.State, s.step(), figure(s.Loss), figure(s.Heldout), s.Best.text(), s.SamplesSec, s.World, s.age())
	}
	w.Flush()
	for _, s := range list {
		if s.Problem != "" {
			fmt.Fprintf(&out, "%s: %s\n", plain.Line(s.Dir, 60), plain.Line(s.Problem, 200))
		}
	}
	if len(list) == 0 {
		out.WriteString("no runs\n")
	}
	return out.String()
}

func (s *Summary) step() string {
	if s.Steps == 0 {
		return strconv.FormatUint(s.Step, 10)
	}
	return fmt.Sprintf("%d of %d", s.Step, s.Steps)
}

func (s *Summary) age() string {
	if s.Seconds == nil {
		return "-"
	}
	d := time.Duration(*s.Seconds * float64(time.Second))
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s ago", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min ago", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h ago", int(d.Hours()))
	}
	return fmt.Sprintf("%d days ago", int(d.Hours()/24))
}

func (b *Best) text() string {
	if b == nil {
		return "-"
	}
	return fmt.Sprintf("%s %.5g @%d", strings.TrimPrefix(b.Metric, job.Held), b.Value, b.Step)
}

func figure(x *float64) string {
	if x == nil {
		return "-"
	}
	return fmt.Sprintf("%.5g", *x)
}

// open is the summary of one run, which has to be one.
func open(dir string, kinds job.Kinds, now time.Time) (Summary, error) {
	if _, err := run.ReadOrigin(dir); errors.Is(err, fs.ErrNotExist) {
		return Summary{}, usage.Errorf("%s is no run directory: it has no %s; give one such as runs/NAME (coordinator runs ls lists them)", dir, run.OriginFile)
	}
	s := summarise(dir, kinds, now)
	if s.job == nil {
		return s, fmt.Errorf("%s: %s", dir, s.Problem)
	}
	return s, nil
}
