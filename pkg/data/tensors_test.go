package data

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
)

// Every type and layout that Python writes trains on what PyTorch makes of it
// as float32, and predict reads the same. tools/make_safetensors_fixture.py
// made the files.
func TestTensorsEqualPyTorch(t *testing.T) {
	files, err := filepath.Glob("testdata/tensors/*.safetensors")
	if err != nil || len(files) < 14 {
		t.Fatal(files, err)
	}
	types := map[string]bool{}
	for _, path := range files {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".safetensors"), func(t *testing.T) {
			f, err := safetensors.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			want := func(name string) []float32 {
				v, err := f.Float32("want " + name)
				if err != nil {
					t.Fatal(err)
				}
				return v
			}
			for _, name := range []string{"images", "actions", "instruction_tokens"} {
				info, _ := f.Tensor(name)
				types[info.DType] = true
			}
			pic, _ := f.Tensor("want images")
			tokens, err := f.Int64("instruction_tokens")
			if err != nil {
				t.Fatal(err)
			}
			needs := wantsOf(models.Config{Kind: "vla", ImageSize: 4, Channels: pic.Shape[1], VocabSize: 9, ActionDim: 2})
			d, err := Open(of(job.Data{Kind: "tensors", Path: path, Holdout: job.Holdout{Episodes: []int{200}}}), needs, 1, "", nil)
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			if d.Train().Len() != 4 || d.Heldout().Len() != 2 {
				t.Errorf("%d rows to train on, %d held out; want 4 and 2", d.Train().Len(), d.Heldout().Len())
			}
			size := pic.Shape[1] * 16
			all := func(each func(row int, s Sample)) {
				t.Helper()
				for k, src := range []Source{d.Train(), d.Heldout()} {
					for i := range src.Len() {
						s, err := src.Sample(i)
						if err != nil {
							t.Fatal(err)
						}
						each(4*k+i, s)
					}
				}
			}
			images, actions := want("images"), want("actions")
			all(func(row int, s Sample) {
				if !slices.Equal(pictureOf(s).Floats, images[row*size:(row+1)*size]) {
					t.Errorf("row %d: the image is %v, PyTorch has %v", row, pictureOf(s).Floats, images[row*size:(row+1)*size])
				}
				if !slices.Equal(actionOf(s), actions[2*row:2*row+2]) {
					t.Errorf("row %d: the action is %v, PyTorch has %v", row, actionOf(s), actions[2*row:2*row+2])
				}
				if !slices.Equal(tokensOf(s), narrow(tokens[3*row:3*row+3])) {
					t.Errorf("row %d: the tokens are %v", row, tokensOf(s))
				}
			})
			collateAll(t, d)
			meta := d.Meta()
			for model, want := range map[[3]int]string{
				{7, 4, 4}:              "and the model was trained on 7",
				{pic.Shape[1], 16, 16}: "and the model was trained on 16×16: resize them to that",
			} {
				other := needs.Clone()
				other.Find(models.Images).Shape = model[:]
				if _, _, err := ReadInputs(context.Background(), path, other, nil, meta); err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("inputs of another shape: %v, want %q", err, want)
				}
			}
			in, _, err := ReadInputs(context.Background(), path, needs, nil, meta)
			if err != nil || in.N != 6 || !slices.Equal(in.Floats(models.Images), images) || !slices.Equal(in.Ints(models.Instruction), narrow(tokens)) {
				t.Errorf("predict reads %d rows (%v), images equal: %v", in.N, err, slices.Equal(in.Floats(models.Images), images))
			}

			cross := wantsOf(models.Config{Kind: "cross_modal", VisionDim: 3, LanguageDim: 2, ActionDim: 2})
			c, err := Open(of(job.Data{Kind: "tensors", Path: path}), cross, 1, "", nil)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			vision, language := want("vision_features"), want("language_features")
			for i := range 6 {
				if s, err := c.Train().Sample(i); err != nil || !slices.Equal(s.Values[0].Floats, vision[6*i:6*i+6]) || !slices.Equal(s.Values[1].Floats, language[6*i:6*i+6]) {
					t.Errorf("row %d (%v): the features are %v and %v", i, err, s.Values[0].Floats, s.Values[1].Floats)
				}
			}
			if in, _, err := ReadInputs(context.Background(), path, cross, nil, Meta{}); err != nil || !slices.Equal(in.Floats(models.VisionFeatures), vision) || !slices.Equal(in.Floats(models.LanguageFeatures), language) || !in.Spec.Equal(models.Spec{models.Known(models.VisionFeatures, 2, 3), models.Known(models.LanguageFeatures, 3, 2), acts(2)}) {
				t.Errorf("predict's features (%v): %+v", err, in)
			}
		})
	}
	for _, d := range []string{"F32", "F16", "BF16", "F64", "I64", "I32", "I16", "I8", "U8", "U16", "U32", "U64"} {
		if !types[d] {
			t.Errorf("no file has %s", d)
		}
	}
}

