package kernel

import (
	"math"
	"testing"
)

func TestTranspose(t *testing.T) {
	ws := NewWorkspace()
	levels(t, func(t *testing.T) {
		for _, rows := range []int{1, 7, 8, 9, 15, 16, 17, 33, 197} {
			for _, cols := range []int{1, 5, 8, 16, 31, 32, 64} {
				stride, ld := cols+3, (rows+15)&^15
				src, dst := fenced(t, (rows-1)*stride+cols), fenced(t, cols*ld)
				for i := range src.x {
					src.x[i] = float32(i)
				}
				Transpose(dst.x, ld, src.x, stride, rows, cols, ws)
				for r := range rows {
					for c := range cols {
						if dst.x[c*ld+r] != src.x[r*stride+c] {
							t.Fatalf("%d×%d: [%d, %d] is %v, want %v", rows, cols, c, r, dst.x[c*ld+r], src.x[r*stride+c])
						}
					}
				}
				for i, v := range src.x {
					if math.Float32bits(v) != math.Float32bits(float32(i)) {
						t.Fatalf("%d×%d: the source changed at %d", rows, cols, i)
					}
				}
				if !dst.intact() {
					t.Fatalf("%d×%d: words before the result were written", rows, cols)
				}
			}
		}
	})
}
