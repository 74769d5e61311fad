package data

import (
	"bytes"
	"context"
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

	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
)

// indexOf makes an index whose samples are letters: those in capitals are held out.
func indexOf(letters string) *Index {
	x := &Index{Fingerprint: letters}
	for i, r := range letters {
		e := Entry{Picture: uint32(r) | 32, Rest: uint32(i * 0), Place: fmt.Sprint("line ", i+1)}
		if r < 'a' {
			e.Side = InHeldout
		}
		x.Entries = append(x.Entries, e)
	}
	return x
}

// TestCompareIndexes guards what is said of each kind of change, and when the
// order of the training split is the one it was.
func TestCompareIndexes(t *testing.T) {
	for _, c := range []struct {
		was, now, text string
		order          bool
	}{
		{"abcd", "abxd", "1 of 4 samples differs\n  line 3: another picture", true},
		{"abcd", "xbcy", "2 of 4 samples differ\n  line 1: another picture\n  line 4: another picture", true},
		{"abcd", "abcde", "1 sample added\n  line 5: added", false},
		{"abcd", "acd", "1 sample removed\n  line 2: removed", false},
		{"abcd", "acx", "1 of 4 samples differs, 1 removed\n  line 3: another picture\n  line 2: removed", false},
		{"abcd", "bacd", "; the others stand in another order", false},
		{"aaaa", "aaa", "1 sample removed\n  line 4: removed", false},
		{"abCd", "abd", "1 sample removed\n  line 3: removed", true}, // the held-out split has no order
		{"abcd", "abcd", "all samples are as they were, but something else in the files differs", true},
		{"abcdefghijklmnop", "ABCDEFGHIJKLMNOP", "all samples are as they were", false},
		{"abcdefghijklmn", "0123456789!$%&", "14 of 14 samples differ\n", true},
	} {
		was, now := indexOf(c.was), indexOf(c.now)
		if c.now[0] < 'a' && c.now[0] != 'A' { // other pictures, of the training split all the same
			for i := range now.Entries {
				now.Entries[i].Side = InTrain
			}
		}
		got := compareIndexes(was, now, false)
		if !strings.HasPrefix(got.Text(), c.text) && !strings.Contains(got.Text(), c.text) || len(strings.Split(got.Text(), "\n")) > maxChangePlaces+2 {
			t.Errorf("%s to %s: %q, want %q", c.was, c.now, got.Text(), c.text)
		}
		if order := got.sameOrder(was, now); order != c.order {
			t.Errorf("%s to %s: the same order: %v", c.was, c.now, order)
		}
	}
}

func TestIndexOnDisk(t *testing.T) {
	x := indexOf("abCdefG")
	x.Entries[3].Place = strings.Repeat("long", 100)
	b := x.Encode()
	got, err := DecodeIndex(b)
	if err != nil {
		t.Fatal(err)
	}
	x.Entries[3].Place = x.Entries[3].Place[:maxPlace]
	if !reflect.DeepEqual(got, x) {
		t.Errorf("%+v", got)
	}
	for i := range b {
		damaged := bytes.Clone(b)
		damaged[i] ^= 0x10
		if _, err := DecodeIndex(damaged); err == nil {
			t.Fatalf("byte %d of %d was changed unnoticed", i, len(b))
		}
		if _, err := DecodeIndex(b[:i]); err == nil {
			t.Fatalf("%d of %d bytes are taken for an index", i, len(b))
		}
	}
}

func FuzzDecodeIndex(f *testing.F) {
	f.Add(indexOf("abCdefG").Encode())
	f.Fuzz(func(t *testing.T, b []byte) { DecodeIndex(b) })
}

