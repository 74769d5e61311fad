package data

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/tokenizer"
)

const bertFile = "../tokenizer/testdata/bert.json" // trained on instructions; its numbers are compared with the package's there

// spokenSpec is what a vla wants of wordsFolder, with a vocabulary of size and a padding.
func spokenSpec(size, pad int) models.Spec {
	n := vlaNeeds.Clone()
	n.Find(models.Actions).Shape[0] = 1
	f := n.Find(models.Instruction)
	f.Vocab, f.Pad = size, pad
	return n
}

func spoken(t *testing.T, dir string, spec models.Spec, meta *Meta, options ...any) (Dataset, error) {
	t.Helper()
	abs, err := filepath.Abs(bertFile)
	if err != nil {
		t.Fatal(err)
	}
	return Open(of(job.Data{Kind: "folder", Path: dir}, append([]any{"Tokenizer", abs}, options...)...), spec, 1, "", meta)
}

// Instructions are the tokenizer's numbers, padded; whoever has the Meta alone, as a
// checkpoint or a worker has it, gets the same ones.
func TestTokenizerOfData(t *testing.T) {
	dir := wordsFolder(t)
	d, err := spoken(t, dir, spokenSpec(0, 0), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	tok, err := tokenizer.Read(bertFile)
	if err != nil {
		t.Fatal(err)
	}
	meta := d.Meta()
	if meta.Vocab != nil || meta.VocabSize != tok.Size() || meta.Tokenizer == nil || !reflect.DeepEqual(meta.Lexicon(), tok.Tokens()) {
		t.Fatalf("vocabulary %v of %d, tokenizer %v", meta.Vocab, meta.VocabSize, meta.Tokenizer)
	}
	texts := []string{"ouvre le café", "ouvre le cafe\u0301", "don't move", "don’t move", "拿起红色方块", "", "   ", "🤖"}
	long := 0
	for _, s := range texts {
		ids, _ := tok.Encode(s)
		long = max(long, len(ids))
	}
	rows := func(d Dataset) (out [][]int32) {
		t.Helper()
		for i := range texts {
			s, err := d.Train().Sample(i)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, s.Values[d.Meta().Spec.Index(models.Instruction)].Ints)
		}
		return out
	}
	got := rows(d)
	for i, s := range texts {
		want, _ := tok.Encode(s)
		want = append(want, make([]int32, long-len(want))...)
		if !slices.Equal(got[i], want) {
			t.Errorf("%q: %v, want %v", s, got[i], want)
		}
	}
	b, err := json.Marshal(meta)
	if err != nil {
		t.Fatal(err)
	}
	var kept Meta
	if err := json.Unmarshal(b, &kept); err != nil {
		t.Fatal(err)
	}
	again, err := spoken(t, dir, spokenSpec(0, 0), &kept, "Tokenizer", "is/gone")
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if !reflect.DeepEqual(rows(again), got) {
		t.Error("other tokens by what was kept")
	}
	cut, err := spoken(t, dir, spokenSpec(0, 0), nil, "MaxTokens", 4)
	if err != nil {
		t.Fatal(err)
	}
	defer cut.Close()
	if r := rows(cut)[0]; len(r) != 4 || r[0] != 2 || r[3] != 3 { // [CLS] two tokens [SEP]
		t.Errorf("cut: %v", r)
	}
	sum, err := cut.Survey(t.Context(), Survey{Samples: 1})
	if in := sum.Instructions; err != nil || in == nil || in.Longest != long || in.Cut == 0 || in.Empty != 2 || in.Vocabulary != tok.Size() {
		t.Errorf("summary %+v (%v)", in, err)
	}
}

