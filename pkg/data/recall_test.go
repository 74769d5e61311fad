package data

import (
	"slices"
	"testing"

	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
)

// The layout of the recall task, that every key occurs, and that samples pass
// the wire and the collator unchanged, NoLabel included.
func TestRecall(t *testing.T) {
	const length, distance, vocab = 9, 5, 12
	keys := recallKeys(vocab)
	d, err := Open(of(job.Data{Kind: "recall"}, "Episodes", 500, "SeqLen", length, "Distance", distance), copyTask(vocab), 3, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	seen := map[int32]bool{}
	var all []Sample
	for i := range d.Train().Len() {
		s, err := d.Train().Sample(i)
		if err != nil {
			t.Fatal(err)
		}
		for p, tok := range tokensOf(s) {
			want := tok >= int32(2+keys) && tok < vocab // one of the others
			switch p {
			case length - 1 - distance:
				want = tok >= 2 && tok < int32(2+keys)
				seen[tok] = true
			case length - 1:
				want = tok == question
			}
			if !want {
				t.Fatalf("sample %d has token %d at %d: %v", i, tok, p, tokensOf(s))
			}
		}
		for p, l := range targetsOf(s) {
			want := int32(models.NoLabel)
			if p == length-1 {
				want = tokensOf(s)[length-1-distance]
			}
			if l != want {
				t.Fatalf("sample %d has label %d at %d, want %d", i, l, p, want)
			}
		}
		all = append(all, s)
	}
	if len(seen) != keys {
		t.Errorf("%d of %d keys occur in 500 sequences", len(seen), keys)
	}
	again, _ := d.Train().Sample(7)
	if !slices.Equal(tokensOf(again), tokensOf(all[7])) || slices.Equal(tokensOf(all[7]), tokensOf(all[8])) {
		t.Error("a sample is not a function of its number, or two are the same")
	}
	_, _, back, err := DecodeSamples(EncodeSamples(nil, 1, 2, all[:3]))
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewCollator(d.Meta())
	if err != nil {
		t.Fatal(err)
	}
	b := models.NewBatch(3, d.Meta().Spec)
	if err := c.Collate(back, b); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(b.Ints(models.Labels)[2*length:], targetsOf(all[2])) {
		t.Errorf("labels %v became %v", targetsOf(all[2]), b.Ints(models.Labels)[2*length:])
	}
	for _, bad := range []Recall{{Episodes: 5, SeqLen: 4, Distance: 4}, {Episodes: 5, SeqLen: 4}, {SeqLen: 4, Distance: 1}} {
		if _, err := Open(job.Data{Kind: "recall", Options: bad}, copyTask(vocab), 3, "", nil); err == nil {
			t.Errorf("%+v is opened", bad)
		}
	}
}
