package data

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"image/color"
	"io/fs"
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

// formEpisode is a record of steps steps whose first action value is 10·e + step.
func formEpisode(t testing.TB, e, steps int) []byte {
	var b tfrecord.Builder
	pic := encodePNG(t, testPicture(8, 8, color.RGBA{uint8(e), 9, 9, 255}))
	var first, flags []int64
	var action, world, grip []float32
	var text, pics [][]byte
	for s := range steps {
		v := float32(10*e + s)
		first, flags = append(first, int64(b2i(s == 0))), append(flags, 0, 1, int64(s))
		action, world, grip = append(action, v, -v), append(world, v, 1, 2), append(grip, 7)
		text, pics = append(text, []byte("go on")), append(pics, pic)
	}
	b.Ints("steps/is_first", first...)
	b.Floats("steps/action", action...)
	b.Floats("steps/action/world_vector", world...)
	b.Floats("steps/action/gripper", grip...)
	b.Ints("steps/action/terminate", flags...)
	b.Strings("steps/language_instruction", text...)
	b.Strings("steps/observation/image", pics...)
	return b.Record()
}

const (
	formTensor = `{"tensor": {"shape": {"dimensions": [%s]}, "dtype": "%s", "encoding": "none"}}`
	textLeaf   = `{"text": {}}`
	stringLeaf = `{"tensor": {"shape": {}, "dtype": "string", "encoding": "none"}}`
)

// formFeatures is a features.json with the given action and instruction.
func formFeatures(action, text string) string {
	return `{"featuresDict": {"features": {"steps": {"sequence": {"feature": {"featuresDict": {"features": {
	"is_first": {"tensor": {"shape": {}, "dtype": "bool"}}, "action": ` + action + `, "language_instruction": ` + text + `,
	"observation": {"featuresDict": {"features": {"image": {"image": {"shape": {"dimensions": ["8", "8", "3"]}, "dtype": "uint8"}}}}}
	}}}}}}}}`
}

var plainAction = fmt.Sprintf(formTensor, `"2"`, "float32")

// formSet writes a data set d of splits, each a list of shards, each a list of
// episodes' numbers of steps. Episodes are numbered through the split.
func formSet(t testing.TB, features string, splits map[string][][]int) string {
	t.Helper()
	dir := t.TempDir()
	var info []string
	for name, shards := range splits {
		var lengths []string
		e := 0
		for i, steps := range shards {
			var file []byte
			for _, n := range steps {
				file = tfrecord.Append(file, formEpisode(t, e, n))
				e++
			}
			write(t, dir, fmt.Sprintf("d-%s.tfrecord-%05d-of-%05d", name, i, len(shards)), file)
			lengths = append(lengths, fmt.Sprintf("%q", fmt.Sprint(len(steps))))
		}
		info = append(info, fmt.Sprintf(`{"name": %q, "shardLengths": [%s]}`, name, strings.Join(lengths, ", ")))
	}
	slices.Sort(info)
	write(t, dir, "dataset_info.json", []byte(`{"name": "d", "fileFormat": "tfrecord", "splits": [`+strings.Join(info, ", ")+`]}`))
	write(t, dir, "features.json", []byte(features))
	return dir
}

var formNeeds = models.Spec{pictures(3, 8, 8), words(32), acts(0)}

// firstActions opens a data set and returns the first action value of each
// training sample, in physical units.
func firstActions(t *testing.T, cfg job.Data) (out []float32, d Dataset) {
	t.Helper()
	put(&cfg, "Normalize", None)
	d, err := Open(cfg, formNeeds, 1, "", nil)
	if err != nil {
		t.Fatalf("%+v: %v", cfg, err)
	}
	t.Cleanup(func() { d.Close() })
	for i := range d.Train().Len() {
		s, err := d.Train().Sample(i)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, actionOf(s)[0])
	}
	return out, d
}

// An instruction declared as a string tensor is the same data as a Text feature.
func TestRLDSStringInstruction(t *testing.T) {
	want, d := firstActions(t, of(job.Data{Kind: "rlds", Path: formSet(t, formFeatures(plainAction, textLeaf), map[string][][]int{"train": {{2, 1}}})}))
	got, s := firstActions(t, of(job.Data{Kind: "rlds", Path: formSet(t, formFeatures(plainAction, stringLeaf), map[string][][]int{"train": {{2, 1}}})}))
	if !reflect.DeepEqual(got, want) || d.Meta().Fingerprint != s.Meta().Fingerprint || !reflect.DeepEqual(s.Meta().Vocab, []string{"<pad>", "<unk>", "go", "on"}) {
		t.Errorf("%v, want %v; vocabulary %q", got, want, s.Meta().Vocab)
	}
}

