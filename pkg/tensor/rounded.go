package tensor

import (
	"slices"
	"unsafe"

	"github.com/vlaring/vlaring/internal/kernel"
)

// On a tape with products of bfloat16, an activation that products alone read is
// kept as bfloat16: in half the memory, and written and read in half the time.
// Products round what they read anyway, so no bit depends on it.

// roundsResult is an operation that can write its result rounded.
type roundsResult interface{ roundsResult() bool }

// readsRounded is an operation that reads v in products alone, but for what its
// own backward does.
type readsRounded interface{ readsRounded(v *Var) bool }

// roundVars chooses the activations that are kept as bfloat16.
func (t *Tape) roundVars() {
	if !t.bf16 || t.wide {
		return
	}
	for _, v := range t.vars {
		if v.base != nil || v.made < 0 || v.first < 0 || v.result || v.keep {
			continue
		}
		p, ok := t.ops[v.made].(roundsResult)
		v.rounded = ok && p.roundsResult()
		for i, in := range t.ins {
			if !v.rounded || !slices.Contains(in, v) {
				continue
			}
			r, ok := t.ops[i].(readsRounded)
			v.rounded = ok && r.readsRounded(v)
		}
	}
}

// wordsOf is the memory of x as bfloat16.
func wordsOf(x []float32) []uint16 {
	return unsafe.Slice((*uint16)(unsafe.Pointer(unsafe.SliceData(x))), 2*len(x))
}

// roundRows writes rows of a tile of a product to words, rows apart.
func roundRows(words []uint16, apart, m0, m1, n0, n1 int, c []float32, row int) {
	for r := m0; r < m1; r++ {
		kernel.RoundBF16(words[r*apart+n0:r*apart+n1], c[(r-m0)*row:(r-m0)*row+n1-n0])
	}
}
