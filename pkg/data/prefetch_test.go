package data

import (
	"context"
	"errors"
	"fmt"
	"image/color"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
)

func openCopyTask(t *testing.T, n int) Dataset {
	t.Helper()
	d, err := Open(of(job.Data{Kind: "copy"}, "Episodes", n, "SeqLen", 3), copyTask(10), 5, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// countingFeed records what it was asked for, and fails or panics on demand.
type countingFeed struct {
	Feed
	mu    sync.Mutex
	asked []string
	fail  string
	panic string
	block chan struct{} // read from before each answer, where set
}

func (f *countingFeed) Micro(ctx context.Context, step uint64, m int) ([]Sample, error) {
	key := fmt.Sprintf("%d/%d", step, m)
	f.mu.Lock()
	f.asked = append(f.asked, key)
	f.mu.Unlock()
	if f.block != nil {
		select {
		case <-f.block:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if key == f.panic {
		panic("boom")
	}
	if key == f.fail {
		return nil, errors.New("disk on fire")
	}
	return f.Feed.Micro(ctx, step, m)
}

func newCountingFeed(t *testing.T, o Order) (*countingFeed, Dataset) {
	d := openCopyTask(t, o.N)
	l, err := NewLocalFeed(d.Train(), o)
	if err != nil {
		t.Fatal(err)
	}
	return &countingFeed{Feed: l}, d
}

// What comes out of the prefetcher is what the feed and the collator give
// directly, for any depth, in order and across epochs.
func TestPrefetcherOrder(t *testing.T) {
	o := Order{Seed: 2, N: 10, Global: 8, Micro: 2, Shuffle: true}
	for _, ahead := range []int{1, 2, 7} {
		feed, d := newCountingFeed(t, o)
		p, err := NewPrefetcher(feed, d.Meta(), o.Micro, ahead, Range{Start: 3, End: 6, Lo: 1, Hi: 3})
		if err != nil {
			t.Fatal(err)
		}
		for step := uint64(3); step < 6; step++ {
			for m := 1; m < 3; m++ {
				b, err := p.Next(t.Context(), step, m)
				if err != nil {
					t.Fatal(err)
				}
				var ids []uint64
				for _, s := range o.Slice(step, m, nil) {
					ids = append(ids, uint64(s))
				}
				if !reflect.DeepEqual(b.IDs, ids) {
					t.Fatalf("step %d micro %d: samples %v, want %v", step, m, b.IDs, ids)
				}
				if !reflect.DeepEqual(b.Ints(models.Labels), b.Ints(models.Instruction)) {
					t.Fatal("labels are not the tokens")
				}
			}
		}
		if want := []string{"3/1", "3/2", "4/1", "4/2", "5/1", "5/2"}; !reflect.DeepEqual(feed.asked, want) {
			t.Errorf("ahead %d: the feed was asked for %v", ahead, feed.asked)
		}
		// Past the end, and beside the line: read at once.
		b, err := p.Next(t.Context(), 9, 0)
		if err != nil || b.IDs[0] != uint64(o.Slice(9, 0, nil)[0]) {
			t.Error(b, err)
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Next(t.Context(), 9, 1); !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	}
}

// It runs ahead by as much as it was told and no further.
func TestPrefetcherIsBounded(t *testing.T) {
	o := Order{N: 100, Global: 2, Micro: 1}
	feed, d := newCountingFeed(t, o)
	feed.block = make(chan struct{})
	const ahead = 3
	p, err := NewPrefetcher(feed, d.Meta(), 1, ahead, Range{Hi: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	// The reader asks once for each free buffer, ahead+1 of them, and then
	// waits for one to come back: the fifth answer has no taker.
	for i := 0; i < ahead+1; i++ {
		feed.block <- struct{}{}
	}
	if _, err := p.Next(t.Context(), 0, 0); err != nil {
		t.Fatal(err)
	}
	for len(p.ready) < ahead { // the last of them is on its way
		feed.mu.Lock()
		n := len(feed.asked)
		feed.mu.Unlock()
		if n > ahead+1 {
			t.Fatalf("%d micro-batches were asked for with %d buffers", n, ahead+1)
		}
	}
	if len(feed.asked) != ahead+1 {
		t.Fatalf("asked for %v", feed.asked)
	}
}

// A lost worker's micro-batch, asked for out of turn, and a step asked for
// again do not disturb what is in line.
func TestPrefetcherOutOfTurn(t *testing.T) {
	o := Order{Seed: 1, N: 12, Global: 4, Micro: 1, Shuffle: true}
	feed, d := newCountingFeed(t, o)
	p, err := NewPrefetcher(feed, d.Meta(), 1, 2, Range{Lo: 1, Hi: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for _, k := range []struct {
		step uint64
		m    int
	}{{0, 1}, {0, 3}, {0, 0}, {1, 1}, {1, 1}, {0, 1}, {4, 1}, {5, 1}, {2, 1}} {
		b, err := p.Next(t.Context(), k.step, k.m)
		if err != nil || b.IDs[0] != uint64(o.Slice(k.step, k.m, nil)[0]) {
			t.Fatalf("%+v: %v %v", k, b, err)
		}
	}
}

func TestPrefetcherErrors(t *testing.T) {
	o := Order{N: 12, Global: 4, Micro: 2}
	for _, how := range []string{"fail", "panic"} {
		feed, d := newCountingFeed(t, o)
		want := []string{"step 2, micro-batch 1: ", "disk on fire"}
		if how == "panic" {
			feed.panic = "1/1"
			want[1] = "panic while reading: boom"
		} else {
			feed.fail = "1/1"
		}
		p, err := NewPrefetcher(feed, d.Meta(), 2, 4, Range{Hi: 2})
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range [][2]int{{0, 0}, {0, 1}, {1, 0}} {
			if _, err := p.Next(t.Context(), uint64(k[0]), k[1]); err != nil {
				t.Fatal(err)
			}
		}
		for again := 0; again < 2; again++ {
			_, err = p.Next(t.Context(), 1, 1)
			for _, w := range want {
				if err == nil || !strings.Contains(err.Error(), w) {
					t.Errorf("%s: %v, want %q", how, err, w)
				}
			}
		}
		p.Close()
	}

	feed, d := newCountingFeed(t, o)
	feed.block = make(chan struct{})
	p, err := NewPrefetcher(feed, d.Meta(), 2, 1, Range{Hi: 1})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Next(ctx, 0, 0); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	p.Close() // must not hang on a feed that does not answer

	if p, err = NewPrefetcher(feed, d.Meta(), 2, 1, Range{Lo: 1, Hi: 1}); err != nil { // a rank without micro-batches
		t.Fatal(err)
	}
	p.Close()
	if _, err := NewPrefetcher(feed, d.Meta(), 2, 0, Range{Hi: 1}); err == nil {
		t.Error("a depth of 0 was accepted")
	}
	if _, err := NewPrefetcher(feed, d.Meta(), 2, 1, Range{Lo: 2, Hi: 1}); err == nil {
		t.Error("a range from 2 to 1 was accepted")
	}
}

func TestLocalFeedErrors(t *testing.T) {
	d := openCopyTask(t, 10)
	if _, err := NewLocalFeed(d.Train(), Order{N: 11, Global: 2, Micro: 1}); err == nil || !strings.Contains(err.Error(), "11") {
		t.Error(err)
	}
	if _, err := NewLocalFeed(d.Train(), Order{N: 10, Global: 3, Micro: 2}); err == nil {
		t.Error("an order that does not divide was accepted")
	}
	f, err := NewLocalFeed(d.Train(), Order{N: 10, Global: 4, Micro: 2})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Micro(t.Context(), 0, 2); err == nil || !strings.Contains(err.Error(), "2 micro-batches") {
		t.Error(err)
	}
	if _, err := d.Train().Sample(10); err == nil {
		t.Error("a sample outside the split was given")
	}
}

func TestCollateChecksShapes(t *testing.T) {
	meta := Meta{Spec: models.Spec{pictures(3, 2, 2), models.Known(models.Instruction, 2), acts(1)}, ImageMean: imageMean, ImageStd: imageStd}
	c, err := NewCollator(meta)
	if err != nil {
		t.Fatal(err)
	}
	b := models.NewBatch(1, meta.Spec)
	picture := func(v Value) Sample {
		return Sample{ID: 9, Origin: "x.jsonl:4", Values: []Value{v, {Ints: []int32{1, 0}}, {Floats: []float32{0.5}}}}
	}
	good := picture(Value{Image: Image{RGB: make([]byte, 12), H: 2, W: 2}})
	if err := c.Collate([]Sample{good}, b); err != nil || b.IDs[0] != 9 || b.Floats(models.Images)[0] != -1 || b.Floats(models.Actions)[0] != 0.5 || b.Ints(models.Instruction)[0] != 1 {
		t.Fatal(b, err)
	}
	good = picture(Value{Floats: []float32{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, Image: Image{H: 2, W: 2}})
	if err := c.Collate([]Sample{good}, b); err != nil || b.Floats(models.Images)[11] != 12 {
		t.Fatal(err)
	}
	good = picture(Value{Image: Image{Encoded: encodePNG(t, testPicture(5, 5, color.RGBA{1, 1, 1, 255}))}})
	if err := c.Collate([]Sample{good}, b); err != nil {
		t.Fatal(err)
	}
	for want, f := range map[string]func(s *Sample){
		"instruction_tokens has 3 tokens, expected 2": func(s *Sample) { s.Values[1].Ints = make([]int32, 3) },
		"actions has 0 values, expected 1":            func(s *Sample) { s.Values[2].Floats = nil },
		"2 features; expected images 3×2×2":           func(s *Sample) { s.Values = s.Values[:2] },
		"neither PNG nor JPEG":                        func(s *Sample) { s.Values[0].Image = Image{Encoded: []byte("??")} },
		"expected [3, 2, 2]":                          func(s *Sample) { s.Values[0] = Value{Floats: []float32{1}, Image: Image{H: 1, W: 1}} },
		"0 bytes of RGB":                              func(s *Sample) { s.Values[0] = Value{} },
	} {
		s := good
		s.Values = slices.Clone(s.Values)
		f(&s)
		if err := c.Collate([]Sample{s}, b); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "sample 9 (x.jsonl:4)") {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if err := c.Collate(nil, b); err == nil {
		t.Error("a batch of the wrong size was filled")
	}
}
