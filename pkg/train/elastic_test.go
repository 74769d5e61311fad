package train

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/vlaring/vlaring/pkg/allreduce"
	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// rank is a trainer with its own runtime, and a record of what it reads.
type rank struct {
	*Trainer
	name string
	feed *data.Prefetcher
	net  allreduce.Network
	ring allreduce.Reducer
	sum  []float32 // of the newest step, where that is looked at

	mu      sync.Mutex
	reading []int                       // micro-batches it was given since the last look
	spoil   func(*models.Batch, int)    // what to do to a micro-batch
	fail    func(m int) error           // whether reading it fails
	waits   chan struct{}               // told when it waits for the ring
	cancel  context.CancelFunc          // of the step in progress
	ctx     context.Context             // of it
	done    chan func() (Result, error) // how it ended
}

func (r *rank) Next(ctx context.Context, step uint64, m int) (*models.Batch, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reading = append(r.reading, m)
	if r.fail != nil {
		if err := r.fail(m); err != nil {
			return nil, err
		}
	}
	b, err := r.feed.Next(ctx, step, m)
	if err == nil && r.spoil != nil {
		r.spoil(b, m)
	}
	return b, err
}

// read is what was read since the last call.
func (r *rank) read() []int {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.reading
	r.reading = nil
	return l
}

// squad is a job's trainers on one network in memory.
type squad struct {
	t   *testing.T
	job *job.Job
	net *allreduce.MemNetwork
	set data.Dataset
	gen uint64
}

func newSquad(t *testing.T, set ...string) *squad {
	t.Helper()
	j, err := kindsOfTests().Parse("tiny.yaml", []byte(tinyJob), append([]string{"batch.global=8", "batch.micro=1"}, set...))
	if err != nil {
		t.Fatal(err)
	}
	d, err := OpenData(j, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return &squad{t: t, job: j, net: allreduce.NewMemNetwork(allreduce.Faults{}), set: d}
}

func (s *squad) rank(name string) *rank {
	s.t.Helper()
	model, opt, err := Build(s.job, s.set.Meta())
	if err != nil {
		s.t.Fatal(err)
	}
	model.Init(s.job.Seed)
	order := Order(s.job, s.set.Meta())
	opt.Samples = func(step uint64, m int) ([]int, bool) { return order.Slice(step, m, nil), false }
	rt := tensor.NewRuntime(1)
	s.t.Cleanup(rt.Close)
	r := &rank{name: name, waits: make(chan struct{}, 1)}
	r.Trainer, err = NewTrainer(rt, model, opt, func(_ uint64, phase string) {
		if phase == "ring" {
			select {
			case r.waits <- struct{}{}:
			default:
			}
		}
	})
	if err != nil {
		s.t.Fatal(err)
	}
	r.sums = sumsOf(r.params.Values(), 200) // many pieces, and parameters across their bounds
	feed, err := data.NewLocalFeed(s.set.Train(), order)
	if err != nil {
		s.t.Fatal(err)
	}
	if r.feed, err = data.NewPrefetcher(feed, s.set.Meta(), s.job.Batch.Micro, 1, data.Range{Hi: 8}); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { r.feed.Close() })
	r.net = s.net.Join(name)
	s.t.Cleanup(func() { r.net.Close() })
	return r
}

// form makes a new generation of ranks.
func (s *squad) form(bounds []int, ranks ...*rank) {
	s.t.Helper()
	s.gen++
	var names []string
	for _, r := range ranks {
		names = append(names, r.name)
	}
	for i, r := range ranks {
		if r.ring != nil {
			r.ring.Close()
		}
		var err error
		r.ring, err = allreduce.NewRing(r.net, allreduce.Group{Generation: s.gen, Rank: i, Members: names, Micro: bounds}, allreduce.Options{ChunkBytes: 4096, Fold: tensor.Fold})
		if err != nil {
			s.t.Fatal(err)
		}
		ring := r.ring
		s.t.Cleanup(func() { ring.Close() })
	}
}

// begin runs one step of a rank beside the test.
func (r *rank) begin(lo, hi int) {
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.done = make(chan func() (Result, error), 1)
	go func() {
		res, err := r.Step(r.ctx, r.ring, lo, hi, r, nil)
		if err == nil {
			err = r.sumsHold()
		}
		r.done <- func() (Result, error) { return res, err }
	}()
}

// sumsHold says whether the sum that updates have left is that of the weights.
func (r *rank) sumsHold() error {
	if got, want := r.WeightsSum(), fmt.Sprintf("%08x", checksum(r.params.Values())); got != want {
		return fmt.Errorf("the weights' checksum is %s, want %s", got, want)
	}
	return nil
}

