package pretrained

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// encoder is one that was loaded, with a tape that computes its features, and, where
// there is a target, their mean squared error.
type encoder struct {
	t        *testing.T
	found    *Found
	loaded   Loaded
	ps       *tensor.Params
	tape     *tensor.Tape
	loss     *tensor.Loss
	features *tensor.Var
}

// role is what the file of a case reads.
func role(f *safetensors.File) Role {
	if _, ok := f.Tensor("inputs.pixels"); ok {
		return Pictures
	}
	return Words
}

// load builds the encoder of the case in dir for the inputs that begin with which, and
// runs it: forward alone, or backward too.
func load(t *testing.T, rt *tensor.Runtime, dir, which string, train bool) *encoder {
	t.Helper()
	return loadIn(t, rt, dir, which, train, false)
}

// loadIn is load with products of float32 or of bfloat16.
func loadIn(t *testing.T, rt *tensor.Runtime, dir, which string, train, bf16 bool) *encoder {
	t.Helper()
	x := open(t, dir+".expected.safetensors")
	e := &encoder{t: t}
	var err error
	if e.found, err = Open(dir, role(x)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.found.Close() })
	shape, side := []int(nil), 0
	if i, ok := x.Tensor(which + ".pixels"); ok {
		shape, side = i.Shape, i.Shape[2]
	} else {
		i, _ := x.Tensor(which + ".ids")
		shape = i.Shape
	}
	b := models.NewBuilder()
	net := models.NewBackbone(b, "enc.", e.found.Backbone, side)
	e.ps = b.Params()
	e.ps.Seal()
	t.Cleanup(e.ps.Close)
	if e.loaded, err = e.found.Load(e.ps, "enc."); err != nil {
		t.Fatal(err)
	}
	e.tape = tensor.NewTape(rt, e.ps)
	t.Cleanup(e.tape.Close)
	if bf16 {
		e.tape.BF16()
	}
	if !train {
		e.tape.ForwardOnly()
	}
	p := &models.Pass{Tape: e.tape, Train: train}
	var pixels, target *tensor.Var
	if side > 0 {
		pixels = e.tape.Input(shape...)
		e.features = net.Look(p, pixels)
	} else {
		tokens := e.tape.Ints(shape...)
		for i, v := range whole(t, x, which+".ids") {
			tokens.Data[i] = int32(v)
		}
		var mask tensor.Mask
		if see := whole(t, x, which+".mask"); slices.Contains(see, 0) {
			mask.Keys = e.tape.Bytes(shape...)
			for i, v := range see {
				mask.Keys.Data[i] = uint8(v)
			}
		}
		e.features = net.Read(p, tokens, mask)
	}
	e.tape.Keep(e.features)
	if train {
		target = e.tape.Input(e.features.Shape...)
		e.loss = e.tape.MSE(e.features, target)
	}
	e.tape.Seal()
	if side > 0 {
		copy(pixels.Data, floats(t, x, which+".pixels"))
	}
	if train {
		copy(target.Data, floats(t, x, "inputs.target"))
	}
	e.tape.Forward()
	if train {
		e.ps.BindGrads(make([]float32, e.ps.Len()))
		e.tape.Backward(e.loss)
	}
	return e
}

