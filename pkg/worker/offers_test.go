package worker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.uber.org/zap"

	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/pkg/allreduce"
	"github.com/vlaring/vlaring/pkg/bulk"
	"github.com/vlaring/vlaring/pkg/checkpoint"
	"github.com/vlaring/vlaring/pkg/cluster"
	"github.com/vlaring/vlaring/pkg/train"
)

// sharer is a worker as far as its state goes.
func sharer(t *testing.T, s *squad, hub *bulk.Memory, name string) (*Worker, *rank) {
	r := s.rank(name)
	w := New(Config{ID: name, Blobs: hub.Join(name), Log: zap.NewNop()})
	w.job, w.trainer = s.job, r.Trainer
	w.knobs.Store(s.job)
	w.offer.init(w.Blobs)
	if err := w.serveState(); err != nil {
		t.Fatal(err)
	}
	return w, r
}

// A newcomer takes the state of peers, with what they know of commits, and the
// next step gives the bits of an undisturbed run.
func TestStateFromPeers(t *testing.T) {
	want, _ := alone(t, 3)
	s, hub := newSquad(t), bulk.NewMemory()
	a, ra := sharer(t, s, hub, "a")
	s.form([]int{0, 8}, ra)
	s.step([]int{0, 8}, ra)
	s.step([]int{0, 8}, ra)
	reports := []*cluster.Report{nil, {Worker: "a", Step: 1}, {Worker: "a", Step: 2, Loss: 0.1}, {Worker: "a", Step: 3}}
	a.reports.Store(&reports)

	b, rb := sharer(t, s, hub, "b")
	s.form([]int{0, 8}, rb)
	rb.begin(0, 8) // what it holds of another step must not count in this one
	<-rb.waits
	if _, err := rb.end(); err != nil {
		t.Fatal(err)
	}
	assign := func(digest string, sources ...string) *cluster.Assign {
		return &cluster.Assign{Step: 2, Digest: digest, Sources: sources, Group: allreduce.Group{Generation: 9, Rank: 1}}
	}
	got, err := b.fetchState(t.Context(), assign(want[1], "a"))
	if err != nil {
		t.Fatal(err)
	}
	if rb.Digest() != want[1] || rb.CommittedStep() != 2 {
		t.Errorf("the state came as %s, want %s", rb.Digest(), want[1])
	}
	if j, _ := json.Marshal(got); len(got) != 2 || got[0].Step != 1 || got[1].Loss != 0.1 { // no nil, and none of a step that it does not have
		t.Errorf("the reports came as %s", j)
	}
	bounds := []int{0, 4, 8}
	s.form(bounds, ra, rb)
	s.step(bounds, ra, rb)
	if ra.Digest() != want[2] || rb.Digest() != want[2] {
		t.Errorf("after a step together: %s and %s, undisturbed %s", ra.Digest(), rb.Digest(), want[2])
	}

	// state that is not what was announced is refused, by name of who gave it
	_, err = b.fetchState(t.Context(), assign("2-000000000000000000000000", "a"))
	if err == nil || !strings.Contains(err.Error(), "want 2-0000") {
		t.Errorf("state of another digest: %v", err)
	}
	if d := rb.Digest(); d != "" {
		t.Errorf("with a state that nobody vouches for, this one claims %s", d)
	}
	if _, err := b.fetchState(t.Context(), assign(want[2], "a")); err == nil {
		t.Error("the state of step 3 was taken for that of step 2")
	}
	defer hub.Join("z").Close()
	_, err = b.fetchState(t.Context(), assign(want[1], "z"))
	var source *sourceError
	if !errors.As(err, &source) || source.peer != "z" || !errors.Is(err, bulk.ErrUnknown) {
		t.Errorf("from a peer that has nothing: %v", err)
	}
}

// pieces fetches an offer and returns how many bytes it has.
func (w *Worker) pieces(t *testing.T, o cluster.Offer) (n int64) {
	t.Helper()
	for _, p := range o.Files {
		buf := make(bulk.Buffer, p.Size)
		if err := w.Blobs.Fetch(t.Context(), w.ID, p.Name, p.Size, p.SHA256, buf); err != nil {
			t.Fatal(err)
		}
		n += p.Size
	}
	return n
}

