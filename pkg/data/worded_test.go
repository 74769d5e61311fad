package data

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"image/color"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/internal/philox"
	"github.com/vlaring/vlaring/pkg/data/internal/tfrecord"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/tokenizer"
)

// wordingsFile writes a file of wordings and returns its path, which is absolute.
func wordingsFile(t testing.TB, text string) string {
	t.Helper()
	dir := t.TempDir()
	write(t, dir, "wordings.json", []byte(text))
	return filepath.Join(dir, "wordings.json")
}

// textOf is the instruction of a sample in the words of the vocabulary.
func textOf(m Meta, s Sample) string {
	var in []string
	for _, id := range s.Values[m.Spec.Index(models.Instruction)].Ints {
		if id != padToken {
			in = append(in, m.Vocab[id])
		}
	}
	return strings.Join(in, " ")
}

// drawn are the samples of the first n positions of a job's stream, in steps of 8.
func drawn(t *testing.T, d Dataset, seed uint64, n int) (out []Sample) {
	t.Helper()
	m := d.Meta()
	f, err := NewLocalFeed(d.Train(), m.Order(seed, 8, 4, true))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < n; i += 4 {
		l, err := f.Micro(t.Context(), uint64(i/8), i/4%2)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, l...)
	}
	return out
}

// wordedFolder is a folder of 40 samples in two instructions, and one that is held out.
func wordedFolder(t *testing.T) job.Data {
	t.Helper()
	var lines []string
	for i := range 40 {
		lines = append(lines, fmt.Sprintf(`{"image": "img/%d.png", "instruction": %q, "action": [%d, 1], "episode": %d}`, i%3, []string{"open the box", "shut it"}[i%2], i, i))
	}
	lines = append(lines, `{"image": "img/0.png", "instruction": "open the box", "action": [3, 1], "episode": 40}`, `{"image": "img/0.png", "instruction": "turn the knob", "action": [3, 1], "episode": 41}`)
	return of(job.Data{Kind: "folder", Path: writeFolder(t, lines...), Holdout: job.Holdout{Episodes: []int{40, 41}}})
}

var wordedNeeds = models.Spec{pictures(3, 8, 8), words(32), acts(2)}

