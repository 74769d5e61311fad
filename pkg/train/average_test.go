package train

import (
	"encoding/json"
	"math"
	"os"
	"slices"
	"testing"

	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// pytorch is what tools/make_training.py has written.
func pytorch(t *testing.T) (x struct {
	Rates struct {
		Steps, Warmup            uint64
		LR                       float64
		MinLR                    float64 `json:"min_lr"`
		Constant, Linear, Cosine []float64
	}
	Averages struct{ Weights, Power, Constant [][]float32 }
}) {
	t.Helper()
	b, err := os.ReadFile("testdata/training.json")
	if err == nil {
		err = json.Unmarshal(b, &x)
	}
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// The average is that of torch.optim.swa_utils.AveragedModel over the same
// weights, and of a twin in float64.
func TestAverageIsPyTorchs(t *testing.T) {
	x := pytorch(t).Averages
	rt := tensor.NewRuntime(2)
	defer rt.Close()
	decay := 0.97
	for name, c := range map[string]struct {
		ema  job.EMA
		want [][]float32
		twin func(t float64) float64
	}{
		"power":    {job.EMA{Max: 0.9, Power: 0.75}, x.Power, func(t float64) float64 { return min(0.9, 1-math.Pow(1+t, -0.75)) }},
		"constant": {job.EMA{Decay: &decay}, x.Constant, func(float64) float64 { return decay }},
	} {
		avg := slices.Clone(x.Weights[0])
		twin := make([]float64, len(avg))
		for i, w := range avg {
			twin[i] = float64(w)
		}
		for n, want := range c.want {
			w := x.Weights[n+1]
			rt.Average(avg, w, decayOf(c.ema, uint64(n)))
			for i := range avg {
				d := c.twin(float64(n))
				twin[i] = d*twin[i] + (1-d)*float64(w[i])
				if math.Abs(float64(avg[i]-want[i])) > 1e-8 || math.Abs(float64(avg[i])-twin[i]) > 1e-6*max(math.Abs(twin[i]), 0.01) {
					t.Fatalf("%s, step %d, element %d: %v, PyTorch's is %v, the twin's %v", name, n+1, i, avg[i], want[i], twin[i])
				}
			}
			if avg[0] != x.Weights[0][0] {
				t.Fatalf("%s, step %d: a weight that stays at %v has the average %v", name, n+1, x.Weights[0][0], avg[0])
			}
		}
	}
}

// The decay grows from 0, and its bits are the same on every CPU.
func TestDecay(t *testing.T) {
	e := job.EMA{Max: 0.9999, Power: 0.75}
	for _, c := range []struct {
		t    uint64
		bits uint64
	}{{0, 0}, {1, 0x3fd9f203eb9c91d6}, {999, 0x3fefd1eed8ffb7c2}, {215442, 0x3fefff2e48d23697}, {215443, 0x3fefff2e48e8a71e}, {1 << 31, 0x3fefff2e48e8a71e}} {
		got := decayOf(e, c.t)
		if want := min(e.Max, 1-math.Pow(1+float64(c.t), -e.Power)); math.Abs(got-want) > 1e-15 {
			t.Errorf("after %d steps it is %v, want %v", c.t, got, want)
		}
		if math.Float64bits(got) != c.bits {
			t.Errorf("after %d steps its bits are %#x, want %#x", c.t, math.Float64bits(got), c.bits)
		}
	}
}

// A job's average follows its weights and changes none of them: frozen ones stay
// at their first values, and a step that is passed over moves neither.
func TestAverageFollowsTheWeights(t *testing.T) {
	const skipped = 3
	run := func(set ...string) (s *squad, r *rank, seen [][]float32) {
		s = newSquad(t, append(set, "train.non_finite=skip", `train.freeze=["vision_encoder.*"]`, `optimizer.groups=[{match: "*bias", lr: 0.1}]`)...)
		r = s.rank("a")
		seen = append(seen, slices.Clone(r.params.Values()))
		bounds := []int{0, s.job.Groups()}
		s.form(bounds, r)
		for n := range 6 {
			r.spoil = nil
			if n == skipped {
				r.spoil = func(b *models.Batch, m int) { b.Floats(models.Actions)[0] = float32(math.Inf(1)) }
			}
			s.step(bounds, r)
			seen = append(seen, slices.Clone(r.params.Values()))
		}
		return s, r, seen
	}
	_, without, plain := run()
	for _, ema := range []string{"optimizer.ema=true", "optimizer.ema={max: 0.5, power: 2}", "optimizer.ema={decay: 0.9}"} {
		s, r, seen := run(ema)
		for n := range seen {
			if !slices.Equal(seen[n], plain[n]) {
				t.Fatalf("%s: the average has changed the weights of step %d", ema, n)
			}
		}
		if slices.Equal(r.slots[0], seen[6]) || len(r.slots) != len(without.slots)+1 {
			t.Fatalf("%s: there is no average", ema)
		}
		for i := range seen[0] {
			want := float64(seen[0][i])
			for n := range 6 {
				if n != skipped {
					d := decayOf(s.job.Optimizer.EMA, uint64(n))
					want = d*want + (1-d)*float64(seen[n+1][i])
				}
			}
			if got := float64(r.slots[0][i]); math.Abs(got-want) > 1e-6*max(math.Abs(want), 0.01) {
				t.Fatalf("%s: average %d is %v, want %v", ema, i, got, want)
			}
		}
	}
}
