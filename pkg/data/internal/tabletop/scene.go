// Package tabletop makes synthetic robot episodes: a table with coloured
// shapes, an instruction about them, and what a scripted expert does next.
// Everything is a pure function of (seed, episode, frame), the same bits on
// every CPU.
//
//	e := tabletop.Cluttered.NewEpisode(seed, 17)  // objects and instruction
//	f := e.Frame(2)                               // one state of it, and the expert's action
//	f.Render(NewCamera(64), rgb)                  // what the camera sees
//
// The robot's frame: x forward, away from the camera; y to the left; z up;
// metres and radians. The camera stands where the robot does, so left and
// behind in an instruction are left and behind in the picture.
//
//	      x ^   behind
//	        |  +-----------------+
//	        |  |   table         |
//	        |  +-----------------+
//	y <-----+   in front    (camera here, looking up the page)
//
// The gripper's state is drawn without regard to the instruction, and the
// expert reacts to whatever state it finds. So what a policy could do at best
// without the instruction is an average over the instructions that the scene
// allows, and can be computed exactly: see Frame.WithoutInstruction.
package tabletop

import "github.com/vlaring/vlaring/internal/philox"

// Version of the recipe: it changes whenever a pixel or an action does.
const Version = 1

// Frames is the number of frames, and so of samples, in an episode.
const Frames = 4

// Scene is how hard the episodes are.
//
//	             simple                              cluttered
//	objects      one                                 two to four, alike in colour or shape
//	instruction  verb, direction or side of table    also places relative to another object
//	gripper      upright                             tilted
//	picture      grey table                          planks of four kinds, a floor, shadows
//
// Simple asks for what a small model learns from some ten thousand samples:
// where the gripper and the object are, and what to do about it. Cluttered asks
// it also to find which object is meant.
type Scene uint8

const (
	Cluttered Scene = iota
	Simple
)

func (scene Scene) String() string {
	if scene == Simple {
		return "simple"
	}
	return "cluttered"
}

// Shape of an object.
type Shape uint8

const (
	cube Shape = iota
	cylinder
	ball
	Cone
	brick
	shapes
)

// Colour of an object.
type Colour uint8

const (
	red Colour = iota
	green
	blue
	yellow
	purple
	orange
	colours
)

// object is a thing on the table. Its position is that of its base's centre.
type object struct {
	Shape   Shape
	Colour  Colour
	X, Y, Z float64 // Z is above 0 only while it is held
	Yaw     float64
}

// half returns half the object's extent along its own axes.
func (o object) half() vec {
	switch o.Shape {
	case cylinder:
		return vec{0.026, 0.026, 0.031}
	case ball:
		return vec{0.028, 0.028, 0.028}
	case Cone:
		return vec{0.033, 0.033, 0.036}
	case brick:
		return vec{0.048, 0.021, 0.019}
	}
	return vec{0.026, 0.026, 0.026}
}

// flat reports whether something can stand on the object.
func (o object) flat() bool { return o.Shape == cube || o.Shape == cylinder || o.Shape == brick }

// Gripper is the end effector: the point between its finger tips, its tilt
// and its fingers.
type Gripper struct {
	X, Y, Z          float64
	Roll, Pitch, Yaw float64
	Open             bool
	Held             int // index of the object between the fingers; -1: none
}

// episode is a table and an instruction.
type episode struct {
	scene    Scene
	seed, id uint64
	home     []object // where the objects stand
	table    int      // which of the tables
	Task     Task
	Text     string // the instruction in words
}

// Frame is one state of an episode.
type Frame struct {
	Objects []object
	Gripper Gripper
	Task    Task
	Text    string
	scene   Scene
	table   int
}

// draw hands out the numbers of one stream in order.
type draw struct {
	s philox.Stream
	n uint32
}

func (d *draw) intn(n int) int { d.n++; return d.s.Intn(d.n-1, n) }

// between returns a number in [lo, hi], on a grid of 1/1000.
func (d *draw) between(lo, hi float64) float64 {
	return lo + mul(float64(d.intn(1001))/1000, hi-lo)
}