func whole(t *testing.T, f *safetensors.File, name string) []int64 {
	t.Helper()
	x, err := f.Int64(name)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func open(t *testing.T, path string) *safetensors.File {
	t.Helper()
	f, err := safetensors.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func floats(t *testing.T, f *safetensors.File, name string) []float32 {
	t.Helper()
	x, err := f.Float32(name)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// apart is ‖got-want‖/‖want‖.
func apart(got, want []float32) float64 {
	if len(got) != len(want) {
		return math.Inf(1)
	}
	diff, norm := 0.0, 0.0
	for i, w := range want {
		d := float64(got[i]) - float64(w)
		diff += d * d
		norm += float64(w) * float64(w)
	}
	return math.Sqrt(diff / max(norm, 1e-30))
}

// cases are the folders of dir.
func cases(t *testing.T, dir string) (names []string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		if name, ok := strings.CutSuffix(e.Name(), ".expected.safetensors"); ok {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		t.Fatalf("%s holds no case", dir)
	}
	return names
}

// TestFeatures holds the features of every family against those that timm and
// transformers compute (tools/make_pretrained.py), at the size or length that the
// weights are for and at another.
func TestFeatures(t *testing.T) {
	rt := tensor.NewRuntime(2)
	defer rt.Close()
	seen := map[string]bool{}
	for _, name := range cases(t, "testdata") {
		t.Run(name, func(t *testing.T) { seen[features(t, rt, filepath.Join("testdata", name))] = true })
	}
	for _, f := range families() {
		if !seen[f.name] {
			t.Errorf("no case is of family %s", f.name)
		}
	}
}

func features(t *testing.T, rt *tensor.Runtime, dir string) string {
	x := open(t, dir+".expected.safetensors")
	var e *encoder
	for _, c := range []struct{ in, out string }{{"inputs", "outputs.features"}, {"other", "outputs.other"}} {
		e = load(t, rt, dir, c.in, false)
		d := apart(e.features.Data, floats(t, x, c.out))
		t.Logf("%s: %s: relative error %.2g", e.loaded, c.out, d)
		if !(d <= 1e-5) {
			t.Errorf("%s: relative error %.3g, want at most 1e-5", c.out, d)
		}
		if resized := e.loaded.Resized != ""; e.found.Backbone.Patch > 0 && resized != (c.in == "other") {
			t.Errorf("%s: resized: %q", c.out, e.loaded.Resized)
		}
	}
	return e.found.Backbone.Family
}

// TestGradients holds all gradients of every family against PyTorch's.
func TestGradients(t *testing.T) {
	rt := tensor.NewRuntime(2)
	defer rt.Close()
	for _, name := range cases(t, "testdata") {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join("testdata", name)
			e := load(t, rt, dir, "inputs", true)
			want := models.NewBuilder()
			models.NewBackbone(want, "enc.", e.found.Backbone, e.found.Side)
			ps := want.Params()
			ps.Seal()
			defer ps.Close()
			// the gradients are saved as weights are
			grads := gradients(t, dir+".grads.safetensors", e.found)
			if _, err := grads.Load(ps, "enc."); err != nil {
				t.Fatal(err)
			}
			for i, p := range ps.List() {
				if d := apart(e.ps.List()[i].Grad, p.Value); !(d <= 2e-5) {
					t.Errorf("%s: relative error %.3g, want at most 2e-5", p.Name, d)
				}
			}
		})
	}
}

// gradients opens the gradients in a file as weights of the encoder that was found.
func gradients(t *testing.T, path string, found *Found) *Found {
	t.Helper()
	f, err := safetensors.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	s := *found.s
	s.file = f
	g := *found
	g.s = &s
	t.Cleanup(func() { f.Close() })
	return &g
}

// TestBits computes features and gradients of every family on every CPU level that
// there is and on 1 and 3 threads, with products of float32 and of bfloat16: the bits
// are the same.
func TestBits(t *testing.T) {
	for _, bf16 := range []bool{false, true} {
		sameBits(t, bf16)
	}
}

func sameBits(t *testing.T, bf16 bool) {
	was := tensor.CPULevel()
	defer tensor.SetCPU(was)
	for _, name := range cases(t, "testdata") {
		t.Run(fmt.Sprintf("%s/bf16=%v", name, bf16), func(t *testing.T) {
			var first [][]float32
			for _, level := range tensor.CPULevels() {
				if err := tensor.SetCPU(level); err != nil {
					t.Fatal(err)
				}
				for _, threads := range []int{1, 3} {
					if level == "generic" && threads > 1 && os.Getenv("VLARING_LONG") == "" { // plain Go takes longest
						continue
					}
					rt := tensor.NewRuntime(threads)
					e := loadIn(t, rt, filepath.Join("testdata", name), "inputs", true, bf16)
					all := [][]float32{slices.Clone(e.features.Data)}
					for _, p := range e.ps.List() {
						all = append(all, slices.Clone(p.Grad))
					}
					rt.Close()
					if first == nil {
						first = all
					}
					for i := range all {
						for k := range all[i] {
							if math.Float32bits(all[i][k]) != math.Float32bits(first[i][k]) {
								t.Fatalf("%s, %d threads: value %d of array %d is %x, want %x", level, threads, k, i, all[i][k], first[i][k])
							}
						}
					}
				}
			}
		})
	}
}
