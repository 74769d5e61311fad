package bench

import (
	"math"
	"testing"
)

func TestGrowth(t *testing.T) {
	rows := []AttentionRow{{Tokens: 5, Kind: "a", Forward: 99}, {Tokens: 10, Kind: "a", Forward: 1, Backward: 1}, {Tokens: 10, Kind: "b", Forward: 1}, {Tokens: 40, Kind: "a", Forward: 12, Backward: 20}}
	if g, ok := growth(rows, "a"); !ok || math.Abs(g-2) > 1e-12 { // four times the tokens, sixteen times the time
		t.Errorf("growth %v %v, want 2", g, ok)
	}
	if _, ok := growth(rows, "b"); ok {
		t.Error("one length has a growth")
	}
}
