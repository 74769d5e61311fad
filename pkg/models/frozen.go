package models

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/vlaring/vlaring/internal/octets"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// What is frozen of an encoder from its input on is a function of that input alone.
// A program computes it apart from the rest, on tapes without a backward, and gives
// the rest its results as inputs:
//
//	pictures, words ── frozen steps ──> features ··· as inputs ···> the other steps, fusion, head, loss
//	                   (a tape without         │
//	                    a backward)         Shelf: what has been made of the same input before
//
// So nothing of it is kept for backward, and where a Keeper is given, it is computed
// once for each distinct input. A sample's features are the same bits alone and in any
// batch, so no bit depends on what was kept.

// Part is the frozen beginning of an encoder of a model.
type Part struct {
	Name     string   // of the encoder: vision_encoder or language_encoder
	Pictures bool     // it looks at pictures; else it reads words
	Steps    int      // that are frozen: the embedding, the blocks, and what is behind them
	Of       int      // steps that the encoder has
	Floats   int      // of what it makes of one input
	Drops    bool     // it is frozen, and draws dropout: its results are no function of the input, and it is not apart
	ID       [32]byte // names all that its results depend on but the input: weights, sizes, precision
}

// Whole says that all of the encoder is frozen.
func (p Part) Whole() bool { return p.Steps == p.Of }

// String says how much of which encoder that is.
func (p Part) String() string {
	if p.Whole() {
		return p.Name
	}
	return fmt.Sprintf("the first %d of the %d steps of %s", p.Steps, p.Of, p.Name)
}

// Keeper keeps the results of frozen parts.
type Keeper interface {
	// Shelf is where results of a part are, those of equal IDs on the same one, which
	// are of equal sizes; nil: they are not kept. It is called before the first
	// result is wanted, and again when the weights may have changed.
	Shelf(p Part) Shelf
}

// Shelf holds results of one part by what they were made of. It may lose any of them
// at any time, and never gives another one's. It serves one program at a time.
type Shelf interface {
	Get(key [32]byte, to []float32) bool // false: it is not there, and to is of no use
	Put(key [32]byte, made []float32)
	Drop() // forgets all: they may be wrong
}

// arithmetic is a part of every Part.ID. It is raised with a release in which any
// operation of an encoder has other bits than before.
const arithmetic = 1

// leastSteps is how many frozen steps are worth it: an embedding alone is not.
const leastSteps = 2

// parts are the frozen beginnings of a program's encoders.
type parts struct {
	keeper  Keeper
	bf16    bool
	settled bool // see ProgramOptions
	list    []*part
	drops   []Part        // frozen, but for dropout
	spent   time.Duration // by fill; see Program.Profile
}

// part is a Part on its tapes.
type part struct {
	Part
	chain  chain
	shape  []int // of what is made of one input
	tokens int   // of an input of words; -1: pictures
	seen   bool  // of words, some may be hidden
	input  []int // of pictures: [C, S, S]
	uses   []use
	tapes  map[int]*partTape // by samples
	shelf  Shelf
	known  bool // ID is that of the weights as they are, and shelf its own

	text    []byte           // scratch of keys
	first   map[[32]byte]int // rows of this batch, by what they are of
	missing []int            // rows
	keys    [][32]byte       // of the missing
	copies  [][2]int         // row, and an earlier one of the same input
}

// use is one place where the rest of the program reads the part's results: a camera at
// a time, or the instruction.
type use struct {
	from reading     // on the program's tape
	to   *tensor.Var // an input of the program's tape
}

// partTape computes a part for so many samples.
type partTape struct {
	tape *tensor.Tape
	in   reading
	out  *tensor.Var
}

// encode records a chain over in, without what the program computes apart; nil where
// it has no steps of its own.
func (p *Pass) encode(c chain, in reading) *tensor.Var {
	steps := c.steps(in)
	if steps == nil {
		return nil
	}
	var a *part
	if p.apart != nil {
		a = p.apart.find(p, c, in)
	}
	if a == nil {
		return run(p, steps, nil)
	}
	x := p.Tape.Input(append([]int{in.samples()}, a.shape...)...)
	a.uses = append(a.uses, use{in, x})
	return run(p, steps[a.Steps:], x)
}