// Training shows a sample in each of its wordings equally often, another one in another
// epoch, and the same one to whoever asks; evaluation shows the recorded words.
func TestWordingsOfADraw(t *testing.T) {
	cfg := wordedFolder(t)
	put(&cfg, "Wordings", wordingsFile(t, `{"open the box": ["lift the lid", "raise its big lid up now", "unlock"], "turn the knob": ["never heard"]}`))
	d := mustOpen(t, cfg, wordedNeeds, nil)
	m := d.Meta()
	if want := (&Worded{Name: "wordings.json", SHA256: m.Worded.SHA256, Instructions: 1, Wordings: 4}); !reflect.DeepEqual(m.Worded, want) || len(m.Worded.SHA256) != 64 {
		t.Errorf("%+v", m.Worded)
	}
	// All wordings of the training split are in the vocabulary, and those of what is held out are not.
	if want := []string{"<pad>", "<unk>", "big", "box", "it", "its", "lid", "lift", "now", "open", "raise", "shut", "the", "unlock", "up"}; !slices.Equal(m.Vocab, want) || m.Spec.Len(models.Instruction, 0) != 6 {
		t.Errorf("vocabulary %q, rows of %d", m.Vocab, m.Spec.Len(models.Instruction, 0))
	}
	const epochs = 200
	all := drawn(t, d, 5, epochs*40)
	said, by := map[string]int{}, map[uint64]map[string]int{}
	for _, s := range all {
		text := textOf(m, s)
		if plain := textOf(m, must(d.Train().Sample(int(s.ID)))); (plain == "shut it") != (text == "shut it") {
			t.Fatalf("sample %d (%s) says %q", s.ID, plain, text)
		}
		said[text]++
		if by[s.ID] == nil {
			by[s.ID] = map[string]int{}
		}
		by[s.ID][text]++
	}
	// 4,000 draws of four: 1,000 each, of a standard deviation of 27; of a sample 200: 50 each, of 6.
	for _, w := range []string{"open the box", "lift the lid", "raise its big lid up now", "unlock"} {
		if n := said[w]; n < 890 || n > 1110 {
			t.Errorf("%q is shown %d times of 4000", w, n)
		}
	}
	if len(said) != 5 || said["shut it"] != epochs*20 {
		t.Errorf("shown are %v", said)
	}
	for id, l := range by {
		for w, n := range l {
			if id%2 == 0 && (n < 20 || n > 85) {
				t.Errorf("sample %d is shown as %q in %d epochs of %d", id, w, n, epochs)
			}
		}
	}
	// The draw is what docs/numerics.md says.
	rows := map[uint64][]string{}
	for _, s := range all[:400] {
		if s.Wordings() == nil {
			continue
		}
		for _, row := range s.Wordings() {
			s.Values = slices.Clone(s.Values)
			s.Values[m.Spec.Index(models.Instruction)].Ints = row
			rows[s.ID] = append(rows[s.ID], textOf(m, s))
		}
	}
	for _, s := range all[:400] {
		if l := rows[s.ID]; l != nil {
			k := philox.Stream{Seed: 5, Purpose: 13, Step: s.Epoch, Sample: s.ID}.Intn(0, 4)
			if got := textOf(m, s); got != l[k] {
				t.Fatalf("sample %d of epoch %d says %q, want %q", s.ID, s.Epoch, got, l[k])
			}
		}
	}
	// Whoever asks again, opens again or is sent samples has the same; another seed has not.
	wire := func(l []Sample) []byte { return EncodeSamples(nil, 0, 0, l) }
	again := drawn(t, mustOpen(t, cfg, wordedNeeds, ptr(d.Meta())), 5, 400)
	if !bytes.Equal(wire(all[:400]), wire(again)) {
		t.Error("another opening draws other wordings")
	}
	if bytes.Equal(wire(again[:40]), wire(drawn(t, d, 6, 40))) {
		t.Error("the seed does not matter")
	}
	if _, _, l, err := DecodeSamples(wire(all[:8])); err != nil || textOf(m, l[3]) != textOf(m, all[3]) {
		t.Error("what is sent is another wording", err)
	}
	// Drawing has changed nothing of what a Source gives, though it may keep its samples.
	for i := range d.Heldout().Len() {
		if got, want := textOf(m, must(d.Heldout().Sample(i))), []string{"open the box", "<unk> the <unk>"}[i]; got != want {
			t.Errorf("held-out sample %d says %q, want %q", i, got, want)
		}
	}
	keeps := &keeping{Source: d.Train()}
	f, err := NewLocalFeed(keeps, m.Order(5, 8, 4, true))
	if err != nil {
		t.Fatal(err)
	}
	for step := range uint64(20) {
		if _, err := f.Micro(t.Context(), step, 0); err != nil {
			t.Fatal(err)
		}
	}
	for i, s := range keeps.kept {
		if got := textOf(m, s); got != []string{"open the box", "shut it"}[i%2] {
			t.Errorf("sample %d, which was kept, says %q", i, got)
		}
	}
	sum, err := d.Survey(t.Context(), Survey{Samples: 1})
	if err != nil {
		t.Fatal(err)
	}
	if in := sum.Instructions; in.Different != 3 || in.Wordings != 7 || in.Longest != 6 || in.Unknown[0] != "knob" || in.UnknownIn != 1 {
		t.Errorf("%+v", in)
	}
	if text := sum.Text(true); !strings.Contains(text, "instructions  3 different in 7 wordings, the longest of 6 words; ") {
		t.Error(text)
	}
	if text := m.Text(); !strings.Contains(text, ": training shows 1 instruction in 4 wordings (wordings.json)\n") {
		t.Error(text)
	}
	for _, f := range sum.Findings {
		if f.Kind == "unknown_words" && f.Where != "held-out split" || f.Kind == "unused_wordings" {
			t.Errorf("finding %s", f)
		}
	}
}

// keeping remembers the samples of a source.
type keeping struct {
	Source
	kept map[int]Sample
}

