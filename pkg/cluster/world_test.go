package cluster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

// deafBus takes what is published, and answers every request at once.
type deafBus struct {
	handler   atomic.Pointer[Handler] // the coordinator's
	published atomic.Int64
	requests  atomic.Int64
}

func (b *deafBus) Publish(string, []byte) error { b.published.Add(1); return nil }

func (b *deafBus) Request(_ context.Context, subject string, _ []byte) ([]byte, error) {
	if subject == coordinatorSubject("job") {
		return nil, ErrNoResponder
	}
	b.requests.Add(1)
	return nil, nil
}

func (b *deafBus) Subscribe(subject string, h Handler) (func() error, error) {
	if subject == FromSubject("job", "*") {
		b.handler.Store(&h)
	}
	return func() error { return nil }, nil
}

// world is a Coordinator with members that are nothing but what they say.
type world struct {
	c     *Coordinator
	bus   *deafBus
	ids   []string
	step  uint64
	done  chan []*Report
	phase atomic.Int32
	shown atomic.Int64 // calls of Hooks.Members
	end   func()
}

// newWorld returns one whose n members have formed generation 1.
func newWorld(t testing.TB, n int) *world {
	w := &world{bus: &deafBus{}, done: make(chan []*Report, 1)}
	hooks := noHooks()
	hooks.StepDone = func(l []*Report) { w.done <- l }
	hooks.Members = func(p Phase, _ []Member) { w.phase.Store(int32(p)); w.shown.Add(1) }
	cfg := testConfig()
	cfg.Workers, cfg.MaxWorkers, cfg.Micro, cfg.Steps = n, n, n, 1<<40
	cfg.Straggler = KeepStraggler
	w.c = NewCoordinator(w.bus, "job", "host", 1, hooks)
	ctx, cancel := context.WithCancel(context.Background())
	ended := start(ctx, w.c, cfg)
	w.end = func() { cancel(); <-ended }
	for w.bus.handler.Load() == nil {
		time.Sleep(time.Millisecond)
	}
	for i := range n {
		id := fmt.Sprintf("w%d", i)
		w.ids = append(w.ids, id)
		w.c.Tell(asking{&Join{Protocol: Protocol, Worker: id, Host: "host", PID: i + 1}, func([]byte) error { return nil }})
		w.c.Tell(&Ready{Worker: id, State: true, Digest: "d0"})
	}
	for _, id := range w.ids {
		w.c.Tell(&Formed{Worker: id, Generation: 1})
	}
	return w
}

// commit has all members report a step, heartbeats between, and waits until it
// is told of.
func (w *world) commit(t testing.TB) {
	w.step++
	for r, id := range w.ids {
		w.c.Tell(&Report{Worker: id, Generation: 1, Rank: r, World: len(w.ids), Step: w.step, Loss: 1, Targets: 8, GradNorm: 1, Micro: 1,
			Times: Times{Forward: 0.01, Backward: 0.02}})
		w.c.Tell(&Heartbeat{Worker: id, Generation: 1, Coordinator: "lead", Step: w.step, Phase: "forward"})
	}
	if l := <-w.done; len(l) != len(w.ids) || l[0].Step != w.step {
		t.Fatalf("step %d was told of as %d reports of step %d", w.step, len(l), l[0].Step)
	}
}

// What the coordinator does in a step for each member must not grow with their
// number: it once copied and sorted all of them after each message of each, and
// a step of 512 workers took it 0.8 s of computing.
func TestStepIsLinearInMembers(t *testing.T) {
	costs := func(n int) (allocs, bytes float64) {
		w := newWorld(t, n)
		defer w.end()
		for range 12 { // pace is known
			w.commit(t)
		}
		const steps = 20
		var a, b runtime.MemStats
		shown := w.shown.Load()
		began := time.Now()
		runtime.ReadMemStats(&a)
		for range steps {
			w.commit(t)
		}
		runtime.ReadMemStats(&b)
		periods := int64(time.Since(began)/tickPeriod(testConfig().Deadline)) + 2
		if k := w.shown.Load() - shown; k > periods {
			t.Errorf("%d members were shown %d times in %d periods of the tick", n, k, periods)
		}
		each := float64(steps * n)
		return float64(b.Mallocs-a.Mallocs) / each, float64(b.TotalAlloc-a.TotalAlloc) / each
	}
	fewAllocs, fewBytes := costs(16)
	allocs, bytes := costs(256)
	if allocs > 2*fewAllocs || bytes > 2*fewBytes {
		t.Errorf("a step costs %.0f allocations of %.0f bytes for each of 256 members, and %.0f of %.0f for each of 16",
			allocs, bytes, fewAllocs, fewBytes)
	}
}

