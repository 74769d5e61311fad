package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// TestNormTogether: rows that are normalised together have the bits that plain Go gives each alone, at every level, whatever stands in
// the others, in place or not; and nothing is written beside them.
func TestNormTogether(t *testing.T) {
	var sizes []int
	for n := 1; n <= 70; n++ {
		sizes = append(sizes, n)
	}
	sizes = append(sizes, 127, 128, 192, 197, 384, 511, 512, 768, 1000, 1024)
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	odd := []float32{inf, -inf, nan, 3e38, 1e-40, float32(math.Copysign(0, -1))}
	levels(t, func(t *testing.T) {
		for _, n := range sizes {
			for rows := 1; rows <= 9; rows++ {
				r := rand.New(rand.NewPCG(uint64(n), uint64(rows)))
				fill := func(n int, wild bool) *fence {
					f := fenced(t, n)
					numbers(r, f.x, false)
					if wild { // some rows only: the others are to stay as they are
						for range 1 + rows/3 {
							f.x[r.IntN(n)] = odd[r.IntN(len(odd))]
						}
					}
					return f
				}
				for _, wild := range []bool{false, true} {
					what := fmt.Sprintf("%d rows of %d, wild %v", rows, n, wild)
					same := func(where string, got *fence, want []float32) {
						t.Helper()
						if i := differAt(got.x, want); i >= 0 {
							t.Fatalf("%s: %s of row %d, element %d, is %x, want %x", what, where, i/max(1, len(want)/rows), i%n, got.x[i], want[i])
						}
						if !got.intact() {
							t.Fatalf("%s: words before %s were written", what, where)
						}
					}
					z, dy, gamma, beta := fill(rows*n, wild), fill(rows*n, wild), fill(n, false), fill(n, false)
					if n%3 == 0 { // rows of one number
						for i := range n {
							z.x[i] = 0.1
						}
					}
					y, xhat, dz, rstd := fill(rows*n, false), fill(rows*n, false), fill(rows*n, false), fill(rows, false)
					wantY, wantXhat, wantDz, wantRstd := make([]float32, rows*n), make([]float32, rows*n), make([]float32, rows*n), make([]float32, rows)
					atGeneric(func() {
						for i := range rows {
							at, end := i*n, i*n+n
							wantRstd[i] = normRow(wantY[at:end], wantXhat[at:end], z.x[at:end], gamma.x, beta.x, 1e-5)
							normRowBackward(wantDz[at:end], dy.x[at:end], wantXhat[at:end], gamma.x, wantRstd[i])
						}
					})
					Norm(y.x, xhat.x, z.x, gamma.x, beta.x, rstd.x, 1e-5)
					same("y", y, wantY)
					same("xhat", xhat, wantXhat)
					same("rstd", rstd, wantRstd)
					NormBackward(dz.x, dy.x, xhat.x, gamma.x, rstd.x)
					same("dz", dz, wantDz)
					NormBackward(dy.x, dy.x, xhat.x, gamma.x, rstd.x)
					same("dz in place", dy, wantDz)
					clear(y.x)
					clear(rstd.x)
					Norm(y.x, z.x, z.x, gamma.x, beta.x, rstd.x, 1e-5)
					same("y in place", y, wantY)
					same("xhat in place", z, wantXhat)
					same("rstd in place", rstd, wantRstd)

					x, dx, scratch := fill(rows*n, wild), fill(rows*n, wild), fill(n, false)
					atGeneric(func() {
						for i := range rows {
							at, end := i*n, i*n+n
							wantRstd[i] = rmsRow(wantY[at:end], x.x[at:end], gamma.x, 1e-5)
							rmsRowBackward(wantDz[at:end], dx.x[at:end], x.x[at:end], gamma.x, wantRstd[i], wantXhat)
						}
					})
					RMS(y.x, x.x, gamma.x, rstd.x, 1e-5)
					same("RMS's y", y, wantY)
					same("RMS's rstd", rstd, wantRstd)
					RMSBackward(dz.x, dx.x, x.x, gamma.x, rstd.x, scratch.x)
					same("RMS's dx", dz, wantDz)
					RMSBackward(dx.x, dx.x, x.x, gamma.x, rstd.x, scratch.x)
					same("RMS's dx in place", dx, wantDz)
				}
			}
		}
	})
}
