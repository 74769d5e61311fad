package cluster

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// One task at a time: what takes a task's place waits for its end, and only the
// newest of those that wait begins.
func TestLane(t *testing.T) {
	var log []string
	l := newLane(func(t Task) { log = append(log, "begin "+t.(Halt).Reason) }, func() { log = append(log, "cancel") })
	do := func(names ...string) func() NodeEvent {
		return func() NodeEvent {
			for _, n := range names {
				l.Do(Halt{n})
			}
			return nil
		}
	}
	over := func(digest string) func() NodeEvent { return func() NodeEvent { return l.Ended(HaltedNow{digest}) } }
	stop := func() NodeEvent { l.Stop(); return nil }
	for _, c := range []struct {
		do   func() NodeEvent
		want []string
		ev   NodeEvent
		busy bool
	}{
		{do("a"), []string{"begin a"}, nil, true},
		{over("done a"), nil, HaltedNow{"done a"}, false},
		{stop, nil, nil, false},
		{do("b"), []string{"begin b"}, nil, true},
		{do("c"), []string{"cancel"}, nil, true},
		{do("d"), nil, nil, true},
		{over("done b"), []string{"begin d"}, nil, true}, // nobody asks for b any more
		{over("done d"), nil, HaltedNow{"done d"}, false},
		{func() NodeEvent { do("e", "f")(); return stop() }, []string{"begin e", "cancel"}, nil, true},
		{over("done e"), nil, nil, false}, // and nothing begins after a stop
	} {
		log = nil
		ev := c.do()
		if !slices.Equal(log, c.want) || ev != c.ev || l.Busy() != c.busy {
			t.Fatalf("%v, event %v, busy %v; want %v, %v, %v", log, ev, l.Busy(), c.want, c.ev, c.busy)
		}
	}
}

func TestClock(t *testing.T) {
	began := time.Unix(1000, 0)
	c := newClock(began, 200*time.Millisecond)
	for _, s := range []struct{ wall, want time.Duration }{
		{0, 0}, {50 * time.Millisecond, 50 * time.Millisecond}, {250 * time.Millisecond, 250 * time.Millisecond},
		{10 * time.Second, 450 * time.Millisecond},                    // a pause counts as one turn
		{10*time.Second + time.Millisecond, 451 * time.Millisecond},   // and time goes on
		{9 * time.Second, 451 * time.Millisecond},                     // but never back
		{9*time.Second + 10*time.Millisecond, 461 * time.Millisecond}, // whatever the wall does
	} {
		if got := c.At(began.Add(s.wall)).Sub(began); got != s.want {
			t.Errorf("at %v of the wall it is %v, want %v", s.wall, got, s.want)
		}
	}
	if got, want := c.Held(), 9550*time.Millisecond; got != want || c.Held() != 0 {
		t.Errorf("it stood still for %v, want %v, and is told once", got, want)
	}
}

// slowWork is a worker whose steps take pass, in which it cannot be
// interrupted, and then meet those of the other members.
type slowWork struct {
	t     *testing.T
	id    string
	pass  time.Duration
	agent *Agent
	halls *halls
	say   func(NodeEvent)
	busy  atomic.Int32
	step  uint64 // of Do
	dead  chan struct{}
}

// halls are where members of a generation meet at the end of a step.
type halls struct {
	mu sync.Mutex
	m  map[string]*hall
}

type hall struct {
	n    int
	full chan struct{}
}

func (h *halls) enter(g *Assign, step uint64) <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	key := fmt.Sprint(g.Group.Generation, " ", step)
	if h.m[key] == nil {
		h.m[key] = &hall{full: make(chan struct{})}
	}
	x := h.m[key]
	if x.n++; x.n == len(g.Group.Members) {
		close(x.full)
	}
	return x.full
}

func (w *slowWork) digest() string { return fmt.Sprint("state ", w.step) }

func (w *slowWork) Do(ctx context.Context, task Task) NodeEvent {
	if w.busy.Add(1) > 1 {
		w.t.Errorf("%s does %T while it does something else", w.id, task)
	}
	defer w.busy.Add(-1)
	switch a := task.(type) {
	case Prepare:
		return Loaded{State: a.Welcome.Source == FromCoordinator, Digest: w.digest()}
	case Load:
		w.step = a.Restore.StartStep
		return Loaded{Step: w.step, State: true, Digest: w.digest()}
	case Form:
		return Listens{a.Assign.Group.Generation}
	case Halt:
		return HaltedNow{w.digest()}
	case Run:
		if len(a.Assign.Sources) > 0 {
			w.step = a.Assign.Step
			w.say(Caught{Generation: a.Assign.Group.Generation})
		}
		for w.step < slowSteps3 {
			time.Sleep(w.pass) // forward and backward
			select {
			case <-w.dead:
				return nil
			default:
			}
			if ctx.Err() != nil {
				return nil
			}
			select {
			case <-w.halls.enter(a.Assign, w.step):
			case <-ctx.Done():
				return nil
			}
			w.step++
			w.say(Committed{Report{Step: w.step, Targets: 6, Micro: 1, Digest: w.digest()}})
		}
		return LoopEnded{w.digest()}
	}
	panic(fmt.Sprintf("%T", task))
}

