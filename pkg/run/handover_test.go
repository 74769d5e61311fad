package run

import (
	"testing"
	"time"
)

// A coordinator that hands over waits a moment for workers that are told to go with it,
// for as long as they take, but not for ever.
func TestHandsOver(t *testing.T) {
	for _, c := range []struct {
		told    time.Duration
		parting bool
		want    bool
	}{
		{0, false, false}, {0, true, false}, {4999 * time.Millisecond, false, false},
		{5 * time.Second, false, true}, {5 * time.Second, true, false}, {59 * time.Second, true, false}, {59 * time.Second, false, true},
		{time.Minute, true, true},
	} {
		if got := handsOver(c.told, c.parting); got != c.want {
			t.Errorf("after %v, parting %v: %v", c.told, c.parting, got)
		}
	}
}
