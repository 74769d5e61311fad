package tensor

import (
	"slices"

	"github.com/vlaring/vlaring/internal/philox"
)

// Var is an activation: a value of the tape, with its gradient. Data and Grad
// are bound by Seal.
type Var struct {
	Shape []int
	Data  []float32 // nil where it is kept rounded: see Keep
	Grad  []float32 // nil where no gradient is needed, or where it is kept rounded

	words       []uint16 // instead of Data, where rounded
	base        *Var     // of a Reshape: whose memory this is
	dataOf      *Var     // in whose memory Data is, or nil: see joinResiduals
	gradOf      *Var     // the same of Grad
	grad        bool     // depends on a parameter, or was marked by NeedGrad
	rounded     bool     // is kept as bfloat16: see roundVars
	gradRounded bool     // so is its gradient, which has no Grad: see roundGrads
	result      bool     // Data is for others than the tape's operations to read
	written     bool     // Grad holds a part of this Backward's gradient
	made        int      // index of the operation that writes Data; -1: an input
	first       int      // index of the last operation that reads it, which writes Grad first; -1: none
	keep        bool     // Grad outlives Backward
}

// Cols is the last dimension.
func (v *Var) Cols() int { return v.Shape[len(v.Shape)-1] }

// Rows is the product of the other dimensions.
func (v *Var) Rows() int { return size(v.Shape[:len(v.Shape)-1]) }

// Size is the number of elements.
func (v *Var) Size() int { return size(v.Shape) }

func (v *Var) root() *Var {
	for v.base != nil {
		v = v.base
	}
	return v
}

// accumulate says whether Grad already holds a part of the gradient, and notes
// that it does from now on.
func (v *Var) accumulate() bool {
	r := v.root()
	w := r.written
	r.written = true
	return w
}

// Ints is an input of integers, such as tokens.
type Ints struct {
	Shape []int
	Data  []int32
}

// Bytes is an input of flags, such as which tokens are visible: 1 yes, 0 no.
type Bytes struct {
	Shape []int
	Data  []uint8

	parts []*Bytes // of a concatenation along the second dimension
}

// op is one recorded operation. Both passes run on the caller's goroutine and
// use the runtime for what is large.
type op interface {
	forward(t *Tape)
	backward(t *Tape)
}

// Tape is a recorded computation for one batch shape. It is not safe for
// concurrent use.
type Tape struct {
	rt     *Runtime
	ps     *Params
	ops    []op
	vars   []*Var
	bytes  []*Bytes
	params []*Param   // used, in order of first use
	reads  [][]*Param // by operation, for the last use in backward
	ins    [][]*Var   // by operation: what its forward reads
	outs   []*Var     // by operation: what it writes, or nil
	drops  uint32     // dropouts recorded
	sealed bool

	past     int  // pastCaches; tests: another
	columns  int  // wholeColumns; tests: fewer
	apart    bool // tests: no two pieces of memory share addresses
	wide     bool // tests: no activation is kept as bfloat16
	forward  bool // there is no Backward: see ForwardOnly
	settled  bool // parameters stay as they are: see Settled
	bf16     bool // products round their operands: see BF16
	segments []segment
	opened   int // first operation of the segment being recorded, -1: none
	memory   []*region
	floats   int
	profile  *profile

	seed, step uint64
	ids        []uint64
	train      bool
	onGrad     func(*Param)
	uses       map[*Param]int
}

// NewTape returns an empty tape that computes with rt on ps.
func NewTape(rt *Runtime, ps *Params) *Tape {
	return &Tape{rt: rt, ps: ps, uses: map[*Param]int{}, opened: -1, past: pastCaches, columns: wholeColumns}
}

// Input adds an input of floats, filled by its owner before Forward.
func (t *Tape) Input(shape ...int) *Var {
	v := t.newVar(shape, false)
	v.made = -1
	return v
}

// Ints adds an input of integers.
func (t *Tape) Ints(shape ...int) *Ints {
	return &Ints{Shape: slices.Clone(shape), Data: make([]int32, size(shape))}
}

// Bytes adds an input of flags, all 0.
func (t *Tape) Bytes(shape ...int) *Bytes {
	return &Bytes{Shape: slices.Clone(shape), Data: make([]uint8, size(shape))}
}

