package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/pkg/allreduce"
	"github.com/vlaring/vlaring/pkg/bulk"
	"github.com/vlaring/vlaring/pkg/cluster"
	"github.com/vlaring/vlaring/pkg/train"
)

// Where the ranks share out the optimizer's moments, each worker says which it
// has, and hands them out: moments/list, and moments/STEP/LO-HI, the first ones
// of a range and then the second ones. They stay as they are while a generation
// begins: nobody commits before all have what belongs to their places.
const (
	momentsBlob = "moments/"
	listBlob    = momentsBlob + "list"
)

// maxListBytes bounds a list: as many ranges as there may be ranks, and more.
const maxListBytes = 1 << 20

// listTimeout bounds the wait for one list: who has gone is found out by others,
// but not where all are at rest.
const listTimeout = 3 * time.Second

// lostError says that nobody holds moments that a rank needs: more ranks were
// lost than the buddy copies make good.
type lostError struct {
	step  uint64
	count int
}

func (e *lostError) Error() string {
	return fmt.Sprintf("%d moments of the optimizer of step %d are lost with the ranks that held them", e.count, e.step)
}

// shared is what a worker knows of where moments are.
type shared struct {
	mu      sync.Mutex
	members []string      // of the newest generation
	former  []string      // of those before, since a step was committed: they may be about to leave, and have something yet
	asked   atomic.Uint64 // how often others were asked what they hold
	served  atomic.Int64  // when something was asked of this worker, by the clock
}

func (s *shared) form(members []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.members {
		if !slices.Contains(s.former, m) {
			s.former = append(s.former, m)
		}
	}
	s.members = members
}

func (s *shared) committed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.former = nil
}

// others are the members of the newest generation but one, and those of before
// that are in it no more.
func (s *shared) others(self string) (members, gone []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.members {
		if m != self {
			members = append(members, m)
		}
	}
	for _, m := range s.former {
		if m != self && !slices.Contains(members, m) {
			gone = append(gone, m)
		}
	}
	return members, gone
}

// serveMoments puts on offer what this worker holds of the optimizer.
func (w *Worker) serveMoments() error {
	return w.Blobs.OfferFunc(momentsBlob, func(_ context.Context, name string) ([]byte, error) {
		w.moments.served.Store(time.Now().UnixNano())
		if strings.HasPrefix(name, listBlob) {
			return json.Marshal(w.trainer.Holding())
		}
		var step uint64
		var r allreduce.Range
		if _, err := fmt.Sscanf(name, momentsBlob+"%d/%d-%d", &step, &r.Lo, &r.Hi); err != nil {
			return nil, fmt.Errorf("%q names no moments", name)
		}
		return w.trainer.Moments(r, step)
	})
}

