package tensor

import "testing"

// TestDiscard: what is given up reads as zero, what lies beside it stays, and it
// can be written again.
func TestDiscard(t *testing.T) {
	for _, n := range []int{100, 3 << 18} {
		x := Floats(n)
		for _, r := range [][2]int{{0, n}, {1, n - 1}, {7, n / 2}, {n / 3, n/3 + 1}, {5, 5}} {
			for i := range x {
				x[i] = float32(i + 1)
			}
			Discard(x[r[0]:r[1]])
			for i, v := range x {
				want := float32(i + 1)
				if i >= r[0] && i < r[1] {
					want = 0
				}
				if v != want {
					t.Fatalf("%d floats, %v discarded: element %d is %v, want %v", n, r, i, v, want)
				}
			}
		}
	}
}
