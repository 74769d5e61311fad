package tabletop

// RolloutVersion is that of the recipe of rollouts: it changes whenever a pixel, a
// state or an action of one does.
const RolloutVersion = 2

// RolloutFrames is the number of frames of a rollout.
const RolloutFrames = 8

const (
	touch = 0.04  // distance of an object's centre from low, closed fingers that push it, along their way and across
	hand  = 0.012 // how far from the middle of its height an object can be grasped
)

// Rollout is an episode in time: the frame 0 that Frame draws, and what becomes of
// it as the expert acts.
func (e *episode) Rollout() []*Frame {
	frames := make([]*Frame, RolloutFrames)
	frames[0] = e.Frame(0)
	for k := 1; k < len(frames); k++ {
		frames[k] = frames[k-1].Act(frames[k-1].Expert())
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

// Act is the frame after an action of anybody, as much of it as the gripper can do.
// The world is kinematic: nothing has mass, rolls or tips over.
//
//   - The gripper moves and turns as far as the expert may, within its room.
//   - Fingers that close about the middle of an object take it, whatever way they are
//     turned. It goes with them until they open, and then falls to what is under it.
//   - Low closed fingers push what is before them the way that they go.
//   - Objects, and the rest of the gripper, pass through one another.
func (f *Frame) Act(a Action) *Frame {
	n := *f
	n.Objects = append([]object(nil), f.Objects...)
	a = f.can(a)
	g := &n.Gripper
	g.X, g.Y, g.Z = g.X+a[0], g.Y+a[1], g.Z+a[2]
	g.Roll, g.Pitch, g.Yaw = g.Roll+a[3], g.Pitch+a[4], g.Yaw+a[5]
	was := g.Open
	g.Open = a[6] == 1
	switch {
	case g.Open:
		g.Held = -1
	case was:
		for i, o := range n.Objects {
			if d := g.Z - o.Z - o.half().z; n.distance(o.X, o.Y) < near && d < hand && d > -hand {
				g.Held = i
				break
			}
		}
	case g.Held < 0 && g.Z < low+reach:
		for i := range n.Objects {
			n.shove(&n.Objects[i], vec{a[0], a[1], 0})
		}
	}
	if g.Held >= 0 {
		o := &n.Objects[g.Held]
		o.X, o.Y, o.Z, o.Yaw = g.X, g.Y, g.Z-o.half().z, g.Yaw
	}
	for i, o := range n.Objects {
		if i != g.Held && o.Z != 0 {
			n.fall(i)
		}
	}
	return &n
}

// The gripper's room: the table, and above it as far up, and as far turned, as an arm
// would reach. The expert comes near none of these.
const (
	roomNear, roomFar, roomSide = 0.18, 0.70, 0.36 // of the table: x from and to, y to either side
	roomLow, roomHigh           = 0.005, 0.50
	roomTilt, roomYaw           = 0.5, 1.8
)

// can is as much of an action as the gripper can do: what the expert asks for, all.
func (f *Frame) can(a Action) Action {
	g := f.Gripper
	if l := (vec{a[0], a[1], a[2]}).length(); l > mul(maxMove, 1+1e-9) { // the expert's may be rounded up
		for d := range 3 {
			a[d] = mul(a[d], maxMove/l)
		}
	}
	low := roomLow
	if g.Held >= 0 { // what is held does not go into the table
		low = f.Objects[g.Held].half().z
	}
	at := [6]float64{g.X, g.Y, g.Z, g.Roll, g.Pitch, g.Yaw}
	room := [6][2]float64{{roomNear, roomFar}, {-roomSide, roomSide}, {low, roomHigh}, {-roomTilt, roomTilt}, {-roomTilt, roomTilt}, {-roomYaw, roomYaw}}
	for d, x := range at {
		if d >= 3 {
			a[d] = clamp(a[d], -maxTurn, maxTurn)
		}
		if to := x + a[d]; to < room[d][0] || to > room[d][1] {
			a[d] = clamp(to, room[d][0], room[d][1]) - x
		}
	}
	if a[6] > 0.5 {
		a[6] = 1
	} else {
		a[6] = 0
	}
	return a
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

// shove moves an object that was before low fingers out of the way by which they came.
func (f *Frame) shove(o *object, way vec) {
	l := way.length()
	if l == 0 || o.Z != 0 {
		return
	}
	way = way.scale(1 / l)
	at := vec{o.X - f.Gripper.X, o.Y - f.Gripper.Y, 0}
	along := at.dot(way)
	if aside := at.sub(way.scale(along)).length(); aside < touch && along < touch && along > -l {
		o.X, o.Y = o.X+mul(touch-along, way.x), o.Y+mul(touch-along, way.y)
	}
}
