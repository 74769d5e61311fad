package tabletop

// RolloutVersion is that of the recipe of rollouts: it changes whenever a pixel, a
// state or an action of one does.
const RolloutVersion = 1

// RolloutFrames is the number of frames of a rollout.
const RolloutFrames = 8

const (
	touch = 0.04  // distance of an object's centre from low, closed fingers that push it
	hand  = 0.012 // how far from the middle of its height an object can be grasped
)

// Rollout is an episode in time: the frame 0 that Frame draws, and what becomes of
// it as the expert acts.
func (e *episode) Rollout() []*Frame {
	frames := make([]*Frame, RolloutFrames)
	frames[0] = e.Frame(0)
	for k := 1; k < len(frames); k++ {
		frames[k] = frames[k-1].step(frames[k-1].Expert())
	}
	return frames
}

// State is the gripper's pose, its fingers and what is in them: x, y, z in metres,
// roll, pitch, yaw in radians, 1 open, 1 holding.
type State [8]float64

// State returns that of the frame.
func (f *Frame) State() State {
	g := f.Gripper
	s := State{g.X, g.Y, g.Z, g.Roll, g.Pitch, g.Yaw}
	if g.Open {
		s[6] = 1
	}
	if g.Held >= 0 {
		s[7] = 1
	}
	return s
}

// step is the frame after an action: the gripper has moved, with what it holds;
// closed fingers have taken the object between them, low ones have pushed those
// that they touch, and open ones have let go, so that it has fallen.
func (f *Frame) step(a Action) *Frame {
	n := *f
	n.Objects = append([]object(nil), f.Objects...)
	g := &n.Gripper
	g.X, g.Y, g.Z = g.X+a[0], g.Y+a[1], g.Z+a[2]
	g.Roll, g.Pitch, g.Yaw = g.Roll+a[3], g.Pitch+a[4], g.Yaw+a[5]
	was := g.Open
	g.Open = a[6] == 1
	switch {
	case g.Open && g.Held >= 0:
		n.fall(g.Held)
		g.Held = -1
	case was && !g.Open:
		for i, o := range n.Objects {
			if d := g.Z - o.Z - o.half().z; n.distance(o.X, o.Y) < near && d < hand && d > -hand {
				g.Held = i
				break
			}
		}
	case !g.Open && g.Held < 0 && g.Z < low+reach:
		for i := range n.Objects {
			n.shove(&n.Objects[i])
		}
	}
	if g.Held >= 0 {
		o := &n.Objects[g.Held]
		o.X, o.Y, o.Z, o.Yaw = g.X, g.Y, g.Z-o.half().z, g.Yaw
	}
	return &n
}

// fall puts an object down: onto the highest flat one below its middle, or the table.
func (f *Frame) fall(i int) {
	o := &f.Objects[i]
	z := 0.0
	for k, p := range f.Objects {
		if top := p.Z + 2*p.half().z; k != i && p.flat() && (vec{o.X - p.X, o.Y - p.Y, 0}).length() < p.half().y && top < o.Z+o.half().z {
			z = max(z, top)
		}
	}
	o.Z = z
}

// shove moves an object out of the way of low fingers.
func (f *Frame) shove(o *object) {
	v := vec{o.X - f.Gripper.X, o.Y - f.Gripper.Y, 0}
	if l := v.length(); l < touch && l > 0 && o.Z == 0 {
		v = v.scale(touch / l)
		o.X, o.Y = f.Gripper.X+v.x, f.Gripper.Y+v.y
	}
}
