package models

import (
	"fmt"

	"github.com/vlaring/vlaring/pkg/tensor"
)

// Model is a network with its parameters. Programs made from it share them.
type Model struct {
	cfg Config
	b   *Builder

	// one of these, by kind
	vla    *VLATransformer
	policy *VisionPolicy
	fusion *CrossModalTransformer
	copier *CopyModel
	lstm   *RecurrentModel

	hint linearHead // distill_projection [HintDim, D], [HintDim]; only with HintDim
}

// New builds a model with zero parameters; Init or a file fills them. The
// error joins every mistake in c, each a *ConfigError.
func New(c Config) (*Model, error) {
	m, err := declare(c)
	if err != nil {
		return nil, err
	}
	m.Params().Seal()
	return m, nil
}

// Size is what a model takes by count.
type Size struct {
	Parameters int
	Cost       Cost // of one sample
}

// Bytes is the memory of the model's weights.
func (s Size) Bytes() int64 { return 4 * int64(s.Parameters) }

// Count says what a model of c takes, without taking it: New allocates as much.
func Count(c Config, spec Spec) (Size, error) {
	if err := c.Validate(); err != nil {
		return Size{}, err
	}
	table := c.MaxLen * c.DModel // of positions, which are no parameters
	c.MaxLen = min(c.MaxLen, 2)
	m, err := declare(c)
	if err != nil {
		return Size{}, err
	}
	return Size{m.Params().Count() + table, m.Cost(spec)}, nil
}

// declare is New without the parameters' memory.
func declare(c Config) (*Model, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c = c.withDefaults()
	m := &Model{cfg: c, b: NewBuilder()}
	var err error
	switch c.Kind {
	case VLA:
		m.vla, err = NewVLATransformer(m.b, "", c)
	case ViT:
		m.policy = NewVisionPolicy(m.b, "", c)
	case CrossModal:
		m.fusion = NewCrossModalTransformer(m.b, "", c)
	case Encoder:
		m.copier, err = NewCopyModel(m.b, "", c)
	case LSTM:
		m.lstm = NewRecurrentModel(m.b, "", c)
	}
	if c.HintDim > 0 {
		m.hint = newLinearHead(m.b, "distill_projection", c.HintDim, c.DModel)
	}
	if err != nil {
		return nil, err
	}
	return m, nil
}

// Init sets every parameter to its first value; see Builder.Init.
func (m *Model) Init(seed uint64) { m.b.Init(seed) }

// Config returns what the model was made from.
func (m *Model) Config() Config { return m.cfg }

// Close gives the parameters' memory back. The model, its parameters and its
// programs, which are to be closed before it, must not be used any more.
func (m *Model) Close() { m.Params().Close() }

// Params returns the model's parameters.
func (m *Model) Params() *tensor.Params { return m.b.Params() }

// Spec is the samples that the model takes, with instructions of tokens tokens.
// A cross_modal model takes features of any number of tokens: those two
// numbers stay 0.
func (m *Model) Spec(tokens int) Spec {
	c := m.cfg
	image := [3]int{c.Channels, c.ImageSize, c.ImageSize}
	switch c.Kind {
	case VLA:
		return Spec{Image: image, Tokens: tokens, Action: c.ActionDim}
	case ViT:
		return Spec{Image: image, Action: c.ActionDim}
	case CrossModal:
		return Spec{Vision: [2]int{0, c.VisionDim}, Language: [2]int{0, c.LanguageDim}, Action: c.ActionDim}
	}
	return Spec{Tokens: tokens, Labels: true}
}

// Accepts says why the model cannot take samples of s, or nil.
func (m *Model) Accepts(s Spec) error {
	want := m.Spec(s.Tokens)
	if m.fusion != nil {
		want.Vision[0], want.Language[0] = s.Vision[0], s.Language[0]
	}
	if m.cfg.hasTokens() && s.Tokens < 1 {
		return fmt.Errorf("a model of kind %s takes instruction tokens; these samples are of %s", m.cfg.Kind, s)
	}
	if want != s || (m.fusion != nil && (s.Vision[0] < 1 || s.Language[0] < 1)) {
		return fmt.Errorf("a model of kind %s takes samples of %s; these are of %s", m.cfg.Kind, want, s)
	}
	if m.cfg.hasTokens() && s.Tokens > m.cfg.MaxLen {
		return fmt.Errorf("instructions have %d tokens, and the model takes at most %d (model.max_len)", s.Tokens, m.cfg.MaxLen)
	}
	return nil
}

