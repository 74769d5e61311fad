package worker

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/pkg/allreduce"
	"github.com/vlaring/vlaring/pkg/bulk"
	"github.com/vlaring/vlaring/pkg/cluster"
	"github.com/vlaring/vlaring/pkg/train"
)

// gate is a worker's end of bulk transfer that can be shut.
type gate struct {
	bulk.Blobs
	shut atomic.Bool
}

func (g *gate) OfferFunc(prefix string, f func(context.Context, string) ([]byte, error)) error {
	return g.Blobs.OfferFunc(prefix, func(ctx context.Context, name string) ([]byte, error) {
		if g.shut.Load() {
			return nil, errors.New("it is gone")
		}
		return f(ctx, name)
	})
}

// wholeRun is a rank for each number of steps up to one that holds everything.
func wholeRun(t *testing.T, steps int) []*rank {
	s := newSquad(t, "cluster.optimizer=sharded")
	var l []*rank
	for n := range steps + 1 {
		r := s.rank(fmt.Sprint("whole ", n))
		s.form([]int{0, 8}, r)
		for range n {
			s.step([]int{0, 8}, r)
		}
		l = append(l, r)
	}
	return l
}

// sameState compares ranks of a sharded world with one that holds everything.
func sameState(t *testing.T, whole *rank, ranks ...*rank) {
	t.Helper()
	for i, r := range ranks {
		if got, want := r.Digest(), whole.Digest(); got != want {
			t.Errorf("%s has state %s, want %s", r.name, got, want)
		}
		for _, h := range r.Holding().Have {
			at := allreduce.Range{Lo: h.Lo, Hi: h.Hi}
			got, err := r.Moments(at, r.CommittedStep())
			want, werr := whole.Moments(at, r.CommittedStep())
			if err != nil || werr != nil || !bytes.Equal(got, want) {
				t.Errorf("%s has other moments in %v: %v, %v", r.name, at, err, werr)
			}
		}
		if l := r.Missing(r.Shards(i, len(ranks))); len(l) > 0 {
			t.Errorf("%s lacks %v", r.name, l)
		}
	}
}

// crew are workers of a sharded squad that hand each other moments.
type crew struct {
	*squad
	hub     *bulk.Memory
	ranks   []*rank
	workers []*Worker
}

func newCrew(t *testing.T, n int) *crew {
	c := &crew{squad: newSquad(t, "cluster.optimizer=sharded"), hub: bulk.NewMemory()}
	for i := range n {
		c.join(fmt.Sprint("w", i))
	}
	return c
}

func (c *crew) join(name string) *Worker {
	r := c.rank(name)
	w := New(Config{ID: name, Blobs: &gate{Blobs: c.hub.Join(name)}, Log: zap.NewNop()})
	w.job, w.trainer = c.job, r.Trainer
	if err := w.serveMoments(); err != nil {
		c.t.Fatal(err)
	}
	c.ranks, c.workers = append(c.ranks, r), append(c.workers, w)
	return w
}

// assemble gives every worker its place, and what belongs there.
func (c *crew) assemble(bounds []int) error {
	var ids []string
	for _, w := range c.workers {
		ids = append(ids, w.ID)
	}
	var failed error
	for i, w := range c.workers {
		w.moments.form(ids)
		if err := w.stock(c.t.Context(), w.trainer.Shards(i, len(ids))); err != nil {
			failed = errors.Join(failed, err)
		}
	}
	if failed != nil {
		return failed
	}
	for i, w := range c.workers {
		w.trainer.Seat(i, len(ids))
	}
	c.form(bounds, c.ranks...)
	return nil
}

func (c *crew) run(bounds []int) {
	c.t.Helper()
	if err := c.assemble(bounds); err != nil {
		c.t.Fatal(err)
	}
	c.step(bounds, c.ranks...)
	for _, w := range c.workers {
		w.moments.committed()
	}
}

// leave takes a worker out of the crew; it answers no more, unless it lingers.
func (c *crew) leave(i int, lingers bool) {
	c.workers[i].Blobs.(*gate).shut.Store(!lingers)
	c.workers = slices.Delete(slices.Clone(c.workers), i, i+1)
	c.ranks = slices.Delete(slices.Clone(c.ranks), i, i+1)
}

// Moments move between workers as members come and go, and as many of them
// leave at once as hand over what they hold.
func TestMomentsMove(t *testing.T) {
	want := wholeRun(t, 5)
	c := newCrew(t, 5)
	bounds := []int{0, 2, 4, 6, 7, 8}
	c.run(bounds)
	c.run(bounds)
	sameState(t, want[2], c.ranks...)
	c.leave(2, false) // one dies
	c.run([]int{0, 2, 4, 6, 8})
	sameState(t, want[3], c.ranks...)
	late := c.join("late")
	if err := late.trainer.RestoreWeights(3, modelOf(t, c.ranks[0].Trainer), "", nil); err != nil {
		t.Fatal(err)
	}
	c.run(bounds)
	sameState(t, want[4], c.ranks...)
	for range 3 { // three are released
		c.leave(1, true)
	}
	c.run([]int{0, 5, 8})
	if got, want := c.ranks[1].Digest(), c.ranks[0].Digest(); got != want {
		t.Errorf("two that are left are at %s and %s", got, want)
	}
	sameState(t, want[5], c.ranks...)
}

