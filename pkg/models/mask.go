package models

// PaddingMask writes to dst which tokens are visible: 1 where tokens[i] is not
// pad. A negative pad hides nothing.
func PaddingMask(dst []uint8, tokens []int32, pad int) {
	for i, id := range tokens {
		dst[i] = 1
		if int(id) == pad {
			dst[i] = 0
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
