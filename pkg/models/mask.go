package models

import "slices"

// Targets writes to dst [N, T] the labels of which the model is to be judged,
// and NoLabel elsewhere: where labels has it, and where tokens has pad, the
// padding that the model takes out; a negative one takes out nothing. It is what a
// target is in every loss, measure and report.
func Targets(dst, tokens, labels []int32, pad int) {
	for i, y := range labels {
		if pad >= 0 && int(tokens[i]) == pad {
			y = NoLabel
		}
		dst[i] = y
	}
}

// paddingMask writes to dst which tokens are visible: 1 where tokens[i] is not
// pad. A negative pad hides nothing.
func paddingMask(dst []uint8, tokens []int32, pad int) {
	for i, id := range tokens {
		dst[i] = 1
		if int(id) == pad {
			dst[i] = 0
		}
	}
}

// Visible writes to dst which tokens of rows of width a model of options o sees: 1 for those
// that are no padding, and for padding that ends an instruction (Config.PadEnds).
func Visible(dst []uint8, tokens []int32, width int, o Options) {
	paddingMask(dst, tokens, o.Padding())
	if e, ok := o.(interface{ endsInPadding() bool }); ok && e.endsInPadding() {
		showEnds(dst, tokens, width, o.Padding())
	}
}

// showEnds makes the first padding token of each row of width tokens visible: there
// it ends the instruction.
func showEnds(dst []uint8, tokens []int32, width, pad int) {
	for row := 0; row < len(tokens); row += width {
		if i := slices.Index(tokens[row:row+width], int32(pad)); i >= 0 {
			dst[row+i] = 1
		}
	}
}

// LookAheadMask returns the [n·n] mask, query by key, in which a token sees
// itself and those before it: 1 is visible. tensor.Mask's Causal says the same
// without the matrix.
func LookAheadMask(n int) []uint8 {
	m := make([]uint8, n*n)
	for q := range n {
		for k := 0; k <= q; k++ {
			m[q*n+k] = 1
		}
	}
	return m
}
