package rollout

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"math"
	"slices"

	"github.com/vlaring/vlaring/internal/plain"
	"github.com/vlaring/vlaring/internal/usage"
	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/trained"
)

// Options say what is rolled out.
type Options struct {
	Episodes int
	Execute  int    // actions of a chunk that are done before the next question; 0: half of them
	Seed     uint64 // of the trials
	Policy   string // one of Policies; empty: the first
	Threads  int

	Out string // animated picture of the first episodes (.png, .gif), or folder for one of each; empty: none

	Progress func(done, all int) // nil: nobody is told
}

// maxEpisodes is the most of one Run.
const maxEpisodes = 1_000_000

// Report says how often a policy did what it was told.
type Report struct {
	Checkpoint string `json:"checkpoint"`
	Step       uint64 `json:"step"`
	Weights    string `json:"weights,omitempty"` // raw or ema, of a checkpoint that has both
	Policy     string `json:"policy"`
	Scene      string `json:"scene"`
	Seed       uint64 `json:"seed"`
	Execute    int    `json:"execute"` // actions of an answer that were done
	Steps      int    `json:"steps"`   // the most of a trial
	Rate
	Tasks  []TaskRate `json:"tasks"`
	Trace  string     `json:"trace"` // SHA-256 of all states that all trials came through
	Trials []Outcome  `json:"trials,omitempty"`
}

// Rate is a share of successes, with its 95 % interval by Wilson.
type Rate struct {
	Episodes  int     `json:"episodes"`
	Successes int     `json:"successes"`
	Success   float64 `json:"success"`
	Low       float64 `json:"low"`
	High      float64 `json:"high"`
}

// TaskRate is that of the trials of a task.
type TaskRate struct {
	Task string `json:"task"`
	Rate
	MeanSteps float64 `json:"mean_steps"` // of the successes; 0: there were none
}

// Outcome is what became of a trial.
type Outcome struct {
	Episode     int    `json:"episode"`
	Task        string `json:"task"`
	Instruction string `json:"instruction"`
	Success     bool   `json:"success"`
	Steps       int    `json:"steps"` // until success, or all

	trace [sha256.Size]byte
}

// rateOf is the rate of so many successes among n.
func rateOf(successes, n int) Rate {
	if n == 0 {
		return Rate{High: 1}
	}
	const z = 1.959963984540054 // of the normal distribution, 2.5 % lie beyond it
	p, m := float64(successes)/float64(n), float64(n)
	middle, half := p+z*z/(2*m), float64(z*math.Sqrt(p*(1-p)/m+z*z/(4*m*m)))
	r := Rate{n, successes, p, (middle - half) / (1 + z*z/m), (middle + half) / (1 + z*z/m)}
	if successes == 0 {
		r.Low = 0 // but for rounding
	}
	if successes == n {
		r.High = 1
	}
	return r
}

// together is how many trials go on at a time: as many as a model answers at once.
const together = trained.MaxTogether

// slot is a trial that goes on.
type slot struct {
	Outcome
	trial *data.Trial
	queue []float32 // actions that are still to be done
}

// Run rolls a checkpoint out in the world of its data, with the weights that are in its
// model. A checkpoint whose data has no world here is a usage.Error that says what to do.
func Run(ctx context.Context, c *trained.Checkpoint, o Options) (Report, error) {
	w, card, err := worldOf(c)
	if err != nil {
		return Report{}, err
	}
	if o.Episodes < 1 || o.Episodes > maxEpisodes {
		return Report{}, usage.Errorf("--episodes %d: want 1 to %d", o.Episodes, maxEpisodes)
	}
	if o.Policy == "" {
		o.Policy = Policies[0]
	}
	a, chunk, err := newActor(c, card, w, o)
	if err != nil {
		return Report{}, err
	}
	defer a.close()
	switch {
	case o.Execute < 0 || o.Execute > chunk:
		return Report{}, usage.Errorf("--execute %d: the policy answers with %d at a time: want 1 to %d", o.Execute, chunk, chunk)
	case o.Execute == 0:
		o.Execute = max(chunk/2, 1)
	}
	r := Report{Checkpoint: c.Dir, Step: c.Step, Weights: card.Weights, Policy: o.Policy, Scene: w.Scene, Seed: o.Seed, Execute: o.Execute, Steps: w.Steps(), Trials: make([]Outcome, o.Episodes)}
	if o.Policy != Policies[0] {
		r.Weights = ""
	} else if r.Weights != "" {
		r.Weights = c.Weights
	}
	v, err := newVideo(o.Out)
	if err != nil {
		return Report{}, err
	}
	if err := loop(ctx, w, a, o, r.Trials, v.ended); err != nil {
		return Report{}, err
	}
	if err := v.close(); err != nil {
		return Report{}, err
	}
	r.sum(w.Tasks())
	return r, nil
}