// reopen opens cfg as a run that was trained on was goes on with it.
func reopen(t *testing.T, cfg job.Data, needs models.Spec, was Dataset) (Dataset, error) {
	t.Helper()
	x, err := was.Index(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	m := was.Meta()
	return OpenContext(context.Background(), cfg, needs, 1, ".", &m, Watch{Other: true, Former: x})
}

func mustOpen(t *testing.T, cfg job.Data, needs models.Spec, meta *Meta) Dataset {
	t.Helper()
	d, err := Open(cfg, needs, 1, ".", meta)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// TestHeldoutSplitSurvivesAChange guards that nothing that was trained on is
// held out afterwards, though the job's choice among fewer episodes would be
// another, and that workers, who know Meta alone, get the same split.
func TestHeldoutSplitSurvivesAChange(t *testing.T) {
	dir := folderOf(t, 40)
	cfg := of(job.Data{Kind: "folder", Path: dir, Holdout: job.Holdout{Fraction: 0.2}})
	was := mustOpen(t, cfg, folderNeeds, nil)
	actions := func(s Source) (out []float32) {
		for i := range s.Len() {
			x, err := s.Sample(i)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, actionOf(x)[0])
		}
		return out
	}
	heldBefore := actions(was.Heldout())
	path := filepath.Join(dir, ManifestName)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(b, []byte("\n"))
	gone := 0 // an episode that is trained on
	for slices.Contains(heldBefore, float32(gone)) {
		gone += 2
	}
	write(t, dir, ManifestName, bytes.Join(slices.Delete(slices.Clone(lines), gone, gone+2), nil))
	d, err := reopen(t, cfg, folderNeeds, was)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if got := actions(d.Heldout()); !slices.Equal(got, heldBefore) {
		t.Errorf("held out: %v, was %v", got, heldBefore)
	}
	c := d.Change()
	if c == nil || c.Removed != 2 || c.Before != 40 || c.Now != 38 || !c.Epoch || c.From != was.Meta().Fingerprint || c.To != d.Meta().Fingerprint {
		t.Fatalf("%+v", c)
	}
	m := Accept(was.Meta(), d.Meta(), *c, 5, 4)
	if m.Start == nil || *m.Start != (Start{5, 1}) || len(m.Changes) != 1 || m.Changes[0].Step != 5 || !reflect.DeepEqual(m.Actions, was.Meta().Actions) || !slices.Equal(m.Vocab, was.Meta().Vocab) {
		t.Errorf("%+v", m)
	}
	worker := mustOpen(t, cfg, folderNeeds, &m)
	if got := actions(worker.Heldout()); !slices.Equal(got, heldBefore) || worker.Train().Len() != d.Train().Len() || worker.Meta().Fingerprint != m.Fingerprint {
		t.Errorf("a worker holds out %v", got)
	}
	// The next resume finds nothing changed, and the same split.
	again, err := reopen(t, cfg, folderNeeds, worker)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if got := actions(again.Heldout()); again.Change() != nil || !slices.Equal(got, heldBefore) || len(again.Meta().Changes) != 1 || *again.Meta().Start != *m.Start {
		t.Errorf("again: %+v, held out %v", again.Change(), got)
	}
	if _, err := Open(cfg, folderNeeds, 1, ".", ptr(was.Meta())); !errors.Is(err, ErrOtherData) {
		t.Errorf("without Other: %v", err)
	}
}

// TestChangeBesideAHeldoutSet guards that a held-out set of its own stays held
// out, whole, and that the order's new beginning is known ever after.
func TestChangeBesideAHeldoutSet(t *testing.T) {
	dir, other := folderOf(t, 10), folderOf(t, 4)
	cfg := of(job.Data{Kind: "folder", Path: dir, Holdout: job.Holdout{Path: other}})
	was := mustOpen(t, cfg, folderNeeds, nil)
	manifest, err := os.ReadFile(filepath.Join(dir, ManifestName))
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, ManifestName, manifest[bytes.IndexByte(manifest, '\n')+1:])
	d, err := reopen(t, cfg, folderNeeds, was)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if c := d.Change(); c.Removed != 1 || c.Differ+c.Added > 0 || !c.Epoch || d.Meta().Train != 9 || d.Meta().Heldout != 4 {
		t.Fatalf("%+v, %d and %d samples", c, d.Meta().Train, d.Meta().Heldout)
	}
	m := Accept(was.Meta(), d.Meta(), *d.Change(), 5, 4)
	worker := mustOpen(t, cfg, folderNeeds, &m)
	if w := worker.Meta(); w.Start == nil || *w.Start != (Start{5, 2}) || len(w.Changes) != 1 || w.Train != 9 || w.Heldout != 4 {
		t.Errorf("%+v", w)
	}
	write(t, other, "1.png", encodePNG(t, testPicture(8, 8, color.RGBA{99, 99, 99, 255})))
	again, err := reopen(t, cfg, folderNeeds, worker)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if c := again.Change(); c.Differ != 1 || c.Epoch || !strings.Contains(c.Text(), "held-out set, manifest.jsonl:2 (1.png): another picture") || again.Meta().Heldout != 4 {
		t.Errorf("%+v", c)
	}
}

