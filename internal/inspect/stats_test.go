package inspect

import (
	"bytes"
	"encoding/json"
	"io"
	"path/filepath"
	"strings"
	"testing"
)

// The statistics of a data set, for people and for scripts.
func TestStats(t *testing.T) {
	path := filepath.Join("..", "..", "pkg", "data", "testdata", "rlds", "tiny", "1.0.0")
	var people, scripts bytes.Buffer
	for _, o := range []Options{{Arg: path, Threads: 1, Out: &people, Progress: io.Discard}, {Arg: path, Threads: 1, JSON: true, Out: &scripts, Progress: io.Discard}} {
		if err := Stats(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	var state, of featureStats
	if r := json.NewDecoder(&scripts); r.Decode(&state) != nil || r.Decode(&of) != nil {
		t.Fatal(scripts.String())
	}
	if state.Feature != "state" || state.Source != "steps/observation/state" || len(state.Dimensions) != 2 {
		t.Errorf("%+v", state)
	}
	// the first value of step s of episode e is e/10 + s/100, over 5 episodes of 3, 4, 3, 4, 3 steps
	d := of.Dimensions[0]
	if of.Feature != "actions" || of.Source != "steps/action" || of.Normalize != "mean_std" || len(of.Dimensions) != 7 || d.Min != 0 || d.Max < 0.419 || d.Max > 0.421 || d.Offset != d.Mean || d.By != d.Std || d.Variation != "varies" {
		t.Errorf("%+v", of)
	}
	for _, want := range []string{"rlds data: 17 samples to train on", "actions (steps/action), normalised by mean_std over 17 rows", "mean", "q99", "becomes"} {
		if !strings.Contains(people.String(), want) {
			t.Errorf("%q is not in\n%s", want, people.String())
		}
	}
}