const slowSteps3 = 12

func (w *slowWork) Act(_ context.Context, action NodeAction) {
	select {
	case <-w.dead:
		return
	default:
	}
	switch a := action.(type) {
	case Tell:
		w.agent.Tell(a.Msg)
	case MakeOffer:
		s := a.Snapshot
		o := Offer{Generation: s.Generation, Step: s.Step, Part: s.Part, Parts: s.Parts, Digest: fmt.Sprint("state ", s.Step)}
		go w.say(OfferReady{o})
	}
}

func (w *slowWork) Look() (string, NodeEvent)     { return "backward", nil }
func (w *slowWork) Know([]*Report, time.Duration) {}

// slowJob is a coordinator with a deadline of one second and workers whose
// steps take five.
type slowJob struct {
	t     *testing.T
	bus   *MemBus
	halls *halls
	mu    sync.Mutex
	notes []string
	kill  map[string]func()
	wg    sync.WaitGroup
}

func (j *slowJob) worker(id string) {
	me := Join{Protocol: Protocol, Worker: id, Host: id, PID: 1}
	agent, welcome, err := JoinJob(j.t.Context(), j.bus, "job", me)
	if err != nil {
		j.t.Error(err)
		return
	}
	w := &slowWork{t: j.t, id: id, pass: 5 * time.Second, agent: agent, halls: j.halls, dead: make(chan struct{})}
	ctx, cancel := context.WithCancel(j.t.Context())
	node := NewNode(NodeConfig{Join: me, Job: "job", Heartbeat: 200 * time.Millisecond}, time.Now())
	d := NewDriver(node, agent.Inbox(), w)
	w.say = d.Say
	var once sync.Once
	j.mu.Lock()
	j.kill[id] = func() { once.Do(func() { close(w.dead); agent.Close(); cancel() }) } // nothing is said of it any more
	j.mu.Unlock()
	j.wg.Go(func() {
		d.Run(ctx, welcome)
		j.mu.Lock()
		defer j.mu.Unlock()
		j.kill[id]()
	})
}

// lost are those that the coordinator gave up, in order.
func (j *slowJob) lost() (l []string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, n := range j.notes {
		if n, ok := strings.CutPrefix(n, "lost worker "); ok && !strings.Contains(n, "it left") {
			id, _, _ := strings.Cut(n, " ")
			l = append(l, strings.TrimSuffix(id, ":"))
		}
	}
	return l
}

// Steps of any length: of workers that compute for five seconds without a
// look up, against a deadline of one, those are lost that are killed, wherever
// in a step that comes, and no other.
func TestOnlyTheKilledAreLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &slowJob{t: t, bus: NewMemBus(), halls: &halls{m: map[string]*hall{}}, kill: map[string]func(){}}
		hooks := noHooks()
		hooks.Welcome = func(*Join) *Welcome { return &Welcome{} }
		hooks.Note = func(text string) {
			j.mu.Lock()
			defer j.mu.Unlock()
			j.notes = append(j.notes, text)
		}
		cfg := Config{Coordinator: "lead", Job: "job", Workers: 3, MinWorkers: 1, MaxWorkers: 3, Micro: 6, Steps: slowSteps3,
			Deadline: time.Second, JoinTimeout: time.Minute, Straggler: KeepStraggler}
		done := start(t.Context(), NewCoordinator(j.bus, "job", "host", 1, hooks), cfg)
		time.Sleep(time.Millisecond)
		for _, id := range []string{"a", "b", "c"} {
			j.worker(id)
		}
		began := time.Now()
		for i, kill := range []struct {
			at time.Duration
			id string
		}{{100 * time.Millisecond, "b"}, {17 * time.Second, "c"}, {36700 * time.Millisecond, "new-0"}} {
			time.Sleep(time.Until(began.Add(kill.at)))
			j.mu.Lock()
			f := j.kill[kill.id]
			j.mu.Unlock()
			f()
			if i < 2 {
				time.Sleep(time.Second)
				j.worker(fmt.Sprintf("new-%d", i))
			}
		}
		f := <-done
		if f.err != nil || f.Outcome != Done || f.Step != slowSteps3 {
			t.Errorf("the job ended as %+v", f)
		}
		if got, want := j.lost(), []string{"b", "c", "new-0"}; !slices.Equal(got, want) {
			t.Errorf("%v were killed, and lost were %v:\n%s", want, got, strings.Join(j.notes, "\n"))
		}
		j.wg.Wait()
	})
}

