package models

import (
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// policyCase is a case of tools/golden_policy.py: PyTorch's own decoder under each
// kind of loss.
func policyCase(t *testing.T, name string) (g goldenFile, c Config, head Head) {
	t.Helper()
	f, err := safetensors.Open(filepath.Join("testdata/policy", name+".safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	g = goldenFile{t, f}
	head = map[string]Head{L1: l1{}, MSE: mse{}, binsLoss: bins{Bins: g.num("bins")}, flowLoss: flow{Steps: g.num("steps")}}[name]
	return g, Config{Kind: VLA, VocabSize: g.num("vocab_size"), ImageSize: g.num("image_size"), PatchSize: g.num("patch_size"), Channels: 3,
		DModel: g.num("d_model"), NHeads: g.num("n_heads"), NLayers: g.num("n_layers"), ActionDim: g.num("action_dim"), StateDim: g.num("state_dim"), Fusion: fusionCross,
		Sees: Observation{Cameras: g.num("cameras"), History: g.num("history"), Chunk: g.num("chunk"), State: true}}, head
}

// batch is the case's samples.
func (g goldenFile) batch(spec Spec) *Batch {
	g.t.Helper()
	b := NewBatch(g.shape("inputs.ids")[0], spec)
	ints := func(name string) []int64 {
		x, err := g.Int64(name)
		if err != nil {
			g.t.Fatal(err)
		}
		return x
	}
	for i, id := range ints("inputs.ids") {
		b.IDs[i] = uint64(id)
	}
	for i, f := range spec {
		if f.Type != Token {
			copy(b.Values[i].Floats, g.floats("inputs."+f.Name))
			continue
		}
		for k, x := range ints("inputs." + f.Name) {
			b.Values[i].Ints[k] = int32(x)
		}
	}
	return b
}

// TestGoldenPolicy: loss, every gradient, the answered actions and the loss in
// evaluation are PyTorch's, for each kind of loss behind a decoder.
func TestGoldenPolicy(t *testing.T) {
	for _, name := range []string{L1, MSE, binsLoss, flowLoss} {
		t.Run(name, func(t *testing.T) {
			g, c, head := policyCase(t, name)
			m, err := New(c, head)
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			g.load(m.Params())
			spec := m.Spec(g.shape("inputs.instruction_tokens")[1])
			b := g.batch(spec)
			grads := make([]float32, m.Params().Len())
			m.Params().BindGrads(grads)
			var first []float32
			for _, threads := range []int{1, 3} {
				rt := tensor.NewRuntime(threads)
				defer rt.Close()
				run := func(o ProgramOptions) (*Program, float64) {
					t.Helper()
					p, err := m.Program(rt, b.N, spec, o)
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(p.Close)
					if err := p.Load(b); err != nil {
						t.Fatal(err)
					}
					p.SetStep(uint64(g.num("seed")), uint64(g.num("step")), o.Train)
					return p, p.Forward()
				}
				for _, o := range []ProgramOptions{{Train: true}, {Train: true, Recompute: true}} {
					p, loss := run(o)
					p.Backward()
					g.same("outputs.loss", []float32{float32(loss)})
					g.grads(m.Params())
					if first == nil {
						first = slices.Clone(grads)
					} else if !slices.Equal(first, grads) {
						t.Errorf("with %d threads, recomputing %v, the gradient has other bits", threads, o.Recompute)
					}
				}
				for _, o := range []ProgramOptions{{}, {Forward: true}} {
					p, loss := run(o)
					g.same("outputs.heldout", []float32{float32(loss)})
					g.same("outputs.actions", p.Output().Data)
					if want := g.shape("outputs.actions"); !slices.Equal(p.Output().Shape, want) {
						t.Errorf("actions of shape %v, want %v", p.Output().Shape, want)
					}
				}
			}
		})
	}
}

// What is counted by hand is what the tape's operations count: of a decoder under
// each kind of loss.
func TestPolicyCost(t *testing.T) {
	rt := tensor.NewRuntime(1)
	defer rt.Close()
	for _, name := range []string{L1, MSE, binsLoss, flowLoss} {
		g, c, head := policyCase(t, name)
		m, err := New(c, head)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		g.load(m.Params())
		spec := m.Spec(4)
		b := g.batch(spec)
		p, err := m.Program(rt, b.N, spec, ProgramOptions{Train: true})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		if err := p.Load(b); err != nil {
			t.Fatal(err)
		}
		m.Params().BindGrads(make([]float32, m.Params().Len()))
		p.SetProfile(true)
		p.SetStep(1, 1, true)
		p.Forward()
		p.Backward()
		var forward int64
		for _, k := range p.Profile() {
			forward += k.ForwardFLOPs
		}
		cost := m.Cost(spec)
		if want := cost.ForwardFLOPs * int64(b.N); forward != want {
			t.Errorf("%s: the operations count %d of a forward, the model %d", name, forward, want)
		}
		if cost.TrainFLOPs <= 2*cost.ForwardFLOPs || cost.ActivationBytes <= 0 {
			t.Errorf("%s: %+v", name, cost)
		}
		if s, err := Count(c, head, spec, nil); err != nil || s.Cost != cost || s.Parameters-c.withDefaults().MaxLen*c.DModel != m.Params().Count() {
			t.Errorf("%s: counted %+v (%v), built %d parameters and %+v", name, s, err, m.Params().Count(), cost)
		}
	}
}

// A flow's draws are of the sample: in training of the step too, in evaluation of
// nothing else, wherever the sample stands in its batch.
func TestFlowDraws(t *testing.T) {
	g, c, head := policyCase(t, flowLoss)
	m, err := New(c, head)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	g.load(m.Params())
	spec := m.Spec(4)
	rt := tensor.NewRuntime(1)
	defer rt.Close()
	run := func(seed, step uint64, train bool, ids ...uint64) (answer []float32, loss float64) {
		p, err := m.Program(rt, 2, spec, ProgramOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		b := g.batch(spec)
		for i, v := range b.Values { // both samples alike but for their ids
			copy(v.Floats[len(v.Floats)/2:], v.Floats)
			copy(v.Ints[len(v.Ints)/2:], v.Ints)
			b.Values[i] = v
		}
		copy(b.IDs, ids)
		if err := p.Load(b); err != nil {
			t.Fatal(err)
		}
		p.SetStep(seed, step, train)
		loss = p.Forward()
		return slices.Clone(p.Output().Data), loss
	}
	answer, loss := run(1, 2, false, 7, 8)
	again, same := run(1, 3, false, 7, 8)
	if !slices.Equal(answer, again) || loss != same {
		t.Error("an answer depends on the step")
	}
	n := len(answer) / 2
	if slices.Equal(answer[:n], answer[n:]) {
		t.Error("two samples have one noise")
	}
	if turned, _ := run(1, 2, false, 8, 7); !slices.Equal(answer[:n], turned[n:]) || !slices.Equal(answer[n:], turned[:n]) {
		t.Error("an answer depends on the place in the batch")
	}
	if other, _ := run(2, 2, false, 7, 8); slices.Equal(answer, other) {
		t.Error("an answer does not depend on the seed")
	}
	_, one := run(1, 2, true, 7, 8)
	_, two := run(1, 3, true, 7, 8)
	if one == two || one == loss {
		t.Errorf("training draws the same in two steps, or as evaluation: losses %v, %v, %v", one, two, loss)
	}
}

// What does not go together is refused where the model is made, and says what to want.
func TestDecoderRefusals(t *testing.T) {
	_, c, _ := policyCase(t, MSE)
	concat := c
	concat.Fusion = ""
	if _, err := New(concat, flow{Steps: 2}); err == nil || !strings.Contains(err.Error(), "loss flow has layers behind a decoder, and a model of kind vla without model.fusion cross has none") {
		t.Error(err)
	}
	exits := c
	exits.Exits = []int{1}
	exits.NLayers = 4
	_, err := New(exits, nil)
	if mistake(err, "exits") == nil {
		t.Errorf("exits behind a decoder: %v", err)
	}
	wrong := c
	wrong.Fusion = "both"
	if _, err := New(wrong, nil); mistake(err, "fusion") == nil {
		t.Errorf("fusion both: %v", err)
	}

	// a teacher that answers by steps
	student, err := New(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer student.Close()
	teacher, err := New(c, flow{Steps: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer teacher.Close()
	rt := tensor.NewRuntime(1)
	defer rt.Close()
	_, err = student.Program(rt, 2, student.Spec(4), ProgramOptions{Train: true, Distill: &Distillation{Teacher: teacher, Alpha: 0.5, Temperature: 1}})
	if err == nil || !strings.Contains(err.Error(), "a teacher of loss flow and a student of loss mse") {
		t.Error(err)
	}
}

// A student with a decoder learns from a teacher without, and from its features:
// padding counts for neither answer.
func TestDecoderIsTaught(t *testing.T) {
	g, c, _ := policyCase(t, MSE)
	plain := c
	plain.Fusion, c.HintDim = "", c.DModel
	student, err := New(c, l1{})
	if err != nil {
		t.Fatal(err)
	}
	defer student.Close()
	teacher, err := New(plain, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer teacher.Close()
	student.Init(1)
	teacher.Init(2)
	rt := tensor.NewRuntime(1)
	defer rt.Close()
	spec := student.Spec(4)
	p, err := student.Program(rt, 2, spec, ProgramOptions{Train: true, Distill: &Distillation{Teacher: teacher, Alpha: 0.5, Temperature: 1, Features: 2}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := p.Load(g.batch(spec)); err != nil {
		t.Fatal(err)
	}
	student.Params().BindGrads(make([]float32, student.Params().Len()))
	p.SetStep(1, 1, true)
	p.Forward()
	p.Backward()
	if l := p.Losses(); len(l) != 2 || l[0].Count() != 4*2 || l[0].Nominal() != 6*2 || !(l[0].Value() > 0 && l[1].Value() > 0) {
		t.Errorf("losses %+v", l)
	}
}

// The presets of robots are as large as they are called, with what their comment
// says of the data, and are there for kinds that have a decoder.
func TestRobotPresets(t *testing.T) {
	seen := 0
	for _, k := range Kinds() {
		for _, p := range k.Presets {
			size, robot := strings.CutPrefix(p.Name, "robot-")
			if !robot {
				continue
			}
			seen++
			if k.Name != VLA {
				t.Errorf("%s has %s", k.Name, p.Name)
			}
			c := p.Options.(Config)
			c.Sees, c.StateDim, c.VocabSize = Observation{Cameras: 2, Chunk: 16, State: true}, 8, 1000
			s, err := Count(c, flow{Steps: 10}, Spec{Known(Instruction, 16)}, nil)
			if err != nil {
				t.Fatal(err)
			}
			millions, err := strconv.Atoi(strings.TrimSuffix(size, "m"))
			if got := float64(s.Parameters-5000*c.DModel) / 1e6; err != nil || got < 0.9*float64(millions) || got > 1.25*float64(millions) {
				t.Errorf("%s has %.1f million parameters (%v)", p.Name, got, err)
			}
		}
	}
	if seen != 3 {
		t.Errorf("%d presets of robots, want 3", seen)
	}
}
