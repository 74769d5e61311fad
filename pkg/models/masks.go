package models

// LookAheadMask returns the [n·n] mask of positions that lets query i see keys
// 0 to i: 1 is visible.
func LookAheadMask(n int) []uint8 {
	m := make([]uint8, n*n)
	for i := range n {
		for j := 0; j <= i; j++ {
			m[i*n+j] = 1
		}
	}
	return m
}

// PaddingMask returns the mask of tokens: 1 where a token is not pad.
func PaddingMask(tokens []int32, pad int) []uint8 {
	m := make([]uint8, len(tokens))
	for i, t := range tokens {
		if int(t) != pad {
			m[i] = 1
		}
	}
	return m
}