// All number types that TFDS writes as lists serve as actions.
func TestRLDSActionForms(t *testing.T) {
	dict := func(parts ...string) string {
		return `{"featuresDict": {"features": {` + strings.Join(parts, ", ") + `}}}`
	}
	world, grip, end := `"world_vector": `+fmt.Sprintf(formTensor, `"3"`, "float64"), `"gripper": `+fmt.Sprintf(formTensor, ``, "float16"), `"terminate": `+fmt.Sprintf(formTensor, `3`, "uint8")
	path := formSet(t, formFeatures(dict(world, grip, end), textLeaf), map[string][][]int{"train": {{2}}})
	open := func(action ...string) (Dataset, []float32) {
		d, err := Open(of(job.Data{Kind: "rlds", Path: path}, "Action", action, "Normalize", None), formNeeds, 1, "", nil)
		if err != nil {
			t.Fatal(action, err)
		}
		t.Cleanup(func() { d.Close() })
		s, err := d.Train().Sample(1)
		if err != nil {
			t.Fatal(err)
		}
		return d, actionOf(s)
	}
	d, got := open()
	if want := []float32{7, 0, 1, 1, 1, 1, 2}; !reflect.DeepEqual(got, want) {
		t.Errorf("all parts by name: %v, want %v", got, want)
	}
	if f, want := findingsOf(d, "action_parts"), "steps/action: the action is a dictionary, and all its numbers are taken, by name: gripper (1), terminate (3), world_vector (3); data.action chooses features and their order"; len(f) != 1 || f[0] != want {
		t.Errorf("findings %q, want %q", f, want)
	}
	c, got := open("world_vector", "steps/action/gripper")
	if want := []float32{1, 1, 2, 7}; !reflect.DeepEqual(got, want) || len(findingsOf(c, "action_parts")) != 0 {
		t.Errorf("chosen parts: %v, want %v", got, want)
	}
	if w, _ := open("gripper", "world_vector"); w.Meta().Fingerprint == c.Meta().Fingerprint || w.Meta().Fingerprint == d.Meta().Fingerprint {
		t.Error("the order of the parts is not in the fingerprint")
	}
	if _, got := open("action/terminate"); !reflect.DeepEqual(got, []float32{0, 1, 1}) {
		t.Errorf("whole numbers: %v", got)
	}
	checkErrors(t, of(job.Data{Kind: "rlds", Path: path}), formNeeds, map[string]errorCase{
		"unknown": {func(c *job.Data, _ *models.Spec) { put(c, "Action", []string{"grip"}) }, []string{`data.action has "grip"; the numbers of a step are gripper, terminate, world_vector, is_first`}},
		"twice":   {func(c *job.Data, _ *models.Spec) { put(c, "Action", []string{"gripper", "action/gripper"}) }, []string{"data.action has steps/action/gripper twice"}},
		"picture": {func(c *job.Data, _ *models.Spec) { put(c, "Action", []string{"observation/image"}) }, []string{`data.action has "observation/image", which is a picture`}},
	})
}