// AllVisible returns flags [b, n] that are all 1.
func (t *Tape) AllVisible(b, n int) *Bytes {
	f := t.Bytes(b, n)
	for i := range f.Data {
		f.Data[i] = 1
	}
	return f
}

// ConcatBytes joins flags [B, Ta] and [B, Tb] to [B, Ta+Tb]; Forward copies
// them anew each time.
func (t *Tape) ConcatBytes(a, b *Bytes) *Bytes {
	need(len(a.Shape) == 2 && len(b.Shape) == 2 && a.Shape[0] == b.Shape[0], "ConcatBytes", "[B, Ta] and [B, Tb]", a.Shape, b.Shape)
	f := t.Bytes(a.Shape[0], a.Shape[1]+b.Shape[1])
	f.parts = []*Bytes{a, b}
	t.bytes = append(t.bytes, f)
	return f
}

// ForwardOnly says, before anything is recorded, that there will be no
// Backward: then activations share memory as soon as nothing is left to read
// them, and there are no gradients. Forward has the same bits.
func (t *Tape) ForwardOnly() {
	need(len(t.ops) == 0 && len(t.vars) == 0, "ForwardOnly", "it before all else", sprint(len(t.ops), " operations"))
	t.forward = true
}

// Settled says, before anything is recorded, that the parameters stay as they are
// from the first Forward of any such tape of theirs on: what products of bfloat16
// read of linear layers' weights is then laid out once and kept, half the bytes of
// the weights. Forward has the same bits.
func (t *Tape) Settled() {
	need(len(t.ops) == 0 && len(t.vars) == 0 && t.forward, "Settled", "ForwardOnly and then it before all else", sprint(len(t.ops), " operations"))
	t.settled = true
}

// BF16 says, before anything is recorded, that matrix products round their
// operands to bfloat16 and sum in blocks of 32: those of linear layers, of
// attention, of patches and convolutions, and of an LSTM with its input. All
// else, and what a product adds to, stays float32. Other bits than without it,
// and the same ones on every CPU; see docs/numerics.md.
func (t *Tape) BF16() {
	need(len(t.ops) == 0 && len(t.vars) == 0, "BF16", "it before all else", sprint(len(t.ops), " operations"))
	t.bf16 = true
}

// Keep makes the data of v last until the next Forward, for others to read.
// Without it only that of inputs does, and of what no operation reads.
func (t *Tape) Keep(v *Var) {
	need(!t.sealed, "Keep", "it before Seal", v.Shape)
	v.root().result = true
}

// NeedGrad asks for the gradient of an input. Before Seal, and before the
// input is used.
func (t *Tape) NeedGrad(v *Var) {
	r := v.root()
	need(!t.sealed && !t.forward && r.made < 0 && r.first < 0, "NeedGrad", "an input, before Seal and before its first use, on a tape with a Backward", v.Shape)
	r.grad, r.keep = true, true
}

func (t *Tape) newVar(shape []int, grad bool) *Var {
	need(!t.sealed, "Tape", "no operation after Seal", shape)
	v := &Var{Shape: slices.Clone(shape), grad: grad && !t.forward, made: len(t.ops), first: -1}
	t.vars = append(t.vars, v)
	return v
}

// record appends an operation that reads in and params and writes out, which
// may be nil.
func (t *Tape) record(o op, out *Var, in []*Var, params ...*Param) {
	i := len(t.ops)
	t.ops = append(t.ops, o)
	var read []*Var
	for _, v := range in {
		if v != nil {
			v.root().first = i
			read = append(read, v.root())
		}
	}
	t.ins, t.outs = append(t.ins, read), append(t.outs, out)
	if out != nil {
		out.made = i
	}
	var used []*Param
	for _, p := range params {
		if p == nil {
			continue
		}
		used = append(used, p)
		if t.uses[p] == 0 {
			t.params = append(t.params, p)
		}
		t.uses[p]++
	}
	t.reads = append(t.reads, used)
	t.freeze(out, in, used)
}

