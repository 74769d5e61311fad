package eval

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// memorySplit is a split that a test writes down.
type memorySplit []data.Sample

func (s memorySplit) Len() int                          { return len(s) }
func (s memorySplit) Sample(i int) (data.Sample, error) { return s[i], nil }

// oddsModel names token y of 4 with odds y+1 to 10 in all, whatever it sees: the
// loss of label y is ln(10/(y+1)), and it always says 3. Its exit says 0.
func oddsModel(t *testing.T, pad int) *models.Model {
	t.Helper()
	m, err := models.New(models.Config{Kind: models.Encoder, VocabSize: 4, DModel: 8, NHeads: 2, NLayers: 2, DFF: 16, MaxLen: 8, PadToken: pad, Exits: []int{1}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for y := range 4 {
		m.Params().ByName("output_head.bias").Value[y] = float32(math.Log(float64(y + 1)))
	}
	m.Params().ByName("encoder.exits.1.output_head.bias").Value[0] = 1
	return m
}

var oddsMeta = data.Meta{Spec: models.Spec{models.Known(models.Instruction, 4), models.Known(models.Labels, 4)}, VocabSize: 4}

// oddsSplit is n samples with 0 to 4 targets each: some labels are -1, some
// stand at padding, token 0.
func oddsSplit(n int) memorySplit {
	s := make(memorySplit, n)
	for i := range s {
		tokens, labels := []int32{1, 2, 3, 1}, make([]int32, 4)
		for k := range labels {
			labels[k] = int32((i + k*k + i/32*3) % 4)
			if (i*7+k*3)%5 < 2 && i != n-1 {
				labels[k] = models.NoLabel
			}
			if k > 0 && k >= 4-i%3 {
				tokens[k] = 0
			}
		}
		s[i] = data.Sample{ID: uint64(i), Origin: fmt.Sprint("sample ", i), Values: []data.Value{{Ints: tokens}, {Ints: labels}}}
	}
	return s
}

// Measures of a split are those over all its targets at once: they know nothing
// of the batches of 32 that it is run in, of labels of -1 and of padding.
func TestMeasuresAreOfTheWholeSplit(t *testing.T) {
	rt := tensor.NewRuntime(2)
	defer rt.Close()
	for _, pad := range []int{-1, 0} {
		m := oddsModel(t, pad)
		for _, n := range []int{1, 31, 32, 33, 1000} {
			src := oddsSplit(n)
			sum, right, early, count := 0.0, 0, 0, 0
			for _, x := range src {
				for k, y := range x.Values[1].Ints {
					if y < 0 || pad == 0 && x.Values[0].Ints[k] == 0 {
						continue
					}
					count++
					sum += math.Log(10 / float64(y+1))
					if y == 3 {
						right++
					}
					if y == 0 {
						early++
					}
				}
			}
			r, err := (Subject{rt, m, oddsMeta, 0, nil}).Evaluate(t.Context(), src, "heldout")
			if err != nil {
				t.Fatal(err)
			}
			g := r.Tokens
			if want := sum / float64(count); math.Abs(g.Loss-want) > 1e-6*want || g.Accuracy != float64(right)/float64(count) || g.Targets != count || g.Samples != n || r.Split != "heldout" {
				t.Errorf("padding %d, %d samples: %+v, want loss %v and %d of %d right", pad, n, *g, want, right, count)
			}
			e, err := (Subject{rt, m, oddsMeta, 0, nil}).Exits(t.Context(), src, "heldout", 0)
			if err != nil {
				t.Fatal(err)
			}
			if e.Samples != n || e.Of != n {
				t.Errorf("%d of %d samples, want %d", e.Samples, e.Of, n)
			}
			if some, err := (Subject{rt, m, oddsMeta, 0, nil}).Exits(t.Context(), src[:min(n, 40)], "heldout", 33); err != nil || some.Samples != min(n, 33) || some.Of != min(n, 40) {
				t.Errorf("at most 33: %d of %d samples, %v", some.Samples, some.Of, err)
			}
			for k, ok := range []int{early, right} {
				if want := 1 - float64(ok)/float64(count); math.Abs(e.Fixed[k].Error-want) > 1e-12 || e.Targets != count {
					t.Errorf("padding %d, %d samples: the error at exit %d over %d targets is %v, want %v over %d", pad, n, k, e.Targets, e.Fixed[k].Error, want, count)
				}
			}
			for _, row := range e.Thresholds { // whoever leaves early has the exit's error
				if lo, hi := min(e.Fixed[0].Error, e.Fixed[1].Error), max(e.Fixed[0].Error, e.Fixed[1].Error); row.Error < lo-1e-12 || row.Error > hi+1e-12 {
					t.Errorf("padding %d, %d samples: the error at doubt %v is %v, of the exits %v and %v", pad, n, row.Threshold, row.Error, lo, hi)
				}
			}
		}
	}
}

// The same of actions: a model that always says one thing.
func TestActionMeasuresAreOfTheWholeSplit(t *testing.T) {
	rt := tensor.NewRuntime(1)
	defer rt.Close()
	m, err := models.New(models.Config{Kind: models.ViT, ImageSize: 4, PatchSize: 4, Channels: 1, DModel: 8, NHeads: 2, NLayers: 1, ActionDim: 2, PadToken: -1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	says := m.Params().ByName("action_head.bias").Value
	says[0], says[1] = 0.5, -0.25
	zero, one := []float64{0, 0}, []float64{1, 1}
	meta := data.Meta{Spec: models.Spec{models.Known(models.Images, 1, 4, 4), models.Known(models.Actions, 2)}, ImageStd: [3]float32{1, 1, 1}, Actions: &data.Stats{Mode: "none", Names: []string{"a", "b"}, Units: []string{"", ""},
		Mean: zero, Std: one, Min: zero, Max: one, Q01: zero, Q99: one}}
	for _, n := range []int{1, 31, 32, 33, 1000} {
		src := make(memorySplit, n)
		mse, l1 := 0.0, 0.0
		for i := range src {
			a := []float32{float32(i%7) / 4, float32(i) / 512}
			src[i] = data.Sample{ID: uint64(i), Values: []data.Value{{Floats: make([]float32, 16), Image: data.Image{H: 4, W: 4}}, {Floats: a}}}
			for d, v := range a {
				e := float64(says[d]) - float64(v)
				mse, l1 = mse+e*e/float64(2*n), l1+math.Abs(e)/float64(2*n)
			}
		}
		r, err := (Subject{rt, m, meta, 0, nil}).Evaluate(t.Context(), src, "train")
		if err != nil {
			t.Fatal(err)
		}
		if g := r.Actions; math.Abs(g.MSE-mse) > 1e-9*mse || math.Abs(g.L1-l1) > 1e-9*l1 || g.Samples != n {
			t.Errorf("%d samples: %+v, want MSE %v and L1 %v", n, *g, mse, l1)
		}
	}
}

// A split without a target is an error that names it, never a number.
func TestSplitWithoutTarget(t *testing.T) {
	rt := tensor.NewRuntime(1)
	defer rt.Close()
	src := oddsSplit(40)
	for i := range src {
		for k := range 4 {
			tokens, labels := src[i].Values[0].Ints, src[i].Values[1].Ints
			if labels[k] = models.NoLabel; k > 0 {
				tokens[k], labels[k] = 0, 2
			}
		}
	}
	some, none := oddsModel(t, -1), oddsModel(t, 0)
	if err := CheckTargets(t.Context(), some.Options(), oddsMeta, src, "heldout"); err != nil {
		t.Errorf("without padding there are targets: %v", err)
	}
	for name, run := range map[string]func() error{
		"check": func() error { return CheckTargets(t.Context(), none.Options(), oddsMeta, src, "heldout") },
		"evaluate": func() error {
			_, err := (Subject{rt, none, oddsMeta, 0, nil}).Evaluate(t.Context(), src, "heldout")
			return err
		},
		"exits": func() error {
			_, err := (Subject{rt, none, oddsMeta, 0, nil}).Exits(t.Context(), src, "heldout", 100)
			return err
		},
	} {
		var e *NoTargetError
		if err := run(); !errors.As(err, &e) || !strings.Contains(err.Error(), "the held-out split has no target: every label of its 40 samples is -1, or its instruction token is the padding (model.pad_token 0)") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Padding is not asked how sure a model is of it.
func TestDoubtIsOfWhatIsVisible(t *testing.T) {
	out := []float32{9, 0, 0, 0, 3, 3} // the first of three positions is sure, the last is not
	if d := doubtOf(2, []uint8{1, 0, 0}, nil, out); d > 0.001 {
		t.Errorf("doubt %v of a position that is sure", d)
	}
	if all, seen := doubtOf(2, nil, nil, out), doubtOf(2, []uint8{1, 1, 1}, nil, out); all != 0.5 || seen != all {
		t.Errorf("doubt %v and %v, want 0.5", all, seen)
	}
}