// TestNamedHeldoutEpisodeIsGone guards that a job that names its held-out
// episodes goes on though one of them was taken out of the data.
func TestNamedHeldoutEpisodeIsGone(t *testing.T) {
	dir := folderOf(t, 10)
	cfg := of(job.Data{Kind: "folder", Path: dir, Holdout: job.Holdout{Episodes: []int{0, 3}}})
	was := mustOpen(t, cfg, folderNeeds, nil)
	manifest, err := os.ReadFile(filepath.Join(dir, ManifestName))
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, ManifestName, bytes.Join(bytes.SplitAfter(manifest, []byte("\n"))[2:], nil))
	d, err := reopen(t, cfg, folderNeeds, was)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	m := Accept(was.Meta(), d.Meta(), *d.Change(), 5, 4)
	if d.Meta().Heldout != 2 || d.Change().Epoch || !slices.Equal(m.Held, []int{2}) {
		t.Errorf("%+v, held out %v", d.Change(), m.Held)
	}
	if worker := mustOpen(t, cfg, folderNeeds, &m); worker.Meta().Heldout != 2 {
		t.Errorf("a worker holds out %d", worker.Meta().Heldout)
	}
	m.Held = []int{77}
	if _, err := Open(cfg, folderNeeds, 1, ".", &m); !errors.Is(err, ErrOtherData) {
		t.Error(err)
	}
}

// TestEveryHeldoutEpisodeIsGone guards that a run whose held-out episodes were
// all taken out holds out nobody, in a worker and after the way through a
// manifest too: the job's numbers are now those of episodes that it was trained on.
func TestEveryHeldoutEpisodeIsGone(t *testing.T) {
	dir := folderOf(t, 10)
	cfg := of(job.Data{Kind: "folder", Path: dir, Holdout: job.Holdout{Fraction: 0.2}})
	was := mustOpen(t, cfg, folderNeeds, nil)
	manifest, err := os.ReadFile(filepath.Join(dir, ManifestName))
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(manifest, []byte("\n"))
	held := map[float32]bool{}
	for i := range was.Heldout().Len() {
		s, err := was.Heldout().Sample(i)
		if err != nil {
			t.Fatal(err)
		}
		held[actionOf(s)[0]] = true
	}
	var kept []byte
	for i, l := range lines {
		if !held[float32(i)] {
			kept = append(kept, l...)
		}
	}
	write(t, dir, ManifestName, kept)
	d, err := reopen(t, cfg, folderNeeds, was)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	m := Accept(was.Meta(), d.Meta(), *d.Change(), 5, 4)
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var stored Meta
	if err := json.Unmarshal(b, &stored); err != nil {
		t.Fatal(err)
	}
	worker := mustOpen(t, cfg, folderNeeds, &stored)
	if w := worker.Meta(); w.Heldout != 0 || w.Train != was.Meta().Train || d.Meta().Heldout != 0 || d.Meta().Train != was.Meta().Train {
		t.Errorf("a worker has %d samples to train on and %d held out, the coordinator %d and %d, want %d and 0", w.Train, w.Heldout, d.Meta().Train, d.Meta().Heldout, was.Meta().Train)
	}
}