// find is the part of a chain: nil where too little of it is frozen, or draws.
func (f *parts) find(p *Pass, c chain, in reading) *part {
	for _, a := range f.list {
		if a.Name == c.name {
			return a
		}
	}
	for _, d := range f.drops {
		if d.Name == c.name {
			return nil
		}
	}
	a := &part{Part: Part{Name: c.name, Pictures: c.pictures}, chain: c, tapes: map[int]*partTape{}, first: map[[32]byte]int{}, tokens: -1}
	if in.images != nil {
		a.input = in.images.Shape[1:]
	} else {
		a.tokens, a.seen = in.tokens.Shape[1], in.seen != nil
	}
	// A tape that is never run shows how far no gradient goes, and where dropout begins.
	t := tensor.NewTape(nil, p.Tape.Params())
	steps := c.steps(a.reading(t, 1))
	a.Of = len(steps)
	frozen := 0
	var x *tensor.Var
	for i, s := range steps {
		if x = s(&Pass{Tape: t, Train: p.Train}, x); t.Trains(x) {
			break
		}
		if frozen++; t.Drops() == 0 {
			a.Steps, a.shape, a.Floats = i+1, x.Shape[1:], x.Size()
		}
	}
	worth := func(steps int) bool { return steps >= leastSteps || steps == a.Of }
	switch {
	case worth(a.Steps):
		f.list = append(f.list, a)
		return a
	case worth(frozen):
		a.Steps, a.Drops = frozen, true
		f.drops = append(f.drops, a.Part)
	}
	return nil
}

// reading adds the part's input for so many samples to a tape.
func (a *part) reading(t *tensor.Tape, samples int) (r reading) {
	if a.tokens < 0 {
		r.images = t.Input(append([]int{samples}, a.input...)...)
		return r
	}
	if r.tokens = t.Ints(samples, a.tokens); a.seen {
		r.seen = t.Bytes(samples, a.tokens)
	}
	return r
}

// tape is that for so many samples.
func (a *part) tape(f *parts, rt *tensor.Runtime, ps *tensor.Params, samples int) *partTape {
	if t := a.tapes[samples]; t != nil {
		return t
	}
	t := tensor.NewTape(rt, ps)
	t.ForwardOnly()
	if f.settled {
		t.Settled()
	}
	if f.bf16 {
		t.BF16()
	}
	p := &partTape{tape: t, in: a.reading(t, samples)}
	p.out = run(&Pass{Tape: t}, a.chain.steps(p.in)[:a.Steps], nil)
	t.Keep(p.out)
	t.Seal()
	a.tapes[samples] = p
	return p
}

// place copies the input of row from of a use to row to.
func (p *partTape) place(to int, u use, from int) {
	if x := p.in.images; x != nil {
		n := x.Size() / x.Shape[0]
		copy(x.Data[to*n:(to+1)*n], u.from.images.Data[from*n:])
		return
	}
	n := p.in.tokens.Shape[1]
	copy(p.in.tokens.Data[to*n:(to+1)*n], u.from.tokens.Data[from*n:])
	if p.in.seen != nil {
		copy(p.in.seen.Data[to*n:(to+1)*n], u.from.seen.Data[from*n:])
	}
}

// key names the input of a row.
func (a *part) key(u use, row int) [32]byte {
	if x := u.from.images; x != nil {
		n := x.Size() / x.Shape[0]
		return sha256.Sum256(octets.Bytes(x.Data[row*n : (row+1)*n]))
	}
	n := a.tokens
	a.text = a.text[:0]
	for _, id := range u.from.tokens.Data[row*n : (row+1)*n] {
		a.text = binary.LittleEndian.AppendUint32(a.text, uint32(id))
	}
	if a.seen {
		a.text = append(a.text, u.from.seen.Data[row*n:(row+1)*n]...)
	}
	return sha256.Sum256(a.text)
}

// result is where the result of a row goes: rows are those of all uses, one behind the
// other, n of each.
func (a *part) result(row, n int) []float32 {
	return a.uses[row/n].to.Data[row%n*a.Floats : (row%n+1)*a.Floats]
}

