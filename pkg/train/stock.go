package train

import (
	"bytes"
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
	"github.com/vlaring/vlaring/pkg/checkpoint"
	"github.com/vlaring/vlaring/pkg/cluster"
)

// Where the ranks share out the optimizer's moments, each worker says which it
// has, and hands them out: moments/list, and moments/STEP/LO-HI, the first ones
// of a range and then the second ones. They stay as they are while a generation
// begins: nobody commits before all have what belongs to their places.
const (
	momentsBlob = "moments/"
	listBlob    = momentsBlob + "list"
)

// mostMoments is how many of a range are handed out at a time: 16 MiB of both.
const mostMoments = 2 << 20

// maxListBytes bounds a list: as many ranges as there may be ranks, and more.
const maxListBytes = 1 << 20

// listTimeout bounds the wait for one list: who has gone is found out by others,
// but not where all are at rest.
const listTimeout = 3 * time.Second

// holding is what a worker says of the moments that it has.
type holding struct {
	Have   []heldRange `json:"have"`
	Origin *origin     `json:"origin,omitempty"`
}

type heldRange struct {
	Lo   int    `json:"lo"`
	Hi   int    `json:"hi"`
	Step uint64 `json:"step"`
}

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

// holding is what is here, of all steps.
func (t *Trainer) holding() holding {
	t.mu.RLock()
	defer t.mu.RUnlock()
	s, h := t.shards, holding{Have: []heldRange{}}
	if t.void {
		return h
	}
	for _, r := range s.have {
		h.Have = append(h.Have, heldRange{r.Lo, r.Hi, r.step})
	}
	if s.next != nil {
		for _, r := range s.next.ranges {
			h.Have = append(h.Have, heldRange{r.Lo, r.Hi, s.next.step})
		}
	}
	h.Origin = s.origin
	return h
}

// moments are those of a range, of which all are here or in the making: the
// first ones, and then the second.
func (t *Trainer) moments(r allreduce.Range, step uint64) ([]byte, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	s := t.shards
	if r.Lo < 0 || r.Hi > s.total || r.Lo >= r.Hi || r.Hi-r.Lo > mostMoments {
		return nil, fmt.Errorf("moments %d to %d of %d", r.Lo, r.Hi, s.total)
	}
	out := make([]float32, 0, 2*(r.Hi-r.Lo))
	switch {
	case t.void:
	case len(s.missing([]allreduce.Range{r}, step)) == 0:
		for _, slab := range [][]float32{t.m, t.v} {
			for _, f := range s.slab(r) {
				out = append(out, slab[f.Lo:f.Hi]...)
			}
		}
		return littleEndian(out), nil
	case s.next != nil && s.next.step == step:
		at := 0
		for _, k := range s.next.ranges {
			if k.Lo <= r.Lo && r.Hi <= k.Hi {
				lo, hi := at+r.Lo-k.Lo, at+r.Hi-k.Lo
				return littleEndian(append(append(out, s.next.m[lo:hi]...), s.next.v[lo:hi]...)), nil
			}
			at += k.Hi - k.Lo
		}
	}
	return nil, fmt.Errorf("moments %d to %d of step %d are not here", r.Lo, r.Hi, step)
}