// stock has the moments of need here, which are those of the state: from where
// the state itself came from, or from other workers that have them.
func (w *Worker) stock(ctx context.Context, need []allreduce.Range) error {
	for ctx.Err() == nil {
		if len(w.trainer.Missing(need)) == 0 {
			return nil
		}
		w.pending("fetching the optimizer's moments")
		if o := w.trainer.Holding().Origin; o != nil {
			return w.fromOrigin(ctx, o, w.trainer.Missing(need))
		}
		whole := false
		members, gone := w.moments.others(w.ID)
		for i, peers := range [][]string{members, gone} {
			lists, all := w.lists(ctx, peers)
			if err := w.fromPeers(ctx, lists, w.trainer.Missing(need)); err != nil {
				return err
			}
			missing := w.trainer.Missing(need)
			if len(missing) == 0 {
				return nil
			}
			for _, l := range lists {
				if o := l.Origin; o != nil && o.Step == w.trainer.CommittedStep() {
					return w.fromOrigin(ctx, o, missing)
				}
			}
			if i == 0 { // those that are gone need not answer
				whole = all
			}
		}
		if whole {
			n := 0
			for _, r := range w.trainer.Missing(need) {
				n += r.Hi - r.Lo
			}
			return &lostError{w.trainer.CommittedStep(), n}
		}
		select { // one that did not answer may have them
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	return context.Cause(ctx)
}

// stockPart has the moments here that a part of a checkpoint needs, and those of
// the next one, for which this worker is a witness.
func (w *Worker) stockPart(ctx context.Context, part, parts int) error {
	if !w.trainer.Sharded() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, partTimeout)
	defer cancel()
	return w.stock(ctx, w.trainer.Shards(part, parts))
}

// partTimeout bounds the search for moments that are to be stored: a worker that
// held them may be gone.
const partTimeout = 30 * time.Second

// linger keeps a worker that is released there for as long as others take the
// moments from it that they need without it.
func (w *Worker) linger(ctx context.Context) {
	began := time.Now()
	for quiet := began; ctx.Err() == nil && time.Since(quiet) < lingers && time.Since(began) < partTimeout; {
		time.Sleep(lingers / 20)
		if at := time.Unix(0, w.moments.served.Load()); at.After(quiet) {
			quiet = at
		}
	}
}

// collectTimeout bounds the wait for other orphans, as cluster.orphan_timeout does: with
// the coordinator the way to them may have gone.
const collectTimeout = 10 * time.Second

// lingers is how long after a request another one may come.
const lingers = 2 * time.Second

// collect has all moments here.
func (w *Worker) collect() error {
	ctx, cancel := context.WithTimeout(context.Background(), min(collectTimeout, time.Duration(w.knobs.Load().Cluster.OrphanTimeout)))
	defer cancel()
	return w.stock(ctx, []allreduce.Range{w.trainer.AllMoments()})
}

// lists asks all others what they hold. It is not whole where one did not answer.
func (w *Worker) lists(ctx context.Context, members []string) (lists map[string]train.Holding, whole bool) {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	lists, whole = map[string]train.Holding{}, true
	var mu sync.Mutex
	var group errgroup.Group
	group.SetLimit(16)
	name := fmt.Sprintf("%s/%s/%d", listBlob, w.ID, w.moments.asked.Add(1)) // another name each time: what is made of one may be kept
	for _, m := range members {
		if m == w.ID {
			continue
		}
		group.Go(func() error {
			var h train.Holding
			b, err := w.Blobs.Get(ctx, m, name, maxListBytes)
			if err == nil {
				err = json.Unmarshal(b, &h)
			}
			mu.Lock()
			defer mu.Unlock()
			if lists[m] = h; err != nil {
				whole = false
			}
			return nil
		})
	}
	group.Wait()
	return lists, whole
}

// spread divides the beginnings of ranges, in elements, to numbers that differ
// where ranks do.
const spread = 16

// fromPeers fetches what others hold of missing, from several at a time.
func (w *Worker) fromPeers(ctx context.Context, lists map[string]train.Holding, missing []allreduce.Range) error {
	step := w.trainer.CommittedStep()
	peers := make([]string, 0, len(lists))
	for p := range lists {
		peers = append(peers, p)
	}
	slices.Sort(peers)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(4)
	for len(missing) > 0 {
		r := missing[0]
		missing = missing[1:]
		for i := range peers { // those with a rank near this one's are not asked first by all
			p := peers[(i+r.Lo/spread)%len(peers)]
			k := slices.IndexFunc(lists[p].Have, func(h train.HeldRange) bool { return h.Step == step && h.Lo < r.Hi && h.Hi > r.Lo })
			if k < 0 {
				continue
			}
			h := lists[p].Have[k]
			got := allreduce.Range{Lo: max(r.Lo, h.Lo), Hi: min(r.Hi, h.Hi)}
			if r.Lo < got.Lo {
				missing = append(missing, allreduce.Range{Lo: r.Lo, Hi: got.Lo})
			}
			if got.Hi < r.Hi {
				missing = append(missing, allreduce.Range{Lo: got.Hi, Hi: r.Hi})
			}
			for lo := got.Lo; lo < got.Hi; lo += train.MostMoments {
				piece := allreduce.Range{Lo: lo, Hi: min(lo+train.MostMoments, got.Hi)}
				group.Go(func() error {
					b, err := w.Blobs.Get(ctx, p, fmt.Sprintf("%s%d/%d-%d", momentsBlob, step, piece.Lo, piece.Hi), w.trainer.MomentBytes())
					if err == nil {
						err = w.trainer.TakeMoments(piece, b)
					}
					if err != nil {
						return &sourceError{p, step, err}
					}
					return nil
				})
			}
			break
		}
	}
	return group.Wait()
}

// fromOrigin takes moments from the coordinator's file of the state, and of that
// no more than these.
func (w *Worker) fromOrigin(ctx context.Context, o *train.Origin, need []allreduce.Range) error {
	into, err := w.trainer.MomentsFile(need)
	if err != nil {
		return err
	}
	b := o.File
	if err := w.Blobs.Fetch(ctx, cluster.CoordinatorName, b.Name, b.Size, b.SHA256, into); err != nil {
		return fmt.Errorf("fetching %s of step %d from the coordinator: %w", b.Name, o.Step, err)
	}
	if !into.Ours(b.Size) {
		buf := make(bulk.Buffer, b.Size)
		if err := w.Blobs.Fetch(ctx, cluster.CoordinatorName, b.Name, b.Size, b.SHA256, buf); err != nil {
			return err
		}
		file, err := safetensors.Read(buf, b.Size, b.Name)
		if err != nil {
			return err
		}
		if err := into.Read(file); err != nil {
			return err
		}
	}
	return into.Take(o.Step)
}
