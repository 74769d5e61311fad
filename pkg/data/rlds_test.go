package data

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"image/color"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/pkg/data/internal/tfrecord"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
)

var update = flag.Bool("update", false, "write the fixtures under testdata again")

var vlaNeeds = models.Spec{pictures(3, 8, 8), words(32), acts(7)}

// tinyEpisode is one record of the fixture: steps steps, two cameras of 12×10.
func tinyEpisode(t testing.TB, e, steps int) []byte {
	var b tfrecord.Builder
	var first, last []int64
	var action, state []float32
	var text, cam0, cam1 [][]byte
	for s := 0; s < steps; s++ {
		first, last = append(first, int64(b2i(s == 0))), append(last, int64(b2i(s == steps-1)))
		for d := 0; d < 7; d++ {
			action = append(action, float32(e)*0.1+float32(s)*0.01+float32(d)*0.001)
		}
		state = append(state, 1, 2)
		text = append(text, []byte([]string{"Pick up the red cube.", "push the BLUE ball left", "lift the zebra"}[e%3]))
		cam0 = append(cam0, encodeJPEG(t, testPicture(12, 10, color.RGBA{uint8(20 * e), uint8(40 * s), 200, 255})))
		cam1 = append(cam1, encodePNG(t, testPicture(12, 10, color.RGBA{uint8(20 * e), uint8(40 * s), 0, 255})))
	}
	b.Ints("steps/is_first", first...)
	b.Ints("steps/is_last", last...)
	b.Floats("steps/action", action...)
	b.Floats("steps/observation/state", state...)
	b.Strings("steps/language_instruction", text...)
	b.Strings("steps/observation/image_0", cam0...)
	b.Strings("steps/observation/wrist", cam1...)
	b.Ints("episode_metadata/episode_id", int64(e))
	return b.Record()
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

const tinyFeatures = `{"pythonClassName": "FeaturesDict", "featuresDict": {"features": {
 "steps": {"pythonClassName": "Dataset", "sequence": {"feature": {"featuresDict": {"features": {
  "action": {"tensor": {"shape": {"dimensions": ["7"]}, "dtype": "float32", "encoding": "none"}},
  "is_first": {"tensor": {"shape": {}, "dtype": "bool"}}, "is_last": {"tensor": {"shape": {}, "dtype": "bool"}},
  "language_instruction": {"text": {}, "description": "Language Instruction."},
  "observation": {"featuresDict": {"features": {
   "image_0": {"image": {"shape": {"dimensions": ["10", "12", "3"]}, "dtype": "uint8", "encodingFormat": "jpeg"}},
   "wrist": {"image": {"shape": {"dimensions": ["10", "12", "3"]}, "dtype": "uint8", "encodingFormat": "png"}},
   "state": {"tensor": {"shape": {"dimensions": ["2"]}, "dtype": "float32"}}}}}
 }}}, "length": "-1"}},
 "episode_metadata": {"featuresDict": {"features": {"episode_id": {"tensor": {"shape": {}, "dtype": "int32"}}}}}
}}}
`

// Five episodes of 3, 4, 3, 4, 3 steps in shards of 2 and 3. The split val is
// described, but its file is not there.
const tinyInfo = `{"name": "tiny", "fileFormat": "tfrecord", "version": "1.0.0", "splits": [
 {"name": "train", "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}", "numBytes": "1", "shardLengths": ["2", "3"]},
 {"name": "val", "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}", "numBytes": "1", "shardLengths": ["1"]}]}
`

// tinyRLDS returns the folder of the fixture, as committed.
func tinyRLDS(t testing.TB) string {
	dir := filepath.Join("testdata", "rlds", "tiny", "1.0.0")
	if *update {
		var shard [2][]byte
		for e := 0; e < 5; e++ {
			k := b2i(e >= 2)
			shard[k] = tfrecord.Append(shard[k], tinyEpisode(t, e, 3+e%2))
		}
		write(t, dir, "dataset_info.json", []byte(tinyInfo))
		write(t, dir, "features.json", []byte(tinyFeatures))
		write(t, dir, "tiny-train.tfrecord-00000-of-00002", shard[0])
		write(t, dir, "tiny-train.tfrecord-00001-of-00002", shard[1])
	}
	return dir
}

func write(t testing.TB, dir, name string, b []byte) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

// copyDir copies a fixture so that a test can damage it.
func copyDir(t testing.TB, from string) string {
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

func TestRLDS(t *testing.T) {
	cfg := of(job.Data{Kind: "rlds", Path: filepath.Dir(filepath.Dir(tinyRLDS(t))), Holdout: job.Holdout{Episodes: []int{2}}}, "Camera", "image_0", "ActionNames", []string{"x", "y", "z", "roll", "pitch", "yaw", "gripper"}, "ActionUnits", []string{"m", "m", "m", "rad", "rad", "rad", "open"})
	d, err := Open(cfg, vlaNeeds, 1, ".", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	m := d.Meta()
	if m.Train != 14 || m.Heldout != 3 || d.Train().Len() != 14 || d.Heldout().Len() != 3 {
		t.Errorf("%d + %d samples, want 14 + 3", m.Train, m.Heldout)
	}
	// "zebra" and "lift" are said in the held-out episode alone.
	if want := []string{"<pad>", "<unk>", "ball", "blue", "cube", "left", "pick", "push", "red", "the", "up"}; !reflect.DeepEqual(m.Vocab, want) {
		t.Errorf("vocabulary %q", m.Vocab)
	}
	if want := (models.Spec{pictures(3, 8, 8), models.Known(models.Instruction, 5), acts(7)}); !m.Spec.Equal(want) {
		t.Errorf("spec %+v", m.Spec)
	}
	if m.Actions.Count != 14 || m.Actions.Names[6] != "gripper" || m.Actions.Units[5] != "rad" || m.Actions.Mode != MeanStd {
		t.Errorf("statistics %+v", m.Actions)
	}
	s, err := d.Train().Sample(3) // episode 1 step 0
	if err != nil {
		t.Fatal(err)
	}
	if s.ID != 3 || !reflect.DeepEqual(tokensOf(s), []int32{7, 9, 3, 2, 5}) || !strings.Contains(s.Origin, "00000-of-00002 episode 1 step 0") {
		t.Errorf("sample %d %v %s", s.ID, tokensOf(s), s.Origin)
	}
	for i, v := range actionOf(s) {
		if want := 0.1 + float64(i)*0.001; math.Abs(float64(v)-want) > 1e-6 {
			t.Errorf("action %v", actionOf(s))
		}
	}
	img, err := decodeImage(pictureOf(s).Encoded)
	if err != nil || img.H != 10 || img.W != 12 {
		t.Error(img.H, img.W, err)
	}
	h, err := d.Heldout().Sample(0)
	if err != nil || h.ID != 7 || !reflect.DeepEqual(tokensOf(h), []int32{1, 9, 1, 0, 0}) || !strings.Contains(h.Origin, "00001-of-00002 episode 2 step 0") {
		t.Error(h.ID, tokensOf(h), h.Origin, err)
	}

	// The other camera, by its whole name, is another fingerprint and other pictures.
	put(&cfg, "Camera", "steps/observation/wrist")
	w, err := Open(cfg, vlaNeeds, 1, ".", nil)
	if err != nil {
		t.Fatal(err)
	}
	ws, err := w.Train().Sample(3)
	if err != nil || bytes.Equal(pictureOf(ws).Encoded, pictureOf(s).Encoded) || w.Meta().Fingerprint == m.Fingerprint {
		t.Error("the camera does not matter", err)
	}

	// A checkpoint's Meta: through JSON, then applied.
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var kept Meta
	if err := json.Unmarshal(b, &kept); err != nil || !reflect.DeepEqual(kept, m) {
		t.Fatalf("through JSON: %+v, want %+v, %v", kept, m, err)
	}
	if _, err := Open(cfg, vlaNeeds, 1, ".", &kept); !errors.Is(err, ErrOtherData) {
		t.Error(err)
	}
	put(&cfg, "Camera", "image_0")
	again, err := Open(cfg, vlaNeeds, 99, ".", &kept)
	if err != nil || !reflect.DeepEqual(again.Meta(), m) {
		t.Error(err)
	}
	cfg.Holdout = job.Holdout{}
	if _, err := Open(cfg, vlaNeeds, 1, ".", &kept); !errors.Is(err, ErrOtherData) {
		t.Error(err)
	}
	kept.Fingerprint = "" // on purpose
	other, err := Open(cfg, vlaNeeds, 1, ".", &kept)
	if err != nil || other.Meta().Train != 17 || !reflect.DeepEqual(other.Meta().Actions, m.Actions) || !reflect.DeepEqual(other.Meta().Vocab, m.Vocab) {
		t.Error(err)
	}
}

func TestRLDSBadInput(t *testing.T) {
	src := tinyRLDS(t)
	shard0, shard1 := "tiny-train.tfrecord-00000-of-00002", "tiny-train.tfrecord-00001-of-00002"
	replaceIn := func(name, old, new string) func(*testing.T, string, *job.Data, *models.Spec) {
		return func(t *testing.T, dir string, _ *job.Data, _ *models.Spec) {
			b, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil || !strings.Contains(string(b), old) {
				t.Fatal(old, err)
			}
			write(t, dir, name, []byte(strings.ReplaceAll(string(b), old, new)))
		}
	}
	records := func(r ...[]byte) func(*testing.T, string, *job.Data, *models.Spec) {
		return func(t *testing.T, dir string, _ *job.Data, _ *models.Spec) {
			var file []byte
			for _, x := range r {
				file = tfrecord.Append(file, x)
			}
			write(t, dir, shard0, file)
		}
	}
	episode := func(f func(b *tfrecord.Builder)) []byte {
		var b tfrecord.Builder
		b.Ints("steps/is_first", 1, 0)
		f(&b)
		return b.Record()
	}
	text := func(b *tfrecord.Builder) { b.Strings("steps/language_instruction", []byte("a"), []byte("a")) }
	act := func(b *tfrecord.Builder) { b.Floats("steps/action", make([]float32, 14)...) }
	for name, c := range map[string]struct {
		break_ func(t *testing.T, dir string, cfg *job.Data, n *models.Spec)
		want   []string
	}{
		"no folder":      {func(_ *testing.T, dir string, cfg *job.Data, _ *models.Spec) { cfg.Path = dir + "/nowhere" }, []string{"nowhere"}},
		"not a data set": {func(t *testing.T, _ string, cfg *job.Data, _ *models.Spec) { cfg.Path = t.TempDir() }, []string{"no dataset_info.json"}},
		"no path":        {func(_ *testing.T, _ string, cfg *job.Data, _ *models.Spec) { cfg.Path = "" }, []string{"data.path: is missing; data.kind rlds reads files"}},
		"two versions": {func(t *testing.T, dir string, cfg *job.Data, _ *models.Spec) {
			cfg.Path = t.TempDir()
			write(t, cfg.Path, "1.0.0/dataset_info.json", nil)
			write(t, cfg.Path, "2.0.0/dataset_info.json", nil)
		}, []string{"several", "2.0.0"}},
		"info is not JSON":  {replaceIn("dataset_info.json", `"splits"`, `splits`), []string{"dataset_info.json"}},
		"features not JSON": {replaceIn("features.json", `"action"`, `action`), []string{"features.json"}},
		"no camera":         {func(_ *testing.T, _ string, cfg *job.Data, _ *models.Spec) { put(cfg, "Camera", "") }, []string{"data.camera is not set", "image_0, wrist"}},
		"wrong camera":      {func(_ *testing.T, _ string, cfg *job.Data, _ *models.Spec) { put(cfg, "Camera", "image_9") }, []string{`"image_9"`, "image_0, wrist"}},
		"wrong split":       {func(_ *testing.T, _ string, cfg *job.Data, _ *models.Spec) { put(cfg, "Split", "test") }, []string{`"test"`, "train, val"}},
		"split not there":   {func(_ *testing.T, _ string, cfg *job.Data, _ *models.Spec) { put(cfg, "Split", "val") }, []string{"tiny-val.tfrecord-00000-of-00001", "are all there: train"}},
		"no dataset":        {func(_ *testing.T, _ string, cfg *job.Data, _ *models.Spec) { put(cfg, "Split", "train[") }, []string{`data.split is "train["`, "train[:90%]"}},
		"shard not there": {func(t *testing.T, dir string, _ *job.Data, _ *models.Spec) {
			if err := os.Remove(filepath.Join(dir, shard1)); err != nil {
				t.Fatal(err)
			}
		}, []string{shard1}},
		"template leaves the folder": {replaceIn("dataset_info.json", "{DATASET}-", "../{DATASET}-"), []string{"filepathTemplate", "not a plain name"}},
		"unknown template":           {replaceIn("dataset_info.json", "{DATASET}", "{WHAT}"), []string{"filepathTemplate"}},
		"shardLengths wrong":         {replaceIn("dataset_info.json", `["2", "3"]`, `["2", "4"]`), []string{shard1, "has 3 episodes", "says 4"}},
		"shardLengths nonsense":      {replaceIn("dataset_info.json", `["2", "3"]`, `["2", "-3"]`), []string{`shardLengths[1]`}},
		"other format":               {replaceIn("dataset_info.json", `"tfrecord"`, `"riegeli"`), []string{"riegeli"}},
		"action declared as int":     {replaceIn("features.json", `["7"]}, "dtype": "float32"`, `["7"]}, "dtype": "int64"`), []string{"steps/action", "float32 values, expected int64"}},
		"action is packed":           {replaceIn("features.json", `["7"]}, "dtype": "float32", "encoding": "none"`, `["7"]}, "dtype": "float32", "encoding": "zlib"`), []string{"steps/action is a tensor of float32 [7] in the encoding zlib, which is not read"}},
		"action of other shape":      {replaceIn("features.json", `["7"]`, `["7", "2"]`), []string{"[7 2]"}},
		"no action":                  {replaceIn("features.json", `"action"`, `"actions"`), []string{"there is no steps/action; set data.action to features of numbers: actions, is_first"}},
		"no instruction":             {replaceIn("features.json", `"language_instruction"`, `"goal"`), []string{"no instruction", "steps/goal"}},
		"action_dim":                 {func(_ *testing.T, _ string, _ *job.Data, n *models.Spec) { n.Find(models.Actions).Shape[0] = 6 }, []string{"7 dimensions", "action_dim is 6"}},
		"max_len":                    {func(_ *testing.T, _ string, _ *job.Data, n *models.Spec) { n.Find(models.Instruction).Max = 4 }, []string{"up to 5 tokens", "max_len is 4"}},
		"vocab_size":                 {func(_ *testing.T, _ string, _ *job.Data, n *models.Spec) { n.Find(models.Instruction).Vocab = 5 }, []string{"vocab_size is 5"}},
		"labels": {func(_ *testing.T, _ string, _ *job.Data, n *models.Spec) {
			*n = append(*n, models.Known(models.Labels, 0))
		}, []string{"labels"}},
		"bad data CRC": {func(t *testing.T, dir string, _ *job.Data, _ *models.Spec) {
			b, _ := os.ReadFile(filepath.Join(dir, shard1))
			b[len(b)-100] ^= 1
			write(t, dir, shard1, b)
		}, []string{shard1 + ": record 2 at byte ", "checksum of its"}},
		"bad length CRC": {func(t *testing.T, dir string, _ *job.Data, _ *models.Spec) {
			b, _ := os.ReadFile(filepath.Join(dir, shard0))
			b[2] ^= 1
			write(t, dir, shard0, b)
		}, []string{shard0 + ": record 0 at byte 0", "checksum of its length"}},
		"truncated": {func(t *testing.T, dir string, _ *job.Data, _ *models.Spec) {
			b, _ := os.ReadFile(filepath.Join(dir, shard0))
			write(t, dir, shard0, b[:len(b)-9])
		}, []string{shard0 + ": record 1 at byte ", "truncated"}},
		"not an Example":       {records([]byte{0x0a, 0x7f}, nil), []string{"record 0 at byte 0", "tf.train.Example"}},
		"no is_first":          {records(nil, nil), []string{"record 0", "steps/is_first is missing"}},
		"action missing":       {records(episode(text), nil), []string{"steps/action is missing"}},
		"action short":         {records(episode(func(b *tfrecord.Builder) { text(b); b.Floats("steps/action", 1, 2, 3) }), nil), []string{"3 values, expected 14"}},
		"action of other type": {records(episode(func(b *tfrecord.Builder) { text(b); b.Ints("steps/action", 1) }), nil), []string{"steps/action", "int64 values, expected float32"}},
		"action NaN": {records(episode(func(b *tfrecord.Builder) {
			text(b)
			a := make([]float32, 14)
			a[9] = float32(math.NaN())
			b.Floats("steps/action", a...)
		}), nil), []string{"step 1 has NaN in dimension 2"}},
		"text short":  {records(episode(func(b *tfrecord.Builder) { act(b); b.Strings("steps/language_instruction", []byte("a")) }), nil), []string{"1 values for 2 steps"}},
		"no pictures": {records(episode(func(b *tfrecord.Builder) { act(b); text(b) }), nil), []string{"steps/observation/image_0 is missing"}},
		"not a picture": {records(episode(func(b *tfrecord.Builder) {
			act(b)
			text(b)
			b.Strings("steps/observation/image_0", []byte("xx"), nil)
		}), nil), []string{"steps/observation/image_0: step 0", "neither PNG nor JPEG"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := copyDir(t, src)
			cfg, needs := of(job.Data{Kind: "rlds", Path: dir}, "Camera", "image_0"), vlaNeeds.Clone()
			c.break_(t, dir, &cfg, &needs)
			_, err := Open(cfg, needs, 1, "", nil)
			for _, w := range c.want {
				if err == nil || !strings.Contains(err.Error(), w) {
					t.Errorf("got %v, want %q in it", err, w)
				}
			}
		})
	}
}

// A picture whose pixels do not decode is found when it is used, and named. A
// file that changes while it is open is found too.
func TestRLDSBrokenPixels(t *testing.T) {
	dir := copyDir(t, tinyRLDS(t))
	pic := encodePNG(t, testPicture(9, 9, color.RGBA{1, 2, 3, 255}))
	pic[len(pic)/2] ^= 0xff
	var b tfrecord.Builder
	b.Ints("steps/is_first", 1)
	b.Floats("steps/action", make([]float32, 7)...)
	b.Strings("steps/language_instruction", []byte("go"))
	b.Strings("steps/observation/image_0", pic)
	file := tfrecord.Append(tfrecord.Append(nil, b.Record()), tinyEpisode(t, 0, 2))
	name := "tiny-train.tfrecord-00000-of-00002"
	write(t, dir, name, file)
	d, err := Open(of(job.Data{Kind: "rlds", Path: dir}, "Camera", "image_0"), vlaNeeds, 1, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewCollator(d.Meta())
	if err != nil {
		t.Fatal(err)
	}
	s, err := d.Train().Sample(0)
	if err != nil {
		t.Fatal(err)
	}
	if err = c.Collate([]Sample{s}, models.NewBatch(1, d.Meta().Spec)); err == nil || !strings.Contains(err.Error(), name+" episode 0 step 0") || !strings.Contains(err.Error(), "does not decode") {
		t.Error(err)
	}
	at := bytes.LastIndex(file, []byte("\xff\xd8\xff")) + 20
	file[at] ^= 1
	write(t, dir, name, file)
	if _, err = d.Train().Sample(2); err == nil || !strings.Contains(err.Error(), "the file has changed") {
		t.Error(err)
	}
}

func FuzzRLDS(f *testing.F) {
	f.Add(tinyEpisode(f, 0, 2))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := &rldsScan{o: &Opening{Context: context.Background()}, files: []string{"x"}, pictures: make([][]picture, 2),
			fields: rldsFields{cameras: []string{"steps/observation/image_0", "steps/observation/wrist"}, texts: []rldsText{{name: rldsTexts[0]}}, vectors: []rldsVector{{models.Actions, []rldsPart{{rldsAction, 7, false}}}}}}
		s.table.float(models.Actions).dim = 7
		if err := s.episode(b, 12); err != nil {
			return
		}
		n := len(s.table.episode)
		if len(s.table.float(models.Actions).rows) != 7*n || len(s.table.text) != n || len(s.pictures[0]) != n || len(s.pictures[1]) != n {
			t.Fatal("steps differ in number")
		}
		for _, p := range slices.Concat(s.pictures...) {
			if p.off < 12 || p.off+int64(p.len) > 12+int64(len(b)) {
				t.Fatal("a picture lies outside the record")
			}
		}
	})
}
