package compare

import (
	"context"
	"encoding/json"
	"errors"
	"image/png"
	"math"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/pkg/tensor"
)

// Both comparisons run from end to end at their quick sizes: every claim has a
// table of whole rows, JSON holds it, and every plot is a picture.
// TestQuick runs both comparisons at sizes that decide nothing of speed or
// learning. What does not hang on size they must find at these as well, before
// they take it back: memory is counted in bytes and the reach of a place in
// pixels, without a clock and without training.
func TestQuick(t *testing.T) {
	for name, c := range map[string]struct {
		measure func(context.Context, Options) (*Report, error)
		claims  []string
		known   map[string]Verdict
	}{
		"rnn": {measureRNN, []string{"processing", "long-range dependency", "training speed", "memory"}, map[string]Verdict{"memory": Corrected}},
		"cnn": {measureCNN, []string{"inductive bias", "receptive field", "data hunger"}, map[string]Verdict{"receptive field": Confirmed}},
	} {
		t.Run(name, func(t *testing.T) {
			told := 0
			r, err := c.measure(t.Context(), Options{Threads: 2, Quick: true, Log: func(string) { told++ }})
			if err != nil {
				t.Fatal(err)
			}
			for _, claim := range r.Claims {
				if want, ok := c.known[claim.Name]; ok && claim.Verdict != want {
					t.Errorf("%s: measured as %s, want %s: %s", claim.Name, claim.Verdict, want, claim.Why)
				}
			}
			whole := *r
			whole.Quick, whole.Claims = false, slices.Clone(r.Claims)
			if _, err := settled(&whole, nil); err != nil || !reflect.DeepEqual(verdicts(&whole), verdicts(r)) {
				t.Errorf("verdicts at full size are %v, measured were %v", verdicts(&whole), verdicts(r))
			}
			if r, err = settled(r, nil); err != nil {
				t.Fatal(err)
			}
			if told == 0 || len(r.Claims) != len(c.claims) {
				t.Fatalf("told %d things, %d claims", told, len(r.Claims))
			}
			for i, claim := range r.Claims {
				if claim.Name != c.claims[i] || claim.Text == "" || claim.Why == "" || claim.Verdict != Undecided || len(claim.Table.Rows) < 2 {
					t.Errorf("claim %d: %+v", i, claim)
				}
				for _, row := range claim.Table.Rows {
					if len(row) != len(claim.Table.Columns) {
						t.Errorf("%s: a row of %d cells under %d columns", claim.Name, len(row), len(claim.Table.Columns))
					}
				}
				if !strings.Contains(r.Text(), claim.Why) {
					t.Errorf("the text lacks %q", claim.Why)
				}
			}
			if _, err := json.Marshal(r); err != nil {
				t.Error(err)
			}
			paths, err := r.Draw(t.TempDir())
			if err != nil || len(paths) != len(c.claims) {
				t.Fatalf("%v, %v", paths, err)
			}
			for _, p := range paths {
				f, err := os.Open(p)
				if err != nil {
					t.Fatal(err)
				}
				if m, err := png.Decode(f); err != nil || m.Bounds().Dx() < 440 || m.Bounds().Dy() < 360 {
					t.Errorf("%s: %v", p, err)
				}
				f.Close()
			}
		})
	}
}

func verdicts(r *Report) (out []Verdict) {
	for _, c := range r.Claims {
		out = append(out, c.Verdict)
	}
	return out
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, run := range []func(context.Context, Options) (*Report, error){RNN, CNN} {
		if _, err := run(ctx, Options{Threads: 1, Quick: true}); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
	}
}

// The gradient of an untrained LSTM falls by orders of magnitude over 64
// tokens, that of a transformer stays within one of its own.
func TestGradientReach(t *testing.T) {
	got, err := gradientReach(t.Context(), rnnPlan{distances: []int{64}})
	if err != nil {
		t.Fatal(err)
	}
	if near, far := shareAt(got, "lstm", 1), shareAt(got, "lstm", 64); !(far < 1e-6*near) {
		t.Errorf("LSTM: %v from 1 token back, %v from 64", near, far)
	}
	if near, far := shareAt(got, "transformer", 1), shareAt(got, "transformer", 64); !(far > near/100 && far < 100*near) {
		t.Errorf("transformer: %v from 1 token back, %v from 64", near, far)
	}
}