// TestHeldNow guards who is held out when episodes are put together or new.
func TestHeldNow(t *testing.T) {
	was := indexOf("abCD")
	for _, c := range []struct {
		now     string
		episode []int
		want    []int
	}{
		{"abCD", []int{0, 1, 2, 3}, []int{2, 3}},
		{"abCD", []int{0, 1, 1, 2}, []int{2}}, // with one that was trained on
		{"CDxx", []int{0, 0, 1, 2}, []int{0}}, // the new ones are trained on
		{"DCab", []int{0, 1, 2, 3}, []int{0, 1}},
	} {
		got := compareIndexes(was, indexOf(c.now), false).heldNow(was, 4, func(i int) int { return c.episode[i] })
		if !slices.Equal(got, c.want) {
			t.Errorf("%s %v: held out %v, want %v", c.now, c.episode, got, c.want)
		}
	}
}

// TestChangedRows guards that rows of a file of tensors are told apart too.
func TestChangedRows(t *testing.T) {
	v := ramp(3 * 4)
	path := writeTensors(t, safetensors.Tensor{Name: "images", Shape: []int{3, 1, 2, 2}, Data: v})
	cfg, needs := of(job.Data{Kind: "tensors", Path: path}), models.Spec{pictures(1, 2, 2)}
	was := mustOpen(t, cfg, needs, nil)
	v[9]++
	cfg.Path = writeTensors(t, safetensors.Tensor{Name: "images", Shape: []int{3, 1, 2, 2}, Data: v})
	d, err := reopen(t, cfg, needs, was)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if c := d.Change(); c.Differ != 1 || c.Epoch || !strings.Contains(c.Text(), "1 of 3 samples differs\n") || !strings.Contains(c.Text(), " row 2: another picture") {
		t.Errorf("%+v", c)
	}
}

// TestChangeWithoutIndex guards that a run of which no index was kept goes on
// where the counts are what they were, and not where the split is unknown.
func TestChangeWithoutIndex(t *testing.T) {
	dir := folderOf(t, 10)
	cfg := of(job.Data{Kind: "folder", Path: dir})
	m := mustOpen(t, cfg, folderNeeds, nil).Meta()
	b, err := os.ReadFile(filepath.Join(dir, "3.png"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, "2.png", b)
	open := func() (Dataset, error) {
		return OpenContext(context.Background(), cfg, folderNeeds, 1, ".", &m, Watch{Other: true})
	}
	d, err := open()
	if err != nil || !d.Change().Unknown || d.Change().Epoch || !strings.Contains(d.Change().Text(), "is not known") {
		t.Fatal(err)
	}
	d.Close()
	manifest, err := os.ReadFile(filepath.Join(dir, ManifestName))
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, ManifestName, manifest[bytes.IndexByte(manifest, '\n')+1:])
	if _, err := open(); !errors.Is(err, ErrOtherData) || !strings.Contains(err.Error(), "9 samples to train on and 0 held out, they were 10 and 0") {
		t.Error(err)
	}
}

