package worker

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/internal/limits"
	"github.com/vlaring/vlaring/pkg/cluster"
	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/train"
)

func wordy(n, letters int) data.Meta {
	m := data.Meta{Kind: "folder", VocabSize: n}
	for i := range n {
		w := fmt.Sprint(i)
		m.Vocab = append(m.Vocab, w+strings.Repeat("x", letters-len(w)))
	}
	return m
}

// Whatever the size of the vocabulary, the answer to a join fits a message; what
// does not fit is fetched, and comes out the same.
func TestDescription(t *testing.T) {
	j, err := train.Kinds().Parse("tiny.yaml", []byte(tinyJob), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, words := range []int{10, 100_000, 400_000} {
		d, err := Describe(j, wordy(words, 12))
		if err != nil {
			t.Fatal(err)
		}
		var w cluster.Welcome
		b := d.Into(&w)
		if m := cluster.Encode(&w); len(m) > limits.Message/2 {
			t.Errorf("with %d words the answer to a join has %d bytes", words, len(m))
		}
		if (b != nil) != (words > 10) {
			t.Fatalf("%d words: %d bytes are to be fetched", words, len(b))
		}
		if b == nil {
			if w.Job != d.Job || string(w.Data) != string(d.Data) {
				t.Error("the answer holds another job than it should")
			}
			continue
		}
		got, err := decodeDescription(b)
		if err != nil || got.Job != d.Job || string(got.Data) != string(d.Data) || int64(len(b)) != w.Description.Size || w.Job != "" {
			t.Errorf("%d words: %v, or another description than went in", words, err)
		}
	}
	_, err = Describe(j, wordy(10, limits.Description/10+1))
	if err == nil || !strings.Contains(err.Error(), "a vocabulary of 10 words") {
		t.Errorf("a description over the limit: %v", err)
	}
}

// A worker takes a description from whoever answers for the coordinator: no
// bytes make it fall over, and what it accepts has both parts.
func FuzzDescription(f *testing.F) {
	f.Add([]byte(`{"job":"name: a","data":{"kind":"tabletop"}}`))
	f.Add([]byte(`{"job":"","data":null}`))
	f.Add([]byte(`{"job":1}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := decodeDescription(b)
		if err != nil {
			return
		}
		if d.Job == "" || len(d.Data) == 0 {
			t.Fatalf("accepted %q", b)
		}
		var meta data.Meta
		if json.Unmarshal(d.Data, &meta) == nil {
			meta.Check()
		}
	})
}