// Orphans of one machine keep their states at the same moment and in the same
// place: each leaves a checkpoint that verifies and holds its state.
func TestRescue(t *testing.T) {
	s, hub, dir := newSquad(t), bulk.NewMemory(), t.TempDir()
	a, ra := sharer(t, s, hub, "a")
	b, rb := sharer(t, s, hub, "b")
	bounds := []int{0, 4, 8}
	s.form(bounds, ra, rb)
	s.step(bounds, ra, rb)
	kept := map[string]string{}
	var wg sync.WaitGroup
	var mu sync.Mutex
	for _, w := range []*Worker{a, b} {
		w.RescueDir, w.source = dir, &source{job: s.job, meta: s.set.Meta()}
		wg.Go(func() {
			where, err := w.rescue()
			if err != nil {
				t.Errorf("worker %s: %v", w.ID, err)
			}
			mu.Lock()
			kept[where] = w.trainer.Digest()
			mu.Unlock()
		})
	}
	wg.Wait()
	if len(kept) != 2 {
		t.Fatalf("two workers kept their states in %v", kept)
	}
	for where, want := range kept {
		found, err := checkpoint.LatestGood(where)
		if err != nil || found.Manifest.Step != 1 || len(found.Passed) > 0 {
			t.Fatalf("%s: %+v, %v", where, found, err)
		}
		c := s.rank("c")
		if err := c.Restore(1, open(t, filepath.Join(found.Dir, train.ModelFile)), open(t, filepath.Join(found.Dir, train.OptimizerFile)), ""); err != nil {
			t.Fatal(err)
		}
		if got := c.Digest(); got != want {
			t.Errorf("%s holds the state %s, want %s", where, got, want)
		}
	}
}

// hears has what a worker says come to the test instead of to a driver.
func hears(w *Worker) <-chan cluster.NodeEvent {
	said := make(chan cluster.NodeEvent, 16)
	w.say = func(ev cluster.NodeEvent) { said <- ev }
	return said
}

// At most one copy of the state is on offer, and its memory is used again; a
// step's copy gives way to another division of the same step, and to the next
// step once it is stored.
func TestOffers(t *testing.T) {
	s, hub := newSquad(t), bulk.NewMemory()
	w, r := sharer(t, s, hub, "a")
	defer w.behind.Wait()
	said := hears(w) // and the coordinator lives
	living := w.Blobs.(*bulk.MemoryEnd).Offered()
	held := func() int { return len(w.Blobs.(*bulk.MemoryEnd).Offered()) - len(living) }
	offer := func(step uint64, part, parts int) cluster.Offer {
		t.Helper()
		w.makeOffer(t.Context(), step, 1, part, parts)
		return (<-said).(cluster.OfferReady).Offer
	}
	s.form([]int{0, 8}, r)
	s.step([]int{0, 8}, r)
	o := offer(1, 0, 2)
	if o.Digest != r.Digest() || o.Step != 1 || len(o.Files) != 2 || held() != 2 {
		t.Fatalf("offered %+v, %d blobs", o, held())
	}
	half := w.pieces(t, o)

	// divided otherwise: the first is withdrawn without being asked
	o = offer(1, 0, 1)
	if n := w.pieces(t, o); n < 2*half-2 || held() != 2 {
		t.Errorf("half is %d bytes, the whole %d, %d blobs", half, n, held())
	}
	whole := &w.offer.held[0].Data[0]
	s.step([]int{0, 8}, r)

	// the next step's has to wait until the one before is stored
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if w.makeOffer(ctx, 2, 1, 0, 2); held() != 2 {
		t.Errorf("while another is on offer: %d blobs", held())
	}
	w.offer.withdraw(1)
	if held() != 0 {
		t.Errorf("after it was stored %d blobs are on offer", held())
	}
	w.offer.withdraw(1) // twice
	if w.makeOffer(t.Context(), 1, 1, 0, 2); held() != 0 {
		t.Errorf("an offer of a step that is over: %d blobs", held())
	}
	o = offer(2, 0, 2)
	if w.pieces(t, o) != half || o.Digest != r.Digest() {
		t.Errorf("offered %+v", o)
	}
	if &w.offer.held[0].Data[0] != whole {
		t.Error("another copy of the state took memory of its own")
	}
	s.step([]int{0, 8}, r)

	// without a coordinator nobody will ever fetch it: training does not wait
	w.silence.Store(math.MaxInt64)
	o = offer(3, 0, 2)
	if o.Step != 3 || held() != 2 {
		t.Errorf("offered %+v, %d blobs", o, held())
	}
	w.offer.withdraw(3)
}