// Bytes that predict reads are normalised as training normalised pictures.
func TestInputsOfBytesAreNormalised(t *testing.T) {
	path := "testdata/tensors/u8.safetensors"
	meta := Meta{ImageMean: [3]float32{0.5, 0.25, 0}, ImageStd: [3]float32{0.5, 2, 1}}
	in, _, err := ReadInputs(context.Background(), path, models.Spec{pictures(3, 4, 4)}, nil, meta)
	if err != nil {
		t.Fatal(err)
	}
	f, err := safetensors.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	raw, err := f.Uint8("images")
	if err != nil {
		t.Fatal(err)
	}
	r, err := newResizer(3, 4, 4, meta.ImageMean, meta.ImageStd)
	if err != nil {
		t.Fatal(err)
	}
	for row := range 6 {
		img := Image{H: 4, W: 4, RGB: make([]byte, 48)}
		for i := range img.RGB {
			img.RGB[i] = raw[row*48+i%3*16+i/3]
		}
		want := make([]float32, 48)
		if err := r.Apply(want, img); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(in.Floats(models.Images)[row*48:(row+1)*48], want) {
			t.Errorf("row %d is not what the same picture in a folder gives", row)
		}
	}
}

// What is not finite is refused when the data is opened, wherever the model
// would use it and in whatever split, by tensor, row and place.
func TestTensorsMustBeFinite(t *testing.T) {
	images := safetensors.Tensor{Name: "images", Shape: []int{4, 3, 2, 2}, Data: make([]float32, 48)}
	tokens := safetensors.Tensor{Name: "instruction_tokens", Shape: []int{4, 2}, Data: make([]int64, 8)}
	actions := safetensors.Tensor{Name: "actions", Shape: []int{4, 2}, Data: ramp(8)}
	vision := safetensors.Tensor{Name: "vision_features", Shape: []int{4, 1, 2}, Data: ramp(8)}
	language := safetensors.Tensor{Name: "language_features", Shape: []int{4, 1, 2}, Data: ramp(8)}
	vla := wantsOf(models.Config{Kind: "vla", ImageSize: 2, VocabSize: 9, ActionDim: 2})
	cross := wantsOf(models.Config{Kind: "cross_modal", VisionDim: 2, LanguageDim: 2, ActionDim: 2})
	spoil := func(x safetensors.Tensor, dtype string, v float64, at ...int) safetensors.Tensor {
		n := 1
		for _, d := range x.Shape {
			n *= d
		}
		f := make([]float32, n)
		for _, i := range at {
			f[i] = float32(v)
		}
		if dtype == "F64" {
			d := make([]float64, n)
			for _, i := range at {
				d[i] = v
			}
			x.Data = d
			return x
		}
		raw, err := safetensors.Narrow(dtype, f)
		if err != nil {
			t.Fatal(err)
		}
		x.Data = raw
		return x
	}
	nan, inf := math.NaN(), math.Inf(1)
	for _, c := range []struct {
		what  string
		needs models.Spec
		bad   safetensors.Tensor
		says  string
	}{
		{"an action", vla, spoil(actions, "F32", nan, 6), "actions: row 3: dimension 0 (force) is NaN; 1 of its 4 rows has values that are not finite"},
		{"two actions", vla, spoil(actions, "F16", -inf, 1, 7), "actions: row 0: dimension 1 is -Inf; 2 of its 4 rows have values that are not finite"},
		{"an action beyond float32", vla, spoil(actions, "F64", 1e300, 2), "actions: row 1: dimension 0 (force) is +Inf as float32"},
		{"a pixel", vla, spoil(images, "F32", nan, 36+4+2+1), "images: row 3: the value at [3 1 1 1] is NaN; 1 of its 4 rows has"},
		{"a pixel in bfloat16", vla, spoil(images, "BF16", inf, 12), "images: row 1: the value at [1 0 0 0] is +Inf"},
		{"a vision feature", cross, spoil(vision, "F32", nan, 5), "vision_features: row 2: the value at [2 0 1] is NaN"},
		{"a language feature", cross, spoil(language, "F64", nan, 1), "language_features: row 0: the value at [0 0 1] is NaN"},
	} {
		var list []safetensors.Tensor
		for _, x := range []safetensors.Tensor{images, tokens, actions, vision, language} {
			if x.Name == c.bad.Name {
				x = c.bad
			}
			list = append(list, x)
		}
		path := writeTensors(t, list...)
		for _, held := range []job.Holdout{{}, {Episodes: []int{3}}, {Episodes: []int{0}}} {
			_, err := Open(of(job.Data{Kind: "tensors", Path: path, Holdout: held}, "ActionNames", []string{"force", "a1"}), c.needs, 1, "", nil)
			if err == nil || !strings.Contains(err.Error(), path+": "+c.says) {
				t.Errorf("%s, %v held out: %v\nwant %s", c.what, held.Episodes, err, c.says)
			}
		}
		if c.bad.Name == "actions" {
			continue // predict needs none
		}
		if _, _, err := ReadInputs(context.Background(), path, c.needs, nil, Meta{ImageStd: [3]float32{1, 1, 1}}); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s, by predict: %v", c.what, err)
		}
	}
	// What no model of the job uses does not count.
	path := writeTensors(t, images, tokens, actions, spoil(vision, "F32", nan, 0), language)
	if d, err := Open(of(job.Data{Kind: "tensors", Path: path}), vla, 1, "", nil); err != nil {
		t.Error(err)
	} else {
		d.Close()
	}
	// A row that is left out does not count.
	path = writeTensors(t, spoil(images, "F32", nan, 12), tokens, spoil(actions, "F32", nan, 2), vision, language)
	if d, err := Open(of(job.Data{Kind: "tensors", Path: path}, "Skip", []int{1}), vla, 1, "", nil); err != nil {
		t.Errorf("with the row left out: %v", err)
	} else {
		d.Close()
	}
	if _, err := Open(of(job.Data{Kind: "tensors", Path: path}, "Skip", []int{0}), vla, 1, "", nil); err == nil || !strings.Contains(err.Error(), "mend it, or leave it out by data.skip: [1]") {
		t.Errorf("with another row left out: %v", err)
	}
	// Who goes on over faults gets the statistics of the sound rows.
	path = writeTensors(t, images, tokens, spoil(actions, "F32", nan, 0), vision, language)
	d, err := OpenContext(context.Background(), of(job.Data{Kind: "tensors", Path: path}), vla, 1, "", nil, Watch{Fault: func(Fault) {}})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if n := d.Meta().Actions.Count; n != 3 {
		t.Errorf("statistics of %d rows, want 3", n)
	}
}

