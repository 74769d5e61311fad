package compare

import "github.com/vlaring/vlaring/pkg/tensor"

// probe seals a tape, fills its inputs and runs the gradient of Σ ±at, with signs that look
// random, backward. A plain sum would not do: behind a LayerNorm it is
// constant.
func probe(tape *tensor.Tape, at *tensor.Var, fill func()) {
	target := tape.Input(at.Shape...)
	loss := tape.MSE(at, target)
	tape.Seal()
	fill()
	tape.Forward()
	for i := range target.Data { // the gradient is 2(at - target)/n
		target.Data[i] = at.Data[i] - sign(i)
	}
	tape.Forward()
	tape.Backward(loss)
}

// sign is 1 or -1, by the parity of i's hash.
func sign(i int) float32 {
	x := uint32(i)*2654435761 + 12345
	x ^= x >> 16
	x *= 2246822519
	if x>>31 == 0 {
		return 1
	}
	return -1
}