// Of many members the silent ones are asked, not all in every round.
func TestProbesAreBounded(t *testing.T) {
	var ids []string
	for i := range 512 {
		ids = append(ids, fmt.Sprintf("w%d", i))
	}
	p := &prober{seen: map[string]*probed{}}
	p.watch(ids)
	if n := len(p.toAsk()); n != probesARound {
		t.Fatalf("%d of 512 members are asked in one round, want %d", n, probesARound)
	}
	silent := map[string]bool{"w7": true, "w300": true, "w511": true}
	for _, id := range ids {
		if !silent[id] {
			p.seen[id].heard = p.seen[id].heard.Add(time.Hour)
		}
	}
	for _, id := range p.toAsk()[:len(silent)] {
		if !silent[id] {
			t.Errorf("%s is asked before those that have not been heard of for longer", id)
		}
	}
	before := p.seen["w7"].heard
	p.heard("w7")
	if !p.seen["w7"].heard.After(before) {
		t.Error("a message from a member is not taken note of")
	}
	p.watch(ids[:8])
	if n := len(p.toAsk()); n != 8 {
		t.Errorf("%d of 8 members are asked", n)
	}
}

// The median of the others, by the sorted list of all, is that of a list
// without the one.
func TestMedianOfTheOthers(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		all := make([]float64, r.IntN(9))
		for i := range all {
			all[i] = float64(r.IntN(5))
		}
		slices.Sort(all)
		if got, ok := medianBut(all, 2.5, false); ok != (len(all) > 0) || ok && got != all[len(all)/2] {
			t.Fatalf("median of %v: %v, %v", all, got, ok)
		}
		for i, x := range all {
			others := slices.Delete(slices.Clone(all), i, i+1)
			got, ok := medianBut(all, x, true)
			if ok != (len(others) > 0) || ok && got != others[len(others)/2] {
				t.Fatalf("median of %v without one %v: %v, %v", all, x, got, ok)
			}
		}
	}
}

// Reports are told of by rank, whatever order they come in; those of members
// that had one rank in different generations as they came.
func TestReportsAreByRank(t *testing.T) {
	at := func(worker string, rank int) *Report { return &Report{Worker: worker, Rank: rank} }
	for _, c := range []struct {
		list []*Report
		want string
	}{
		{[]*Report{at("c", 2), at("a", 0), at("b", 1)}, "abc"},
		{[]*Report{at("c", 2), at("a", 0)}, "ac"}, // of three: the others did not come
		{[]*Report{at("b", 1), at("x", 1), at("a", 0)}, "abx"},
	} {
		got := ""
		for _, r := range (&stepReports{list: c.list}).byRank() {
			got += r.Worker
		}
		if got != c.want {
			t.Errorf("%s, want %s", got, c.want)
		}
	}
}

// Where one rank stands still all others say that they wait: a few lines name
// it, not one for each of them.
func TestStallsOfManyAreOneLine(t *testing.T) {
	var s stalls
	now := time.Unix(1000, 0)
	lines := 0
	for i := range 511 {
		e := &Stall{Worker: fmt.Sprintf("w%d", (i+8)%512), Peer: fmt.Sprintf("w%d", (i+7)%512), Seconds: 5 + float64(i)/1000}
		if s.add(now.Add(time.Duration(i)*time.Millisecond), e) {
			lines++
		}
	}
	if lines != stallsTold {
		t.Errorf("%d of 511 stalls were told of by themselves", lines)
	}
	if text := s.over(now.Add(stallsEvery / 2)); text != "" {
		t.Errorf("before the others had the time to come: %s", text)
	}
	want := "stall: 511 workers wait, the longest 5.5 s; not waiting, and waited for: worker w7"
	if got := s.over(now.Add(stallsEvery)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	s.add(now, &Stall{Worker: "a", Peer: "b"})
	if text := s.over(now.Add(time.Hour)); text != "" {
		t.Errorf("a stall that was told of is told again: %s", text)
	}
}

// Heartbeats of those that wait for a job to begin, or for others to come to
// rest, are answered without a look at all of them.
func TestHeartbeatsAtRestLookAtNobodyElse(t *testing.T) {
	m := newMachine(Config{Workers: 9, Steps: 9, Micro: 9, Deadline: time.Minute, JoinTimeout: time.Minute}, simStart)
	now := simStart
	for _, id := range []string{"a", "b"} {
		m.Handle(now, &Join{Protocol: Protocol, Worker: id, Host: "host", PID: 1})
		m.Handle(now, &Ready{Worker: id, State: true, Digest: "d0"})
	}
	m.cfg.Workers = 2 // whoever looks begins now
	if m.Handle(now, &Heartbeat{Worker: "a"}); m.phase != Gathering {
		t.Errorf("a heartbeat made the job %v", m.phase)
	}
	if m.Handle(now, tick{}); m.phase != Forming {
		t.Errorf("after the next tick it is %v", m.phase)
	}
}
