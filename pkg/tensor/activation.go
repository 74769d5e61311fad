package tensor

import "github.com/vlaring/vlaring/internal/kernel"

// Activation is a function fused behind a linear layer, or of a Gated one.
type Activation int

const (
	None Activation = iota
	ReLU
	GELU      // PyTorch's tanh approximation
	SiLU      // x·σ(x)
	ErfGELU   // x/2·(1 + erf(x/√2)), PyTorch's default
	QuickGELU // x·σ(1.702·x), OpenAI's CLIP
)

// quick is the 1.702 of QuickGELU.
const quick = 1.702

// ofInput says whether a's derivative is a function of its input; ReLU's is one of
// its result.
func (a Activation) ofInput() bool { return a > ReLU }

// apply writes a(x) to dst.
func (a Activation) apply(dst, x []float32) {
	switch a {
	case GELU:
		kernel.GELU(dst, x)
	case ErfGELU:
		kernel.ErfGELU(dst, x)
	case SiLU:
		kernel.Swish(dst, x, 1)
	case QuickGELU:
		kernel.Swish(dst, x, quick)
	default:
		panic(&ShapeError{Op: "Activation", Want: "one of its input", Got: sprint(int(a))})
	}
}

// back multiplies dy by the derivative of a at the input x.
func (a Activation) back(dy, x []float32) {
	switch a {
	case GELU:
		kernel.GELUBackward(dy, x)
	case ErfGELU:
		kernel.ErfGELUBackward(dy, x)
	case SiLU:
		kernel.SwishBackward(dy, x, 1)
	case QuickGELU:
		kernel.SwishBackward(dy, x, quick)
	}
}
