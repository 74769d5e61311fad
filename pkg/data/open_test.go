package data

import (
	"encoding/json"
	"errors"
	"fmt"
	"image/color"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
)

// collateAll runs every sample of both splits through the wire and the
// collator, which is what training does to them.
func collateAll(t *testing.T, d Dataset) {
	t.Helper()
	c, err := NewCollator(d.Meta())
	if err != nil {
		t.Fatal(err)
	}
	b := models.NewBatch(1, d.Meta().Spec)
	for _, src := range []Source{d.Train(), d.Heldout()} {
		for i := 0; i < src.Len(); i++ {
			s, err := src.Sample(i)
			if err != nil {
				t.Fatal(err)
			}
			_, _, wire, err := DecodeSamples(EncodeSamples(nil, 0, 0, []Sample{s}))
			if err != nil || !reflect.DeepEqual(wire[0], s) {
				t.Fatalf("sample %d changes on the wire: %v", i, err)
			}
			if err := c.Collate(wire, b); err != nil {
				t.Fatal(err)
			}
			for j, v := range b.Ints(models.Instruction) {
				if v < 0 || int(v) >= d.Meta().VocabSize {
					t.Fatalf("sample %d token %d is %d", i, j, v)
				}
			}
		}
	}
}

type errorCase struct {
	change func(cfg *job.Data, n *models.Spec)
	want   []string
}

func checkErrors(t *testing.T, cfg job.Data, needs models.Spec, cases map[string]errorCase) {
	t.Helper()
	for name, c := range cases {
		cfg, needs := cfg, needs.Clone()
		c.change(&cfg, &needs)
		d, err := Open(cfg, needs, 1, "", nil)
		if d != nil {
			d.Close()
		}
		for _, w := range c.want {
			if err == nil || !strings.Contains(err.Error(), w) {
				t.Errorf("%s: got %v, want %q in it", name, err, w)
			}
		}
	}
}