// Pictures of 0 to 255 are told, with the values; pictures that are normalised,
// in bytes or from 0 to 1 are not.
func TestRangeOfPictures(t *testing.T) {
	values := func(lo, hi float32) []float32 {
		v := make([]float32, 24)
		for i := range v {
			v[i] = lo + (hi-lo)*float32(i)/23
		}
		return v
	}
	tokens := safetensors.Tensor{Name: "instruction_tokens", Shape: []int{2, 1}, Data: []int64{1, 2}}
	actions := safetensors.Tensor{Name: "actions", Shape: []int{2, 1}, Data: []float32{1, 2}}
	bytes := make([]uint8, 24)
	bytes[3] = 255
	whole := make([]int64, 24)
	whole[3] = 255
	for _, c := range []struct {
		data any
		says string
	}{
		{values(0, 255), "the values of images go from 0 to 255 and are used as they are"},
		{values(0, 2), "go from 0 to 2 and are used as they are; if values from 0 to 1 are meant, bring them there"},
		{values(0, 65535), "divide them by the largest there can be, 65535 in 16 bits"},
		{values(-3, 255), "go from -3 to 255"},
		{whole, "go from 0 to 255"},
		{values(0, 1), ""}, {values(-1, 1), ""}, {values(-2.2, 2.7), ""}, {bytes, ""},
	} {
		path := writeTensors(t, safetensors.Tensor{Name: "images", Shape: []int{2, 3, 2, 2}, Data: c.data}, tokens, actions)
		needs := wantsOf(models.Config{Kind: "vla", ImageSize: 2, VocabSize: 9, ActionDim: 1})
		d, err := Open(of(job.Data{Kind: "tensors", Path: path}), needs, 1, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		d.Close()
		_, told, err := ReadInputs(context.Background(), path, needs, nil, d.Meta())
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range [][]Finding{d.Findings(), told} {
			i := slices.IndexFunc(found, func(f Finding) bool { return f.Kind == "range_255" })
			if (i >= 0) != (c.says != "") || i >= 0 && !strings.Contains(found[i].String(), c.says) {
				t.Errorf("found %v, want %q", found, c.says)
			}
		}
	}
}

// Where pictures do not fit the model, the error is of the key that would change
// it; where both layouts fit, the job decides.
func TestLayoutOfPictures(t *testing.T) {
	tokens := safetensors.Tensor{Name: "instruction_tokens", Shape: []int{2, 1}, Data: []int64{1, 2}}
	actions := safetensors.Tensor{Name: "actions", Shape: []int{2, 1}, Data: []float32{1, 2}}
	file := func(shape ...int) string {
		n := 1
		for _, d := range shape {
			n *= d
		}
		return writeTensors(t, safetensors.Tensor{Name: "images", Shape: shape, Data: ramp(n)}, tokens, actions)
	}
	needs := func(channels, size int) models.Spec {
		return wantsOf(models.Config{Kind: "vla", ImageSize: size, Channels: channels, VocabSize: 9, ActionDim: 1})
	}
	for _, c := range []struct {
		path, layout string
		needs        models.Spec
		key, says    string
	}{
		{file(2, 4, 8, 8), "", needs(3, 8), "model.channels", "images is F32 [2 4 8 8], that is 4 channels, and model.channels is 3: set model.channels to 4"},
		{file(2, 8, 8, 4), "", needs(3, 8), "model.channels", "images is F32 [2 8 8 4], that is 4 channels (the last), and model.channels is 3"},
		{file(2, 3, 16, 16), "", needs(3, 8), "model.image_size", "that is pictures of 16×16, and model.image_size is 8: tensors are used as they are, so set model.image_size to 16 or resize them"},
		{file(2, 16, 16, 3), "", needs(3, 8), "model.image_size", "that is pictures of 16×16"},
		{file(2, 3, 6, 8), "", needs(3, 8), "model.image_size", "that is pictures of 8×6 (width × height), and the model takes 8×8"},
		{file(2, 3, 8, 8), "nhwc", needs(3, 8), "data.layout", "does not fit data.layout nhwc; without the key the layout that fits is taken"},
		{file(2, 8, 8, 3), "nchw", needs(3, 8), "data.layout", "does not fit data.layout nchw"},
		{file(2, 3), "", needs(3, 8), "", "images is F32 [2 3], expected [N, C, H, W] with [any, 3, 8, 8], or [N, H, W, C] with [any, 8, 8, 3]"},
	} {
		_, err := Open(of(job.Data{Kind: "tensors", Path: c.path}, "Layout", c.layout), c.needs, 1, "", nil)
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%v\nwant %s", err, c.says)
		}
		var at *KeyError
		if errors.As(err, &at) != (c.key != "") || at != nil && at.Key != c.key {
			t.Errorf("%v is of the key %v, want %q", err, at, c.key)
		}
	}

	both := file(2, 3, 3, 3)
	prints := map[string]bool{}
	for layout, want := range map[string][]float32{
		"": {0, 0.5, 1, 1.5}, "nchw": {0, 0.5, 1, 1.5}, "nhwc": {0, 1.5, 3, 4.5},
	} {
		d, err := Open(of(job.Data{Kind: "tensors", Path: both}, "Layout", layout), needs(3, 3), 1, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		s, err := d.Train().Sample(0)
		if err != nil || !reflect.DeepEqual(pictureOf(s).Floats[:4], want) {
			t.Errorf("layout %q begins with %v (%v), want %v", layout, pictureOf(s).Floats[:4], err, want)
		}
		told := slices.ContainsFunc(d.Findings(), func(f Finding) bool { return f.Kind == "layout" })
		if told != (layout == "") {
			t.Errorf("layout %q: findings %v", layout, d.Findings())
		}
		prints[d.Meta().Fingerprint] = true
		in, _, err := ReadInputs(context.Background(), both, needs(3, 3), Tensors{Layout: layout}, d.Meta())
		if err != nil || !slices.Equal(in.Floats(models.Images)[:4], want) {
			t.Errorf("predict with layout %q reads %v (%v)", layout, in.Floats(models.Images)[:4], err)
		}
		d.Close()
	}
	if len(prints) != 2 {
		t.Errorf("%d fingerprints for two readings", len(prints))
	}
	// A file of predict's may have the other layout than the job's data.
	if in, _, err := ReadInputs(context.Background(), file(2, 3, 8, 8), needs(3, 8), Tensors{Layout: "nhwc"}, Meta{ImageStd: [3]float32{1, 1, 1}}); err != nil || in.Floats(models.Images)[1] != 0.5 {
		t.Errorf("predict of another layout: %v", err)
	}
}

// Numbers that no token can be are named by row.
func TestTokensOverflow(t *testing.T) {
	labels := safetensors.Tensor{Name: "labels", Shape: []int{2, 2}, Data: []int64{0, -1, 1, 1}}
	for _, c := range []struct {
		data any
		says string
	}{
		{[]int64{0, 1, 1 << 40, 0}, fmt.Sprintf("instruction_tokens: token 0 of row 1 is %d, outside the vocabulary", int64(1)<<40)},
		{[]int64{0, -5, 1, 0}, "instruction_tokens: token 1 of row 0 is -5"},
		{safetensors.Raw{DType: "U64", Bytes: slices.Concat(make([]byte, 24), []byte{255, 255, 255, 255, 255, 255, 255, 255})}, `tensor "instruction_tokens": the value at [1 1] is 18446744073709551615, beyond int64`},
	} {
		path := writeTensors(t, safetensors.Tensor{Name: "instruction_tokens", Shape: []int{2, 2}, Data: c.data}, labels)
		if _, err := Open(of(job.Data{Kind: "tensors", Path: path}), wantsOf(models.Config{Kind: "encoder"}), 1, "", nil); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%v\nwant %s", err, c.says)
		}
		row := 1
		if c.says[strings.Index(c.says, "row ")+4] == '0' {
			row = 0
		}
		if _, isRaw := c.data.(safetensors.Raw); isRaw {
			continue // the tensor as a whole is not read
		}
		if d, err := Open(of(job.Data{Kind: "tensors", Path: path}, "Skip", []int{row}), wantsOf(models.Config{Kind: "encoder"}), 1, "", nil); err != nil || d.Meta().VocabSize > 2 {
			t.Errorf("with row %d left out: %v", row, err)
		}
	}
}