func (k *keeping) Sample(i int) (Sample, error) {
	if k.kept == nil {
		k.kept = map[int]Sample{}
	}
	if _, ok := k.kept[i]; !ok {
		s, err := k.Source.Sample(i)
		if err != nil {
			return s, err
		}
		k.kept[i] = s
	}
	return k.kept[i], nil
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// What stands instead of an instruction is all that is seen of it, in evaluation too.
func TestWordingsInstead(t *testing.T) {
	cfg := wordedFolder(t)
	put(&cfg, "Wordings", wordingsFile(t, `{"open the box": {"instead": ["lift the lid", "unlock"]}, "turn the knob": {"instead": ["shut it"]}}`))
	d := mustOpen(t, cfg, wordedNeeds, nil)
	m := d.Meta()
	if slices.Contains(m.Vocab, "open") || slices.Contains(m.Vocab, "knob") {
		t.Errorf("vocabulary %q", m.Vocab)
	}
	said := map[string]bool{}
	for _, s := range drawn(t, d, 5, 400) {
		said[textOf(m, s)] = true
	}
	if len(said) != 3 || !said["lift the lid"] || !said["unlock"] {
		t.Errorf("shown are %v", said)
	}
	for i, want := range []string{"lift the lid", "shut it"} {
		if got := textOf(m, must(d.Heldout().Sample(i))); got != want {
			t.Errorf("held out: %q, want %q", got, want)
		}
	}
}

// The wordings are found wherever the instructions are from, in sets of a mixture too.
func TestWordingsOfAllSources(t *testing.T) {
	box := `"open the box": ["lift the lid"]`
	for name, c := range map[string]struct {
		cfg   job.Data
		needs models.Spec
		file  string
		want  map[string]bool // what may be shown of those that have wordings
	}{
		"lerobot 3.0": {lerobotJob(filepath.Join("testdata", "lerobot", "v3"), "Split", "all"), lerobotNeeds, `{"open the door": ["pull it"], "push the button": ["press", "go on"]}`, map[string]bool{"open the door": true, "pull it": true, "push the button": true, "press": true, "go on": true}},
		"lerobot 2.1": {lerobotJob(filepath.Join("testdata", "lerobot", "v21"), "Split", "all"), lerobotNeeds, `{"open the door": ["pull it"], "push the button": ["press", "go on"]}`, map[string]bool{"open the door": true, "pull it": true, "push the button": true, "press": true, "go on": true}},
		"rlds":        {of(job.Data{Kind: "rlds", Path: filepath.Dir(filepath.Dir(tinyRLDS(t)))}, "Camera", "image_0"), vlaNeeds, `{"Pick up the red cube.": ["grab it"], "push the BLUE ball left": ["shove it"], "lift the zebra": ["up"]}`, map[string]bool{"pick up the red cube": true, "grab it": true, "push the blue ball left": true, "shove it": true, "lift the zebra": true, "up": true}},
		"mixture":     {mixtureOf(t, writeFolder(t, mixedLines...)), mixtureNeeds, `{"open the door": ["pull it"], "push the button": ["press", "go on"], ` + box + `, "shut the big box now": ["shut it"]}`, map[string]bool{"push the button": true, "press": true, "go on": true, "open the box": true, "lift the lid": true, "shut the big box now": true, "shut it": true}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := c.cfg
			if k, ok := cfg.Options.(Mixture); ok { // as Resolve hands it to the sets
				for i, s := range k.Sets {
					own := s.Data(job.Data{})
					put(&own, "Wordings", wordingsFile(t, c.file))
					k.Sets[i].Options = own.Options
				}
			} else {
				put(&cfg, "Wordings", wordingsFile(t, c.file))
			}
			d := mustOpen(t, cfg, c.needs, nil)
			m := d.Meta()
			said := map[string]bool{}
			for _, s := range drawn(t, d, 3, 600) {
				said[textOf(m, s)] = true
			}
			if !reflect.DeepEqual(said, c.want) {
				t.Errorf("shown are %v", said)
			}
			for _, f := range d.Findings() {
				if f.Kind == "unused_wordings" {
					t.Errorf("finding %s", f)
				}
			}
			if !strings.Contains(m.Text(), ": training shows ") {
				t.Error(m.Text())
			}
		})
	}
	for _, rolls := range []bool{false, true} { // whose instructions nobody lists
		var file strings.Builder
		for _, w := range []string{"pick up", "lift", "grasp"} {
			for _, c := range []string{"red", "blue", "green", "yellow"} {
				for _, s := range []string{"cube", "ball", "block"} {
					fmt.Fprintf(&file, `, "%s the %s %s": ["fetch a %s %s there"]`, w, c, s, c, s)
				}
			}
		}
		needs := vlaNeeds.Clone()
		needs[0].Shape = []int{3, 16, 16}
		cfg := of(job.Data{Kind: "tabletop"}, "Episodes", 300, "Wordings", wordingsFile(t, `{"paint the red cube": ["no"]`+file.String()+"}"))
		if rolls {
			put(&cfg, "State", []string{"gripper"})
			needs = append(needs[:2:2], models.Known(models.State, 0), needs[2])
		}
		d, err := Open(cfg, needs, 1, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		m := d.Meta()
		fetched, plain := 0, 0
		at := m.Spec.Index(models.Instruction)
		for _, s := range drawn(t, d, 3, 2400) {
			if s.Wordings() == nil {
				continue
			}
			if strings.HasPrefix(textOf(m, s), "fetch a ") {
				fetched++
			} else if slices.Equal(s.Values[at].Ints, s.Wordings()[0]) {
				plain++
			}
		}
		if fetched < 20 || plain < 20 || fetched > 3*plain || plain > 3*fetched || !slices.Contains(m.Vocab, "fetch") || slices.Contains(m.Vocab, "no") {
			t.Errorf("rollouts %v: %d samples are shown in other words and %d in their own; vocabulary %q", rolls, fetched, plain, m.Vocab)
		}
		l := findingsOf(d, "unused_wordings")
		if len(l) != 1 || !strings.Contains(l[0], `"paint the red cube" in line 1`) {
			t.Errorf("findings %q", l)
		}
	}
}

// Entries that the data has not are told, all of them are a mistake.
func TestWordingsOfNothing(t *testing.T) {
	cfg := wordedFolder(t)
	open := func(file string) (Dataset, error) {
		put(&cfg, "Wordings", wordingsFile(t, file))
		return Open(cfg, wordedNeeds, 1, "", nil)
	}
	d, err := open("{\"shut it\": [\"close it\"],\n \"open teh box\": [\"unlock\"]}")
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if l, want := findingsOf(d, "unused_wordings"), `1 of wordings.json's 2 instructions are none of the data's, such as "open teh box" in line 2: did you mean "open the box"?; nothing is trained on those`; len(l) != 1 || l[0] != want {
		t.Errorf("%q, want %q", l, want)
	}
	for file, want := range map[string]string{
		"{\n\"Open the boxes\": [\"unlock\"]}":             `folder data: data.wordings: 1 of wordings.json's 1 instruction are none of the data's, such as "Open the boxes" in line 2: did you mean "open the box"?`,
		`{"drive through the tunnel": ["go"], "b": ["c"]}`: `folder data: data.wordings: 2 of wordings.json's 2 instructions are none of the data's, such as "drive through the tunnel" in line 1; the data has "open the box", "shut it", "turn the knob"`,
	} {
		_, err := open(file)
		var key *KeyError
		if !errors.As(err, &key) || key.Key != "data.wordings" || err.Error() != want {
			t.Errorf("%s: %v, want %s", file, err, want)
		}
	}
	table := of(job.Data{Kind: "tabletop"}, "Episodes", 30, "Wordings", wordingsFile(t, `{"paint the red cube": ["no"]}`))
	needs := vlaNeeds.Clone()
	needs[0].Shape = []int{3, 16, 16}
	if _, err := Open(table, needs, 1, "", nil); err == nil || err.Error() != `tabletop data: data.wordings: 1 of wordings.json's 1 instruction are none of the data's, such as "paint the red cube" in line 1` {
		t.Error(err)
	}
	put(&cfg, "Wordings", "no/where.json")
	_, err = Open(cfg, wordedNeeds, 1, "", nil)
	var key *KeyError
	if want := `open no/where.json: no such file or directory; want JSON such as {"open the drawer": ["pull the drawer open", "slide the drawer out"]}; in a job file the path starts at the file's own folder`; !errors.As(err, &key) || !errors.Is(err, os.ErrNotExist) || !strings.HasSuffix(err.Error(), want) {
		t.Error(err)
	}
}

// The file belongs to the data: a run goes on with another one as with other data alone,
// and then knows no more words than before. A measurement on other data needs none.
func TestWordingsAreOfTheData(t *testing.T) {
	cfg := wordedFolder(t)
	plain := mustOpen(t, cfg, wordedNeeds, nil)
	old, file := cfg, wordingsFile(t, `{"open the box": ["lift the lid"]}`)
	put(&cfg, "Wordings", file)
	was := mustOpen(t, cfg, wordedNeeds, nil)
	index, err := was.Index(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	meta := was.Meta()
	if meta.Fingerprint == plain.Meta().Fingerprint {
		t.Error("the wordings do not matter")
	}
	b, err := json.Marshal(meta)
	if err != nil {
		t.Fatal(err)
	}
	var kept Meta
	if err := json.Unmarshal(b, &kept); err != nil || !reflect.DeepEqual(kept, meta) {
		t.Fatalf("through JSON: %+v (%v)", kept, err)
	}
	other := cfg
	put(&other, "Wordings", wordingsFile(t, `{"open the box": ["lift the heavy lid"]}`))
	for name, c := range map[string]job.Data{"another file": other, "no file": old} {
		_, err := Open(c, wordedNeeds, 1, "", &meta)
		if !errors.Is(err, ErrOtherData) || !strings.Contains(err.Error(), "data.wordings is ") || !strings.Contains(err.Error(), fmt.Sprintf(", it was wordings.json (SHA-256 %.12s)", meta.Worded.SHA256)) {
			t.Errorf("%s: %v", name, err)
		}
		d, err := OpenContext(t.Context(), c, wordedNeeds, 1, "", &meta, Watch{Other: true, Former: index})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		change := d.Change()
		if change == nil || change.Epoch || !strings.HasPrefix(change.Text(), "its samples are as they were, but data.wordings is ") {
			t.Errorf("%s: %+v", name, change)
			continue
		}
		m := d.Meta()
		if !slices.Equal(m.Vocab, meta.Vocab) {
			t.Errorf("%s: vocabulary %q", name, m.Vocab)
		}
		sum, err := d.Survey(t.Context(), Survey{Samples: 1})
		if err != nil {
			t.Fatal(err)
		}
		told := slices.ContainsFunc(sum.Findings, func(f Finding) bool {
			return f.String() == "data.wordings: wordings have words that the vocabulary lacks: heavy; the run keeps its vocabulary: the model sees one token for all of that"
		})
		if told != (name == "another file") {
			t.Errorf("%s: findings %v", name, sum.Findings)
		}
	}
	kept.Fingerprint = ""
	put(&cfg, "Wordings", "is/gone.json")
	d, err := Open(cfg, wordedNeeds, 1, "", &kept)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if got := textOf(kept, must(d.Train().Sample(0))); got != "open the box" {
		t.Errorf("measured as %q", got)
	}
}

// With a tokenizer of others, rows hold the longest wording.
func TestWordingsInTokens(t *testing.T) {
	cfg := wordedFolder(t)
	abs, err := filepath.Abs(bertFile)
	if err != nil {
		t.Fatal(err)
	}
	tok, err := tokenizer.Read(bertFile)
	if err != nil {
		t.Fatal(err)
	}
	const long = "go lift the lid"
	ids, err := tok.Encode(long)
	if err != nil {
		t.Fatal(err)
	}
	put(&cfg, "Tokenizer", abs)
	put(&cfg, "Wordings", wordingsFile(t, fmt.Sprintf(`{"open the box": [%q]}`, long)))
	d := mustOpen(t, cfg, wordedNeeds, nil)
	m := d.Meta()
	if n := m.Spec.Len(models.Instruction, 0); n != len(ids) {
		t.Errorf("rows of %d tokens, want %d", n, len(ids))
	}
	seen := false
	for _, s := range drawn(t, d, 1, 80) {
		seen = seen || slices.Equal(s.Values[m.Spec.Index(models.Instruction)].Ints, ids)
	}
	if !seen {
		t.Error("the long wording is never shown")
	}
	put(&cfg, "MaxTokens", 5)
	cut := mustOpen(t, cfg, wordedNeeds, nil)
	sum, err := cut.Survey(t.Context(), Survey{Samples: 1})
	if err != nil {
		t.Fatal(err)
	}
	if in := sum.Instructions; in.Longest != len(ids) || in.Cut < 21 {
		t.Errorf("%+v", in)
	}
}

// droidSet is a data set of four episodes of one step with three wordings, as DROID has them.
func droidSet(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	var file []byte
	for e, said := range [][3]string{{"open the box", "lift\x00the lid", ""}, {"", "shut it", "shut it"}, {"open the box", "unlock it", "lift the lid"}, {"", "", ""}} {
		var b tfrecord.Builder
		b.Ints("steps/is_first", 1)
		b.Floats("steps/action", float32(e), 1)
		for i, s := range said {
			b.Strings([]string{"steps/language_instruction", "steps/language_instruction_2", "steps/language_instruction_3"}[i], []byte(s))
		}
		b.Strings("steps/observation/image", encodePNG(t, testPicture(8, 8, color.RGBA{uint8(e), 9, 9, 255})))
		file = tfrecord.Append(file, b.Record())
	}
	write(t, dir, "d-train.tfrecord-00000-of-00001", file)
	write(t, dir, "dataset_info.json", []byte(`{"name": "d", "fileFormat": "tfrecord", "splits": [{"name": "train", "shardLengths": ["4"]}]}`))
	write(t, dir, "features.json", []byte(formFeatures(plainAction, textLeaf+`, "language_instruction_2": `+textLeaf+`, "language_instruction_3": `+stringLeaf)))
	return dir
}

// A data set may have wordings itself, one a feature; a file adds to them.
func TestRLDSWordings(t *testing.T) {
	cfg := of(job.Data{Kind: "rlds", Path: droidSet(t)})
	one := mustOpen(t, cfg, formNeeds, nil)
	if l, want := findingsOf(one, "more_wordings"), "steps/language_instruction: the data has other wordings of it, which are not read: language_instruction_2, language_instruction_3; data.instruction: [language_instruction, language_instruction_2, language_instruction_3] trains on all"; len(l) != 1 || l[0] != want {
		t.Errorf("%q, want %q", l, want)
	}
	put(&cfg, "Instruction", []string{"language_instruction", "language_instruction_2", "steps/language_instruction_3"})
	scans := &ScanDir{Dir: t.TempDir()}
	for _, again := range []string{"read", "remembered"} {
		d, err := OpenContext(t.Context(), cfg, formNeeds, 1, "", nil, Watch{Scans: scans})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		m := d.Meta()
		if m.Fingerprint == one.Meta().Fingerprint || len(findingsOf(d, "more_wordings")) > 0 || m.Worded.Instructions != 1 || m.Worded.Wordings != 3 || m.Worded.Name != "" {
			t.Errorf("%s: %+v", again, m.Worded)
		}
		plain := []string{"open the box", "shut it", "open the box", "<unk>"}
		said := map[uint64]map[string]bool{}
		for _, s := range drawn(t, d, 3, 200) {
			if said[s.ID] == nil {
				said[s.ID] = map[string]bool{}
			}
			said[s.ID][textOf(m, s)] = true
		}
		for i, want := range []map[string]bool{{"open the box": true, "lift the lid": true}, {"shut it": true}, {"open the box": true, "unlock it": true, "lift the lid": true}, {"<unk>": true}} {
			if !reflect.DeepEqual(said[uint64(i)], want) {
				t.Errorf("%s: sample %d is shown as %v", again, i, said[uint64(i)])
			}
			if got := textOf(m, must(d.Train().Sample(i))); got != plain[i] {
				t.Errorf("%s: sample %d says %q", again, i, got)
			}
		}
		sum, err := d.Survey(t.Context(), Survey{})
		if err != nil || sum.Instructions.Different != 3 || sum.Instructions.Wordings != 5 {
			t.Errorf("%+v (%v)", sum.Instructions, err)
		}
	}
	more := cfg
	put(&more, "Wordings", wordingsFile(t, `{"open the box": ["draw it", "unlock it"], "": {"instead": ["wait"]}}`))
	d := mustOpen(t, more, formNeeds, nil)
	if w := d.Meta().Worded; w.Instructions != 2 || w.Wordings != 5 || w.Name != "wordings.json" {
		t.Errorf("%+v", w)
	}
	if got := textOf(d.Meta(), must(d.Train().Sample(3))); got != "wait" {
		t.Errorf("what stands instead of nothing is %q", got)
	}
	for _, c := range []struct {
		names []string
		says  string
	}{
		{[]string{"language"}, `data.instruction has "language"; the texts are language_instruction, language_instruction_2, language_instruction_3`},
		{[]string{"language_instruction_2", "steps/language_instruction_2"}, "data.instruction has steps/language_instruction_2 twice"},
		{[]string{"action"}, `data.instruction has "action"; the texts are`},
	} {
		put(&cfg, "Instruction", c.names)
		if _, err := Open(cfg, formNeeds, 1, "", nil); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%v: %v, want %s", c.names, err, c.says)
		}
	}
}
