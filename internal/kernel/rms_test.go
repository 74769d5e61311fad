package kernel

import (
	"math"
	"testing"
)

// A row of zeros has no direction: its unit row is zeros, as PyTorch's normalize has it,
// and its gradient is divided by the least length. Any other row is as long as 1, and no
// gradient goes along it.
func TestUnitRow(t *testing.T) {
	const least = 1e-12
	y, dx := make([]float32, 20), make([]float32, 20)
	dy := make([]float32, 20)
	for i := range dy {
		dy[i] = float32(i%7) - 2.5
	}
	zero := make([]float32, 20)
	if n := UnitRow(y, zero, least); n != 0 || Dot(y, y) != 0 {
		t.Errorf("of zeros: %v, length %v", y, n)
	}
	UnitRowBackward(dx, dy, y, 0, least)
	for i := range dx {
		if dx[i] != dy[i]/float32(least) {
			t.Fatalf("the gradient of zeros is %v at %d, want %v", dx[i], i, dy[i]/float32(least))
		}
	}
	x := make([]float32, 20)
	sum := 0.0
	for i := range x {
		x[i] = float32(i*i%11) - 4
		sum += float64(x[i]) * float64(x[i])
	}
	n := UnitRow(y, x, least)
	if math.Abs(float64(n)-math.Sqrt(sum)) > 1e-5 || math.Abs(float64(Dot(y, y))-1) > 1e-6 {
		t.Errorf("length %v, want %v; of its unit row the square is %v", n, math.Sqrt(sum), Dot(y, y))
	}
	UnitRowBackward(dy, dy, y, n, least) // in place
	if along := Dot(dy, x); math.Abs(float64(along)) > 1e-5 || Dot(dy, dy) == 0 {
		t.Errorf("along the row the gradient is %v, its square %v", along, Dot(dy, dy))
	}
}