// A label that no vocabulary would hold does not blame the vocabulary's size, and
// says how none is written here.
func TestLabelOfNoTarget(t *testing.T) {
	tokens := safetensors.Tensor{Name: "instruction_tokens", Shape: []int{2, 2}, Data: []int64{0, 1, 1, 0}}
	for label, says := range map[int64]string{
		-100: "is -100, outside the vocabulary [0, 2); -1 is no target here: write it in place of PyTorch's -100 (ignore_index)",
		-2:   "is -2, outside the vocabulary [0, 2); -1 alone is no target",
		2:    "is 2, outside the vocabulary [0, 2) of model.vocab_size",
	} {
		path := writeTensors(t, tokens, safetensors.Tensor{Name: "labels", Shape: []int{2, 2}, Data: []int64{0, -1, 1, label}})
		_, err := Open(of(job.Data{Kind: "tensors", Path: path}), wantsOf(models.Config{Kind: "encoder", VocabSize: 2}), 1, "", nil)
		var key *KeyError
		if err == nil || !strings.HasSuffix(err.Error(), says) || errors.As(err, &key) != (label > 0) {
			t.Errorf("label %d: %v, of key %v", label, err, key)
		}
	}
}

// Who goes on over faults is told of every row whose tokens are wrong, once.
func TestTokenFaults(t *testing.T) {
	path := writeTensors(t, safetensors.Tensor{Name: "instruction_tokens", Shape: []int{3, 2}, Data: []int64{0, 1, 9, 9, -1, 0}})
	var rows []int
	d, err := OpenContext(context.Background(), of(job.Data{Kind: "tensors", Path: path}), wantsOf(models.Config{Kind: "encoder", VocabSize: 5}), 1, "", nil,
		Watch{Fault: func(f Fault) { rows = append(rows, *f.Sample) }})
	if err != nil {
		t.Fatal(err)
	}
	d.Close()
	if !slices.Equal(rows, []int{1, 2}) {
		t.Errorf("told of the rows %v, want 1 and 2", rows)
	}
}

