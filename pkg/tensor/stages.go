package tensor

// freeze takes the gradient away from a result that no trained parameter and
// no marked input has a part in: backward then ends above it. Parameters that
// are frozen but stand above a trained one still take their gradient, which
// nobody need look at.
func (t *Tape) freeze(out *Var, in []*Var, params []*Param) {
	if out == nil || len(params) == 0 {
		return
	}
	for _, p := range params {
		if !p.Frozen {
			return
		}
	}
	for _, v := range in {
		if v != nil && v.root().grad {
			return
		}
	}
	out.grad = false
}

// Mark is a place between two operations of a tape.
type Mark int

// Mark returns the place behind all that is recorded so far.
func (t *Tape) Mark() Mark { return Mark(len(t.ops)) }

// ForwardFrom replays the operations between two marks, or from the beginning
// (0): Forward in stages, for whoever wants to look at a result before deciding
// whether to go on.
func (t *Tape) ForwardFrom(from, to Mark) {
	if !t.sealed || from < 0 || to < from || int(to) > len(t.ops) {
		panic(&ShapeError{Op: "ForwardFrom", Want: sprint("a sealed tape and marks in 0 to ", len(t.ops)), Got: sprint(from, to)})
	}
	if from == 0 {
		t.joinBytes()
	}
	for i := from; i < to; i++ {
		t.runForward(int(i), false)
	}
}