// stateFile is a file of a state.
func stateFile(t *testing.T, l train.Living) []byte {
	t.Helper()
	b := make([]byte, l.Size())
	if n, err := l.ReadAt(b, 0); n < len(b) {
		t.Fatal(err)
	}
	return b
}

func opened(t *testing.T, b []byte) *safetensors.File {
	t.Helper()
	f, err := safetensors.Read(bytes.NewReader(b), int64(len(b)), "state")
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func modelOf(t *testing.T, r *train.Trainer) *safetensors.File {
	model, _, err := r.Living()
	if err != nil {
		t.Fatal(err)
	}
	return opened(t, stateFile(t, model))
}

// A rank and its buddy are lost together: what they held is with nobody, and the
// rank that needs it says how much that is.
func TestMomentsLost(t *testing.T) {
	c := newCrew(t, 5)
	c.run([]int{0, 2, 4, 6, 7, 8})
	c.leave(2, false)
	c.leave(2, false)
	err := c.assemble([]int{0, 3, 6, 8})
	var lost *lostError
	if !errors.As(err, &lost) || lost.step != 1 || lost.count < 16 || !strings.Contains(err.Error(), "moments of the optimizer of step 1 are lost") {
		t.Errorf("got %v", err)
	}
}

// A worker that does not answer may hold what is needed: it is asked until the
// generation is over.
func TestMomentsOfASilentWorker(t *testing.T) {
	c := newCrew(t, 5)
	c.run([]int{0, 2, 4, 6, 7, 8})
	c.leave(2, false)
	silent := c.workers[2].Blobs.(*gate)
	silent.shut.Store(true)
	w := c.workers[1]
	w.moments.form([]string{"w0", "w1", "w3", "w4"})
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := w.stock(ctx, w.trainer.Shards(1, 4)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	silent.shut.Store(false)
	if err := w.stock(t.Context(), w.trainer.Shards(1, 4)); err != nil {
		t.Error(err)
	}
}

// After a resume each worker takes its shards from the coordinator's file, and no
// more than these; a file in which another program has laid out the tensors too.
func TestMomentsOfACheckpoint(t *testing.T) {
	want := wholeRun(t, 3)
	old := want[2]
	_, optimizer, err := old.Living()
	if err != nil {
		t.Fatal(err)
	}
	own := stateFile(t, optimizer)
	var foreign bytes.Buffer
	var tensors []safetensors.Tensor
	f := opened(t, own)
	for _, name := range f.Names() {
		i, _ := f.Tensor(name)
		x := make([]float32, i.Elements())
		if err := f.Float32Into(name, x); err != nil {
			t.Fatal(err)
		}
		tensors = append(tensors, safetensors.Tensor{Name: name, Shape: i.Shape, Data: x})
	}
	if err := safetensors.Write(&foreign, tensors, map[string]string{"format": "pt"}); err != nil {
		t.Fatal(err)
	}
	for name, file := range map[string][]byte{"own": own, "foreign": foreign.Bytes()} {
		t.Run(name, func(t *testing.T) {
			c := newCrew(t, 4)
			sum := sha256.Sum256(file)
			blob := cluster.Blob{Name: StateBlobName(train.OptimizerFile, 2), Size: int64(len(file)), SHA256: hex.EncodeToString(sum[:])}
			if err := c.hub.Join(cluster.CoordinatorName).Offer(blob.Name, blob.Size, blob.SHA256, bytes.NewReader(file)); err != nil {
				t.Fatal(err)
			}
			for i, w := range c.workers {
				var from *train.Origin
				if i != 3 { // the last one comes later, from the others
					from = &train.Origin{Step: 2, File: &blob}
				}
				if err := w.trainer.RestoreWeights(2, modelOf(t, old.Trainer), "", from); err != nil {
					t.Fatal(err)
				}
			}
			bounds := []int{0, 2, 4, 6, 8}
			if err := c.assemble(bounds); err != nil {
				t.Fatal(err)
			}
			if held := c.workers[1].trainer.Missing([]allreduce.Range{old.AllMoments()}); len(held) == 0 {
				t.Error("a worker has taken all moments")
			}
			c.step(bounds, c.ranks...)
			sameState(t, want[3], c.ranks...)
		})
	}
}

// What a worker is asked for is checked: names come from the network.
func TestMomentsAreChecked(t *testing.T) {
	c := newCrew(t, 3)
	c.run([]int{0, 3, 6, 8})
	peer := c.hub.Join("other")
	for _, name := range []string{"1/0-0", "1/5-4", "1/-1-4", "1/0-99999999", "7/0-16", "x", "1/0-", "1/0-16/"} {
		b, err := peer.Get(t.Context(), "w1", momentsBlob+name, 1<<20)
		if name != "1/0-16/" && err == nil {
			t.Errorf("%s gave %d bytes", name, len(b))
		}
	}
	if err := c.workers[0].trainer.TakeMoments(allreduce.Range{Hi: 16}, make([]byte, 9)); err == nil {
		t.Error("nine bytes are sixteen moments")
	}
}