// Convolutions move with their picture bit for bit; a vision transformer does
// not. And a place of a CNN cannot see the far corner, that of a ViT can.
func TestProbes(t *testing.T) {
	e := equivariance()
	if e["cnn"] != 0 || !(e["vit"] > 0.1) {
		t.Errorf("equivariance %v", e)
	}
	rt := tensor.NewRuntime(1)
	defer rt.Close()
	v0, v1 := fieldOf(rt, "vit", 0, 1), fieldOf(rt, "vit", 1, 1)
	if want := float64(probePatch*probePatch) / (probeSide * probeSide); v0.reached != want || v1.reached != 1 {
		t.Errorf("a ViT's place reaches %v without a block, want %v, and %v with one", v0.reached, want, v1.reached)
	}
	last := 0.0
	for depth := range 3 {
		c := fieldOf(rt, "cnn", depth, 1)
		if !(c.reached > last && c.reached < 0.6 && c.shown[0] == 0) {
			t.Errorf("a CNN's place reaches %v at depth %d, %v before", c.reached, depth, last)
		}
		last = c.reached
	}
}

func TestFootprint(t *testing.T) {
	// 4×4 pixels, patches of 2, the lower right patch, whose middle is (2.5, 2.5).
	g := make([]float32, 16)
	g[15], g[0] = 97, 3
	reached, most, mean := footprint(g, 4, 1, 1, 2)
	if want := (97*math.Sqrt(0.5) + 3*math.Sqrt(12.5)) / 100; reached != 2.0/16 || most != 1.0/16 || math.Abs(mean-want) > 1e-12 {
		t.Errorf("reached %v, most %v, mean %v, want %v", reached, most, mean, want)
	}
}

func TestSolvedAt(t *testing.T) {
	l := make([]float64, 40)
	for i := range l {
		l[i] = 1
	}
	if at := solvedAt(l, 0.5); at != -1 {
		t.Errorf("never solved: %d", at)
	}
	for i := 20; i < 40; i++ {
		l[i] = 0
	}
	if at := solvedAt(l, 0.5); at != 25 { // six of the last ten are 0
		t.Errorf("solved at %d, want 25", at)
	}
	l[39] = 100
	if at := solvedAt(l, 0.5); at != -1 {
		t.Errorf("forgotten again: %d", at)
	}
}

func TestGlyphs(t *testing.T) {
	a, kinds := glyphs(40, 0, 1)
	b, same := glyphs(40, 16, 1)
	seen := map[int]bool{}
	for i := range 40 {
		k := greatest(kinds[i*glyphKinds:][:glyphKinds])
		seen[k] = true
		if greatest(same[i*glyphKinds:][:glyphKinds]) != k {
			t.Fatalf("picture %d is of another kind when it is moved", i)
		}
		for y := range pictureSide - 16 { // what is bright in one is bright in the other, 16 pixels on
			for x := range pictureSide - 16 {
				p, q := a[(i*3*pictureSide+y)*pictureSide+x], b[(i*3*pictureSide+y+16)*pictureSide+x+16]
				if (p > 0.2) != (q > 0.2) {
					t.Fatalf("picture %d: pixel %d,%d is %v, moved %v", i, y, x, p, q)
				}
			}
		}
	}
	if len(seen) != glyphKinds {
		t.Errorf("kinds %v", seen)
	}
	area := [glyphKinds]int{}
	for k := range glyphKinds {
		for y := range glyphSide {
			for x := range glyphSide {
				if inGlyph(k, y, x) {
					area[k]++
				}
			}
		}
	}
	if area[1] != 28 || area[2] != 28 || area[0] < 40 || area[3] < 28 {
		t.Errorf("areas %v", area)
	}
}