// String is a Spec in words.
func (s Spec) String() string {
	var b []byte
	add := func(f string, args ...any) {
		if len(b) > 0 {
			b = append(b, ", "...)
		}
		b = fmt.Appendf(b, f, args...)
	}
	if s.Image[0] > 0 {
		add("images %d×%d×%d", s.Image[0], s.Image[1], s.Image[2])
	}
	if s.Tokens > 0 {
		add("%d tokens", s.Tokens)
	}
	if s.Labels {
		add("a label a token")
	}
	if s.Vision[1] > 0 {
		add("vision features %d×%d", s.Vision[0], s.Vision[1])
	}
	if s.Language[1] > 0 {
		add("language features %d×%d", s.Language[0], s.Language[1])
	}
	if s.Action > 0 {
		add("%d action values", s.Action)
	}
	if len(b) == 0 {
		return "nothing"
	}
	return string(b)
}

// TokenError is a token outside the vocabulary.
type TokenError struct {
	Sample   uint64 // id
	Position int
	Token    int32
	Vocab    int
	Label    bool
}

func (e *TokenError) Error() string {
	what := "token"
	if e.Label {
		what = "label"
	}
	return fmt.Sprintf("sample %d: %s %d at position %d is outside the vocabulary of %d (want 0 to %d)", e.Sample, what, e.Token, e.Position, e.Vocab, e.Vocab-1)
}

// ProgramOptions choose what a Program computes.
type ProgramOptions struct {
	Loss          string // mse or cross_entropy; empty: the kind's own
	Train         bool   // record dropout; Forward applies it where SetStep says train
	KeepAttention bool   // keep the per-head attention weights of each Forward
	Recompute     bool   // compute the blocks' activations anew in Backward: the same bits in less memory and more time
	Exits         bool   // record the outputs before the last; with Train they are always
	Forward       bool   // there is no Backward: the same outputs in a part of the memory

	ExitWeights []float64     // of the exits' losses in the one that Backward begins at; nil: 1 each
	Distill     *Distillation // a teacher; nil: none
	features    bool          // the pooled features are wanted too
}

// Program is a model recorded for batches of one size. It is not safe for
// concurrent use, and neither are two programs of one Runtime.
type Program struct {
	model *Model
	tape  *tensor.Tape
	n     int
	spec  Spec
	ids   []uint64

	images, vision, language, actions *tensor.Var
	tokens, labels                    *tensor.Ints
	visible                           *tensor.Bytes
	out                               *tensor.Var
	losses                            []*tensor.Loss // means over different counts, added
	pass                              *Pass
	end                               tensor.Mark // behind the output, before the loss
	teacher                           *teaching
}

// Program records the model and its loss for batches of n samples of spec.
func (m *Model) Program(rt *tensor.Runtime, n int, spec Spec, opt ProgramOptions) (*Program, error) {
	if err := m.Accepts(spec); err != nil {
		return nil, err
	}
	own := "mse"
	if m.cfg.namesTokens() {
		own = "cross_entropy"
	}
	if opt.Loss != "" && opt.Loss != own {
		return nil, fmt.Errorf("loss %s does not fit a model of kind %s: want %s", opt.Loss, m.cfg.Kind, own)
	}
	t := tensor.NewTape(rt, m.Params())
	if opt.Forward {
		t.ForwardOnly()
	}
	p := &Program{model: m, tape: t, n: n, spec: spec, pass: &Pass{Tape: t, Train: opt.Train, KeepAttention: opt.KeepAttention, Recompute: opt.Recompute, Exits: opt.Train || opt.Exits}}
	if spec.Image[0] > 0 {
		p.images = t.Input(n, spec.Image[0], spec.Image[1], spec.Image[2])
	}
	if spec.Tokens > 0 {
		p.tokens = t.Ints(n, spec.Tokens)
		if m.cfg.PadToken >= 0 {
			p.visible = t.Bytes(n, spec.Tokens)
		}
	}
	var encoded *tensor.Var // [B, T, D] of the kinds that name tokens
	switch {
	case m.vla != nil:
		p.out = m.vla.Forward(p.pass, p.images, p.tokens, p.visible)
	case m.policy != nil:
		p.out = m.policy.Forward(p.pass, p.images)
	case m.fusion != nil:
		p.vision, p.language = t.Input(n, spec.Vision[0], spec.Vision[1]), t.Input(n, spec.Language[0], spec.Language[1])
		p.out = m.fusion.Forward(p.pass, p.vision, p.language, nil)
	case m.copier != nil:
		encoded, p.out = m.copier.Forward(p.pass, p.tokens, tensor.Mask{Keys: p.visible})
	case m.lstm != nil:
		encoded, p.out = m.lstm.Forward(p.pass, p.tokens)
	}
	if encoded != nil && (opt.features || m.cfg.HintDim > 0) {
		p.pass.feature = t.MeanPool(encoded, p.visible)
	}
	p.end = t.Mark()
	t.Keep(p.out)
	if p.pass.feature != nil {
		t.Keep(p.pass.feature)
	}
	for _, e := range p.pass.exits {
		t.Keep(e.Out)
	}
	if m.cfg.namesTokens() {
		p.labels = t.Ints(n, spec.Tokens)
	} else {
		p.actions = t.Input(n, spec.Action)
	}
	if err := p.recordLoss(rt, opt); err != nil {
		if p.teacher != nil {
			p.teacher.prog.Close()
		}
		return nil, err
	}
	t.Seal()
	return p, nil
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
	for _, x := range []struct {
		dst *tensor.Var
		src []float32
		was string
	}{{p.images, b.Images, "images"}, {p.vision, b.Vision, "vision features"}, {p.language, b.Language, "language features"}, {p.actions, b.Actions, "actions"}} {
		if x.dst == nil {
			continue
		}
		if len(x.src) != len(x.dst.Data) {
			return fmt.Errorf("a batch with %d values of %s; want %d", len(x.src), x.was, len(x.dst.Data))
		}
		copy(x.dst.Data, x.src)
	}
	if p.tokens != nil {
		if err := p.loadTokens(p.tokens, b, b.Tokens, false); err != nil {
			return err
		}
	}
	if p.labels != nil {
		if err := p.loadTokens(p.labels, b, b.Labels, true); err != nil {
			return err
		}
	}
	if p.visible != nil {
		PaddingMask(p.visible.Data, p.tokens.Data, p.model.cfg.PadToken)
	}
	if p.labels != nil {
		p.model.cfg.Targets(p.labels.Data, b.Tokens, b.Labels)
	}
	return nil
}

