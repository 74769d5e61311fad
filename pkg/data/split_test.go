package data

import (
	"reflect"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/pkg/job"
)

func TestHeldOut(t *testing.T) {
	for _, c := range []struct {
		fraction float64
		n, want  int
	}{{0, 10, 0}, {0.2, 25, 5}, {0.001, 10, 1}, {0.99, 10, 9}, {0.25, 10, 3}, {0.5, 2, 1}, {0.1, 1000, 100}} {
		got, err := heldOut(job.Holdout{Fraction: c.fraction}, 4, c.n, nil)
		if err != nil || len(got) != c.want {
			t.Errorf("fraction %v of %d: %v, %v; want %d", c.fraction, c.n, got, err, c.want)
		}
		for i, e := range got {
			if e < 0 || e >= c.n || i > 0 && got[i-1] >= e {
				t.Errorf("fraction %v of %d: %v is not a set", c.fraction, c.n, got)
			}
		}
		again, _ := heldOut(job.Holdout{Fraction: c.fraction}, 4, c.n, nil)
		if !reflect.DeepEqual(got, again) {
			t.Error("the choice is not a pure function")
		}
	}
	a, _ := heldOut(job.Holdout{Fraction: 0.2}, 1, 100, nil)
	b, _ := heldOut(job.Holdout{Fraction: 0.2}, 2, 100, nil)
	if reflect.DeepEqual(a, b) {
		t.Error("the seed does not matter")
	}
	if got, err := heldOut(job.Holdout{Episodes: []int{3, 1, 3}}, 1, 5, nil); err != nil || !reflect.DeepEqual(got, []int{1, 3}) {
		t.Error(got, err)
	}
	if got, err := heldOut(job.Holdout{Episodes: []int{70, 50}}, 1, 3, []int64{50, 60, 70}); err != nil || !reflect.DeepEqual(got, []int{0, 2}) {
		t.Error(got, err)
	}
	for _, c := range []struct {
		h    job.Holdout
		n    int
		nums []int64
		want string
	}{
		{job.Holdout{Fraction: 1}, 5, nil, "below 1"},
		{job.Holdout{Fraction: -0.1}, 5, nil, "below 1"},
		{job.Holdout{Fraction: 0.5}, 1, nil, "at least two"},
		{job.Holdout{Fraction: 0.5, Episodes: []int{1}}, 5, nil, "one of them"},
		{job.Holdout{Episodes: []int{5}}, 5, nil, "no episode 5"},
		{job.Holdout{Episodes: []int{-1}}, 5, nil, "no episode -1"},
		{job.Holdout{Episodes: []int{0}}, 2, []int64{5, 6}, "no episode 0"},
		{job.Holdout{Episodes: []int{0, 1}}, 2, nil, "all 2"},
	} {
		if _, err := heldOut(c.h, 1, c.n, c.nums); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.h, err, c.want)
		}
	}
}

// An episode's samples are all on one side, and both sides keep their order.
func TestSplit(t *testing.T) {
	of := []int{2, 0, 1, 0, 2, 2, 1}
	train, held := split(len(of), 3, []int{0, 2}, func(i int) int { return of[i] })
	if !reflect.DeepEqual(train, []int32{2, 6}) || !reflect.DeepEqual(held, []int32{0, 1, 3, 4, 5}) {
		t.Error(train, held)
	}
}

func TestWordsAndTokenizer(t *testing.T) {
	for in, want := range map[string][]string{
		"Put the RED cube, please!":         {"put", "the", "red", "cube", "please"},
		"don't 'quote' it":                  {"don't", "quote", "it"},
		"  ":                                nil,
		"a1-b2":                             {"a1", "b2"},
		"Öffne die Tür":                     {"öffne", "die", "tür"},
		"bad\xffbytes":                      {"bad", "bytes"},
		"cafe\u0301 CAFE\u0301":             {"caf\u00e9", "caf\u00e9"},
		"don\u2019t \u2018grip\u2019":       {"don't", "grip"},
		"\u201cdon\u02bct\u201d don\u00b4t": {"don't", "don't"},
		"l\uff07objet":                      {"l'objet"},
		"拿起红色方块":                            {"拿起红色方块"},
		"🤖":                                 nil,
	} {
		if got := splitWords(in); !reflect.DeepEqual(got, want) {
			t.Errorf("splitWords(%q) = %q, want %q", in, got, want)
		}
	}
	v := buildVocab([]string{"push the cube", "lift The ball"})
	if want := []string{"<pad>", "<unk>", "ball", "cube", "lift", "push", "the"}; !reflect.DeepEqual(v, want) {
		t.Errorf("vocabulary %q", v)
	}
	if !reflect.DeepEqual(v, buildVocab([]string{"lift the ball", "push the cube"})) {
		t.Error("the vocabulary depends on the instructions' order")
	}
	tok, err := newTokenizer(v, 4)
	if err != nil {
		t.Fatal(err)
	}
	for in, want := range map[string][]int32{
		"lift the cube":          {4, 6, 3, 0},
		"lift the blue cube now": {4, 6, 1, 3},
		"":                       {1, 0, 0, 0},
		"<pad>":                  {1, 0, 0, 0},
	} {
		if got, err := tok.Encode(in); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("Encode(%q) = %v, want %v", in, got, want)
		}
	}
	if _, err := newTokenizer([]string{"<pad>"}, 3); err == nil {
		t.Error("a vocabulary without unknown was accepted")
	}
	if _, err := newTokenizer([]string{"<pad>", "<unk>", "a", "a"}, 3); err == nil {
		t.Error("a vocabulary with a double word was accepted")
	}
}

// Numbers of a split's samples are those of the whole data set, with held-out
// samples and data.skip between them.
func TestNumber(t *testing.T) {
	d := mustOpen(t, of(job.Data{Kind: "folder", Path: folderOf(t, 12), Holdout: job.Holdout{Episodes: []int{1, 3}}}, "Skip", []int{0, 9}), folderNeeds, nil)
	for _, src := range []Source{d.Train(), d.Heldout()} {
		for i := range src.Len() {
			s, err := src.Sample(i)
			if err != nil {
				t.Fatal(err)
			}
			if n, ok := Number(src, i); !ok || uint64(n) != s.ID {
				t.Errorf("sample %d of a split is %d, %v; want %d", i, n, ok, s.ID)
			}
		}
		if n, ok := Number(src, src.Len()); ok {
			t.Errorf("a sample beyond the split is %d", n)
		}
	}
	if _, ok := Number(nil, 0); ok {
		t.Error("no source has numbers")
	}
}