// Verdicts are drawn from numbers alone.
func TestVerdicts(t *testing.T) {
	at := func(side string, n int, one, all, batch float64, memory int64) rnnTime {
		return rnnTime{side: side, length: n, one: timing{forward: one, memory: memory}, all: timing{forward: all}, batch: timing{step: batch}}
	}
	parallel := []rnnTime{at("transformer", 8, 2, 1, 1, 100), at("lstm", 8, 2, 2, 2, 100), at("transformer", 16, 2, 1, 1, 200), at("lstm", 16, 2, 2, 2, 200)}
	quadratic := []rnnTime{at("transformer", 8, 2, 2, 1, 100), at("lstm", 8, 2, 2, 2, 100), at("transformer", 16, 2, 2, 4, 400), at("lstm", 16, 2, 2, 2, 200)}
	verdict := func(v Verdict, _ string) Verdict { return v }
	reached := []reach{{"transformer", 4, 0.1}, {"lstm", 4, 1e-5}}
	runs := func(a, b float64) []recallRun {
		return []recallRun{{side: "transformer", distance: 4, accuracy: a}, {side: "lstm", distance: 4, accuracy: b}}
	}
	shift := func(v, c float64) []shiftRun {
		return []shiftRun{{"vit", 0, 1}, {"vit", 8, v}, {"cnn", 0, 1}, {"cnn", 8, c}}
	}
	moves := map[string]float64{"vit": 1, "cnn": 0}
	grows := []field{{side: "vit", depth: 0, reached: 0.1}, {side: "vit", depth: 1, reached: 1}, {side: "cnn", depth: 0, reached: 0.1}, {side: "cnn", depth: 1, reached: 0.2}}
	whole := []field{{side: "vit", depth: 0, reached: 0.1}, {side: "vit", depth: 1, reached: 1}, {side: "cnn", depth: 0, reached: 1}, {side: "cnn", depth: 1, reached: 1}}
	for name, c := range map[string]struct{ got, want Verdict }{
		"processing, parallel":    {verdict(judgeProcessing(parallel, 2)), Confirmed},
		"processing, disturbed":   {verdict(judgeProcessing([]rnnTime{at("transformer", 8, 5, 1, 1, 1), at("lstm", 8, 2, 2, 2, 1)}, 2)), Undecided},
		"processing, alike":       {verdict(judgeProcessing(quadratic, 2)), Corrected},
		"distance, lost":          {verdict(judgeDistance(runs(1, 0.1), reached)), Confirmed},
		"distance, learned":       {verdict(judgeDistance(runs(1, 1), reached)), Corrected},
		"speed, faster":           {verdict(judgeSpeed(parallel)), Confirmed},
		"speed, slower when long": {verdict(judgeSpeed(quadratic)), Corrected},
		"memory, linear":          {verdict(judgeMemory(parallel)), Corrected},
		"memory, quadratic":       {verdict(judgeMemory(quadratic)), Confirmed},
		"bias, kept":              {verdict(judgeBias(shift(0.2, 0.9), moves)), Confirmed},
		"bias, alike":             {verdict(judgeBias(shift(0.8, 0.8), moves)), Corrected},
		"field, grows":            {verdict(judgeField(grows)), Confirmed},
		"field, whole from first": {verdict(judgeField(whole)), Corrected},
		"hunger, CNN ahead":       {verdict(judgeHunger([]hungerRun{{"vit", 8, 0.1, 1}, {"cnn", 8, 0.3, 1}})), Confirmed},
		"hunger, ViT ahead":       {verdict(judgeHunger([]hungerRun{{"vit", 8, 0.1, 1}, {"cnn", 8, 0.3, 1}, {"vit", 80, 0.9, 1}, {"cnn", 80, 0.5, 1}})), Corrected},
	} {
		if c.got != c.want {
			t.Errorf("%s: %s, want %s", name, c.got, c.want)
		}
	}
}
