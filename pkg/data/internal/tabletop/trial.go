package tabletop

import "github.com/vlaring/vlaring/internal/philox"

// TrialSteps is the most actions of a trial: more than twice what the expert takes.
const TrialSteps = 60

// What success is, in metres.
const (
	lifted  = 0.10 // the base of what is to be picked up is so high
	placed  = 0.03 // what is to be put or pushed somewhere is nearer than that to its place, and let go
	shifted = 0.06 // what is to be pushed in a direction has gone so far that way, and at most half as far aside
)

// aisle is how far the middles of other objects are from the way of a push to a place.
const aisle = 0.06

// Trial is an episode to be acted in: a table, an instruction, and an open gripper
// somewhere above the table.
//
//	t := scene.NewTrial(seed, 3)
//	for f := t.Start; !t.Done(f); {
//		f = f.Act(policy(f))
//	}
type Trial struct {
	Task  string // one of Tasks
	Start *Frame
}

// Tasks are the names of what instructions of the scene ask for.
func (scene Scene) Tasks() []string {
	if scene == Simple {
		return []string{"pick up", "put", "push"}
	}
	return []string{"pick up", "put beside", "put on", "push", "push beside"}
}

// name is that of Tasks.
func (t Task) name() string {
	switch {
	case t.Verb == pickUp:
		return "pick up"
	case t.Verb == Push && t.B < 0:
		return "push"
	case t.Verb == Push:
		return "push beside"
	case t.B < 0:
		return "put"
	case t.Rel == on:
		return "put on"
	}
	return "put beside"
}

// NewTrial draws trial id. No episode that anybody is trained on, of whatever seed, is
// one of them: they come from a stream of their own. One whose goal is reached at the
// beginning, or whose place or way something else is in, is drawn again.
func (scene Scene) NewTrial(seed, id uint64) Trial {
	for again := uint64(0); ; again++ {
		d := &draw{s: philox.Stream{Seed: seed, Purpose: philox.Scene, Site: 2, Step: again, Sample: id}}
		e := scene.drawEpisode(d)
		f := &Frame{Objects: e.home, Task: e.Task, Text: e.Text, scene: scene, table: e.table}
		f.Gripper = Gripper{X: d.between(0.32, 0.48), Y: d.between(-0.12, 0.12), Z: d.between(0.12, 0.16), Yaw: d.between(-0.3, 0.3), Open: true, Held: -1}
		if t := (Trial{e.Task.name(), f}); f.free() && !t.Done(f) {
			return t
		}
	}
}

// free says whether nothing else lies where A is to go, nor, where it is pushed, in its
// way or that of the fingers behind it.
func (f *Frame) free() bool {
	t := f.Task
	if t.Verb == pickUp || t.Verb == Push && t.B < 0 {
		return true
	}
	a := f.Objects[t.A]
	x, y, _ := f.place(t)
	way := vec{x - a.X, y - a.Y, 0}
	l := way.length()
	for i, o := range f.Objects {
		if i == t.A || i == t.B && t.Rel == on {
			continue
		}
		if (vec{o.X - x, o.Y - y, 0}).length() < beside-0.01 {
			return false
		}
		if t.Verb != Push || l == 0 {
			continue
		}
		at := vec{o.X - a.X, o.Y - a.Y, 0}
		along := clamp(at.dot(way)/l, -behind, l)
		if at.sub(way.scale(along/l)).length() < aisle {
			return false
		}
	}
	return true
}

// Done says whether what the trial's instruction asks for is so in f.
func (t Trial) Done(f *Frame) bool {
	task := f.Task
	a, was := f.Objects[task.A], t.Start.Objects[task.A]
	switch {
	case task.Verb == pickUp:
		return f.Gripper.Held == task.A && a.Z >= lifted
	case f.Gripper.Held == task.A:
		return false
	case task.Verb == Push && task.B < 0:
		d := direction[task.Rel]
		x, y := a.X-was.X, a.Y-was.Y
		along, aside := mul(x, d[0])+mul(y, d[1]), mul(x, d[1])-mul(y, d[0])
		return along >= shifted && max(aside, -aside) <= along/2
	}
	x, y, z := f.place(task)
	return (vec{x - a.X, y - a.Y, 0}).length() < placed && a.Z == z
}