// Recompute records a part of the network whose activations are not kept from
// Forward to Backward: Backward runs its forward anew, with the same dropout,
// and gets the same bits. It saves the memory of all but one such part.
func (t *Tape) Recompute(part func()) {
	need(t.opened < 0, "Recompute", "no Recompute inside another", "one")
	t.opened = len(t.ops)
	part()
	if last := len(t.ops) - 1; last >= t.opened {
		t.segments = append(t.segments, segment{t.opened, last})
	}
	t.opened = -1
}

// nextDrop is the site of the next dropout on the tape.
func (t *Tape) nextDrop() uint32 {
	t.drops++
	return t.drops - 1
}

// stream names the random numbers of a dropout for one sample of the batch.
func (t *Tape) stream(site uint32, sample int) philox.Stream {
	s := philox.Stream{Seed: t.seed, Purpose: philox.Dropout, Site: site, Step: t.step}
	if sample < len(t.ids) {
		s.Sample = t.ids[sample]
	}
	return s
}

// Close gives the tape's memory back. Its Vars must not be used any more.
func (t *Tape) Close() {
	for _, r := range t.memory {
		r.release()
	}
	t.memory = nil
}

// SetStep names the random numbers of the next replay: ids are the batch's
// sample ids, [B]. Without train, dropout is the identity.
func (t *Tape) SetStep(seed, step uint64, ids []uint64, train bool) {
	t.seed, t.step, t.train = seed, step, train
	t.ids = append(t.ids[:0], ids...)
}

// OnGrad sets a function that Backward calls once for every parameter, on the
// caller's goroutine, as soon as its gradient is complete.
func (t *Tape) OnGrad(f func(*Param)) { t.onGrad = f }

// Forward replays the operations.
func (t *Tape) Forward() {
	need(t.sealed, "Forward", "Seal before it", "none")
	t.joinBytes()
	for i := range t.ops {
		t.runForward(i, false)
	}
}

// joinBytes copies the flags that are concatenations.
func (t *Tape) joinBytes() {
	for _, f := range t.bytes {
		a, b := f.parts[0], f.parts[1]
		ta, tb := a.Shape[1], b.Shape[1]
		for i := range a.Shape[0] {
			copy(f.Data[i*(ta+tb):], a.Data[i*ta:(i+1)*ta])
			copy(f.Data[i*(ta+tb)+ta:], b.Data[i*tb:(i+1)*tb])
		}
	}
}

// Backward writes the gradient of l with respect to every parameter to the
// slab of BindGrads, and that of marked inputs to their Grad. Parameters that
// the tape does not use get zeros, unless they are frozen, and are reported first.
func (t *Tape) Backward(l *Loss) {
	if t.forward { // need would allocate its message each time
		panic(&ShapeError{Op: "Backward", Want: "a tape without ForwardOnly", Got: "one with it"})
	}
	for _, v := range t.vars {
		v.written = false
	}
	for _, p := range t.ps.list {
		if p.Grad == nil { // need would allocate its message each time
			panic(&ShapeError{Op: "Backward", Want: "BindGrads before it", Got: p.Name})
		}
		p.written, p.left = false, t.uses[p]
		if p.left == 0 {
			if !p.Frozen { // whose memory nobody need ever touch
				clear(p.Grad)
			}
			t.ready(p)
		}
	}
	l.begin()
	for i := len(t.ops) - 1; i >= 0; i-- {
		if s := t.segmentEnding(i); s != nil {
			for j := s.first; j <= s.last; j++ {
				t.runForward(j, true)
			}
		}
		t.runBackward(i)
		for _, p := range t.reads[i] {
			if p.left--; p.left == 0 {
				if !p.written && !p.Frozen { // every use was of a loss that is not this one
					clear(p.Grad)
				}
				t.ready(p)
			}
		}
	}
	l.end()
	for _, v := range t.vars {
		if v.keep && !v.written { // l does not depend on it; its memory may have served others
			clear(v.Grad)
		}
	}
}

func (t *Tape) ready(p *Param) {
	if t.onGrad != nil {
		t.onGrad(p)
	}
}

// Reshape gives v's memory another shape of the same size.
func (t *Tape) Reshape(v *Var, shape ...int) *Var {
	need(size(shape) == v.Size(), "Reshape", sprint(v.Size(), " elements of ", v.Shape), shape)
	r := t.newVar(shape, v.root().grad)
	r.base = v
	return r
}