// An offer that is withdrawn while its copy is hashed never stays.
func TestOfferWithdrawnBeforeItIsThere(t *testing.T) {
	o, hub := offers{}, bulk.NewMemory()
	b := hub.Join("a")
	o.init(b)
	if !o.room(t.Context(), 4, func() bool { return true }) {
		t.Fatal("no room")
	}
	o.withdraw(4)
	if err := b.Offer(pieceName(4, train.ModelFile, 0), 1, "", bulk.Buffer{1}); err != nil {
		t.Fatal(err)
	}
	o.hold(division{step: 4}, []train.Part{{File: train.ModelFile, Data: []byte{1}}})
	if n := b.Offered(); len(n) != 0 {
		t.Errorf("still on offer: %v", n)
	}
	if !o.room(t.Context(), 5, func() bool { return true }) || len(o.spare) != 1 {
		t.Errorf("no room, or the memory is lost: %v", o.spare)
	}
}

// The copy is of the step that it was asked for, though the next step runs
// meanwhile: its commit waits for whoever holds the state.
func TestOfferBesideTheNextStep(t *testing.T) {
	s, hub := newSquad(t), bulk.NewMemory()
	w, r := sharer(t, s, hub, "a")
	said := hears(w)
	s.form([]int{0, 8}, r)
	s.step([]int{0, 8}, r)
	for step := uint64(1); step < 5; step++ {
		want := r.Digest()
		whole, err := r.Part(0, 1, nil)
		if err != nil {
			t.Fatal(err)
		}
		held, ok := r.Hold(step)
		if !ok {
			t.Fatalf("the state of step %d cannot be held", step)
		}
		w.makeOffer(t.Context(), step, 1, 0, 1)
		r.begin(0, 8)
		<-r.waits // computed
		if got := held.Digest(); got != want {
			t.Errorf("step %d: while it was held the state became %s, was %s", step, got, want)
		}
		held.Release()
		if _, err := r.end(); err != nil {
			t.Fatal(err)
		}
		if r.CommittedStep() != step+1 || r.Digest() == want {
			t.Errorf("step %d is committed, digest %s", r.CommittedStep(), r.Digest())
		}
		if o := (<-said).(cluster.OfferReady).Offer; o.Step != step || o.Digest != want {
			t.Errorf("offered %+v, want digest %s", o, want)
		}
		w.offer.mu.Lock()
		for i, p := range w.offer.held {
			if !bytes.Equal(p.Data, whole[i].Data) {
				t.Errorf("%s of the offer is not that of step %d", p.File, step)
			}
		}
		w.offer.mu.Unlock()
		if _, ok := r.Hold(step); ok {
			t.Errorf("the state of step %d could be held after it", step)
		}
		w.offer.withdraw(step)
	}
	w.behind.Wait()
}

// A part that is asked for again and again while it is made, as a coordinator
// does where making it takes longer than it waits, is made once and stays on offer.
func TestOfferAskedForAgain(t *testing.T) {
	s, hub := newSquad(t), bulk.NewMemory()
	w, r := sharer(t, s, hub, "a")
	s.form([]int{0, 8}, r)
	s.step([]int{0, 8}, r)
	said := hears(w)
	living := len(w.Blobs.(*bulk.MemoryEnd).Offered())
	var asking sync.WaitGroup
	for range 5 {
		asking.Go(func() { w.makeOffer(t.Context(), 1, 1, 0, 2) })
	}
	asking.Wait()
	w.behind.Wait()
	w.makeOffer(t.Context(), 1, 1, 0, 2)
	w.behind.Wait()
	if n := len(said); n != 1 {
		t.Fatalf("it was offered %d times", n)
	}
	w.pieces(t, (<-said).(cluster.OfferReady).Offer)
	w.offer.withdraw(1)
	if n := len(w.Blobs.(*bulk.MemoryEnd).Offered()); n != living {
		t.Errorf("%d blobs are on offer once it is withdrawn, %d before", n, living)
	}
	w.makeOffer(t.Context(), 1, 1, 0, 2) // and then it is made again
	w.behind.Wait()
	if len(said) != 1 {
		t.Error("one that was withdrawn is not made again")
	}
}

func open(t *testing.T, path string) *safetensors.File {
	t.Helper()
	f, err := safetensors.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}