func TestTokenizerThatDoesNotFit(t *testing.T) {
	dir := wordsFolder(t)
	tok, err := tokenizer.Read(bertFile)
	if err != nil {
		t.Fatal(err)
	}
	size := tok.Size()
	other := filepath.Join(t.TempDir(), "other.json")
	text := strings.Replace(string(tok.JSON()), `"lowercase":true`, `"lowercase":false`, 1)
	bare := filepath.Join(t.TempDir(), "bare.json")
	for path, text := range map[string]string{other: text, bare: strings.Replace(text[:strings.Index(text, `"padding":`)]+`"padding":null,`+text[strings.Index(text, `"added_tokens"`):], "[PAD]", "[NIL]", 2)} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	with, err := spoken(t, dir, spokenSpec(0, 0), nil)
	if err != nil {
		t.Fatal(err)
	}
	with.Close()
	had := with.Meta()
	without, err := Open(of(job.Data{Kind: "folder", Path: dir}), spokenSpec(0, 0), 1, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	without.Close()
	learned := without.Meta()
	for _, c := range []struct {
		name    string
		spec    models.Spec
		meta    *Meta
		options []any
		says    []string
	}{
		{"smaller embedding", spokenSpec(size-1, 0), nil, nil, []string{"model.vocab_size is", "tokens: ", "made with another tokenizer"}},
		{"larger embedding", spokenSpec(size+128, 0), nil, nil, []string{"model.vocab_size", "made with another tokenizer"}},
		{"padding", spokenSpec(0, 3), nil, nil, []string{"model.pad_token", "is 3", "write model.pad_token: 0"}},
		{"no padding of its own", spokenSpec(0, 9), nil, []any{"Tokenizer", bare}, []string{"model.pad_token", "is 9", "one of its special tokens (0 [NIL], 1 [UNK]"}},
		{"no room", spokenSpec(0, 0), nil, []any{"MaxTokens", 2}, []string{"data.max_tokens", "want at least 3"}},
		{"no file", spokenSpec(0, 0), nil, []any{"Tokenizer", "no/where"}, []string{"data.tokenizer", "no/where"}},
		{"another than the checkpoint's", spokenSpec(0, 0), &had, []any{"Tokenizer", other}, []string{"data.tokenizer", "other.json is another tokenizer", "the checkpoint's data"}},
		{"a checkpoint with words", spokenSpec(0, 0), &learned, nil, []string{"data.tokenizer", "learned a vocabulary of words"}},
	} {
		d, err := spoken(t, dir, c.spec, c.meta, c.options...)
		if err == nil {
			d.Close()
			t.Errorf("%s is opened", c.name)
			continue
		}
		text := err.Error()
		var key *KeyError
		if errors.As(err, &key) {
			text = key.Key + ": " + text
		}
		for _, s := range c.says {
			if !strings.Contains(text, s) {
				t.Errorf("%s: %q lacks %q", c.name, text, s)
			}
		}
	}
	d, err := spoken(t, dir, spokenSpec(size+127, -1), nil) // rows rounded up, padding that the model sees
	if err != nil {
		t.Fatal(err)
	}
	d.Close()
}

// The synthetic table's longest instruction finds room, in tokens too.
func TestTokenizerOfTheTable(t *testing.T) {
	abs, err := filepath.Abs(bertFile)
	if err != nil {
		t.Fatal(err)
	}
	n := vlaNeeds.Clone()
	n[0].Shape = []int{3, 16, 16}
	d, err := Open(of(job.Data{Kind: "tabletop"}, "Tokenizer", abs, "Episodes", 300), n, 1, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	meta := d.Meta()
	at := meta.Spec.Index(models.Instruction)
	for i := range d.Train().Len() {
		s, err := d.Train().Sample(i)
		if err != nil {
			t.Fatal(err)
		}
		if row := s.Values[at].Ints; row[0] != 2 || !slices.Contains(row, 3) {
			t.Fatalf("sample %d is cut: %v", i, row)
		}
	}
}

// A tokenizer in a checkpoint that was tampered with is no data.
func TestKeptTokenizerIsChecked(t *testing.T) {
	d, err := spoken(t, wordsFolder(t), spokenSpec(0, 0), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	m := d.Meta()
	k := m.Tokenizer
	m.Tokenizer = &tokenizer.Kept{Name: k.Name, SHA256: k.SHA256, Pad: k.Pad, Gzip: k.Gzip[:len(k.Gzip)/2]}
	if err := m.Check(); err == nil || !strings.Contains(err.Error(), "the tokenizer that is kept") {
		t.Error(err)
	}
	m.Tokenizer, m.VocabSize = k, 10
	if err := m.Check(); err == nil || !strings.Contains(err.Error(), "vocab_size of 10") {
		t.Error(err)
	}
}