func TestRLDSPartsOfSplits(t *testing.T) {
	// train: episodes 0 to 9 of one step in shards of 4, 0, 6; val: 0 and 1.
	path := formSet(t, formFeatures(plainAction, textLeaf), map[string][][]int{"train": {{1, 1, 1, 1}, {}, {1, 1, 1, 1, 1, 1}}, "val": {{1, 1}}})
	prints := map[string]string{}
	for spec, want := range map[string][]float32{
		"train":                   {0, 10, 20, 30, 40, 50, 60, 70, 80, 90},
		"train[:]":                {0, 10, 20, 30, 40, 50, 60, 70, 80, 90},
		"train[0%:100%]":          {0, 10, 20, 30, 40, 50, 60, 70, 80, 90},
		"train[:90%]":             {0, 10, 20, 30, 40, 50, 60, 70, 80},
		"train[90%:]":             {90},
		"train[-10%:]":            {90},
		"train[:25%]":             {0, 10},         // 2.5 is rounded to even, as Python does
		"train[:35%]":             {0, 10, 20, 30}, // 3.5 too
		"train[3:6]":              {30, 40, 50},
		" train[ 3 : 6 ] ":        {30, 40, 50},
		"train[-2:]":              {80, 90},
		"train[:-8]":              {0, 10},
		"train[:1shard]":          {0, 10, 20, 30},
		"train[-1shard:]":         {40, 50, 60, 70, 80, 90},
		"train[8:]+val":           {80, 90, 0, 10},
		"val[1:] + train[:1]":     {10, 0},
		"train[:1]+train[8:]":     {0, 80, 90},
		"train[5:6]+train[8:90%]": {50, 80},
	} {
		got, d := firstActions(t, of(job.Data{Kind: "rlds", Path: path}, "Split", spec))
		if !slices.Equal(got, want) {
			t.Errorf("%q: %v, want %v", spec, got, want)
		}
		key := fmt.Sprint(want)
		if was, ok := prints[key]; ok && was != d.Meta().Fingerprint {
			t.Errorf("%q: another fingerprint than the same episodes by another name", spec)
		}
		prints[key] = d.Meta().Fingerprint
	}
	if len(prints) != 12 {
		t.Errorf("%d kinds of episodes", len(prints))
	}
	// Shards of other parts need not be there.
	os.Remove(filepath.Join(path, "d-train.tfrecord-00002-of-00003"))
	firstActions(t, of(job.Data{Kind: "rlds", Path: path}, "Split", "train[:4]"))
	at := func(spec string) func(*job.Data, *models.Spec) {
		return func(c *job.Data, _ *models.Spec) { put(c, "Split", spec) }
	}
	checkErrors(t, of(job.Data{Kind: "rlds", Path: path}), formNeeds, map[string]errorCase{
		"unknown":   {at("test[:5]"), []string{`data.split is "test[:5]"`, "names the splits train, val"}},
		"grammar":   {at("train[5]"), []string{`data.split is "train[5]"; want the name of a split, or a part of one such as train[:90%]`}},
		"no part":   {at("train+"), []string{`data.split is "train+"`}},
		"empty":     {at("train[:4%]"), []string{`data.split "train[:4%]" has no episodes: it is 0 to 0 of the 10 of split train`}},
		"backwards": {at("train[6:3]"), []string{"has no episodes"}},
		"beyond":    {at("train[:11]"), []string{`data.split "train[:11]": 11 is out of range: split train has 10 episodes`}},
		"percent":   {at("train[:110%]"), []string{"110% is out of range: split train has 100 percent"}},
		"twice":     {at("train[:5]+train[4:]"), []string{"has some episodes of split train twice"}},
		"missing":   {at("train[3:5]"), []string{"split train: 1 of its 2 shards are not in", "d-train.tfrecord-00002-of-00003", "are all there: val"}},
	})
}

// The five lists of shards of the public reports, and their brothers.
func TestRLDSShardLists(t *testing.T) {
	two := func() string {
		return formSet(t, formFeatures(plainAction, textLeaf), map[string][][]int{"train": {{2}, {1}}, "val": {{1}}})
	}
	edit := func(dir, old, new string) {
		b, err := os.ReadFile(filepath.Join(dir, "dataset_info.json"))
		if err != nil || !bytes.Contains(b, []byte(old)) {
			t.Fatal(old, err)
		}
		write(t, dir, "dataset_info.json", bytes.Replace(b, []byte(old), []byte(new), 1))
	}
	rename := func(dir string, names ...string) {
		for i := 0; i < len(names); i += 2 {
			if err := os.Rename(filepath.Join(dir, "d-train.tfrecord-"+names[i]), filepath.Join(dir, "d-train.tfrecord-"+names[i+1])); err != nil {
				t.Fatal(err)
			}
		}
	}
	want, plain := firstActions(t, of(job.Data{Kind: "rlds", Path: two()}))

	numbers := two()
	edit(numbers, `["1", "1"]`, `[1, 1]`)
	stale := two()
	write(t, stale, "d-train.tfrecord-00000-of-00007", nil)
	marked := two()
	edit(marked, `{`, "\ufeff{")
	for name, c := range map[string]struct{ dir, finding string }{
		"numbers":         {numbers, ""},
		"byte order mark": {marked, ""},
		"stale shards":    {stale, "dataset_info.json: d-train.tfrecord-00000-of-00007 is not used: 2 shards of split train are listed (shardLengths); remove them if they are left"},
	} {
		got, d := firstActions(t, of(job.Data{Kind: "rlds", Path: c.dir}))
		if !slices.Equal(got, want) || d.Meta().Fingerprint != plain.Meta().Fingerprint {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
		if f := findingsOf(d, "unused_shards"); c.finding == "" && len(f) > 0 || c.finding != "" && (len(f) != 1 || !strings.Contains(f[0], c.finding)) {
			t.Errorf("%s: findings %q, want %q", name, f, c.finding)
		}
	}

	unknown := two()
	edit(unknown, `["1", "1"]`, `["Unknown"]`)
	null := two()
	edit(null, `["1", "1"]`, `[null, "1"]`)
	more := two()
	rename(more, "00000-of-00002", "00000-of-00003", "00001-of-00002", "00001-of-00003")
	write(t, more, "d-train.tfrecord-00002-of-00003", nil)
	hole := two()
	rename(hole, "00001-of-00002", "00002-of-00002")
	gone := two()
	os.Remove(filepath.Join(gone, "d-train.tfrecord-00000-of-00002"))
	for name, c := range map[string]struct {
		dir  string
		want []string
	}{
		"unknown":          {unknown, []string{`split train: shardLengths[0] is "Unknown", expected a number of episodes: the writer of the data set did not finish`}},
		"null":             {null, []string{`shardLengths[0] is "null"`}},
		"more than listed": {more, []string{"lists 2 shards of split train (shardLengths), the files in the folder are of 3 (d-train.tfrecord-00000-of-00003, ", "of different versions"}},
		"a hole":           {hole, []string{"split train: 1 of its 2 shards are not in", ": d-train.tfrecord-00001-of-00002; d-train.tfrecord-00002-of-00002 is there and not listed", "splits whose files are all there: val)"}},
		"the first gone":   {gone, []string{"d-train.tfrecord-00000-of-00002", "are all there: val"}},
	} {
		_, err := Open(of(job.Data{Kind: "rlds", Path: c.dir}), formNeeds, 1, "", nil)
		for _, w := range c.want {
			if err == nil || !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %v, want %q in it", name, err, w)
			}
		}
		if missing := strings.Contains(name, "hole") || strings.Contains(name, "gone"); missing && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: a worker could not tell that the data is not there", name)
		}
	}
}