// fill computes what the rest of the program reads, for the loaded batch of n samples.
func (f *parts) fill(rt *tensor.Runtime, ps *tensor.Params, n int) {
	began := time.Now()
	defer func() { f.spent += time.Since(began) }()
	for _, a := range f.list {
		if !a.known && f.keeper != nil {
			a.identify(f, rt, ps)
			a.shelf = f.keeper.Shelf(a.Part)
		}
		a.known = true
		a.missing, a.keys, a.copies = a.missing[:0], a.keys[:0], a.copies[:0]
		clear(a.first)
		for row := range n * len(a.uses) {
			if a.shelf == nil {
				a.missing = append(a.missing, row)
				continue
			}
			key := a.key(a.uses[row/n], row%n)
			if before, ok := a.first[key]; ok {
				a.copies = append(a.copies, [2]int{row, before})
				continue
			}
			a.first[key] = row
			if !a.shelf.Get(key, a.result(row, n)) {
				a.missing, a.keys = append(a.missing, row), append(a.keys, key)
			}
		}
		for rest := a.missing; len(rest) > 0; {
			k := 1
			if 2*len(rest) > n { // the last ones stand there twice
				k = n
			}
			t := a.tape(f, rt, ps, k)
			for i := range k {
				row := rest[min(i, len(rest)-1)]
				t.place(i, a.uses[row/n], row%n)
			}
			t.tape.Forward()
			k = min(k, len(rest))
			for i, row := range rest[:k] {
				copy(a.result(row, n), t.out.Data[i*a.Floats:])
			}
			rest = rest[k:]
		}
		for i, key := range a.keys {
			a.shelf.Put(key, a.result(a.missing[i], n))
		}
		for _, c := range a.copies {
			copy(a.result(c[0], n), a.result(c[1], n))
		}
	}
}

// identify sets the part's ID by its weights as they are.
func (a *part) identify(f *parts, rt *tensor.Runtime, ps *tensor.Params) {
	h := sha256.New()
	fmt.Fprintf(h, "vlaring frozen part %d\n%s\nsteps %d of %d\nbf16 %v\ntokens %d, some hidden %v\nresult %v\n",
		arithmetic, a.chain.is, a.Steps, a.Of, f.bf16, a.tokens, a.seen, a.shape)
	for _, p := range a.tape(f, rt, ps, 1).tape.Used() {
		fmt.Fprintf(h, "%s %v\n", p.Name, p.Shape)
		const piece = 1 << 16 // floats: the assembly that hashes them cannot be interrupted
		for x := p.Value; len(x) > 0; x = x[min(piece, len(x)):] {
			h.Write(octets.Bytes(x[:min(piece, len(x))]))
		}
	}
	h.Sum(a.ID[:0])
}

// WeightsChange says that the weights of the program's model are about to be replaced,
// or have been. What was computed of weights that have changed by themselves since they
// came, as memory does that fails, is forgotten.
func (p *Program) WeightsChange() {
	f := p.pass.apart
	if f == nil {
		return
	}
	for _, a := range f.list {
		if a.known && a.shelf != nil {
			was := a.ID
			if a.identify(f, p.rt, p.model.Params()); a.ID != was {
				a.shelf.Drop()
			}
		}
		a.known = false
	}
}

// Parts are the frozen beginnings of the model's encoders for samples of spec, as a
// program that trains computes them apart from the rest, without their IDs; and those
// that are not, for their dropout.
func (m *Model) Parts(spec Spec) (list []Part) {
	f := m.parts(spec)
	for _, a := range f.list {
		list = append(list, a.Part)
	}
	return append(list, f.drops...)
}

// parts records the model once, without memory, to see what of it is frozen.
func (m *Model) parts(spec Spec) *parts {
	f := &parts{}
	if m.Accepts(spec) == nil {
		m.record(spec, &Pass{Train: true, apart: f})
	}
	return f
}

// record records the model once for one sample of spec, without memory.
func (m *Model) record(spec Spec, pass *Pass) {
	pass.Tape = tensor.NewTape(nil, m.Params())
	p := &Program{model: m, tape: pass.Tape, n: 1, spec: spec, pass: pass}
	made := p.network()
	if m.layers != nil {
		m.layers.Record(p.pass, made.Decoder)
	}
}
