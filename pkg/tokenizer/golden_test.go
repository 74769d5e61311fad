package tokenizer

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// load reads a JSON file of testdata.
func load[T any](t testing.TB, name string) (x T) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err == nil {
		err = json.Unmarshal(b, &x)
	}
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// same fails for the first texts of which got differs from the package's numbers.
func same(t *testing.T, tok *Tokenizer, texts []string, want [][]int32) {
	t.Helper()
	if len(texts) != len(want) {
		t.Fatalf("%d texts and %d answers", len(texts), len(want))
	}
	bad := 0
	for i, text := range texts {
		got, err := tok.Encode(text)
		if (err != nil) != (want[i] == nil) || err == nil && !slices.Equal(got, want[i]) {
			if bad++; bad <= 5 {
				t.Errorf("%q:\n got %v %q (%v)\nwant %v %q", text, got, tokens(tok, got), err, want[i], tokens(tok, want[i]))
			}
		}
	}
	if bad > 5 {
		t.Errorf("and %d more of %d", bad-5, len(texts))
	}
}

func tokens(tok *Tokenizer, ids []int32) (out []string) {
	for _, id := range ids {
		out = append(out, tok.Token(int(id)))
	}
	return out
}

// The numbers are those of the package tokenizers, for instructions in many scripts
// and for what trips tokenizers up. tools/make_tokenizers.py made them.
func TestGolden(t *testing.T) {
	corpus := load[[]string](t, "corpus.json")
	golden := load[map[string][][]int32](t, "golden.json")
	if len(golden) < 11 || len(corpus) < 120 {
		t.Fatalf("%d tokenizers, %d texts", len(golden), len(corpus))
	}
	for _, name := range slices.Sorted(maps.Keys(golden)) {
		t.Run(name, func(t *testing.T) {
			tok, err := Read(filepath.Join("testdata", name+".json"))
			if err != nil {
				t.Fatal(err)
			}
			same(t, tok, corpus, golden[name])
			kept, err := tok.Keep(0).Open() // the very same, out of a checkpoint
			if err != nil {
				t.Fatal(err)
			}
			same(t, kept, corpus, golden[name])
		})
	}
}