// Targets are the labels of the loaded batch, [n, T], NoLabel where there is no
// target (see Config.Targets); nil where the model predicts actions.
func (p *Program) Targets() []int32 {
	if p.labels == nil {
		return nil
	}
	return p.labels.Data
}

// Visible says which tokens of the loaded batch are no padding, [n, T]; nil:
// all of them.
func (p *Program) Visible() []uint8 {
	if p.visible == nil {
		return nil
	}
	return p.visible.Data
}

func (p *Program) loadTokens(dst *tensor.Ints, b *Batch, src []int32, label bool) error {
	if len(src) != len(dst.Data) {
		return fmt.Errorf("a batch with %d tokens; want %d", len(src), len(dst.Data))
	}
	for i, tok := range src {
		if tok < 0 && !(label && tok == NoLabel) || int(tok) >= p.model.cfg.VocabSize {
			return &TokenError{Sample: b.IDs[i/p.spec.Tokens], Position: i % p.spec.Tokens, Token: tok, Vocab: p.model.cfg.VocabSize, Label: label}
		}
	}
	copy(dst.Data, src)
	return nil
}

// SetStep names the dropout's random numbers: those of the loaded batch's
// samples in this step. Without train there is no dropout.
func (p *Program) SetStep(seed, step uint64, train bool) { p.tape.SetStep(seed, step, p.ids, train) }

// Forward computes outputs and losses of the loaded batch, and returns the mean
// loss over it: the sum of Losses' values.
func (p *Program) Forward() (loss float64) {
	if p.teacher != nil {
		p.teacher.answer()
	}
	p.tape.Forward()
	for _, l := range p.losses {
		loss += l.Value()
	}
	return loss
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

// Output is the model's output: actions [n, A], or logits [n, T, V] of an encoder.
func (p *Program) Output() *tensor.Var { return p.out }

// SetProfile turns the timing of operations on or off; see tensor.Tape.
func (p *Program) SetProfile(on bool) { p.tape.SetProfile(on) }

// Profile returns the times by kind of operation since it was called last.
func (p *Program) Profile() []tensor.OpTime { return p.tape.Profile() }

// MemoryBytes is what the program holds for activations and their gradients.
func (p *Program) MemoryBytes() int64 { return p.tape.MemoryBytes() }

// Close gives the program's memory back.
func (p *Program) Close() {
	p.tape.Close()
	if p.teacher != nil {
		p.teacher.prog.Close()
	}
}

// Attention returns the weights of the last Forward, by block. The program
// must have been made with KeepAttention.
func (p *Program) Attention() []LayerAttention { return p.pass.Attention() }