// What a shard is instead.
func TestRLDSShardIsSomethingElse(t *testing.T) {
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	z.Write(tfrecord.Append(nil, formEpisode(t, 0, 1)))
	z.Close()
	one := tfrecord.Append(nil, formEpisode(t, 0, 1))
	for name, c := range map[string]struct {
		file []byte
		want string
	}{
		"Git LFS":     {[]byte("version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 12\n"), `it is a Git LFS pointer, not the file itself: run "git lfs pull"`},
		"gzip":        {zipped.Bytes(), "it is a gzip file: unpack it with gunzip"},
		"HTML":        {[]byte("<!DOCTYPE html><html><body>404</body></html>"), "it is an HTML page"},
		"link text":   {[]byte("../../blobs/0123456789abcdef"), `it is the text of a link to "../../blobs/`},
		"zeros":       {make([]byte, 4096), "it is a file of zero bytes"},
		"empty":       {nil, "is empty, dataset_info.json says that it has 2 episodes (shardLengths); download or copy it again"},
		"broken off":  {append(slices.Clone(one), make([]byte, 4096)...), "(from there on it is a file of zero bytes: a download or copy broke off"},
		"cut":         {append(slices.Clone(one), one[:len(one)-9]...), "it is truncated; download or copy it again"},
		"noise":       {bytes.Repeat([]byte{1, 2, 3, 250}, 99), "it is no TFRecord file, or one that was damaged"},
		"too few":     {one, "has 1 episodes, dataset_info.json says 2 (shardLengths); get both from one place, or correct shardLengths"},
		"a JPEG file": {encodeJPEG(t, testPicture(8, 8, color.RGBA{1, 1, 1, 255})), "it is a JPEG picture"},
	} {
		dir := formSet(t, formFeatures(plainAction, textLeaf), map[string][][]int{"train": {{1, 1}}})
		write(t, dir, "d-train.tfrecord-00000-of-00001", c.file)
		if _, err := Open(of(job.Data{Kind: "rlds", Path: dir}), formNeeds, 1, "", nil); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "d-train.tfrecord-00000-of-00001") {
			t.Errorf("%s: %v, want %q in it", name, err, c.want)
		}
	}
	flipped := append(slices.Clone(one), one...)
	flipped[20] ^= 1
	damaged := formSet(t, formFeatures(plainAction, textLeaf), map[string][][]int{"train": {{1, 1}}})
	write(t, damaged, "d-train.tfrecord-00000-of-00001", flipped)
	if _, err := Open(of(job.Data{Kind: "rlds", Path: damaged}), formNeeds, 1, "", nil); err == nil || !strings.Contains(err.Error(), "record 0 at byte 0: ") || !strings.HasSuffix(err.Error(), ": the file was damaged; download or copy it again") {
		t.Error(err)
	}
	for _, name := range []string{"dataset_info.json", "features.json"} {
		for text, want := range map[string]string{
			`{"name": "d", "feat`:    name + ": its JSON ends in the middle: the file is cut off; copy or download it again",
			`[]`:                     name + ": it holds a JSON array, expected an object: it is not a file that TFDS wrote",
			`{"name": 1 "splits":2}`: name + ": not JSON: byte 12: invalid character '\"' after object key:value pair",
		} {
			dir := formSet(t, formFeatures(plainAction, textLeaf), map[string][][]int{"train": {{1}}})
			write(t, dir, name, []byte(text))
			if _, err := Open(of(job.Data{Kind: "rlds", Path: dir}), formNeeds, 1, "", nil); err == nil || !strings.HasSuffix(err.Error(), want) {
				t.Errorf("%s: %v, want %s", text, err, want)
			}
		}
	}
	folder := t.TempDir()
	write(t, folder, ManifestName, nil)
	if _, err := Open(of(job.Data{Kind: "rlds", Path: folder}), formNeeds, 1, "", nil); err == nil || !strings.HasSuffix(err.Error(), "not an RLDS data set; it has a manifest.jsonl, which data.kind: folder reads") {
		t.Error(err)
	}
	dir := formSet(t, formFeatures(plainAction, textLeaf), map[string][][]int{"train": {{1}}})
	write(t, dir, "dataset_info.json", []byte("version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 12\n"))
	if _, err := Open(of(job.Data{Kind: "rlds", Path: dir}), formNeeds, 1, "", nil); err == nil || !strings.Contains(err.Error(), "dataset_info.json: it is a Git LFS pointer") {
		t.Error(err)
	}
}