// TestSkip guards that data.skip leaves out what it names in every source of
// files, though its picture is unusable, and keeps the numbers of the others.
func TestSkip(t *testing.T) {
	dir := folderOf(t, 6)
	write(t, dir, "3.png", []byte("not a picture"))
	cfg := of(job.Data{Kind: "folder", Path: dir, Holdout: job.Holdout{Episodes: []int{0}}}, "Skip", []int{3})
	d := mustOpen(t, cfg, folderNeeds, nil)
	var ids []uint64
	for _, s := range []Source{d.Train(), d.Heldout()} {
		for i := range s.Len() {
			x, err := s.Sample(i)
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, x.ID)
		}
	}
	if !slices.Equal(ids, []uint64{2, 4, 5, 0, 1}) || d.Meta().Train != 3 || d.Meta().Actions.Count != 3 {
		t.Errorf("samples %v, %+v", ids, d.Meta())
	}
	sum, err := d.Survey(context.Background(), Survey{Threads: 1})
	if err != nil || sum.LeftOut != 1 || sum.Samples != 5 {
		t.Errorf("%+v %v", sum, err)
	}
	rlds := of(job.Data{Kind: "rlds", Path: tinyRLDS(t)}, "Camera", "image_0", "Skip", []int{0, 1})
	all := rlds
	put(&all, "Skip", []int(nil))
	a, b := mustOpen(t, all, vlaNeeds, nil), mustOpen(t, rlds, vlaNeeds, nil)
	if a.Meta().Train != b.Meta().Train+2 || a.Meta().Fingerprint == b.Meta().Fingerprint {
		t.Errorf("%d and %d samples", a.Meta().Train, b.Meta().Train)
	}
	put(&rlds, "Skip", []int{a.Meta().Train + a.Meta().Heldout})
	if _, err := Open(rlds, vlaNeeds, 1, ".", nil); err == nil || !strings.Contains(err.Error(), "data.skip") {
		t.Error(err)
	}
	v := ramp(3 * 4)
	v[5] = float32(nan())
	path := writeTensors(t, safetensors.Tensor{Name: "images", Shape: []int{3, 1, 2, 2}, Data: v})
	if d := mustOpen(t, of(job.Data{Kind: "tensors", Path: path}, "Skip", []int{1}), models.Spec{pictures(1, 2, 2)}, nil); d.Meta().Train != 2 {
		t.Errorf("%d rows", d.Meta().Train)
	}
	c, err := reopen(t, of(job.Data{Kind: "rlds", Path: rlds.Path}, "Camera", "image_0", "Skip", []int{1}), vlaNeeds, a)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if ch := c.Change(); ch.LeftOut != 1 || ch.Differ+ch.Added+ch.Removed > 0 || !ch.Epoch || !strings.Contains(ch.Text(), "record 0, episode 0 step 1: left out by data.skip") {
		t.Errorf("%+v", ch)
	}
}

// TestOrderBeginsAnew guards exactly-once from a change on: whole epochs of the
// new number of samples, under numbers that no epoch before had.
func TestOrderBeginsAnew(t *testing.T) {
	was := Meta{Train: 7}
	m := Accept(was, Meta{Train: 6}, Change{Epoch: true}, 5, 2) // position 10, in epoch 1 of 7
	if *m.Start != (Start{5, 2}) {
		t.Fatalf("%+v", m.Start)
	}
	o := Order{Seed: 3, N: 6, Global: 2, Micro: 1, Shuffle: true, Start: 10, Epoch: 2}
	for epoch := range 3 {
		seen := map[int]bool{}
		for p := range 6 {
			seen[o.Sample(uint64(10+6*epoch+p))] = true
		}
		if len(seen) != 6 {
			t.Errorf("epoch %d has %d samples", epoch, len(seen))
		}
	}
	fresh := Order{Seed: 3, N: 6, Global: 2, Micro: 1, Shuffle: true}
	if o.Sample(10) != fresh.Sample(12) || o.Sample(3) != fresh.Sample(3) {
		t.Error("epoch 2 is not the keyed permutation of that number")
	}
	again := Accept(m, Meta{Train: 5}, Change{Epoch: true}, 8, 2) // 6 positions later: epoch 2 is whole
	if *again.Start != (Start{8, 3}) || len(again.Changes) != 2 {
		t.Errorf("%+v", again.Start)
	}
	kept := Accept(m, Meta{Train: 6}, Change{}, 9, 2)
	if kept.Start != m.Start {
		t.Error("the order began anew without need")
	}
}
