package rollout

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/vlaring/vlaring/internal/usage"
	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/trained"
)

// Policies are the names of who can act: the checkpoint's model, and, to compare it
// with, the data's expert, nobody, and the mean action of training.
var Policies = []string{"model", "expert", "still", "mean"}

// actor answers trials with what to do next.
type actor interface {
	act(trials []*data.Trial) ([][]float32, error) // as many actions each as newActor says, one after the other
	close()
}

// newActor is the policy of that name, and how many actions it answers with.
func newActor(c *trained.Checkpoint, card trained.Card, w *data.World, o Options) (a actor, chunk int, err error) {
	switch o.Policy {
	case "model":
		a, err := newModel(c, card, w, o.Threads)
		return a, card.Chunk, err
	case "expert":
		return scripted((*data.Trial).Expert), 1, nil
	case "still":
		return scripted((*data.Trial).Still), 1, nil
	case "mean":
		s := c.Meta.StatsOf(models.Actions)
		if s == nil || s.Dim() != w.Dims() {
			return nil, 0, fmt.Errorf("%s has no statistics of its actions, and so no mean of them", c.Dir)
		}
		mean := make([]float32, s.Dim())
		for d, v := range s.Mean {
			mean[d] = float32(v)
		}
		return scripted(func(*data.Trial) []float32 { return mean }), 1, nil
	}
	return nil, 0, usage.Errorf("--policy %q: want one of %s", o.Policy, strings.Join(Policies, ", "))
}

// scripted acts by a rule, one action at a time.
type scripted func(*data.Trial) []float32

func (f scripted) act(trials []*data.Trial) (actions [][]float32, err error) {
	for _, t := range trials {
		actions = append(actions, f(t))
	}
	return actions, nil
}

func (f scripted) close() {}

// model is a checkpoint's policy, which sees of a trial what its data's samples show.
type model struct {
	policy  *trained.Policy
	shows   []func(t *data.Trial) trained.Given // by the card's features
	names   []string
	threads int
}

func newModel(c *trained.Checkpoint, card trained.Card, w *data.World, threads int) (*model, error) {
	m := &model{threads: threads}
	if n := len(card.Actions.Dimensions); n != w.Dims() {
		return nil, fmt.Errorf("%s answers with actions of %d values; those of this world have %d", c.Dir, n, w.Dims())
	}
	pictures := 0
	for _, x := range card.Observation {
		var show func(t *data.Trial) trained.Given
		switch {
		case x.Kind == trained.Picture && pictures < len(w.Cameras) && x.Shape[0] == x.Shape[1]:
			show = pictureOf(w.Cameras[pictures], x)
			pictures++
		case x.Kind == trained.Words:
			show = func(t *data.Trial) trained.Given { return trained.Given{Text: t.Text} }
		case x.Kind == trained.Numbers && slices.Equal(x.Shape, []int{w.StateDims()}):
			show = stateOf(x)
		default:
			return nil, fmt.Errorf("%s looks at %s, which this world does not show", c.Dir, x)
		}
		m.names, m.shows = append(m.names, x.Name), append(m.shows, show)
	}
	var err error
	m.policy, err = c.Policy(threads)
	return m, err
}

// moments are the last that a feature shows, the oldest first: fewer at the beginning.
func moments(t *data.Trial, x trained.CardFeature) (list []int, lead []int) {
	n := min(max(x.Frames, 1), t.Moments())
	for k := t.Moments() - n; k < t.Moments(); k++ {
		list = append(list, k)
	}
	if x.Frames > 1 {
		lead = []int{n}
	}
	return list, lead
}

func pictureOf(camera string, x trained.CardFeature) func(*data.Trial) trained.Given {
	size := x.Shape[0]
	return func(t *data.Trial) trained.Given {
		at, lead := moments(t, x)
		g := trained.Given{Shape: append(lead, size, size, 3)}
		for _, k := range at {
			g.Bytes = append(g.Bytes, t.Picture(camera, size, k)...)
		}
		return g
	}
}

func stateOf(x trained.CardFeature) func(*data.Trial) trained.Given {
	return func(t *data.Trial) trained.Given {
		at, lead := moments(t, x)
		g := trained.Given{Shape: append(lead, x.Shape...), Sure: true}
		for _, k := range at {
			g.Floats = append(g.Floats, t.State(k)...)
		}
		return g
	}
}

func (m *model) close() { m.policy.Close() }

// act asks the model of all trials at once. With one thread nothing leaves the caller's.
func (m *model) act(trials []*data.Trial) ([][]float32, error) {
	questions, errs := make([]*trained.Question, len(trials)), make([]error, len(trials))
	read := func(i int) {
		seen := trained.Observation{}
		for k, show := range m.shows {
			seen[m.names[k]] = show(trials[i])
		}
		questions[i], _, errs[i] = m.policy.Read(seen)
	}
	if m.threads <= 1 {
		for i := range trials {
			read(i)
		}
	} else {
		var all sync.WaitGroup
		for first := range m.threads {
			all.Go(func() {
				for i := first; i < len(trials); i += m.threads {
					read(i)
				}
			})
		}
		all.Wait()
	}
	if err := slices.MaxFunc(errs, func(a, b error) int { return btoi(a != nil) - btoi(b != nil) }); err != nil {
		return nil, err
	}
	chunks, err := m.policy.Answer(questions)
	if err != nil {
		return nil, err
	}
	actions := make([][]float32, len(chunks))
	for i, c := range chunks {
		actions[i] = c
	}
	return actions, nil
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}
