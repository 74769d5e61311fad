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

// Trains says whether v has a gradient: it depends on a trained parameter or a
// marked input. Of a tape with ForwardOnly it says nothing.
func (t *Tape) Trains(v *Var) bool { return v.root().grad }

// Drops is how many dropouts were recorded so far: each has random numbers by its
// number, so an operation that is left out must have had none.
func (t *Tape) Drops() int { return int(t.drops) }

// Params are the parameters that the tape records on, and Used those that it does use,
// in the order of their first use.
func (t *Tape) Params() *Params { return t.ps }
func (t *Tape) Used() []*Param  { return t.params }

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