func (r *rank) end() (Result, error) {
	f := <-r.done
	r.cancel()
	return f()
}

// step runs one step of all ranks.
func (s *squad) step(bounds []int, ranks ...*rank) (out []Result) {
	s.t.Helper()
	for i, r := range ranks {
		r.begin(bounds[i], bounds[i+1])
	}
	for _, r := range ranks {
		res, err := r.end()
		if err != nil {
			s.t.Fatalf("%s: %v", r.name, err)
		}
		out = append(out, res)
	}
	return out
}

// alone is what a job's steps give on one worker without any trouble.
func alone(t *testing.T, steps int, set ...string) (digests []string, losses []float64) {
	t.Helper()
	s := newSquad(t, set...)
	r := s.rank("alone")
	bounds := []int{0, s.job.Groups()}
	s.form(bounds, r)
	for range steps {
		losses = append(losses, s.step(bounds, r)[0].Loss)
		digests = append(digests, r.Digest())
	}
	return digests, losses
}

// A ring breaks while gradients are reduced: the survivors keep what they have
// computed, the next generation computes only what is missing, and the bits are
// those of one worker without any trouble.
func TestSurvivorsKeepTheirMicroGradients(t *testing.T) {
	want, losses := alone(t, 3)
	s := newSquad(t)
	a, b, c := s.rank("a"), s.rank("b"), s.rank("c")
	bounds := []int{0, 3, 6, 8}
	s.form(bounds, a, b, c)
	s.step(bounds, a, b, c)
	for _, r := range []*rank{a, b, c} {
		if got := r.Digest(); got != want[0] {
			t.Fatalf("%s: state %s after a step of three, %s of one", r.name, got, want[0])
		}
		r.read()
		<-r.waits
	}
	// b dies before it has anything to send
	a.begin(0, 3)
	c.begin(6, 8)
	for _, r := range []*rank{a, c} {
		<-r.waits
		r.cancel()
		if _, err := r.end(); !errors.Is(err, context.Canceled) {
			t.Fatalf("%s: halted in its ring, it said %v", r.name, err)
		}
		if r.CommittedStep() != 1 || r.Digest() != want[0] {
			t.Fatalf("%s: a step that broke has changed the state", r.name)
		}
	}
	if x, y := a.read(), c.read(); !slices.Equal(x, []int{0, 1, 2}) || !slices.Equal(y, []int{6, 7}) {
		t.Fatalf("they computed %v and %v", x, y)
	}
	bounds = []int{0, 4, 8}
	s.form(bounds, a, c)
	res := s.step(bounds, a, c)
	if x, y := a.read(), c.read(); !slices.Equal(x, []int{3}) || !slices.Equal(y, []int{4, 5}) {
		t.Errorf("after the death of b they computed %v and %v, want what was b's alone", x, y)
	}
	for i, r := range []*rank{a, c} {
		if got := r.Digest(); got != want[1] {
			t.Errorf("%s: state %s, undisturbed %s", r.name, got, want[1])
		}
		if res[i].Loss != losses[1] || res[i].Computed != 4 {
			t.Errorf("%s: loss %v of %d micro-batches, undisturbed %v", r.name, res[i].Loss, res[i].Computed, losses[1])
		}
		if len(r.slabs.held) != 0 {
			t.Errorf("%s: still holds %d micro-gradients after the commit", r.name, len(r.slabs.held))
		}
	}
	// nothing is left of the broken step in the next one
	s.step(bounds, a, c)
	if got := a.Digest(); got != want[2] {
		t.Errorf("one step later: state %s, undisturbed %s", got, want[2])
	}
	if n := len(a.slabs.free); n > 2 { // the fold of those before, and the one in progress
		t.Errorf("the first rank has memory for %d gradients", n)
	}
	if n := len(c.slabs.free); n > 4 {
		t.Errorf("the second of two has memory for %d gradients of 4 micro-batches", n)
	}
}

// A rank that cannot read a micro-batch keeps those before it, also of the group
// that it was at.
func TestReadErrorKeepsWhatIsComputed(t *testing.T) {
	for _, group := range []string{"batch.group=1", "batch.group=2", "batch.group=8"} {
		t.Run(group, func(t *testing.T) { readError(t, group) })
	}
}

