package data

import (
	"fmt"
	"math"
	"slices"
	"sync"

	"github.com/vlaring/vlaring/pkg/data/internal/tabletop"
	"github.com/vlaring/vlaring/pkg/job"
)

// World is the world that data is made in, to be acted in: the tabletop's. Its trials
// are pure functions of the seed, the trial's number and what is done in it, the same
// bits on every CPU, and none of them is an episode of any training data. It is safe
// for concurrent use; a Trial is not.
//
//	t := w.Trial(seed, 3)
//	for k := 0; k < w.Steps() && !t.Done(); k++ {
//		err = t.Act(policy(t.Text, t.Picture(w.Cameras[0], size, 0), t.State(0)))
//	}
type World struct {
	Scene   string   // simple | cluttered
	Cameras []string // that the data's samples have, in the model's order

	scene tabletop.Scene
	kept  sync.Map // cameras, by eye
}

// eye is a camera for pictures of a size.
type eye struct {
	name string
	size int
}

var _ job.Simulated = Tabletop{}

// Simulated is job.Simulated's.
func (Tabletop) Simulated() {}

// WorldOf is the world of data of those options; nil: it has none here.
func WorldOf(o job.Options) *World {
	k, ok := o.(Tabletop)
	if !ok {
		return nil
	}
	return &World{Scene: k.scene().String(), Cameras: k.eyes(), scene: k.scene()}
}

// Tasks are the names of what trials ask for.
func (w *World) Tasks() []string { return w.scene.Tasks() }

// Steps is the most actions of a trial.
func (w *World) Steps() int { return tabletop.TrialSteps }

// Dims are the values of an action.
func (w *World) Dims() int { return len(tabletop.Action{}) }

// StateDims are the values of a state.
func (w *World) StateDims() int { return len(tabletop.State{}) }

// camera is the one of that name for pictures of size × size.
func (w *World) camera(name string, size int) *tabletop.Camera {
	if c, ok := w.kept.Load(eye{name, size}); ok {
		return c.(*tabletop.Camera)
	}
	c, _ := w.kept.LoadOrStore(eye{name, size}, tabletopCamera(name, size))
	return c.(*tabletop.Camera)
}

// tabletopCamera is that of one of tabletopCameras.
func tabletopCamera(name string, size int) *tabletop.Camera {
	if name == tabletopCameras[1] {
		return tabletop.NewSideCamera(size)
	}
	return tabletop.NewCamera(size)
}

// Trial is an episode in progress. What it has come through is kept, and can be seen
// again.
type Trial struct {
	Task string // one of Tasks
	Text string // the instruction

	w      *World
	trial  tabletop.Trial
	frames []*tabletop.Frame // at each moment; the last is now
}

// Trial begins trial number id of a seed.
func (w *World) Trial(seed, id uint64) *Trial {
	t := w.scene.NewTrial(seed, id)
	return &Trial{Task: t.Task, Text: t.Start.Text, w: w, trial: t, frames: []*tabletop.Frame{t.Start}}
}

// Views are the names of all cameras of the trial's world.
func (t *Trial) Views() []string { return slices.Clone(tabletopCameras[:]) }

// Moments is how many there were, now among them: one more than actions.
func (t *Trial) Moments() int { return len(t.frames) }

func (t *Trial) at(moment int) *tabletop.Frame { return t.frames[moment] }

func (t *Trial) now() *tabletop.Frame { return t.frames[len(t.frames)-1] }

// Done says whether the instruction has been followed.
func (t *Trial) Done() bool { return t.trial.Done(t.now()) }

// Act does an action: a move and a turn in metres and radians, and how far the fingers
// are to be open, of which more than a half is open. One that is not finite is an error.
func (t *Trial) Act(action []float32) error {
	var a tabletop.Action
	if len(action) != len(a) {
		return fmt.Errorf("an action of %d values; want %d", len(action), len(a))
	}
	for d, v := range action {
		a[d] = float64(v)
		if math.IsNaN(a[d]) || math.IsInf(a[d], 0) {
			return fmt.Errorf("value %d of an action is %v", d, v)
		}
	}
	t.frames = append(t.frames, t.now().Act(a))
	return nil
}

// Expert is what the data's expert would do now.
func (t *Trial) Expert() []float32 {
	a := make([]float32, t.w.Dims())
	copyFloats(a, t.now().Expert())
	return a
}

// Still is an action that does nothing: the fingers stay as they are.
func (t *Trial) Still() []float32 {
	a := make([]float32, t.w.Dims())
	a[len(a)-1] = float32(t.now().State()[6])
	return a
}

// State is the gripper's at a moment.
func (t *Trial) State(moment int) []float64 {
	s := t.at(moment).State()
	return s[:]
}

// Placed is where everything was at a moment: the gripper's state, and the place and
// turn of each object.
func (t *Trial) Placed(moment int) []float64 {
	all := t.State(moment)
	for _, o := range t.at(moment).Objects {
		all = append(all, o.X, o.Y, o.Z, o.Yaw)
	}
	return all
}

// Picture is what a camera sees at a moment: RGB, size × size × 3.
func (t *Trial) Picture(camera string, size, moment int) []byte {
	pix := make([]byte, 3*size*size)
	t.at(moment).Render(t.w.camera(camera, size), pix)
	return pix
}