func TestCopy(t *testing.T) {
	cfg := of(job.Data{Kind: "copy", Holdout: job.Holdout{Fraction: 0.1}}, "Episodes", 50, "SeqLen", 6)
	needs := wantsOf(models.Config{Kind: "encoder", VocabSize: 9, MaxLen: 6})
	d, err := Open(cfg, needs, 3, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	m := d.Meta()
	if m.Train != 45 || m.Heldout != 5 || m.VocabSize != 9 || !m.Spec.Equal(models.Spec{models.Known(models.Instruction, 6), models.Known(models.Labels, 6)}) || m.Actions != nil {
		t.Errorf("%+v", m)
	}
	collateAll(t, d)
	count := map[int32]int{}
	for i := 0; i < 45; i++ {
		s, _ := d.Train().Sample(i)
		again, _ := d.Train().Sample(i)
		if !reflect.DeepEqual(s, again) || !reflect.DeepEqual(tokensOf(s), targetsOf(s)) {
			t.Fatal("a sample is not a pure function, or labels are not the tokens")
		}
		for _, x := range tokensOf(s) {
			count[x]++
		}
	}
	if len(count) != 8 || count[0] != 0 {
		t.Errorf("tokens seen: %v, want 1 to 8", count)
	}
	if other, _ := Open(cfg, needs, 4, "", nil); other.Meta().Fingerprint == m.Fingerprint {
		t.Error("the seed is not in the fingerprint")
	}
	if _, err := Open(cfg, needs, 4, "", &m); !errors.Is(err, ErrOtherData) {
		t.Error(err)
	}
	checkErrors(t, cfg, needs, map[string]errorCase{
		"kind":        {func(c *job.Data, n *models.Spec) { c.Kind, c.Options = "csv", nil }, []string{`"csv"`, "tabletop, copy, tensors, rlds, lerobot, folder"}},
		"episodes":    {func(c *job.Data, n *models.Spec) { put(c, "Episodes", -1) }, []string{"data.episodes: -1 is too small"}},
		"seq_len":     {func(c *job.Data, n *models.Spec) { put(c, "SeqLen", -2) }, []string{"data.seq_len: -2 is too small"}},
		"max_len":     {func(c *job.Data, n *models.Spec) { put(c, "SeqLen", 7) }, []string{"data.seq_len: 7 is longer than model.max_len 6"}},
		"vocabulary":  {func(c *job.Data, n *models.Spec) { n.Find(models.Instruction).Vocab = 1 }, []string{"model.vocab_size: 1 is too small; the copy task needs at least 2 words"}},
		"other model": {func(c *job.Data, n *models.Spec) { *n = wantsOf(models.Config{Kind: "vla"}) }, []string{"images"}},
		"holdout":     {func(c *job.Data, n *models.Spec) { c.Holdout.Fraction = 2 }, []string{"holdout.fraction"}},
	})
}

func TestTabletop(t *testing.T) {
	cfg := of(job.Data{Kind: "tabletop", Holdout: job.Holdout{Fraction: 0.25}}, "Episodes", 40)
	needs := wantsOf(models.Config{Kind: "vla", ImageSize: 24, MaxLen: 16, ActionDim: 7})
	d, err := Open(cfg, needs, 3, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	m := d.Meta()
	if m.Train != 120 || m.Heldout != 40 || !m.Spec.Equal(models.Spec{pictures(3, 24, 24), models.Known(models.Instruction, 12), acts(7)}) || m.VocabSize != len(m.Vocab) || m.Actions.Count != 120 {
		t.Errorf("%+v", m)
	}
	collateAll(t, d)
	// Normalised training actions have mean 0 and deviation 1.
	var sum, sq [7]float64
	for i := 0; i < m.Train; i++ {
		s, err := d.Train().Sample(i)
		if err != nil {
			t.Fatal(err)
		}
		m.Actions.Normalize(actionOf(s), actionOf(s))
		for k, v := range actionOf(s) {
			sum[k] += float64(v) / 120
			sq[k] += float64(v*v) / 120
		}
		for _, tok := range tokensOf(s) {
			if tok == unknownToken {
				t.Fatal("an instruction has a word outside the vocabulary")
			}
		}
	}
	for k := range sum {
		if math.Abs(sum[k]) > 1e-5 || math.Abs(sq[k]-1) > 1e-4 {
			t.Errorf("dimension %d: mean %v, mean square %v", k, sum[k], sq[k])
		}
	}
	// No episode is on both sides.
	seen := map[uint64]bool{}
	for i := 0; i < 120; i++ {
		s, _ := d.Train().Sample(i)
		seen[s.ID/4] = true
	}
	for i := 0; i < 40; i++ {
		if s, _ := d.Heldout().Sample(i); seen[s.ID/4] {
			t.Fatalf("episode %d is in both splits", s.ID/4)
		}
	}
	// On another machine, with the checkpoint's Meta: the same numbers.
	b, _ := json.Marshal(m)
	var kept Meta
	if err := json.Unmarshal(b, &kept); err != nil {
		t.Fatal(err)
	}
	again, err := Open(cfg, needs, 3, "", &kept)
	if err != nil || !reflect.DeepEqual(again.Meta(), m) {
		t.Fatal(err)
	}
	x, _ := d.Heldout().Sample(7)
	y, _ := again.Heldout().Sample(7)
	if !reflect.DeepEqual(x, y) {
		t.Error("the same Meta gives other samples")
	}
	vit, err := Open(cfg, wantsOf(models.Config{Kind: "vit", ImageSize: 24}), 3, "", nil)
	if err != nil || vit.Meta().Spec.Len(models.Instruction, 0) != 0 {
		t.Error(err)
	}
	collateAll(t, vit)
	checkErrors(t, cfg, needs, map[string]errorCase{
		"size":       {func(c *job.Data, n *models.Spec) { n.Find(models.Images).Shape = []int{3, 8, 8} }, []string{"8×8"}},
		"channels":   {func(c *job.Data, n *models.Spec) { n.Find(models.Images).Shape[0] = 2 }, []string{"channels"}},
		"action_dim": {func(c *job.Data, n *models.Spec) { n.Find(models.Actions).Shape[0] = 4 }, []string{"action_dim is 4"}},
		"max_len":    {func(c *job.Data, n *models.Spec) { n.Find(models.Instruction).Max = 5 }, []string{"max_len is 5"}},
		"max_tokens": {func(c *job.Data, n *models.Spec) { put(c, "MaxTokens", -1) }, []string{"data.max_tokens: -1 is too small"}},
		"vocab_size": {func(c *job.Data, n *models.Spec) { n.Find(models.Instruction).Vocab = 10 }, []string{"vocab_size is 10"}},
		"normalize":  {func(c *job.Data, n *models.Spec) { put(c, "Normalize", "std") }, []string{`"std"`, "mean_std"}},
		"features":   {func(c *job.Data, n *models.Spec) { *n = append(*n, models.Known(models.VisionFeatures, 0, 0)) }, []string{"features"}},
	})
}

func writeTensors(t *testing.T, tensors ...safetensors.Tensor) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "data.safetensors")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := safetensors.Write(f, tensors, nil); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func ramp(n int) []float32 {
	out := make([]float32, n)
	for i := range out {
		out[i] = float32(i) * 0.5
	}
	return out
}

func TestTensors(t *testing.T) {
	images := safetensors.Tensor{Name: "images", Shape: []int{4, 3, 2, 2}, Data: ramp(48)}
	tokens := safetensors.Tensor{Name: "instruction_tokens", Shape: []int{4, 3}, Data: []int64{1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 0}}
	actions := safetensors.Tensor{Name: "actions", Shape: []int{4, 2}, Data: ramp(8)}
	vision := safetensors.Tensor{Name: "vision_features", Shape: []int{4, 5, 2}, Data: ramp(40)}
	language := safetensors.Tensor{Name: "language_features", Shape: []int{4, 2, 3}, Data: ramp(24)}
	cfg := of(job.Data{Kind: "tensors", Path: writeTensors(t, images, tokens, actions, vision, language)})
	vla := wantsOf(models.Config{Kind: "vla", ImageSize: 2, VocabSize: 10, ActionDim: 2})
	d, err := Open(cfg, vla, 1, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	m := d.Meta()
	if !m.Spec.Equal(models.Spec{pictures(3, 2, 2), models.Known(models.Instruction, 3), acts(2)}) || m.Train != 4 || m.VocabSize != 10 || m.Actions.Mode != None {
		t.Errorf("%+v", m)
	}
	collateAll(t, d)
	s, err := d.Train().Sample(2)
	if err != nil || !reflect.DeepEqual(pictureOf(s).Floats, ramp(48)[24:36]) || !reflect.DeepEqual(tokensOf(s), []int32{7, 8, 9}) || !reflect.DeepEqual(actionOf(s), []float32{2, 2.5}) {
		t.Error(s, err)
	}
	again, err := Open(cfg, vla, 1, "", &m)
	if err != nil || !reflect.DeepEqual(again.Meta(), m) {
		t.Error(again, err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if _, err := d.Train().Sample(0); err == nil {
		t.Error("a sample of a closed file")
	}

	cross, err := Open(cfg, wantsOf(models.Config{Kind: "cross_modal", VisionDim: 2, LanguageDim: 3, ActionDim: 2}), 1, "", nil)
	if err != nil || !cross.Meta().Spec.Equal(models.Spec{models.Known(models.VisionFeatures, 5, 2), models.Known(models.LanguageFeatures, 2, 3), acts(2)}) {
		t.Fatal(err)
	}
	collateAll(t, cross)
	if s, _ := cross.Train().Sample(1); !reflect.DeepEqual(s.Values[0].Floats, ramp(40)[10:20]) || !reflect.DeepEqual(s.Values[1].Floats, ramp(24)[6:12]) {
		t.Error(s)
	}
	enc, err := Open(cfg, wantsOf(models.Config{Kind: "encoder"}), 1, "", nil)
	if err != nil || enc.Meta().VocabSize != 10 || !enc.Meta().Spec.Has(models.Labels) {
		t.Fatal(err)
	}
	collateAll(t, enc)

	// Rows of one episode stay together.
	eps := safetensors.Tensor{Name: "episode", Shape: []int{4}, Data: []int64{7, 9, 7, 9}}
	c2 := cfg
	c2.Path, c2.Holdout = writeTensors(t, images, tokens, actions, eps), job.Holdout{Episodes: []int{9}}
	put(&c2, "Normalize", MinMax)
	held, err := Open(c2, vla, 1, "", nil)
	if err != nil || held.Meta().Heldout != 2 || held.Meta().Actions.Max[0] != 2 {
		t.Fatal(err)
	}
	if s, _ := held.Heldout().Sample(1); s.ID != 3 {
		t.Error(s.ID)
	}

	with := func(tensors ...safetensors.Tensor) func(*job.Data, *models.Spec) {
		p := writeTensors(t, tensors...)
		return func(c *job.Data, _ *models.Spec) { c.Path = p }
	}
	bad := func(x safetensors.Tensor, shape []int, data any) safetensors.Tensor {
		x.Shape, x.Data = shape, data
		return x
	}
	cut := writeTensors(t, images, tokens, actions)
	b, _ := os.ReadFile(cut)
	if err := os.WriteFile(cut, b[:len(b)-5], 0o644); err != nil {
		t.Fatal(err)
	}
	nan := ramp(8)
	nan[3] = float32(math.NaN())
	checkErrors(t, cfg, vla, map[string]errorCase{
		"no file":     {func(c *job.Data, _ *models.Spec) { c.Path = "/nowhere/x.safetensors" }, []string{"/nowhere/x.safetensors"}},
		"truncated":   {func(c *job.Data, _ *models.Spec) { c.Path = cut }, []string{cut}},
		"no images":   {with(tokens, actions), []string{"needs the tensor images", "actions, instruction_tokens"}},
		"no tokens":   {with(images, actions), []string{"needs the tensor instruction_tokens"}},
		"no actions":  {with(images, tokens), []string{"needs the tensor actions"}},
		"dtype":       {with(bad(images, []int{4, 3, 2, 2}, safetensors.Raw{DType: "F8_E4M3", Bytes: make([]byte, 48)}), tokens, actions), []string{"images is F8_E4M3, expected one of F32, F16, ", "save it as float32"}},
		"token dtype": {with(images, bad(tokens, []int{4, 3}, make([]float32, 12)), actions), []string{"instruction_tokens is F32, expected one of I64, I32, ", "save it as int64"}},
		"rank":        {with(bad(images, []int{4, 12}, ramp(48)), tokens, actions), []string{"images is F32 [4 12]", "[any, 3, 2, 2]"}},
		"size":        {func(c *job.Data, n *models.Spec) { n.Find(models.Images).Shape = []int{3, 4, 4} }, []string{"images is F32 [4 3 2 2], that is pictures of 2×2, and model.image_size is 4"}},
		"rows":        {with(images, tokens, bad(actions, []int{3, 2}, ramp(6))), []string{"actions has 3 rows, the tensors before it 4"}},
		"no rows":     {with(bad(images, []int{0, 3, 2, 2}, ramp(0)), tokens, actions), []string{"images has no rows: its shape is [0 3 2 2]"}},
		"width":       {func(c *job.Data, n *models.Spec) { n.Find(models.Actions).Shape[0] = 7 }, []string{"actions is F32 [4 2], that is 2 dimensions, and model.action_dim is 7"}},
		"vocabulary":  {func(c *job.Data, n *models.Spec) { n.Find(models.Instruction).Vocab = 6 }, []string{"token 2 of row 1 is 6", "[0, 6)"}},
		"negative":    {with(images, bad(tokens, []int{4, 3}, []int64{0, 0, 0, 0, -1, 0, 0, 0, 0, 0, 0, 0}), actions), []string{"token 1 of row 1 is -1"}},
		"max_len":     {func(c *job.Data, n *models.Spec) { n.Find(models.Instruction).Max = 2 }, []string{"max_len is 2"}},
		"NaN":         {with(images, tokens, bad(actions, []int{4, 2}, nan)), []string{"NaN"}},
		"vision width": {func(c *job.Data, n *models.Spec) {
			*n = models.Spec{models.Known(models.VisionFeatures, 0, 8), models.Known(models.LanguageFeatures, 0, 0)}
		}, []string{"vision_features is F32 [4 5 2]"}},
	})
}

// writeFolder makes a folder of n pictures and lines.
func writeFolder(t *testing.T, lines ...string) string {
	t.Helper()
	dir := t.TempDir()
	for i := 0; i < 3; i++ {
		write(t, dir, fmt.Sprintf("img/%d.png", i), encodePNG(t, testPicture(10, 8, color.RGBA{uint8(90 * i), 0, 0, 255})))
	}
	write(t, dir, "img/3.jpg", encodeJPEG(t, testPicture(10, 8, color.RGBA{9, 0, 200, 255})))
	write(t, dir, ManifestName, []byte(strings.Join(lines, "\n")))
	return dir
}

var folderLines = []string{
	`{"image": "img/0.png", "instruction": "open the box", "action": [0.5, 1], "episode": 10}`,
	`{"image": "img/1.png", "instruction": "close the box", "action": [1.5, 1], "episode": 20, "note": "other keys are ignored"}`,
	``,
	`{"image": "img/2.png", "instruction": "open the box", "action": [2.5, 1], "episode": 10}`,
	`{"image": "img/3.jpg", "instruction": "Open the LID!", "action": [-1e-2, 0], "episode": 30}`,
}

func TestFolder(t *testing.T) {
	dir := writeFolder(t, folderLines...)
	cfg := of(job.Data{Kind: "folder", Path: filepath.Base(dir), Holdout: job.Holdout{Episodes: []int{30}}}, "Normalize", None)
	needs := models.Spec{pictures(3, 6, 6), words(0), acts(0)}
	d, err := Open(cfg, needs, 1, filepath.Dir(dir), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	m := d.Meta()
	if m.Train != 3 || m.Heldout != 1 || m.Spec.Len(models.Actions, 0) != 2 || !reflect.DeepEqual(m.Vocab, []string{"<pad>", "<unk>", "box", "close", "open", "the"}) {
		t.Errorf("%+v", m)
	}
	collateAll(t, d)
	s, err := d.Heldout().Sample(0)
	if err != nil || s.ID != 3 || !reflect.DeepEqual(tokensOf(s), []int32{4, 5, 1}) || !reflect.DeepEqual(actionOf(s), []float32{-0.01, 0}) || !strings.Contains(s.Origin, ManifestName+":5, image ") {
		t.Error(s, err)
	}
	// A changed picture is other data.
	write(t, dir, "img/1.png", encodePNG(t, testPicture(10, 8, color.RGBA{1, 1, 1, 255})))
	if _, err := Open(cfg, needs, 1, filepath.Dir(dir), &m); !errors.Is(err, ErrOtherData) {
		t.Error(err)
	}
	// A picture that goes away while the folder is open.
	os.Remove(filepath.Join(dir, "img/1.png"))
	if _, err := d.Train().Sample(1); err == nil || !strings.Contains(err.Error(), ManifestName+":2") || !strings.Contains(err.Error(), "img/1.png") {
		t.Error(err)
	}
}

func TestFolderBadInput(t *testing.T) {
	good := folderLines[0]
	edit := func(old, new string) []string {
		if !strings.Contains(good, old) {
			t.Fatal(old)
		}
		return []string{good, "", strings.Replace(good, old, new, 1)}
	}
	outside := t.TempDir()
	write(t, outside, "secret.png", encodePNG(t, testPicture(4, 4, color.RGBA{1, 1, 1, 255})))
	for name, c := range map[string]struct {
		lines []string
		want  []string
	}{
		"not JSON":            {edit(`"image"`, `image`), []string{ManifestName + ":3"}},
		"wrong type":          {edit(`[0.5, 1]`, `"left"`), []string{ManifestName + ":3", "action"}},
		"no image":            {edit(`"image"`, `"picture"`), []string{":3", "key image is missing"}},
		"no instruction":      {edit(`"instruction"`, `"text"`), []string{":3", "key instruction is missing"}},
		"no action":           {edit(`"action"`, `"act"`), []string{":3", "key action is missing"}},
		"action width":        {edit(`[0.5, 1]`, `[0.5]`), []string{":3", "1 values, the first line's has 2"}},
		"action range":        {edit(`[0.5, 1]`, `[1e300, 1]`), []string{":3", "float32"}},
		"some episodes":       {edit(`, "episode": 10`, ``), []string{":3", "all or none"}},
		"image not there":     {edit(`img/0.png`, `img/9.png`), []string{":3", `"img/9.png"`}},
		"image is a folder":   {edit(`img/0.png`, `img`), []string{":3", "it is a folder; name a file in it"}},
		"image is no picture": {edit(`img/0.png`, ManifestName), []string{":3", "neither PNG nor JPEG"}},
		"parent":              {edit(`img/0.png`, `../x.png`), []string{":3", "outside the folder"}},
		"deep parent":         {edit(`img/0.png`, `img/../../x.png`), []string{":3", "outside the folder"}},
		"absolute":            {edit(`img/0.png`, `/etc/hostname`), []string{":3", "outside the folder"}},
		"symbolic link":       {edit(`img/0.png`, `link.png`), []string{":3", `"link.png"`, "it is a link to", "outside the data folder"}},
		"empty":               {nil, []string{"has no samples"}},
		"long line":           {[]string{good, strings.Repeat("x", maxManifestLine+1)}, []string{":2", "longer than the 1048576 bytes"}},
	} {
		dir := writeFolder(t, c.lines...)
		if err := os.Symlink(filepath.Join(outside, "secret.png"), filepath.Join(dir, "link.png")); err != nil {
			t.Fatal(err)
		}
		checkErrors(t, of(job.Data{Kind: "folder", Path: dir}), models.Spec{pictures(3, 6, 6), words(0), acts(0)},
			map[string]errorCase{name: {func(*job.Data, *models.Spec) {}, c.want}})
	}
	checkErrors(t, of(job.Data{Kind: "folder", Path: t.TempDir()}), models.Spec{}, map[string]errorCase{"no manifest": {func(*job.Data, *models.Spec) {}, []string{ManifestName}}})
	checkErrors(t, of(job.Data{Kind: "folder", Path: "/nowhere"}), models.Spec{}, map[string]errorCase{"no folder": {func(*job.Data, *models.Spec) {}, []string{"/nowhere"}}})

	// Pixels that do not decode are found by the collator, which names the line.
	dir := writeFolder(t, folderLines...)
	b, _ := os.ReadFile(filepath.Join(dir, "img/2.png"))
	b[len(b)/2] ^= 0xff
	write(t, dir, "img/2.png", b)
	d, err := Open(of(job.Data{Kind: "folder", Path: dir}), models.Spec{pictures(3, 6, 6)}, 1, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	c, _ := NewCollator(d.Meta())
	s, _ := d.Train().Sample(2)
	if err := c.Collate([]Sample{s}, models.NewBatch(1, d.Meta().Spec)); err == nil || !strings.Contains(err.Error(), ManifestName+":4") {
		t.Error(err)
	}
}

func TestMetaCheck(t *testing.T) {
	d, err := Open(of(job.Data{Kind: "tabletop"}, "Episodes", 4), wantsOf(models.Config{Kind: "vla", ImageSize: 16}), 1, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	for want, f := range map[string]func(m *Meta){
		"a size is -1":                  func(m *Meta) { m.Spec.Find(models.Instruction).Shape[0] = -1 },
		"image_std":                     func(m *Meta) { m.ImageStd[1] = 0 },
		"vocab_size is 3":               func(m *Meta) { m.VocabSize = 3 },
		"no statistics":                 func(m *Meta) { m.Actions = nil },
		"mode is":                       func(m *Meta) { m.Actions.Mode = "x" },
		"std has 2 values":              func(m *Meta) { m.Actions.Std = m.Actions.Std[:2] },
		"min of dimension 0":            func(m *Meta) { m.Actions.Min[0] = math.NaN() },
		"7 dimensions for actions of 3": func(m *Meta) { m.Spec.Find(models.Actions).Shape[0] = 3 },
		"6 names and 7 units":           func(m *Meta) { m.Actions.Names = m.Actions.Names[:6] },
		"the checkpoint's data":         func(m *Meta) { m.Spec.Find(models.Images).Shape[1] = 32; m.Fingerprint = "" },
		"no vocabulary":                 func(m *Meta) { m.Vocab = nil; m.Fingerprint = "" },
	} {
		b, _ := json.Marshal(d.Meta())
		var m Meta
		if err := json.Unmarshal(b, &m); err != nil {
			t.Fatal(err)
		}
		f(&m)
		if _, err := Open(of(job.Data{Kind: "tabletop"}, "Episodes", 4), wantsOf(models.Config{Kind: "vla", ImageSize: 16}), 1, "", &m); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