func readError(t *testing.T, group string) {
	want, _ := alone(t, 1, group)
	s := newSquad(t, group)
	r := s.rank("a")
	bounds := []int{0, s.job.Groups()}
	s.form(bounds, r)
	broken := errors.New("input/output error")
	r.fail = func(m int) error {
		if m == 5 {
			return broken
		}
		return nil
	}
	r.begin(0, bounds[1])
	if _, err := r.end(); !errors.Is(err, broken) {
		t.Fatalf("got %v", err)
	}
	r.read()
	r.fail = nil
	s.form(bounds, r)
	s.step(bounds, r)
	if got := r.read(); !slices.Equal(got, []int{5, 6, 7}) || r.Digest() != want[0] {
		t.Errorf("it read %v again, and the state is %s; undisturbed %s", got, r.Digest(), want[0])
	}
}

// Every rank finds a loss that is not finite in the same sum, and refuses the
// step in the same words.
func TestNonFinite(t *testing.T) {
	for _, policy := range []string{"stop", "skip"} {
		t.Run(policy, func(t *testing.T) {
			s := newSquad(t, "train.non_finite="+policy)
			ranks := []*rank{s.rank("a"), s.rank("b"), s.rank("c")}
			bounds := []int{0, 3, 6, 8}
			s.form(bounds, ranks...)
			s.step(bounds, ranks...)
			before := ranks[0].Digest()
			for _, r := range ranks {
				r.spoil = func(b *models.Batch, m int) {
					if m == 4 || m == 7 {
						b.Floats(models.Actions)[2] = float32(math.Inf(1))
					}
				}
			}
			samples := Order(s.job, s.set.Meta()).Slice(1, 4, nil)
			var words []string
			for i, r := range ranks {
				r.begin(bounds[i], bounds[i+1])
			}
			for _, r := range ranks {
				res, err := r.end()
				if policy == "skip" {
					if err != nil || res.Loss != 0 || r.CommittedStep() != 2 || r.Digest()[1:] != before[1:] {
						t.Errorf("%s: %+v, %v, at step %d", r.name, res, err, r.CommittedStep())
					}
					words = append(words, res.Refused)
					continue
				}
				var bad *NonFiniteError
				if !errors.As(err, &bad) || bad.Step != 2 || bad.Micro != 4 || !slices.Equal(bad.Samples, samples) || bad.Tensor == "" {
					t.Errorf("%s: %+v", r.name, err)
					continue
				}
				if r.CommittedStep() != 1 || r.Digest() != before {
					t.Errorf("%s: a refused step has changed the state", r.name)
				}
				words = append(words, err.Error())
			}
			want := fmt.Sprintf("step 2: the loss of micro-batch 4 (training samples %v) is not finite", samples)
			for _, w := range words {
				if w != words[0] || !strings.HasPrefix(w, want) {
					t.Errorf("%q, want what all say, beginning with %q", w, want)
				}
			}
			if policy == "stop" {
				return
			}
			for _, r := range ranks {
				r.spoil = nil
			}
			s.step(bounds, ranks...)
			for _, r := range ranks {
				if r.Digest() != ranks[0].Digest() || r.CommittedStep() != 3 {
					t.Errorf("after a step that was passed over %s is at %s, %s at %s", r.name, r.Digest(), ranks[0].name, ranks[0].Digest())
				}
			}
		})
	}
}

// A gradient can overflow though every loss is finite: then the tensor is named.
func TestNonFiniteGradient(t *testing.T) {
	s := newSquad(t)
	r := s.rank("a")
	p := r.params.List()[2]
	name := p.Name
	sum := make([]float32, r.slabs.floats)
	sum[p.Offset+3] = float32(math.NaN())
	for m := range r.micros() {
		sum[r.gradients()+r.place(m, 0)+2] = 7
	}
	var res Result
	solo := allreduce.NewSolo(nil)
	err := r.commit(t.Context(), solo, &res, solo.Begin(0, nil, [][]float32{sum}, nil, nil))
	var bad *NonFiniteError
	if !errors.As(err, &bad) || bad.Micro != -1 || bad.Tensor != name || !strings.Contains(err.Error(), name) {
		t.Errorf("got %v", err)
	}
}

// Losses travel as two floats through sums of zeros.
func TestLossesTravel(t *testing.T) {
	for _, l := range []float64{0, 1, -1, 1.0 / 3, math.Pi * 1e-20, 1e30, float64(math.MaxFloat32)} {
		hi, lo := split(l)
		if got := join(0+hi+0, 0+lo+0); math.Abs(got-l) > math.Abs(l)*0x1p-47 {
			t.Errorf("%v came back as %v", l, got)
		}
	}
	for _, l := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), 1e300} {
		if got := join(split(l)); got-got == 0 {
			t.Errorf("%v came back as %v, which is finite", l, got)
		}
	}
}
