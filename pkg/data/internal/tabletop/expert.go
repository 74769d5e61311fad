package tabletop

// Limits of one action.
const (
	maxMove = 0.04 // metres, of the length of Δxyz
	maxTurn = 0.15 // radians, of each of Δroll, Δpitch, Δyaw
)

const (
	hover  = 0.12  // height at which the gripper travels, above what it holds or seeks
	near   = 0.02  // horizontal distance that counts as there
	reach  = 0.01  // vertical distance that counts as there
	behind = 0.06  // distance from the object's centre from which it is pushed
	low    = 0.025 // height at which it is pushed
	lean   = 0.2   // tilt into a push, radians
)

// Action is what the expert does: Δx, Δy, Δz in metres, Δroll, Δpitch, Δyaw in
// radians, and the fingers' command: 1 open, 0 closed.
type Action [7]float64

// Expert returns the action of f's own task.
func (f *Frame) Expert() Action { return f.expert(f.Task) }

// WithoutInstruction returns the mean action over all tasks that the scene
// allows. No policy that sees the whole state but not the instruction has a
// smaller squared error, for states are drawn without regard to the task.
func (f *Frame) WithoutInstruction() Action {
	var mean Action
	home := f.Objects // tasks depend on colours and shapes only
	for _, c := range f.scene.Weighted(home) {
		a := f.expert(c.Task)
		for d := range mean {
			mean[d] += mul(c.P, a[d])
		}
	}
	return mean
}

// expert is the policy: a reaction to the state, without memory.
//
//	holds the wrong thing, or must push:  lower it, then open
//	pick up:   above A → down → close → (holding A) up
//	put:       as pick up, then (holding A) above the place → down → open
//	push:      above the point behind A → down → along, leaning into it
func (f *Frame) expert(t Task) Action {
	g := f.Gripper
	if g.Held >= 0 && (t.Verb == Push || g.Held != t.A) {
		return f.setDown()
	}
	a := f.Objects[t.A]
	switch {
	case t.Verb == Push:
		return f.push(t)
	case g.Held < 0:
		if f.distance(a.X, a.Y) > near {
			return f.toward(a.X, a.Y, max(hover, g.Z), 0, 0, graspYaw(a), true)
		}
		grasp := a.half().z
		return f.toward(a.X, a.Y, grasp, 0, 0, graspYaw(a), g.Z > grasp+reach)
	case t.Verb == pickUp:
		return f.toward(g.X, g.Y, g.Z+maxMove, 0, 0, g.Yaw, false)
	}
	x, y, z := f.place(t)
	if f.distance(x, y) > near {
		return f.toward(x, y, z+hover, 0, 0, 0, false)
	}
	z += a.half().z
	return f.toward(x, y, z, 0, 0, 0, g.Z <= z+reach)
}

// setDown lowers what is held to the table, then opens the fingers.
func (f *Frame) setDown() Action {
	g := f.Gripper
	z := f.Objects[g.Held].half().z
	return f.toward(g.X, g.Y, z, 0, 0, g.Yaw, g.Z <= z+reach)
}

// place returns where the base of A belongs: beside B, on it, or where there is
// no B on a side of the table.
func (f *Frame) place(t Task) (x, y, z float64) {
	if t.B < 0 {
		return middle[0] + mul(sides[0], direction[t.Rel][0]), middle[1] + mul(sides[1], direction[t.Rel][1]), 0
	}
	b := f.Objects[t.B]
	if t.Rel == on {
		return b.X, b.Y, b.Z + 2*b.half().z
	}
	return b.X + mul(beside, direction[t.Rel][0]), b.Y + mul(beside, direction[t.Rel][1]), 0
}

func (f *Frame) push(t Task) Action {
	g, a := f.Gripper, f.Objects[t.A]
	dx, dy := direction[t.Rel%on][0], direction[t.Rel%on][1]
	if t.B >= 0 {
		x, y, _ := f.place(t)
		v := vec{x - a.X, y - a.Y, 0}
		if v.length() < near { // it is there already: rise
			return f.toward(g.X, g.Y, max(hover, g.Z), 0, 0, 0, false)
		}
		v = v.unit()
		dx, dy = v.x, v.y
	}
	roll, pitch := mul(-lean, dy), mul(lean, dx)
	yaw := atan2(dy, dx)
	if yaw > 1.5708 { // a gripper looks the same after half a turn
		yaw -= 3.141592653589793
	} else if yaw <= -1.5708 {
		yaw += 3.141592653589793
	}
	// Where the gripper is, seen from A: along the push and across it.
	rx, ry := g.X-a.X, g.Y-a.Y
	along, across := mul(rx, dx)+mul(ry, dy), mul(rx, dy)-mul(ry, dx)
	lined := along < -behind/2 && along > -behind-0.03 && across < near && across > -near
	if !lined {
		return f.toward(a.X-mul(behind, dx), a.Y-mul(behind, dy), max(hover, g.Z), roll, pitch, yaw, false)
	}
	if g.Z > low+reach {
		return f.toward(a.X-mul(behind, dx), a.Y-mul(behind, dy), low, roll, pitch, yaw, false)
	}
	return f.toward(g.X+mul(maxMove, dx), g.Y+mul(maxMove, dy), low, roll, pitch, yaw, false)
}

// graspYaw turns the fingers square to the object, where it has sides.
func graspYaw(o object) float64 {
	if o.Shape == cube || o.Shape == brick {
		return o.Yaw
	}
	return 0
}

func (f *Frame) distance(x, y float64) float64 {
	return vec{x - f.Gripper.X, y - f.Gripper.Y, 0}.length()
}

// toward is the limited step from the gripper's pose to the given one.
func (f *Frame) toward(x, y, z, roll, pitch, yaw float64, open bool) Action {
	g := f.Gripper
	v := vec{x - g.X, y - g.Y, z - g.Z}
	if l := v.length(); l > maxMove {
		v = v.scale(maxMove / l)
	}
	turn := func(d float64) float64 { return clamp(d, -maxTurn, maxTurn) }
	a := Action{v.x, v.y, v.z, turn(roll - g.Roll), turn(pitch - g.Pitch), turn(yaw - g.Yaw), 0}
	if open {
		a[6] = 1
	}
	return a
}
