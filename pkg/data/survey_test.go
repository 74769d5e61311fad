package data

import (
	"bytes"
	"context"
	"errors"
	"image"
	"image/color"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
)

// faultsOf opens leniently, looks at everything on two threads and returns all faults.
func faultsOf(t *testing.T, cfg job.Data, needs models.Spec) (out []Fault, sum Summary) {
	t.Helper()
	add := func(f Fault) { out = append(out, f) }
	d, err := OpenContext(context.Background(), cfg, needs, 1, ".", nil, Watch{Fault: add})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	sum, err = d.Survey(context.Background(), Survey{Threads: 2, Fault: add})
	if err != nil {
		t.Fatal(err)
	}
	return out, sum
}

// TestCheckListsAllFaults guards that the first fault of a folder hides no other.
func TestCheckListsAllFaults(t *testing.T) {
	dir := folderOf(t, 8)
	manifest, err := os.ReadFile(filepath.Join(dir, ManifestName))
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(manifest, []byte("\n"))
	lines[1] = []byte("{\"image\": \"1.png\", \"instruction\"\n")
	write(t, dir, ManifestName, bytes.Join(lines, nil))
	if err := os.Remove(filepath.Join(dir, "3.png")); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(filepath.Join(dir, "5.png"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, "5.png", whole[:len(whole)-20])
	write(t, dir, "6.png", nil)

	faults, sum := faultsOf(t, of(job.Data{Kind: "folder", Path: dir}), folderNeeds)
	var got []string
	for _, f := range faults {
		got = append(got, f.Kind)
		if f.File != filepath.Join(dir, ManifestName) {
			t.Errorf("the file of %+v", f)
		}
	}
	if want := []string{"line", "file", "picture", "picture"}; !slices.Equal(got, want) {
		t.Fatalf("kinds %q, want %q: %v", got, want, faults)
	}
	for i, line := range []int{2, 4, 6, 7} {
		if faults[i].Line != line {
			t.Errorf("fault %d is of line %d, want %d: %s", i, faults[i].Line, line, faults[i])
		}
	}
	if f := faults[2]; *f.Episode != 2 || *f.Frame != 1 || *f.Sample != 4 || !strings.Contains(f.What, "5.png") {
		t.Errorf("%+v", f)
	}
	if sum.Samples != 7 || sum.Camera.Looked != 4 {
		t.Errorf("%+v", sum)
	}
}

// TestCheckListsAllRecords guards the same of shards: a record whose bytes are
// damaged, a shard that ends early, and a picture that does not decode.
func TestCheckListsAllRecords(t *testing.T) {
	dir := copyDir(t, tinyRLDS(t))
	first, second := filepath.Join(dir, "tiny-train.tfrecord-00000-of-00002"), filepath.Join(dir, "tiny-train.tfrecord-00001-of-00002")
	b, err := os.ReadFile(first)
	if err != nil {
		t.Fatal(err)
	}
	b[100] ^= 1
	write(t, dir, filepath.Base(first), b)
	if b, err = os.ReadFile(second); err != nil {
		t.Fatal(err)
	}
	write(t, dir, filepath.Base(second), b[:len(b)-5])
	faults, sum := faultsOf(t, of(job.Data{Kind: "rlds", Path: dir}, "Camera", "image_0"), vlaNeeds)
	if len(faults) != 2 || faults[0].File != first || *faults[0].Record != 0 || *faults[0].Episode != 0 || faults[1].File != second || faults[1].Kind != "file" {
		t.Fatalf("%+v", faults)
	}
	if sum.Samples == 0 {
		t.Error("nothing was left to look at")
	}
	d, err := OpenContext(context.Background(), of(job.Data{Kind: "rlds", Path: dir}, "Camera", "image_0"), vlaNeeds, 1, ".", nil, Watch{Fault: func(Fault) {}})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if p := d.(*Set).about.place(0); *p.Episode != 1 || *p.Record != 1 || *p.Frame != 0 {
		t.Errorf("behind a damaged record the first sample is of episode %d, record %d, frame %d", *p.Episode, *p.Record, *p.Frame)
	}
}

// TestCheckFindsNumbers guards that a value that is none is named by row.
func TestCheckFindsNumbers(t *testing.T) {
	v := ramp(3 * 4)
	v[5] = float32(nan())
	path := writeTensors(t, safetensors.Tensor{Name: "images", Shape: []int{3, 1, 2, 2}, Data: v})
	faults, _ := faultsOf(t, of(job.Data{Kind: "tensors", Path: path}), models.Spec{pictures(1, 2, 2)})
	if len(faults) != 1 || faults[0].Kind != "value" || *faults[0].Sample != 1 || !strings.Contains(faults[0].What, "row 1") {
		t.Errorf("%+v", faults)
	}
}

func nan() float64 { z := 0.0; return z / z }

func TestSurveyHearsItsContext(t *testing.T) {
	d, err := Open(of(job.Data{Kind: "folder", Path: folderOf(t, 6)}), folderNeeds, 1, ".", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := d.Survey(ctx, Survey{Threads: 1}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// plainPicture is of one colour.
func plainPicture(w, h int, c color.Color) image.Image {
	m := image.NewRGBA(image.Rect(0, 0, w, h))
	for i := range w * h {
		m.Set(i%w, i/w, c)
	}
	return m
}

// TestWhatPicturesHaveInCommon guards the findings about cameras.
func TestWhatPicturesHaveInCommon(t *testing.T) {
	black := encodePNG(t, plainPicture(8, 8, color.Black))
	gray := func(v uint8) []byte { return encodePNG(t, plainPicture(8, 8, color.Gray{v})) }
	scene := func(w, h int, v uint8) []byte { return encodePNG(t, testPicture(w, h, color.RGBA{v, 9, 9, 255})) }
	for _, c := range []struct {
		name     string
		pictures [][]byte
		kind     string // of the finding; "" for none
		what     string
	}{
		{"black", [][]byte{black, black, black}, "equal_pictures", "all 3 pictures are the same, and black"},
		{"black and another black", [][]byte{black, gray(3)}, "black_pictures", "all 2 pictures are black"},
		{"equal", [][]byte{scene(8, 8, 1), scene(8, 8, 1)}, "equal_pictures", "all 2 pictures are the same"},
		{"plain", [][]byte{gray(100), gray(200)}, "plain_pictures", "all 2 pictures are of one colour each"},
		{"one black among others", [][]byte{black, scene(8, 8, 1)}, "", ""},
		{"4:3", [][]byte{scene(16, 12, 1), scene(16, 12, 2)}, "", ""},
		{"16:9", [][]byte{scene(16, 9, 1), scene(16, 9, 2)}, "squeezed", "pictures of 16×9 are squeezed to 8×8: things become 1.8 times narrower"},
	} {
		dir := t.TempDir()
		var manifest strings.Builder
		for i, p := range c.pictures {
			name := string(rune('a'+i)) + ".png"
			write(t, dir, name, p)
			manifest.WriteString(`{"image": "` + name + "\", \"instruction\": \"go\", \"action\": [1, " + string(rune('0'+i)) + "]}\n")
		}
		write(t, dir, ManifestName, []byte(manifest.String()))
		_, sum := faultsOf(t, of(job.Data{Kind: "folder", Path: dir}), folderNeeds)
		var got []Finding
		for _, f := range sum.Findings {
			if strings.Contains(f.Kind, "pictures") || f.Kind == "squeezed" {
				got = append(got, f)
			}
		}
		switch {
		case c.kind == "" && len(got) > 0, c.kind != "" && len(got) != 1:
			t.Errorf("%s: %v", c.name, got)
		case c.kind != "" && (got[0].Kind != c.kind || got[0].What != c.what):
			t.Errorf("%s: %+v", c.name, got[0])
		}
	}
}

// TestFloatsOf255 guards that values of bytes given as floats are told of, once,
// and values from 0 to 1 are not.
func TestFloatsOf255(t *testing.T) {
	for most, want := range map[float32]bool{255: true, 200: true, 1: false, 2.5: true, 1000: true} {
		v := ramp(2 * 4)
		for i := range v {
			v[i] = float32(i) / 7 * most
		}
		path := writeTensors(t, safetensors.Tensor{Name: "images", Shape: []int{2, 1, 2, 2}, Data: v})
		_, sum := faultsOf(t, of(job.Data{Kind: "tensors", Path: path}), models.Spec{pictures(1, 2, 2)})
		told := 0
		for _, f := range sum.Findings {
			if f.Kind == "range_255" {
				told++
			}
		}
		if told > 1 || (told == 1) != want || sum.Camera.Range[1] != most {
			t.Errorf("largest value %v: %v", most, sum.Findings)
		}
	}
}

// TestWhatIsSaidOfInstructions guards the counts against ones made by hand.
func TestWhatIsSaidOfInstructions(t *testing.T) {
	dir := t.TempDir()
	lines := []string{"pick the red cube", "pick the red ball", "push", "", "push", "lift the zebra"}
	var b strings.Builder
	for i, l := range lines {
		b.WriteString(`{"instruction": "` + l + `", "action": [` + string(rune('0'+i)) + "]}\n")
	}
	write(t, dir, ManifestName, []byte(b.String()))
	cfg := of(job.Data{Kind: "folder", Path: dir, Holdout: job.Holdout{Episodes: []int{5}}}, "MaxTokens", 3)
	_, sum := faultsOf(t, cfg, models.Spec{words(0), acts(0)})
	in := *sum.Instructions
	if in.Different != 5 || in.Empty != 1 || in.Longest != 4 || in.Tokens != 3 || in.Cut != 2 || in.Merged != 1 || in.UnknownIn != 1 || !slices.Equal(in.Unknown, []string{"lift", "zebra"}) {
		t.Errorf("%+v", in)
	}
	text := sum.Text(false)
	for _, want := range []string{
		"folder data: 6 samples of 6 episodes; 5 to train on, 1 held out (1 episode)\n",
		"instructions  5 different, the longest of 4 words; the model sees 3; vocabulary of 8; 1 samples have none; 2 samples' are cut; 1 become equal to others when cut; 2 held-out words are unknown\n",
		"warning: 2 of 6 samples have an instruction of more than 3 words, which is cut, and 1 of 5 instructions become equal to others; set data.max_tokens to 4 to keep them whole\n",
		"warning: held-out split: 1 of 1 samples have words that the training split lacks: lift, zebra; the model has never seen them\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("lacks %q:\n%s", want, text)
		}
	}
}

// TestRecognise guards that a path alone tells the kind, and what it has.
func TestRecognise(t *testing.T) {
	tiny := tinyRLDS(t)
	got, err := Recognise(filepath.Dir(tiny))
	if err != nil || got.Data.Kind != "rlds" || !got.Wants.Has(models.Instruction) || !got.Wants.Has(models.Actions) {
		t.Errorf("%+v %v", got, err)
	}
	for _, path := range []string{folderOf(t, 2), filepath.Join(folderOf(t, 2), ManifestName)} {
		if got, err = Recognise(path); err != nil || got.Data.Kind != "folder" || got.Wants.Len(models.Images, 0) != 3 {
			t.Errorf("%+v %v", got, err)
		}
	}
	path := writeTensors(t, safetensors.Tensor{Name: "images", Shape: []int{2, 1, 2, 2}, Data: ramp(8)})
	if got, err = Recognise(path); err != nil || got.Data.Kind != "tensors" || !got.Wants.Equal(models.Spec{pictures(1, 2, 2)}) {
		t.Errorf("%+v %v", got, err)
	}
	plain := filepath.Join(t.TempDir(), "data") // a name without an ending
	if err := os.Rename(path, plain); err != nil {
		t.Fatal(err)
	}
	if got, err = Recognise(plain); err != nil || got.Data.Kind != "tensors" || !got.Wants.Equal(models.Spec{pictures(1, 2, 2)}) {
		t.Errorf("%+v %v", got, err)
	}
	write(t, filepath.Dir(plain), "data", []byte("\x93NUMPY\x01\x00"))
	if _, err := Recognise(plain); err == nil || !strings.Contains(err.Error(), "not a data set that is known") || !strings.Contains(err.Error(), "it is a NumPy .npy file: convert it") {
		t.Error(err)
	}
	if _, err := Recognise(plain + "x"); !errors.Is(err, os.ErrNotExist) || err.Error() != "there is no "+plain+"x" {
		t.Error(err)
	}
	path = writeTensors(t, safetensors.Tensor{Name: "images", Shape: []int{2, 4, 4, 3}, Data: ramp(96)})
	if got, err = Recognise(path); err != nil || !got.Wants.Equal(models.Spec{pictures(3, 4, 4)}) {
		t.Errorf("%+v %v", got, err)
	}
	// State, several cameras, and chunks that are given whole.
	path = writeTensors(t, safetensors.Tensor{Name: "images", Shape: []int{2, 3, 4, 4}, Data: ramp(96)}, safetensors.Tensor{Name: "images_1", Shape: []int{2, 3, 2, 2}, Data: ramp(24)},
		safetensors.Tensor{Name: "state", Shape: []int{2, 3}, Data: ramp(6)}, safetensors.Tensor{Name: "actions", Shape: []int{2, 3, 2}, Data: ramp(12)},
		safetensors.Tensor{Name: "actions_valid", Shape: []int{2, 3}, Data: []float32{1, 1, 1, 1, 0, 0}})
	if got, err = Recognise(path); err != nil {
		t.Fatal(err)
	}
	d, err := Open(got.Data, got.Wants, 1, ".", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if m := d.Meta(); m.Spec.String() != "images 3×4×4, images_1 3×2×2, state 3, actions 3×2, actions_valid 3" || m.Actions.Count != 4 {
		t.Errorf("%s of %d actions", m.Spec, m.Actions.Count)
	}
	if _, err := Recognise(t.TempDir()); err == nil || !strings.Contains(err.Error(), ManifestName) {
		t.Error(err)
	}
}
