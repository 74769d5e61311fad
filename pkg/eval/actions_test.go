package eval

import (
	"encoding/json"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/pkg/data"
)

// evaluate is the report of n·A predictions, given in two runs where there is
// more than one sample.
func evaluate(pred, target []float32, s *data.Stats) (ActionReport, error) {
	a, err := newActionSums(s)
	if err != nil {
		return ActionReport{}, err
	}
	if n := s.Dim(); len(pred) == len(target) && len(pred) > n {
		if err := a.add(1, pred[:n], target[:n], nil); err != nil {
			return ActionReport{}, err
		}
		pred, target = pred[n:], target[n:]
	}
	if err := a.add(len(pred)/s.Dim(), pred, target, nil); err != nil {
		return ActionReport{}, err
	}
	return a.report(), nil
}

func TestActionReport(t *testing.T) {
	s, err := data.ComputeStats(data.MeanStd, 4, 2, func(i int) []float32 { return []float32{2 * float32(i%2), 1} }) // mean 1, std 1; constant 1
	if err != nil {
		t.Fatal(err)
	}
	s.Units[0] = "m"
	// Two samples: targets 3 and -1 normalised in dimension 0; predictions 2 and 0.
	// Dimension 1 was always 1 in training, and answers that.
	r, err := evaluate([]float32{2, 0.5, 0, 0}, []float32{4, 1, 0, 2}, s)
	if err != nil {
		t.Fatal(err)
	}
	want := ActionReport{Samples: 2, L1: 1, MeanL1: 2, MSE: 1, MeanMSE: 5, LeftOut: []LeftOut{{"a1", "constant", 1}},
		DoF: []DoFReport{{"a0", "m", 1, 2}, {"a1", "", 0.5, 0.5}}}
	if !reflect.DeepEqual(r, want) || !r.beatsMean() {
		t.Errorf("got  %+v\nwant %+v", r, want)
	}
	b, err := json.Marshal(r)
	if err != nil || !strings.Contains(string(b), `"mean_mae":2`) {
		t.Error(string(b), err)
	}
	var back ActionReport
	if err := json.Unmarshal(b, &back); err != nil || !reflect.DeepEqual(back, r) {
		t.Error(back, err)
	}
	for _, bad := range [][2]int{{0, 0}, {2, 4}, {3, 3}} {
		if _, err := evaluate(make([]float32, bad[0]), make([]float32, bad[1]), s); err == nil {
			t.Errorf("%v values were accepted", bad)
		}
	}
	if _, err := evaluate([]float32{0, 0, 0, float32(math.NaN())}, make([]float32, 4), s); err == nil || !strings.Contains(err.Error(), "sample 1, dimension 1") {
		t.Error(err)
	}
	// A prediction that float32 cannot hold in its unit, and a target that is not finite where nothing is learned.
	for want, v := range map[string][2][]float32{
		"sample 0, dimension 0 (a0): the prediction is +Inf, 3e+38 before it was scaled": {{3e38, 0}, {0, 1}},
		"the target NaN; all must be finite":                                             {{0, 0}, {0, float32(math.NaN())}},
	} {
		wide := *s
		wide.Std = []float64{10, 0}
		if _, err := evaluate(v[0], v[1], &wide); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if _, err := evaluate([]float32{1}, []float32{1}, nil); err == nil {
		t.Error("no statistics were accepted")
	}
}

// Faults 05 and 07: errors in physical units are true for dimensions that are
// not learned, and the totals leave those out. A model that answers 0 stands
// for one that learned nothing else.
func TestEvaluateNotLearned(t *testing.T) {
	wave := func(i int) float64 { return math.Sin(float64(i)) }
	rare := func(i int) float64 {
		if i%200 == 7 {
			return 1
		}
		return 0
	}
	later := func(i int) float64 {
		if i >= 15 {
			return 0.7
		}
		return 0.5
	}
	for _, c := range []struct {
		name      string
		mode      string
		n         int
		held      []int
		f         func(i int) float64
		mae, mean float64
		why       string // "": it is learned
	}{
		{"05", data.Quantile, 1000, []int{7, 8, 9, 207, 407}, rare, 0.6, 0.59959799, "rare"},
		{"05 in mean_std", data.MeanStd, 1000, []int{7, 8, 9, 207, 407}, rare, 0.59959799, 0.59959799, ""},
		{"05 in min_max", data.MinMax, 1000, []int{7, 8, 9, 207, 407}, rare, 0.5, 0.59959799, ""},
		{"07 in mean_std", data.MeanStd, 20, []int{15, 16, 17, 18, 19}, later, 0.2, 0.2, "constant"},
		{"07 in min_max", data.MinMax, 20, []int{15, 16, 17, 18, 19}, later, 0.2, 0.2, "constant"},
		{"07 in quantile", data.Quantile, 20, []int{15, 16, 17, 18, 19}, later, 0.2, 0.2, "constant"},
		{"07 in none", data.None, 20, []int{15, 16, 17, 18, 19}, later, 0.7, 0.2, ""},
		{"noise", data.MeanStd, 20, []int{15, 16, 17, 18, 19}, func(i int) float64 { return later(i) + 6e-8*float64(i%2) }, 0.2, 0.2, "noise"},
		{"constant in both", data.MeanStd, 20, []int{15, 16, 17, 18, 19}, func(int) float64 { return 0.1 }, 0, 0, "constant"},
	} {
		t.Run(c.name, func(t *testing.T) {
			// a split whose training part alone gives the statistics
			report := func(of ...func(i int) float64) ActionReport {
				var train [][]float32
				var pred, target []float32
				for i := range c.n {
					row := make([]float32, len(of))
					for d, f := range of {
						row[d] = float32(f(i))
					}
					if slices.Contains(c.held, i) {
						pred, target = append(pred, make([]float32, len(of))...), append(target, row...)
					} else {
						train = append(train, row)
					}
				}
				s, err := data.ComputeStats(c.mode, len(train), len(of), func(i int) []float32 { return train[i] })
				if err != nil {
					t.Fatal(err)
				}
				r, err := evaluate(pred, target, s)
				if err != nil {
					t.Fatal(err)
				}
				return r
			}
			r := report(wave, c.f)
			if got := r.DoF[1]; math.Abs(got.MAE-c.mae) > 1e-7 || math.Abs(got.MeanMAE-c.mean) > 1e-7 {
				t.Errorf("error %v, of the mean %v; want %v and %v", got.MAE, got.MeanMAE, c.mae, c.mean)
			}
			if c.why == "" {
				if r.LeftOut != nil {
					t.Errorf("left out: %v", r.LeftOut)
				}
				return
			}
			if len(r.LeftOut) != 1 || r.LeftOut[0].Name != "a1" || r.LeftOut[0].Why != c.why {
				t.Errorf("left out: %+v, want a1, %s", r.LeftOut, c.why)
			}
			// The totals are those of the other dimension alone.
			alone := report(wave)
			if r.L1 != alone.L1 || r.MeanL1 != alone.MeanL1 || r.MSE != alone.MSE || r.MeanMSE != alone.MeanMSE {
				t.Errorf("totals of both %+v, of the learned one %+v", r, alone)
			}
			text := r.Text()
			if !strings.Contains(text, "not learned and left out of all, normalised: a1 (always ") {
				t.Errorf("the table does not say so:\n%s", text)
			}
			if strings.Contains(text, " \n") {
				t.Errorf("lines end in spaces:\n%q", text)
			}
			if dash := strings.Contains(text, "-: always the mean makes no error in a1"); dash != (c.mean == 0) {
				t.Errorf("a word on the dash: %v\n%s", dash, text)
			}
			// Nothing else is there: no number is NaN, and no comparison is made.
			only := report(c.f)
			if only.L1 != 0 || only.MSE != 0 || only.MeanMSE != 0 || only.beatsMean() || !strings.Contains(only.Text(), "the model learned no dimension") {
				t.Errorf("with nothing learned: %+v\n%s", only, only.Text())
			}
		})
	}
}