// Names of folders are names, not patterns.
func TestRLDSFolderNames(t *testing.T) {
	from := formSet(t, formFeatures(plainAction, textLeaf), map[string][][]int{"train": {{1}}})
	for _, name := range []string{"bridge [v2]", "a[b", "a*b", "what?", `back\slash`, "{x,y}", "caf\u00e9", "50%"} {
		for _, below := range []string{"", "1.0.0", "d/1.0.0"} {
			top := filepath.Join(t.TempDir(), name)
			if err := os.CopyFS(filepath.Join(top, below), os.DirFS(from)); err != nil {
				t.Fatal(err)
			}
			firstActions(t, of(job.Data{Kind: "rlds", Path: top}))
		}
	}
}

// An episode without steps cannot be held out, whoever chose it; a checkpoint
// that was trained so can be read.
func TestRLDSEmptyEpisodes(t *testing.T) {
	path := formSet(t, formFeatures(plainAction, textLeaf), map[string][][]int{"train": {{0, 1, 2}}})
	checkErrors(t, of(job.Data{Kind: "rlds", Path: path}), formNeeds, map[string]errorCase{
		"by number":  {func(c *job.Data, _ *models.Spec) { c.Holdout.Episodes = []int{0} }, []string{"held-out episode 0 has no steps: hold out others with data.holdout.episodes"}},
		"one of two": {func(c *job.Data, _ *models.Spec) { c.Holdout.Episodes = []int{0, 1} }, []string{"held-out episode 0 has no steps"}},
	})
	refused := 0
	for seed := range uint64(12) { // one of three episodes, whichever the seed draws
		cfg := of(job.Data{Kind: "rlds", Path: path, Holdout: job.Holdout{Fraction: 0.34}})
		d, err := Open(cfg, formNeeds, seed, "", nil)
		if err != nil {
			want := fmt.Sprintf("held-out episode 0 has no steps: data.holdout.fraction 0.34 chose it by seed %d", seed)
			if refused++; !strings.Contains(err.Error(), want) {
				t.Errorf("%v, want %q", err, want)
			}
			continue
		}
		if d.Heldout().Len() == 0 {
			t.Errorf("seed %d: nothing is held out, and no word of it", seed)
		}
		if f := findingsOf(d, "empty_episodes"); len(f) != 1 || f[0] != "episode 0 has no steps" {
			t.Errorf("findings %q", f)
		}
		d.Close()
	}
	if refused == 0 || refused == 12 {
		t.Errorf("%d of 12 seeds drew the empty episode: the test proves nothing", refused)
	}
	_, d := firstActions(t, of(job.Data{Kind: "rlds", Path: path, Holdout: job.Holdout{Episodes: []int{1}}}))
	kept := d.Meta()
	kept.Fingerprint = ""
	old, err := Open(of(job.Data{Kind: "rlds", Path: path, Holdout: job.Holdout{Episodes: []int{0}}}), formNeeds, 1, "", &kept)
	if err != nil {
		t.Fatal(err)
	}
	if f := findingsOf(old, "empty_heldout"); len(f) != 1 || !strings.HasPrefix(f[0], "held-out episode 0 has no steps") {
		t.Errorf("findings %q", f)
	}
}