// worldOf is the world that a checkpoint's data was made in, and its card.
func worldOf(c *trained.Checkpoint) (*data.World, trained.Card, error) {
	card, err := c.Card()
	if err != nil {
		return nil, card, err
	}
	w := data.WorldOf(c.Job.Data.Options)
	if w == nil {
		return nil, card, usage.Errorf("%s was trained on %s data, whose world is not here; rollout acts in that of data.kind tabletop alone\n"+
			"ask it from its own simulator or robot: coordinator serve --checkpoint %s, and tools/rollout/meta_world.py, which rolls out Meta-World by it (docs/serving.md)", c.Dir, c.Job.Data.Kind, plain.ShellWord(c.Dir))
	}
	return w, card, nil
}

// loop runs the trials, some at a time, writes what becomes of them to out, and tells
// seen of each.
func loop(ctx context.Context, w *data.World, a actor, o Options, out []Outcome, seen func(Outcome, *data.Trial) error) error {
	var live []*slot
	for next, ended := 0, 0; ended < len(out); {
		for ; len(live) < together && next < len(out); next++ {
			t := w.Trial(o.Seed, uint64(next))
			live = append(live, &slot{Outcome: Outcome{Episode: next, Task: t.Task, Instruction: t.Text}, trial: t})
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := refill(a, live, o.Execute*w.Dims()); err != nil {
			return err
		}
		for _, s := range live {
			if err := s.step(w); err != nil {
				return err
			}
		}
		over := func(s *slot) bool { return s.Success || s.Steps == w.Steps() }
		for _, s := range live {
			if !over(s) {
				continue
			}
			s.trace = traceOf(s.trial)
			out[s.Episode] = s.Outcome
			ended++
			if err := seen(s.Outcome, s.trial); err != nil {
				return err
			}
			if o.Progress != nil {
				o.Progress(ended, len(out))
			}
		}
		live = slices.DeleteFunc(live, over)
	}
	return nil
}

// refill asks for the trials that have nothing left to do, and takes the first n values
// of each answer.
func refill(a actor, live []*slot, n int) error {
	var idle []*slot
	var ask []*data.Trial
	for _, s := range live {
		if len(s.queue) == 0 {
			idle, ask = append(idle, s), append(ask, s.trial)
		}
	}
	if len(ask) == 0 {
		return nil
	}
	answers, err := a.act(ask)
	if err != nil {
		return err
	}
	for i, s := range idle {
		s.queue = answers[i][:n]
	}
	return nil
}

// step does the next action of a trial.
func (s *slot) step(w *data.World) error {
	n := w.Dims()
	if err := s.trial.Act(s.queue[:n]); err != nil {
		return fmt.Errorf("episode %d, step %d: %w", s.Episode, s.Steps+1, err)
	}
	s.queue = s.queue[n:]
	s.Steps++
	s.Success = s.trial.Done()
	return nil
}

// traceOf is the hash of what a trial came through.
func traceOf(t *data.Trial) (sum [sha256.Size]byte) {
	h := sha256.New()
	h.Write([]byte(t.Text))
	for k := range t.Moments() {
		for _, v := range t.Placed(k) {
			word(h, math.Float64bits(v))
		}
	}
	h.Sum(sum[:0])
	return sum
}

func word(h hash.Hash, v uint64) {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], v)
	h.Write(b[:])
}

// sum makes the rates of the trials.
func (r *Report) sum(tasks []string) {
	h := sha256.New()
	wins, steps, all := map[string]int{}, map[string]int{}, map[string]int{}
	for _, t := range r.Trials {
		h.Write(t.trace[:])
		all[t.Task]++
		if t.Success {
			wins[t.Task]++
			steps[t.Task] += t.Steps
			r.Successes++
		}
	}
	r.Trace = hex.EncodeToString(h.Sum(nil))
	r.Rate = rateOf(r.Successes, len(r.Trials))
	for _, task := range tasks {
		t := TaskRate{Task: task, Rate: rateOf(wins[task], all[task])}
		if t.Successes > 0 {
			t.MeanSteps = float64(steps[task]) / float64(t.Successes)
		}
		r.Tasks = append(r.Tasks, t)
	}
}