// NewEpisode draws table and instruction of episode id. Cluttered tables have
// two to four objects of two colours and two shapes, all different, so that
// neither the colour nor the shape alone names an object where there are three
// or more.
func (scene Scene) NewEpisode(seed, id uint64) *episode {
	e := scene.drawEpisode(&draw{s: philox.Stream{Seed: seed, Purpose: philox.Scene, Site: 0, Sample: id}})
	e.seed, e.id = seed, id
	return e
}

// drawEpisode is the next table and instruction of d.
func (scene Scene) drawEpisode(d *draw) *episode {
	e := &episode{scene: scene, table: d.intn(len(tables))}
	c := [2]Colour{Colour(d.intn(int(colours)))}
	c[1] = (c[0] + 1 + Colour(d.intn(int(colours)-1))) % colours
	s := [2]Shape{Shape(d.intn(int(shapes)))}
	s[1] = (s[0] + 1 + Shape(d.intn(int(shapes)-1))) % shapes
	order := [4]int{0, 1, 2, 3}
	for i := 3; i > 0; i-- {
		j := d.intn(i + 1)
		order[i], order[j] = order[j], order[i]
	}
	n := 2 + d.intn(3)
	if scene == Simple {
		n = 1
	}
	for _, k := range order[:n] {
		o := object{Shape: s[k&1], Colour: c[k>>1], Yaw: d.between(-0.7, 0.7)}
		for try := 0; try < 100; try++ {
			o.X, o.Y = d.between(0.27, 0.54), d.between(-0.16, 0.16)
			if clear(o, e.home, 0.095) {
				break
			}
		}
		e.home = append(e.home, o)
	}
	e.Task, e.Text = scene.drawTask(d, e.home)
	return e
}

// clear reports whether o is at least gap away from all others.
func clear(o object, others []object, gap float64) bool {
	for _, p := range others {
		if (vec{o.X - p.X, o.Y - p.Y, 0}).length() < gap {
			return false
		}
	}
	return true
}

// Frame draws state k of the episode, 0 ≤ k < Frames. In 2 of 5 the gripper
// holds an object, any of them.
func (e *episode) Frame(k int) *Frame {
	d := &draw{s: philox.Stream{Seed: e.seed, Purpose: philox.Scene, Site: 1, Step: uint64(k), Sample: e.id}}
	f := &Frame{Objects: append([]object(nil), e.home...), Task: e.Task, Text: e.Text, scene: e.scene, table: e.table}
	g := &f.Gripper
	g.Held = -1
	if d.intn(5) < 2 {
		g.Held = d.intn(len(e.home))
	}
	near := e.home[d.intn(len(e.home))]
	where := d.intn(20)
	dx, dy, dz := d.between(-1, 1), d.between(-1, 1), d.between(0, 1)
	switch {
	case where < 7: // anywhere
		g.X, g.Y, g.Z = 0.40+mul(dx, 0.13), mul(dy, 0.16), 0.02+mul(dz, 0.16)
	case where < 14: // about above an object
		g.X, g.Y, g.Z = near.X+mul(dx, 0.018), near.Y+mul(dy, 0.018), near.half().z+mul(dz, 0.13)
	default: // beside an object, low
		s, c := sincos(mul(dx, 3.1416))
		r := 0.065 + mul(dy, 0.012)
		g.X, g.Y, g.Z = near.X+mul(c, r), near.Y+mul(s, r), 0.012+mul(dz, 0.04)
	}
	if g.Held >= 0 { // clear of the other objects, or above them
		o := &f.Objects[g.Held]
		lift := o.half().z
		for i, p := range e.home {
			if i != g.Held && (vec{g.X - p.X, g.Y - p.Y, 0}).length() < 0.075 {
				lift = max(lift, 2*p.half().z+o.half().z+0.005)
			}
		}
		g.Z = max(g.Z, lift)
	}
	g.Roll, g.Pitch, g.Yaw = d.between(-0.15, 0.15), d.between(-0.15, 0.15), d.between(-0.7, 0.7)
	if f.scene == Simple {
		g.Roll, g.Pitch = 0, 0
	}
	g.Open = d.intn(4) > 0
	if g.Held >= 0 {
		o := &f.Objects[g.Held]
		g.Open = false
		o.X, o.Y, o.Z, o.Yaw = g.X, g.Y, g.Z-o.half().z, g.Yaw
	}
	return f
}
