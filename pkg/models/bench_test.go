package models

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/vlaring/vlaring/pkg/tensor"
)

// stepCases are the two steps that docs/performance.md speaks of.
var stepCases = []struct {
	name   string
	cfg    Config
	batch  int
	tokens int
}{
	{"default/B8", Config{Kind: VLA, VocabSize: 10000, ImageSize: 224, PatchSize: 16, Channels: 3, DModel: 512, NHeads: 8, NLayers: 6, ActionDim: 7, Dropout: 0.1, PadToken: 0}, 8, 8},
	{"small/B32", Config{Kind: VLA, VocabSize: 1000, ImageSize: 64, PatchSize: 16, Channels: 3, DModel: 128, NHeads: 4, NLayers: 4, ActionDim: 7, Dropout: 0.1, PadToken: 0}, 32, 8},
}

// randomBatch fills a batch with tokens 1 … and pixels and actions in [-1, 1).
func randomBatch(m *Model, n int, spec Spec) *Batch {
	r := rand.New(rand.NewPCG(1, 2))
	b := NewBatch(n, spec)
	for i := range b.IDs {
		b.IDs[i] = uint64(i)
	}
	for i := range b.Floats(Images) {
		b.Floats(Images)[i] = 2*r.Float32() - 1
	}
	for i := range b.Ints(Instruction) {
		b.Ints(Instruction)[i] = 1 + int32(r.IntN(m.Options().Wants().Vocab()-1))
	}
	for i := range b.Floats(Actions) {
		b.Floats(Actions)[i] = 2*r.Float32() - 1
	}
	return b
}

// BenchmarkStep times whole training steps on one thread: forward, backward,
// norm and AdamW. It prints the median step's samples a second, the rate that
// the model's nominal cost makes of it (what is left out of the last vision block is counted as if it were done), and the
// time of each kind of operation.
func BenchmarkStep(b *testing.B) {
	for _, c := range stepCases {
		b.Run(c.name, func(b *testing.B) {
			rt := tensor.NewRuntime(1)
			defer rt.Close()
			step, p, cost := trainStep(b, rt, c.cfg, c.batch, c.tokens)
			step()
			p.SetProfile(true)
			times := make([]float64, 0, 100)
			for b.Loop() {
				start := time.Now()
				step()
				times = append(times, time.Since(start).Seconds())
			}
			m := median(times)
			b.ReportMetric(float64(c.batch)/m, "samples/s")
			b.ReportMetric(float64(c.batch)*float64(cost.TrainFLOPs)/m/1e9, "GFLOP/s")
			b.ReportMetric(float64(p.MemoryBytes())/(1<<20), "activationsMiB")
			b.ReportMetric(0, "ns/op")
			n := time.Duration(len(times))
			for _, k := range p.Profile() {
				rate := func(f int64, t time.Duration) float64 { return float64(f) / max(t.Seconds(), 1e-9) / 1e9 }
				b.Logf("%-10s %3d  forward %9v %6.1f GFLOP/s  backward %9v %6.1f GFLOP/s", k.Kind, k.Ops, (k.Forward / n).Round(time.Microsecond), rate(k.ForwardFLOPs, k.Forward),
					(k.Backward / n).Round(time.Microsecond), rate(k.BackwardFLOPs, k.Backward))
			}
		})
	}
}

// trainStep returns a function that trains on one batch over and over.
func trainStep(tb testing.TB, rt *tensor.Runtime, cfg Config, batch, tokens int) (step func(), p *Program, cost Cost) {
	m, err := New(cfg, nil)
	if err != nil {
		tb.Fatal(err)
	}
	m.Init(1)
	spec := m.Spec(tokens)
	p, err = m.Program(rt, batch, spec, ProgramOptions{Train: true})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(p.Close)
	ps := m.Params()
	grad, m1, m2 := tensor.Floats(ps.Len()), tensor.Floats(ps.Len()), tensor.Floats(ps.Len())
	ps.BindGrads(grad)
	data := randomBatch(m, batch, spec)
	h := tensor.AdamW{LR: 1e-4, Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, WeightDecay: 0.01}
	n := uint64(0)
	return func() {
		if err := p.Load(data); err != nil {
			tb.Fatal(err)
		}
		p.SetStep(1, n, true)
		p.Forward()
		p.Backward()
		norm := rt.GradNorm(ps, grad)
		n++
		rt.AdamWStep(ps.Values(), grad, m1, m2, n, h, float32(min(1/(norm+1e-6), 1)))
	}, p, m.Cost(spec)
}

func median(x []float64) float64 {
	slices.Sort(x)
	return x[len(x)/2]
}