// A scan hears that it shall end, and tells how far it is.
func TestTensorsScanIsWatched(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	units := map[string]bool{}
	path := "testdata/tensors/f32.safetensors"
	needs := wantsOf(models.Config{Kind: "vit", ImageSize: 4, ActionDim: 2})
	_, err := OpenContext(ctx, of(job.Data{Kind: "tensors", Path: path}), needs, 1, "", nil, Watch{Progress: func(p Progress) {
		if units[p.Unit] = true; p.Unit == "values" {
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) || !units["bytes"] || !units["values"] {
		t.Errorf("%v, told of %v", err, units)
	}
}

// A file that ends in a long run of zeros is told of.
func TestTensorsEndInZeros(t *testing.T) {
	for zeros, want := range map[int]bool{0: false, 10: false, 6144: true} {
		v := make([]float32, 8*768*4)
		for i := range v[:len(v)-zeros*4] {
			v[i] = 0.5
		}
		path := writeTensors(t, safetensors.Tensor{Name: "images", Shape: []int{8, 3, 32, 32}, Data: v}, safetensors.Tensor{Name: "actions", Shape: []int{8, 1}, Data: ramp(8)})
		d, err := Open(of(job.Data{Kind: "tensors", Path: path}), wantsOf(models.Config{Kind: "vit", ImageSize: 32, ActionDim: 1}), 1, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		d.Close()
		if got := slices.ContainsFunc(d.Findings(), func(f Finding) bool { return f.Kind == "zero_tail" }); got != want {
			t.Errorf("%d zeros: %v", 4*4*zeros, d.Findings())
		}
	}
}
