package models

import (
	"fmt"
	"maps"
	"slices"

	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// Model is a network with its parameters. Programs made from it share them.
type Model struct {
	opts   Options // complete
	head   Head    // nil: no loss of this program judges what the model answers
	b      *Builder
	net    Network
	layers Layers // of the head, behind the network's decoder; nil: there is none

	bf16 bool // see SetBF16

	hintDim int
	hint    linearHead // distill_projection [hintDim, D], [hintDim]; only with a hint
}

// New builds a model with zero parameters; Init or a file fills them. head is its
// loss, which may have layers of its own; nil: the first that judges what the model
// answers. The error is a *job.Error with every mistake in the options.
func New(o Options, head Head) (*Model, error) {
	m, err := declare(o, head)
	if err != nil {
		return nil, err
	}
	m.Params().Seal()
	return m, nil
}

// SetBF16 makes the matrix products of programs that are recorded from now on
// round their operands to bfloat16: see tensor.Tape.BF16. It belongs to what is
// computed, so a model has it for training, measuring and serving alike.
func (m *Model) SetBF16(on bool) { m.bf16 = on }

// BF16 is what SetBF16 said.
func (m *Model) BF16() bool { return m.bf16 }

// Size is what a model takes by count.
type Size struct {
	Parameters int
	Trained    int  // of the parameters
	Cost       Cost // of one sample
}

// Bytes is the memory of the model's weights.
func (s Size) Bytes() int64 { return 4 * int64(s.Parameters) }

// Count says what a model of o takes, without taking it: New allocates as much. freeze
// says which parameters are not trained; nil: all are.
func Count(o Options, head Head, spec Spec, freeze func(*tensor.Params) error) (Size, error) {
	m, err := declare(o, head)
	if err != nil {
		return Size{}, err
	}
	if freeze != nil {
		if err := freeze(m.Params()); err != nil {
			return Size{}, err
		}
	}
	s := Size{Parameters: m.Params().Count() + m.b.tables, Cost: m.Cost(spec)}
	for _, p := range m.Params().List() {
		if !p.Frozen {
			s.Trained += p.Size()
		}
	}
	return s, nil
}

// Validate returns nil, or a *job.Error with every mistake in the options of a
// model that is to be built, with all of its sizes.
func Validate(o Options) error {
	k := &job.Checker{}
	o.Check(k)
	if w := o.Wants(); w.Has(Instruction) {
		k.Within("model.vocab_size", w.Vocab(), 1, maxVocab)
	}
	if w := o.Wants(); w.Has(Actions) {
		k.Within("model.action_dim", w.Width(Actions), 1, maxDim)
	}
	if w := o.Wants(); w.Has(State) {
		k.Within("data.state", w.Width(State), 1, maxDim)
	}
	return k.Err()
}

// declare is New without the parameters' memory.
func declare(o Options, head Head) (*Model, error) {
	o = o.Complete()
	if err := Validate(o); err != nil {
		return nil, err
	}
	if head == nil {
		head = ownHead(o)
	}
	if head != nil && head.Judges() != o.Answers() {
		return nil, fmt.Errorf("loss %s is of %s, and a model of kind %s answers with %s", head.Name(), head.Judges(), o.Name(), o.Answers())
	}
	m := &Model{opts: o, head: head, b: NewBuilder()}
	if c, ok := o.(Config); ok {
		m.b.adaptBy(c.LoRA)
	}
	var err error
	if m.net, err = o.Network(m.b); err != nil {
		return nil, err
	}
	if d := decodingOf(o); d.Width > 0 {
		if m.layers, err = layersOf(head, m.b, d); err != nil {
			return nil, err
		}
	} else if _, ok := head.(Layered); ok {
		return nil, fmt.Errorf("loss %s has layers behind a decoder, and a model of kind %s without model.fusion %s has none", head.Name(), o.Name(), fusionCross)
	}
	if t, ok := o.(Teachable); ok && t.Hint() > 0 {
		m.hintDim = t.Hint()
		m.hint = newLinearHead(m.b, "distill_projection", m.hintDim, t.FeatureDim())
	}
	return m, m.b.adapted()
}

// Init sets every parameter to its first value; see Builder.Init.
func (m *Model) Init(seed uint64) { m.b.Init(seed) }

// Head is the loss that the model was made for; nil: there is none.
func (m *Model) Head() Head { return m.head }

// Options returns what the model was made from, complete.
func (m *Model) Options() Options { return m.opts }

// Close gives the parameters' memory back. The model, its parameters and its
// programs, which are to be closed before it, must not be used any more.
func (m *Model) Close() { m.Params().Close() }

// Params returns the model's parameters.
func (m *Model) Params() *tensor.Params { return m.b.Params() }

// Spec is the samples that the model takes, with tokens of that number for
// every open length of tokens. Other open lengths stay 0.
func (m *Model) Spec(tokens int) Spec {
	s := m.opts.Wants()
	for i, f := range s {
		if f.Type == Token && f.Shape[0] == 0 {
			s[i].Shape[0] = tokens
		}
	}
	return s
}

// Accepts says why the model cannot take samples of s, or nil.
func (m *Model) Accepts(s Spec) error {
	wants := m.opts.Wants()
	fits := len(wants) == len(s)
	for _, w := range wants {
		f := s.Find(w.Name)
		if f == nil {
			fits = false
			continue
		}
		if len(f.Shape) == len(w.Shape) {
			for i, d := range f.Shape {
				if d > 0 && w.Shape[i] == 0 {
					w.Shape[i] = d
				}
			}
		}
		fits = fits && f.same(w) && w.Size() > 0
	}
	if t := s.Len(Labels, 0); t != 0 && t != s.Len(Instruction, 0) {
		fits = false // a label for each token
	}
	if !fits {
		return fmt.Errorf("a model of kind %s takes samples of %s; these are of %s", m.opts.Name(), m.opts.Wants(), s)
	}
	for _, w := range wants {
		if n := s.Len(w.Name, 0); w.Max > 0 && n > w.Max {
			return fmt.Errorf("%s has %d tokens, and the model takes at most %d (model.max_len)", w.Name, n, w.Max)
		}
	}
	return nil
}

// TokenError is a token outside the vocabulary.
type TokenError struct {
	Sample   uint64 // id
	Position int
	Token    int32
	Vocab    int
	Feature  string
}

func (e *TokenError) Error() string {
	return fmt.Sprintf("sample %d: %s: %d at position %d is outside the vocabulary of %d (want 0 to %d)", e.Sample, e.Feature, e.Token, e.Position, e.Vocab, e.Vocab-1)
}

// ProgramOptions choose what a Program computes.
type ProgramOptions struct {
	Train         bool // record dropout; Forward applies it where SetStep says train
	KeepAttention bool // keep the per-head attention weights of each Forward
	Recompute     bool // compute the blocks' activations anew in Backward: the same bits in less memory and more time
	Exits         bool // record the outputs before the last; with Train they are always
	Forward       bool // there is no Backward: the same outputs in a part of the memory
	Settled       bool // with Forward: the model's weights do not change any more: see tensor.Tape.Settled

	// Keeper keeps what frozen parts of encoders make: see Part. nil: with Train they
	// are computed apart from the rest, and anew each time.
	Keeper Keeper
	inline bool // tests: frozen parts are computed with the rest, as if they were none

	Distill  *Distillation // a teacher; nil: none
	features bool          // the pooled features are wanted too
}

// Program is a model recorded for batches of one size. It is not safe for
// concurrent use, and neither are two programs of one Runtime.
type Program struct {
	model *Model
	rt    *tensor.Runtime
	tape  *tensor.Tape
	n     int
	spec  Spec
	vocab int // tokens that the model knows
	ids   []uint64

	in      Inputs
	target  Expected
	out     *tensor.Var // nil: a program that trains need not know it
	layers  int
	task    func(of Expected) *tensor.Loss // records that of out
	feature *tensor.Var                    // [n, D] what a teacher's is compared with; nil: not wanted, or none
	losses  []*tensor.Loss                 // means over different counts, added
	pass    *Pass
	end     tensor.Mark // behind the output, before the loss
	teacher *teaching
}

// Program records the model and its loss for batches of n samples of spec.
func (m *Model) Program(rt *tensor.Runtime, n int, spec Spec, opt ProgramOptions) (*Program, error) {
	if err := m.Accepts(spec); err != nil {
		return nil, err
	}
	if m.head == nil {
		return nil, fmt.Errorf("no loss of this program judges %s, which a model of kind %s answers with", m.opts.Answers(), m.opts.Name())
	}
	t := tensor.NewTape(rt, m.Params())
	if opt.Forward {
		t.ForwardOnly()
		if opt.Settled {
			t.Settled()
		}
	}
	if m.bf16 {
		t.BF16()
	}
	p := &Program{model: m, rt: rt, tape: t, n: n, spec: spec, vocab: m.opts.Wants().Vocab(), pass: &Pass{Tape: t, Train: opt.Train, KeepAttention: opt.KeepAttention, Recompute: opt.Recompute, Exits: opt.Train || opt.Exits}}
	if !opt.KeepAttention && !opt.inline && (opt.Train || opt.Keeper != nil) {
		p.pass.apart = &parts{keeper: opt.Keeper, bf16: m.bf16, settled: opt.Forward && opt.Settled}
	}
	made := p.network()
	if m.layers != nil {
		a := m.layers.Record(p.pass, made.Decoder)
		made.Answer, made.Features, p.task = a.Actions, a.Features, a.Loss
	}
	p.out, p.layers = made.Answer, made.Layers
	switch f := made.Features; {
	case f != nil && len(f.Shape) == 2:
		p.feature = f
	case f != nil && (opt.features || m.hintDim > 0):
		visible := p.in.visible
		if m.layers != nil { // they are of actions, not of words
			visible = nil
		}
		p.feature = t.MeanPool(f, visible)
	}
	p.end = t.Mark()
	if p.out != nil {
		t.Keep(p.out)
	}
	if p.feature != nil {
		t.Keep(p.feature)
	}
	for _, e := range p.pass.exits {
		t.Keep(e.Out)
	}
	p.in.record(t, n, spec, Target)
	p.target = Expected{Actions: p.in.Floats(Actions), Valid: p.in.Floats(Valid), Labels: p.in.Ints(Labels)}
	if err := p.recordLoss(rt, opt); err != nil {
		if p.teacher != nil {
			p.teacher.prog.Close()
		}
		return nil, err
	}
	t.Seal()
	return p, nil
}

// network records the inputs and what the network makes of them.
func (p *Program) network() Outputs {
	p.in.past = new([]pastKeys)
	p.in.record(p.tape, p.n, p.spec, Input)
	if tokens := p.in.Ints(Instruction); tokens != nil && p.model.opts.Padding() >= 0 {
		p.in.visible = p.tape.Bytes(tokens.Shape...)
	}
	return p.model.net.Record(p.pass, p.in)
}

// Load copies a batch in. Tokens and labels outside the vocabulary are a
// *TokenError; then the program must not be run.
func (p *Program) Load(b *Batch) error {
	if b.N != p.n {
		return fmt.Errorf("a batch of %d samples for a program of %d", b.N, p.n)
	}
	p.ids = append(p.ids[:0], b.IDs...)
	if p.teacher != nil {
		if err := p.teacher.prog.Load(b); err != nil {
			return fmt.Errorf("the teacher: %w", err)
		}
	}
	if err := p.in.load(b, p.vocab); err != nil {
		return err
	}
	if v := p.in.visible; v != nil {
		tokens := p.in.Ints(Instruction)
		Visible(v.Data, tokens.Data, tokens.Shape[1], p.model.opts)
	}
	p.in.showPast()
	if p.target.Labels != nil {
		Targets(p.target.Labels.Data, b.Ints(Instruction), b.Ints(Labels), p.model.opts.Padding())
	}
	return nil
}

// Targets are the labels of the loaded batch, [n, T], NoLabel where there is no
// target (see Targets); nil where the model predicts actions.
func (p *Program) Targets() []int32 {
	if p.target.Labels == nil {
		return nil
	}
	return p.target.Labels.Data
}

// Visible says which tokens of the loaded batch are no padding, [n, T]; nil:
// all of them.
func (p *Program) Visible() []uint8 {
	if p.in.visible == nil {
		return nil
	}
	return p.in.visible.Data
}

// SetStep names the random numbers of dropout, and of a head that draws: those of
// the loaded batch's samples in this step. Without train there is no dropout, and
// the step does not count.
func (p *Program) SetStep(seed, step uint64, train bool) {
	p.tape.SetStep(seed, step, p.ids, train)
	for _, f := range p.pass.fills {
		f(Draw{seed, step, train, p.ids})
	}
}

// Forward computes outputs and losses of the loaded batch, and returns the mean
// loss over it: the sum of Losses' values.
func (p *Program) Forward() (loss float64) {
	if p.teacher != nil {
		p.teacher.answer()
	}
	p.fill()
	p.tape.Forward()
	for _, l := range p.losses {
		loss += l.Value()
	}
	return loss
}

// fill computes what is apart from the program's tape.
func (p *Program) fill() {
	if f := p.pass.apart; f != nil {
		f.fill(p.rt, p.model.Params(), p.n)
	}
}

// Losses are what the program's loss is the sum of. Each is a mean over a count
// of its own, over which it is to be divided once, for all batches of a step:
// the first, mostly the only one, over targets or action values; a second, over
// samples, where the features of a teacher are compared beside targets.
func (p *Program) Losses() []*tensor.Loss { return p.losses }

// Backward writes the gradient of the first of Losses, as tensor.Loss has it, to
// the slab bound to the model's parameters.
func (p *Program) Backward() { p.BackwardOf(0) }

// BackwardOf is Backward of loss k. Any may follow one Forward, in any order.
func (p *Program) BackwardOf(k int) { p.tape.Backward(p.losses[k]) }

// OnGrad sets a function that Backward calls when a parameter's gradient is complete.
func (p *Program) OnGrad(f func(*tensor.Param)) { p.tape.OnGrad(f) }

// Output is the model's output: actions [n, A] or [n, L, A], or logits [n, T, V] of
// an encoder. It is nil in a program that trains a head which makes actions of
// something else than what it learns, such as noise.
func (p *Program) Output() *tensor.Var { return p.out }

// SetProfile turns the timing of operations on or off; see tensor.Tape.
func (p *Program) SetProfile(on bool) {
	p.tape.SetProfile(on)
	if f := p.pass.apart; f != nil {
		f.spent = 0
	}
}

// Profile returns the times by kind of operation since it was called last; that of
// frozen parts, with what keeps their results, is of a kind of its own.
func (p *Program) Profile() []tensor.OpTime {
	kinds := p.tape.Profile()
	if f := p.pass.apart; f != nil && kinds != nil && len(f.list) > 0 {
		kinds = append(kinds, tensor.OpTime{Kind: "frozen", Ops: len(f.list), Forward: f.spent})
		f.spent = 0
	}
	return kinds
}

// MemoryBytes is what the program holds for activations and their gradients.
func (p *Program) MemoryBytes() int64 {
	n := p.tape.MemoryBytes()
	for _, t := range p.tapes() {
		n += t.MemoryBytes()
	}
	return n
}

// tapes are those of what is apart.
func (p *Program) tapes() (list []*tensor.Tape) {
	if f := p.pass.apart; f != nil {
		for _, a := range f.list {
			for _, samples := range slices.Sorted(maps.Keys(a.tapes)) {
				list = append(list, a.tapes[samples].tape)
			}
		}
	}
	return list
}

// Close gives the program's memory back.
func (p *Program) Close() {
	p.tape.Close()
	for _, t := range p.tapes() {
		t.Close()
	}
	if p.teacher != nil {
		p.teacher.prog.Close()
	}
}

// Attention returns the weights of the last Forward, by block. The program
// must have been made with KeepAttention.
func (p *Program) Attention() []LayerAttention { return p.pass.Attention() }