// A coordinator that is held up for ten deadlines, wherever, takes its own
// silence for nobody's.
func TestCoordinatorHeldUpLosesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &slowJob{t: t, bus: NewMemBus(), halls: &halls{m: map[string]*hall{}}, kill: map[string]func(){}}
		hooks := noHooks()
		hooks.Note = func(text string) {
			j.mu.Lock()
			defer j.mu.Unlock()
			j.notes = append(j.notes, text)
		}
		held := 0
		hooks.StepDone = func([]*Report) {
			held++
			time.Sleep(10 * time.Second)
		}
		cfg := Config{Coordinator: "lead", Job: "job", Workers: 3, MinWorkers: 1, MaxWorkers: 3, Micro: 6, Steps: slowSteps3,
			Deadline: time.Second, JoinTimeout: time.Minute, Straggler: KeepStraggler}
		done := start(t.Context(), NewCoordinator(j.bus, "job", "host", 1, hooks), cfg)
		time.Sleep(time.Millisecond)
		for _, id := range []string{"a", "b", "c"} {
			j.worker(id)
		}
		f := <-done
		if l := j.lost(); f.err != nil || f.Outcome != Done || held != slowSteps3 || len(l) > 0 {
			t.Errorf("it ended as %+v, was held up %d times, and lost were %v:\n%s", f, held, l, strings.Join(j.notes, "\n"))
		}
		j.wg.Wait()
	})
}

// While a task runs on that has been told to end, heartbeats and answers go on,
// nothing else runs, and the answer to the recall comes with its end. A signal
// is answered at once, too.
func TestDriverNeverWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &stubbornWork{t: t, began: time.Now()}
		node := NewNode(NodeConfig{Join: Join{Worker: "a"}, Heartbeat: 200 * time.Millisecond}, time.Now())
		inbox := make(chan NodeEvent, 16)
		d := NewDriver(node, inbox, w)
		ctx, signal := context.WithCancel(t.Context())
		gone := make(chan Exit)
		go func() { gone <- d.Run(ctx, &Welcome{}) }()
		time.Sleep(time.Second)
		a := &Assign{Coordinator: "lead", First: []int{0, 1}}
		a.Group.Generation, a.Group.Members, a.Group.Micro = 1, []string{"a"}, []int{0, 1}
		inbox <- a
		time.Sleep(time.Second)
		inbox <- &Go{Generation: 1}
		time.Sleep(time.Second)
		inbox <- &Recall{Coordinator: "lead", Generation: 2}
		time.Sleep(4 * time.Second)
		if n := w.told("heartbeat"); n < 7*5-3 {
			t.Errorf("%d heartbeats in 7 s", n)
		}
		if w.told("standing") != 0 {
			t.Error("it stands while its step loop runs on")
		}
		time.Sleep(2 * time.Second)
		if w.told("standing") == 0 {
			t.Error("it does not say that it stands")
		}
		b := *a
		b.Group.Generation = 3
		inbox <- &b
		time.Sleep(time.Second)
		inbox <- &Go{Generation: 3}
		time.Sleep(time.Second)
		signal()
		time.Sleep(time.Millisecond)
		if w.told("leave") != 1 {
			t.Error("a signal is not answered while a step goes on")
		}
		left := time.Now()
		if e := <-gone; e.End.Outcome != Released || time.Since(left) > 5*time.Second {
			t.Errorf("it ended as %+v, after %v", e, time.Since(left))
		}
	})
}

// stubbornWork takes five seconds to end its step loop.
type stubbornWork struct {
	t     *testing.T
	began time.Time
	busy  atomic.Int32
	mu    sync.Mutex
	said  map[string]int
}

func (w *stubbornWork) told(kind string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.said[kind]
}

func (w *stubbornWork) Do(ctx context.Context, task Task) NodeEvent {
	if w.busy.Add(1) > 1 {
		w.t.Errorf("%T is done while something else is", task)
	}
	defer w.busy.Add(-1)
	switch a := task.(type) {
	case Form:
		return Listens{a.Assign.Group.Generation}
	case Run:
		<-ctx.Done()
		time.Sleep(5 * time.Second)
		return nil
	case Halt:
		return HaltedNow{"d"}
	}
	return Loaded{State: true, Digest: "d"}
}

func (w *stubbornWork) Act(_ context.Context, action NodeAction) {
	if a, ok := action.(Tell); ok {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.said == nil {
			w.said = map[string]int{}
		}
		w.said[strings.ToLower(reflect.TypeOf(a.Msg).Elem().Name())]++
	}
}

func (w *stubbornWork) Look() (string, NodeEvent)     { return "", nil }
func (w *stubbornWork) Know([]*Report, time.Duration) {}