// takeMoments takes on what moments has given of a range of the state's.
func (t *Trainer) takeMoments(r allreduce.Range, b []byte) error {
	n := r.Hi - r.Lo
	if len(b) != 8*n {
		return fmt.Errorf("%d bytes of moments, want %d", len(b), 8*n)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, slab := range [][]float32{t.m, t.v} {
		for _, f := range t.shards.slab(r) {
			at := 4 * (i*n + f.at - r.Lo)
			putBytes(slab[f.Lo:f.Hi], 0, b[at:at+4*(f.Hi-f.Lo)])
		}
	}
	t.shards.note(r, t.step)
	return nil
}

// missing is what of need is not here of the state's moments.
func (t *Trainer) missing(need []allreduce.Range) []allreduce.Range {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.shards.missing(need, t.step)
}

// serveMoments puts on offer what this worker holds of the optimizer.
func (w *Worker) serveMoments() error {
	return w.Blobs.OfferFunc(momentsBlob, func(_ context.Context, name string) ([]byte, error) {
		w.moments.served.Store(time.Now().UnixNano())
		if strings.HasPrefix(name, listBlob) {
			return json.Marshal(w.trainer.holding())
		}
		var step uint64
		var r allreduce.Range
		if _, err := fmt.Sscanf(name, momentsBlob+"%d/%d-%d", &step, &r.Lo, &r.Hi); err != nil {
			return nil, fmt.Errorf("%q names no moments", name)
		}
		return w.trainer.moments(r, step)
	})
}

// stock has the moments of need here, which are those of the state: from where
// the state itself came from, or from other workers that have them.
func (w *Worker) stock(ctx context.Context, need []allreduce.Range) error {
	for ctx.Err() == nil {
		if len(w.trainer.missing(need)) == 0 {
			return nil
		}
		words := "fetching the optimizer's moments"
		w.words.Store(&words)
		if o := w.trainer.holding().Origin; o != nil {
			return w.fromOrigin(ctx, o, w.trainer.missing(need))
		}
		whole := false
		members, gone := w.moments.others(w.ID)
		for i, peers := range [][]string{members, gone} {
			lists, all := w.lists(ctx, peers)
			if err := w.fromPeers(ctx, lists, w.trainer.missing(need)); err != nil {
				return err
			}
			missing := w.trainer.missing(need)
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
			for _, r := range w.trainer.missing(need) {
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
	s := w.trainer.shards
	if s == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, partTimeout)
	defer cancel()
	return w.stock(ctx, s.held(part, parts))
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

// lingers is how long after a request another one may come.
const lingers = 2 * time.Second

// collect has all moments here.
func (w *Worker) collect() error {
	ctx, cancel := context.WithTimeout(context.Background(), partTimeout)
	defer cancel()
	return w.stock(ctx, []allreduce.Range{{Hi: w.trainer.shards.total}})
}

// lists asks all others what they hold. It is not whole where one did not answer.
func (w *Worker) lists(ctx context.Context, members []string) (lists map[string]holding, whole bool) {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	lists, whole = map[string]holding{}, true
	var mu sync.Mutex
	var group errgroup.Group
	group.SetLimit(16)
	name := fmt.Sprintf("%s/%s/%d", listBlob, w.ID, w.moments.asked.Add(1)) // another name each time: what is made of one may be kept
	for _, m := range members {
		if m == w.ID {
			continue
		}
		group.Go(func() error {
			var h holding
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

// fromPeers fetches what others hold of missing, from several at a time.
func (w *Worker) fromPeers(ctx context.Context, lists map[string]holding, missing []allreduce.Range) error {
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
			p := peers[(i+r.Lo/grain)%len(peers)]
			k := slices.IndexFunc(lists[p].Have, func(h heldRange) bool { return h.Step == step && h.Lo < r.Hi && h.Hi > r.Lo })
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
			for lo := got.Lo; lo < got.Hi; lo += mostMoments {
				piece := allreduce.Range{Lo: lo, Hi: min(lo+mostMoments, got.Hi)}
				group.Go(func() error {
					b, err := w.Blobs.Get(ctx, p, fmt.Sprintf("%s%d/%d-%d", momentsBlob, step, piece.Lo, piece.Hi), 8*mostMoments)
					if err == nil {
						err = w.trainer.takeMoments(piece, b)
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
func (w *Worker) fromOrigin(ctx context.Context, o *origin, need []allreduce.Range) error {
	t := w.trainer
	f, err := t.files()
	if err != nil {
		return err
	}
	b := o.File
	into := &momentsFile{t: t, need: need, head: make([]byte, f.optimizer.DataStart())}
	if err := w.Blobs.Fetch(ctx, CoordinatorPeer, b.Name, b.Size, b.SHA256, into); err != nil {
		return fmt.Errorf("fetching %s of step %d from the coordinator: %w", b.Name, o.Step, err)
	}
	want := make([]byte, len(into.head))
	f.optimizer.ReadAt(want, 0)
	if b.Size != f.optimizer.Size() || !bytes.Equal(want, into.head) { // another program has written it: its tensors lie elsewhere
		if err := w.fromForeign(ctx, b, need); err != nil {
			return err
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.step != o.Step {
		return fmt.Errorf("the moments of step %d came when step %d had been committed", o.Step, t.step)
	}
	for _, r := range need {
		t.shards.note(r, t.step)
	}
	return nil
}

// fromForeign is fromOrigin for a file whose order is not this program's.
func (w *Worker) fromForeign(ctx context.Context, b *cluster.Blob, need []allreduce.Range) error {
	t := w.trainer
	buf := make(memory, b.Size)
	if err := w.Blobs.Fetch(ctx, CoordinatorPeer, b.Name, b.Size, b.SHA256, buf); err != nil {
		return err
	}
	file, err := safetensors.Read(buf, b.Size, b.Name)
	if err != nil {
		return err
	}
	if err := checkpoint.Match(file, t.wantMoments()); err != nil {
		return err
	}
	for i, prefix := range []string{checkpoint.FirstMoment, checkpoint.SecondMoment} {
		slab := [][]float32{t.m, t.v}[i]
		for _, p := range t.params.List() {
			x := make([]float32, p.Size())
			if err := file.Float32Into(prefix+p.Name, x); err != nil {
				return err
			}
			for _, r := range need {
				for _, f := range t.shards.slab(r) {
					if lo, hi := max(f.Lo, p.Offset), min(f.Hi, p.Offset+p.Size()); lo < hi {
						copy(slab[lo:hi], x[lo-p.Offset:hi-p.Offset])
					}
				}
			}
		}
	}
	return nil
}

// momentsFile is where the file of all moments is written: those of need go to
// their places, the header is kept, and the rest goes nowhere.
type momentsFile struct {
	t    *Trainer
	need []allreduce.Range
	head []byte
}

func (m *momentsFile) WriteAt(p []byte, off int64) (int, error) {
	if off < int64(len(m.head)) {
		copy(m.head[off:], p)
	}
	s := m.t.shards
	for i, slab := range [][]float32{m.t.m, m.t.v} {
		base := int64(len(m.head)) + 4*int64(i)*int64(s.total)
		for _, r := range m.need {
			if base+4*int64(r.Hi) <= off || base+4*int64(r.Lo) >= off+int64(len(p)) {
				continue
			}
			for _, f := range s.slab(r) {
				at := base + 4*int64(f.at)
				lo, hi := max(at, off), min(at+4*int64(f.Hi-f.Lo), off+int64(len(p)))
				if lo < hi {
					putBytes(slab[f.Lo:f.Hi], int(lo-at), p[lo-off:hi-off])
				}
			}
		}
	}
	return len(p), nil
}
