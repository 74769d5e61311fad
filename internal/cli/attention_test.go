package cli

import (
	"encoding/json"
	"fmt"
	"image"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/internal/attention"
	"github.com/vlaring/vlaring/internal/picture"
	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/pkg/checkpoint"
	"github.com/vlaring/vlaring/pkg/checkpoint/storetest"
	"github.com/vlaring/vlaring/pkg/train"
)

// storeCheckpoint stores a checkpoint of a job's untrained model, whose first
// weights set may change, and returns its directory.
func storeCheckpoint(t *testing.T, text string, set func(name string, w []float32)) string {
	t.Helper()
	j, err := train.Kinds().Parse("job.yaml", []byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	ds, err := train.OpenData(j, ".", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ds.Close()
	meta := ds.Meta()
	m, _, err := train.Build(j, meta)
	if err != nil {
		t.Fatal(err)
	}
	m.Init(j.Seed)
	s := &storetest.State{Manifest: checkpoint.Manifest{Step: 1, Job: j.Name, Config: checkpoint.Text(text)}}
	if s.Manifest.Data, err = json.Marshal(meta); err != nil {
		t.Fatal(err)
	}
	for _, p := range m.Params().List() {
		if set != nil {
			set(p.Name, p.Value)
		}
		zero := make([]float32, len(p.Value))
		s.Model = append(s.Model, storetest.Tensor{Name: p.Name, Shape: p.Shape, Data: p.Value})
		s.First = append(s.First, storetest.Tensor{Name: p.Name, Shape: p.Shape, Data: zero})
		s.Second = append(s.Second, storetest.Tensor{Name: p.Name, Shape: p.Shape, Data: zero})
	}
	dir := t.TempDir()
	store, err := checkpoint.OpenDisk(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := storetest.Write(store, s); err != nil {
		t.Fatal(err)
	}
	return dir
}

func attentionOf(t *testing.T, args ...string) attention.Report {
	t.Helper()
	code, out, errs := call(t, bin.coordinator, append([]string{"attention", "--json"}, args...)...)
	if code != 0 {
		t.Fatalf("%v: exit code %d\n%s", args, code, errs)
	}
	var r attention.Report
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// The command's maps are PyTorch's: the weights of the golden encoder in a
// checkpoint, its two inputs one by one, every layer and head.
func TestAttentionIsPyTorchs(t *testing.T) {
	f, err := safetensors.Open("../../pkg/models/testdata/golden/encoder_copy.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	dir := storeCheckpoint(t, `name: golden
model: {kind: encoder, vocab_size: 50, d_model: 32, n_heads: 4, d_ff: 64, n_layers: 2, dropout: 0, pad_token: -1}
data: {kind: copy, episodes: 10, seq_len: 10}
`, func(name string, w []float32) {
		x, err := f.Float32("weights." + name)
		if err != nil {
			t.Fatal(err)
		}
		copy(w, x)
	})
	want, err := f.Float32("outputs.attention") // [layer 2, sample 2, head 4, 10, 10]
	if err != nil {
		t.Fatal(err)
	}
	ids, err := f.Int64("inputs.tokens") // [2, 10]
	if err != nil {
		t.Fatal(err)
	}
	for b := range 2 {
		r := attentionOf(t, "--checkpoint", dir, "--input", strings.Trim(fmt.Sprint(ids[b*10:(b+1)*10]), "[]"))
		if len(r.Layers) != 2 || r.Kind != "encoder" || r.Step != 1 {
			t.Fatalf("%+v", r)
		}
		for l, layer := range r.Layers {
			if len(layer.Heads) != 4 || layer.Name != fmt.Sprintf("encoder.transformer_blocks.%d", l) || len(layer.Positions) != 10 {
				t.Fatalf("layer %d: %d heads, %s", l, len(layer.Heads), layer.Name)
			}
			for h, head := range layer.Heads {
				g := want[((l*2+b)*4+h)*100:][:100]
				diff, norm := 0.0, 0.0
				for i, w := range g {
					diff += math.Pow(float64(head.Weights[i])-float64(w), 2)
					norm += float64(w) * float64(w)
				}
				if !(math.Sqrt(diff) <= 1e-5*math.Sqrt(norm)) {
					t.Errorf("sample %d, layer %d, head %d: relative error %g", b, l, h, math.Sqrt(diff/norm))
				}
				for q, k := range head.LooksAt { // torch.argmax
					if best := slices.Max(g[q*10 : (q+1)*10]); g[q*10+k] < best*(1-1e-5) {
						t.Errorf("sample %d, layer %d, head %d: query %d looks at %d (%v), the greatest is %v", b, l, h, q, k, g[q*10+k], best)
					}
				}
			}
		}
	}
}

const attentionVLA = `name: look
seed: 3
model: {kind: vla, image_size: 32, patch_size: 8, d_model: 32, n_heads: 4, n_layers: 4, dropout: 0.1}
data: {kind: tabletop, episodes: 20, holdout: {fraction: 0.1}}
`

// A vla by a sample, by a picture and words: stacks, positions, padding,
// rollout, and pictures of the right size.
func TestAttentionOfImages(t *testing.T) {
	t.Parallel()
	dir := storeCheckpoint(t, attentionVLA, nil)
	maps := filepath.Join(t.TempDir(), "new", "maps")
	r := attentionOf(t, "--checkpoint", dir, "--sample", "2", "--out", maps)
	if len(r.Layers) != 6 || len(r.Rollout) != 3 {
		t.Fatalf("%d layers, %d rollouts", len(r.Layers), len(r.Rollout))
	}
	words := 0
	for _, v := range r.Layers[2].Visible {
		if v {
			words++
		}
	}
	if words == 0 || words == len(r.Layers[2].Visible) {
		t.Fatalf("%d of %d words are visible; want some padding in the sample", words, len(r.Layers[2].Visible))
	}
	for i, l := range r.Layers {
		n := len(l.Positions)
		stack := []string{"vision_encoder", "language_encoder", "cross_modal_fusion"}[i/2]
		if l.Stack != stack || len(l.Heads) != 4 {
			t.Errorf("%s is of stack %s, with %d heads", l.Name, l.Stack, len(l.Heads))
		}
		for _, h := range l.Heads {
			if stack == "cross_modal_fusion" != (h.Distance == nil) || h.MeanEntropy <= 0 || h.MeanEntropy > math.Log(float64(n)) {
				t.Errorf("%s head %d: distance %v, entropy %v", l.Name, h.Head, h.Distance, h.MeanEntropy)
			}
			for q := range n {
				sum := 0.0
				for k, w := range h.Weights[q*n : (q+1)*n] {
					sum += float64(w)
					if !l.Visible[k] && w != 0 {
						t.Fatalf("%s head %d: padding gets %v", l.Name, h.Head, w)
					}
				}
				if math.Abs(sum-1) > 1e-5 {
					t.Errorf("%s head %d: row %d sums to %v", l.Name, h.Head, q, sum)
				}
			}
		}
	}
	if v := r.Layers[0]; v.Positions[0] != "cls" || v.Positions[6] != "1,1" || len(v.Positions) != 17 || v.Heads[0].DistanceUnit != "pixels" {
		t.Errorf("vision positions %v", v.Positions)
	}
	// A first look is nearly even, so the mean distance is that of all pairs of a 4×4 grid of 8 pixels: 17.8.
	if d := *r.Layers[0].Heads[0].Distance; d < 12 || d > 22 {
		t.Errorf("vision distance %v", d)
	}
	if p := r.Layers[4].Positions; p[0] != "image" || len(p) != 1+len(r.Layers[2].Positions) {
		t.Errorf("fusion positions %v", p)
	}
	// 6 rows of 4 heads and one of rollouts; the photograph's row and 2 rows of 4 heads.
	if b := decodePNG(t, filepath.Join(maps, "attention.png")).Bounds(); b.Dx() != 16+4*300+90 || b.Dy() != 16+36+7*300 {
		t.Errorf("the maps are %v", b)
	}
	m := decodePNG(t, filepath.Join(maps, "attention-picture.png"))
	if b := m.Bounds(); b.Dx() != 16+4*240+90 || b.Dy() != 16+36+3*260 {
		t.Errorf("the overlays are %v", b)
	}

	// The same by words and a picture file, whose upper left patch is red.
	photo := image.NewRGBA(image.Rect(0, 0, 64, 64))
	for i := range photo.Pix {
		photo.Pix[i] = 255
	}
	for y := range 16 {
		for x := range 16 {
			photo.Pix[photo.PixOffset(x, y)+1], photo.Pix[photo.PixOffset(x, y)+2] = 0, 0
		}
	}
	file := filepath.Join(t.TempDir(), "photo.png")
	w, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := png.Encode(w, photo); err != nil {
		t.Fatal(err)
	}
	w.Close()
	out := filepath.Join(t.TempDir(), "one.png")
	r = attentionOf(t, "--checkpoint", dir, "--input", file, "--input", "Pick up the red cube, quickly!", "--out", out)
	if p := r.Layers[2].Positions; !slices.Equal(p[:6], []string{"pick", "up", "the", "red", "cube", "<unk>"}) || p[6] != "pad" {
		t.Errorf("words %v", p)
	}
	m = decodePNG(t, strings.TrimSuffix(out, ".png")+"-picture.png")
	red := 0
	for y := range 300 {
		for x := range 240 {
			if r, g, b, _ := m.At(x, y).RGBA(); r == 0xffff && g == 0 && b == 0 {
				red++
			}
		}
	}
	if red < 40*40 || red > 70*70 { // a sixteenth of a panel
		t.Errorf("the photograph has %d red pixels", red)
	}
	code, text, errs := call(t, bin.coordinator, "attention", "--checkpoint", dir, "--sample", "2")
	if code != 0 || !strings.Contains(text, "cross_modal_fusion.transformer_blocks.1: ") || !strings.Contains(text, "0:cls →") ||
		!strings.Contains(text, "vision_encoder, class token:") {
		t.Errorf("exit code %d\n%s%s", code, text, errs)
	}
}

func TestAttentionRefuses(t *testing.T) {
	t.Parallel()
	dir := storeCheckpoint(t, attentionVLA, nil)
	bad := filepath.Join(t.TempDir(), "bad.png")
	if err := os.WriteFile(bad, []byte("no picture"), 0o644); err != nil {
		t.Fatal(err)
	}
	good := filepath.Join(t.TempDir(), "good.png")
	if err := (picture.Page{Panels: [][]picture.Panel{{nil}}}).WritePNG(good); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args []string
		code int
		want []string
	}{
		"no input":           {nil, exitUsage, []string{"--input", "--sample"}},
		"both":               {[]string{"--input", "x", "--sample", "1"}, exitUsage, []string{"not both"}},
		"no picture":         {[]string{"--input", "pick up"}, exitUsage, []string{"vla", "images 3×32×32", "missing"}},
		"no instruction":     {[]string{"--input", bad}, exitUsage, []string{"words", "missing"}},
		"two pictures":       {[]string{"--input", bad, "--input", "b.jpg"}, exitUsage, []string{"b.jpg", bad}},
		"two instructions":   {[]string{"--input", "a", "--input", "b"}, exitUsage, []string{`"b"`, `"a"`}},
		"picture is broken":  {[]string{"--input", bad, "--input", "pick"}, exitFailed, []string{bad, "neither PNG nor JPEG"}},
		"picture is missing": {[]string{"--input", "nowhere.png", "--input", "pick"}, exitFailed, []string{"nowhere.png"}},
		"token too large":    {[]string{"--input", good, "--input", "3 9999"}, exitFailed, []string{"9999", "vocabulary"}},
		"too many words":     {[]string{"--input", bad, "--input", strings.Repeat("the ", 99)}, exitUsage, []string{"99 words"}},
		"no such sample":     {[]string{"--sample", "8"}, exitUsage, []string{"--sample 8", "8 samples"}},
		"no such directory":  {[]string{"--sample", "1", "--out", filepath.Join(dir, "no", "x.png")}, exitFailed, []string{"x.png"}},
		"no checkpoint":      {[]string{"--sample", "1", "--checkpoint", t.TempDir()}, exitFailed, []string{"neither a checkpoint nor a run directory"}},
	} {
		t.Run(name, func(t *testing.T) {
			code, _, errs := call(t, bin.coordinator, append([]string{"attention", "--checkpoint", dir}, c.args...)...)
			if code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			for _, w := range c.want {
				if !strings.Contains(errs, w) {
					t.Errorf("%q is not in the message:\n%s", w, errs)
				}
			}
		})
	}
}
