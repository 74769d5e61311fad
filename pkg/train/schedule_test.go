package train

import (
	"math"
	"testing"
)

// The rates on both sides of a longer run are those of the two cosines, by hand.
func TestBends(t *testing.T) {
	was := LRSchedule{Kind: "cosine", LR: 1e-3, MinLR: 1e-5, Warmup: 10, Steps: 100}
	is := was
	is.Steps = 300
	rate := func(steps, s float64) float64 { return 1e-5 + (1e-3-1e-5)*0.5*(1+math.Cos(math.Pi*(s-10)/(steps-10))) }
	b, ok := is.Bends(was, 50)
	if !ok || b.Step != 51 || math.Abs(b.Was-rate(100, 50)) > 1e-15 || math.Abs(b.Is-rate(300, 50)) > 1e-15 {
		t.Errorf("it bends %v: %+v, want step 51 from %v to %v", ok, b, rate(100, 50), rate(300, 50))
	}
	if b, ok := is.Bends(was, 4); !ok || b.Step != 12 { // the same in warm-up, and the whole rate after it
		t.Errorf("within warm-up it bends %v: %+v, want step 12", ok, b)
	}
	was.Kind, is.Kind = "constant", "constant"
	if b, ok := is.Bends(was, 50); ok {
		t.Errorf("a constant rate bends: %+v", b)
	}
}

// The rates are those of torch.optim.lr_scheduler: LambdaLR in warm-up, then
// ConstantLR, LinearLR or CosineAnnealingLR. PyTorch computes each from the one
// before, so its own error is an ulp a step.
func TestRatesArePyTorchs(t *testing.T) {
	x := pytorch(t).Rates
	for kind, want := range map[string][]float64{"constant": x.Constant, "linear": x.Linear, "cosine": x.Cosine} {
		s := LRSchedule{Kind: kind, LR: x.LR, MinLR: x.MinLR, Warmup: x.Warmup, Steps: x.Steps}
		for n, w := range want {
			if got := s.At(uint64(n)); math.Abs(got-w) > 1e-13*x.LR {
				t.Errorf("%s, step %d: %v, PyTorch's is %v", kind, n, got, w)
			}
		}
		if last := s.At(x.Steps); kind != "constant" && math.Abs(last-x.MinLR) > 1e-18 {
			t.Errorf("%s ends at %v, want %v", kind, last, x.MinLR)
		}
	}
}
