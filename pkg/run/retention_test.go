package run

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/vlaring/vlaring/pkg/checkpoint"
	"github.com/vlaring/vlaring/pkg/eval"
	"github.com/vlaring/vlaring/pkg/job"
)

// A line that a full disk has torn is no measurement, and the next one does not
// stick to it.
func TestTornEvalLineIsRepaired(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, EvalFile)
	if err := os.WriteFile(path, []byte("{\"step\":2,\"samples\":4,\"loss\":1,\"seconds\":1}\n{\"step\":4,\"sam"), 0o644); err != nil {
		t.Fatal(err)
	}
	e := &evaluator{dir: newDirectory(&Options{Dir: dir}), job: &job.Job{}, retain: func() {}}
	e.job.Train.EvalEvery, e.job.Train.Steps = 0, 8
	if err := e.open(t.Context(), 4); err != nil {
		t.Fatal(err)
	}
	if _, err := e.record([]eval.Report{{Step: 6, Samples: 4, Loss: 0.5, Metrics: []eval.Measure{{Metric: job.Metric{Name: "l1"}, Value: 0.25}}}}, nil, 1); err != nil {
		t.Fatal(err)
	}
	if _, err := e.record([]eval.Report{{Step: 8, Samples: 4, Loss: math.NaN()}}, nil, 1); err == nil {
		t.Error("a loss that is no number is recorded")
	}
	e.finish(true)
	lines, torn, err := ReadEval(dir, math.MaxUint64)
	if err != nil || torn || len(lines) != 2 || lines[0].Step != 2 || lines[1].Step != 6 || lines[1].Loss != 0.5 || len(lines[1].Metrics) != 1 || lines[1].Metrics[0] != (HeldoutMetric{"l1", 0.25}) {
		t.Errorf("it has %+v, torn %v (%v)", lines, torn, err)
	}
}

// A line has the form that it always had, and metrics of any name.
func TestLinesOfEval(t *testing.T) {
	for _, c := range []struct {
		h    Heldout
		line string
	}{
		{Heldout{Step: 4, Samples: 16, Loss: 0.5, Metrics: []HeldoutMetric{{"l1", 0.25}}, Seconds: 1.5}, `{"step":4,"samples":16,"loss":0.5,"l1":0.25,"seconds":1.5}`},
		{Heldout{Step: 4, Samples: 16, Loss: 1e-9, Metrics: []HeldoutMetric{{"accuracy", 1}}, Seconds: 2}, `{"step":4,"samples":16,"loss":1e-9,"accuracy":1,"seconds":2}`},
		{Heldout{Step: 4, Samples: 16, Loss: 2, Metrics: []HeldoutMetric{{"coverage", 0.5}, {"within", 0}}, Seconds: 2}, `{"step":4,"samples":16,"loss":2,"coverage":0.5,"within":0,"seconds":2}`},
		{Heldout{Step: 4, Loss: 1, Sets: map[string]map[string]float64{"b": {"loss": 2, "samples": 3}, "a": {"loss": 0.5}}}, `{"step":4,"samples":0,"loss":1,"sets":{"a":{"loss":0.5},"b":{"loss":2,"samples":3}},"seconds":0}`},
		{Heldout{Step: 4, Seconds: 1, At: time.Unix(9, 0).UTC(), DoF: []eval.DoFReport{{Name: "x", Unit: "m", MAE: 0.5, MeanMAE: 2}}},
			`{"step":4,"samples":0,"loss":0,"dof":[{"name":"x","unit":"m","mae":0.5,"mean_mae":2}],"seconds":1,"at":"1970-01-01T00:00:09Z"}`},
		{Heldout{Step: 4}, `{"step":4,"samples":0,"loss":0,"seconds":0}`},
	} {
		b, err := json.Marshal(c.h)
		if err != nil || string(b) != c.line {
			t.Errorf("%s (%v), want %s", b, err, c.line)
		}
		var back Heldout
		if err := json.Unmarshal([]byte(c.line), &back); err != nil || !reflect.DeepEqual(back, c.h) {
			t.Errorf("%s is read as %+v (%v)", c.line, back, err)
		}
	}
	scores := heldoutScores([]Heldout{{Step: 2, Loss: 3}, {Step: 4, Loss: 1, Metrics: []HeldoutMetric{{"coverage", 0.5}}}}, "heldout_coverage")
	if len(scores) != 1 || scores[4] != 0.5 {
		t.Errorf("scores %v", scores)
	}
}

func TestLosses(t *testing.T) {
	l := newLosses(3)
	if got := l.mean(0); got != nil {
		t.Errorf("before the first step: %+v", got)
	}
	for s := uint64(1); s <= 100; s++ {
		l.add(s, float64(s), 7, s == 98)
	}
	for step, want := range map[uint64]*checkpoint.Training{100: {Loss: 99.5, Steps: 2}, 97: {Loss: 96, Steps: 3}, 92: {Loss: 91, Steps: 3}, 10: nil} {
		if got := l.mean(step); (got == nil) != (want == nil) || got != nil && *got != *want {
			t.Errorf("mean at %d is %+v, want %+v", step, got, want)
		}
	}
	l.add(100, 1, 21, false) // of three times as many targets: the mean is over these
	if got, want := l.mean(100), (checkpoint.Training{Loss: (99*7 + 1*21) / 28.0, Steps: 2}); got == nil || math.Abs(got.Loss-want.Loss) > 1e-12 || got.Steps != want.Steps {
		t.Errorf("of unequal numbers of targets: %+v, want %+v", got, want)
	}
	l.add(101, math.Inf(1), 7, false)
	if got := l.mean(101); got != nil {
		t.Errorf("of an infinite loss: %+v", got)
	}
	if len(l.by) > 12 {
		t.Errorf("%d losses are held for a window of 3", len(l.by))
	}
}
