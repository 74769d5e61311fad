package cluster

import (
	"errors"
	"math"
	"slices"
	"time"

	"github.com/vlaring/vlaring/pkg/allreduce"
)

// A worker's process.

type simWorker struct {
	s      *sim
	id     string
	pid    int
	dead   bool
	frozen bool
	harmed time.Time // when it was last started, frozen, or cut off
	stash  []func()  // what happened while frozen
	node   *Node
	clock  *clock
	state  []float32 // weights and momentum
	step   uint64
	have   bool
	grads  map[int][]float32 // micro-gradients of the step in progress
	losses map[int]float64
	offers map[uint64][]float32

	lane    lane
	run     int  // counts tasks; an older one's events are void
	stopped bool // the task has been told to end
	waits   bool // it waits for others; what computes cannot be interrupted
	assign  *Assign
	core    *allreduce.Core
	flags   allreduce.Flags
	sum     []float32
}

func (s *sim) startWorker(id string) {
	s.nonce++
	w := &simWorker{s: s, id: id, pid: s.nonce, harmed: s.now, offers: map[uint64][]float32{}}
	w.lane = newLane(w.task, w.cancel)
	s.procs[id] = w
	w.join()
}

// do runs f in the process: not if it is dead, later if it is frozen.
func (w *simWorker) do(f func()) {
	switch {
	case w.dead:
	case w.frozen:
		w.stash = append(w.stash, f)
	default:
		f()
	}
}

func (w *simWorker) after(d time.Duration, f func()) { w.s.after(d, func() { w.do(f) }) }

func (w *simWorker) resume() {
	if !w.frozen {
		return
	}
	w.frozen, w.harmed = false, w.s.now
	l := w.stash
	w.stash = nil
	for _, f := range l {
		w.do(f)
	}
}

// kill ends the process; its supervisor starts another one.
func (w *simWorker) kill() {
	if w.dead {
		return
	}
	w.dead = true
	s := w.s
	if s.told[w] {
		delete(s.told, w)
		s.spoilt = true
	}
	delete(s.procs, w.id)
	if s.coord != nil && s.rng.IntN(2) == 0 { // a child's end is seen at once
		c := s.coord
		c.do(func() { c.step(WorkerGone{w.id, "its process was killed"}) })
	}
	s.after(s.between(50*time.Millisecond, 2*time.Second), func() {
		if n := len(s.procs); s.procs[w.id] == nil && (n < s.wanted || n == 0) {
			s.startWorker(w.id)
		}
	})
}

func (w *simWorker) me() Join {
	return Join{Protocol: Protocol, Version: "sim", Worker: w.id, Host: "sim", PID: w.pid, Threads: 1, CPU: "sim"}
}

func (w *simWorker) join() {
	if w.node != nil {
		return
	}
	w.ask(w.me(), func(a *Welcome) {
		if w.node != nil {
			return
		}
		if a.Refused != "" {
			w.s.logf("%s is refused: %s", w.id, a.Refused)
			return
		}
		w.node = NewNode(NodeConfig{Join: w.me(), Heartbeat: 200 * time.Millisecond, Grace: simGrace}, w.s.now)
		var beat func()
		beat = func() { w.input(tick{}); w.s.after(simPeriod, func() { w.do(beat) }) }
		w.after(0, beat)
		w.clock = newClock(w.s.now, 200*time.Millisecond)
		w.lane.Do(Prepare{a})
	})
	w.after(300*time.Millisecond, w.join)
}

func (w *simWorker) ask(j Join, then func(*Welcome)) {
	s := w.s
	s.carry(w.id, "coordinator", Encode(&j), false, func(b []byte) {
		s.receive(b, func(r []byte) {
			s.carry("coordinator", w.id, r, false, func(r []byte) {
				w.do(func() {
					msg, err := Decode(r)
					if err != nil {
						s.fail("%v", err)
						return
					}
					then(msg.(*Welcome))
				})
			})
		})
	})
}

func (w *simWorker) load(step uint64) {
	if step == 0 {
		w.state = append(simInit(), make([]float32, simElements)...)
	} else {
		w.state = slices.Clone(w.s.disk.states[step])
		for _, c := range append([]*simCoordinator{w.s.coord}, w.s.others...) { // whoever of several has it
			if c != nil && w.state == nil {
				w.state = slices.Clone(c.states[step])
			}
		}
	}
	if w.have = w.state != nil; !w.have {
		step = 0
	}
	w.step, w.grads, w.losses = step, nil, nil
}

func (w *simWorker) digest() string {
	if !w.have {
		return ""
	}
	return simDigest(w.state)
}

func (w *simWorker) hear(b []byte) {
	w.do(func() {
		msg, err := Decode(b)
		if err != nil {
			w.s.fail("%v", err)
			return
		}
		if w.node != nil {
			w.input(msg.(NodeEvent))
		}
	})
}

func (w *simWorker) input(ev NodeEvent) {
	s := w.s
	if w.core != nil {
		if _, ok := ev.(tick); ok {
			w.core.Tick(s.now)
			w.pump()
		}
	}
	for _, a := range w.node.Handle(w.clock.At(s.now), ev) {
		switch a := a.(type) {
		case Tell:
			s.carry(w.id, "coordinator", Encode(a.Msg), false, func(b []byte) { s.receive(b, nil) })
		case Introduced:
			w.ask(a.Join, func(*Welcome) {})
		case Task:
			w.lane.Do(a)
		case Raise:
			w.flags |= a.Flags
		case MakeOffer:
			delete(w.offers, a.Snapshot.Step) // divided anew
			w.offer(a.Snapshot.Step, a.Snapshot.Generation, a.Snapshot.Part, a.Snapshot.Parts)
		case Withdraw:
			for step := range w.offers {
				if step <= a.Step {
					delete(w.offers, step)
				}
			}
		case Exit:
			s.logf("%s exits: %+v", w.id, a.End)
			if w.dead {
				return
			}
			w.went()
			w.kill()
			return
		}
	}
}

// task begins what takes time; end is its end. Only its own events count: it may
// be told to stop, and then goes on until it can.
func (w *simWorker) task(task Task) {
	s := w.s
	w.run++
	w.stopped, w.waits = false, false
	run := w.run
	switch a := task.(type) {
	case Prepare:
		w.after(s.between(time.Millisecond, 60*time.Millisecond), func() {
			if a.Welcome.Source == FromCoordinator {
				w.load(a.Welcome.StartStep)
			}
			w.end(run, Loaded{Step: w.step, State: w.have, Digest: w.digest()})
		})
	case Load:
		w.after(s.between(time.Millisecond, 30*time.Millisecond), func() {
			w.load(a.Restore.StartStep)
			w.end(run, Loaded{Step: w.step, State: w.have, Digest: w.digest()})
		})
	case Form:
		w.after(s.between(0, 5*time.Millisecond), func() {
			w.core, w.sum, w.assign = nil, nil, a.Assign
			w.listen(run)
		})
	case Run:
		w.after(0, func() {
			w.flags = 0
			w.catchUp(run)
		})
	case Halt:
		w.after(s.between(0, 10*time.Millisecond), func() {
			w.core, w.sum = nil, nil
			w.end(run, HaltedNow{w.digest()})
		})
	}
}

// end tells of the end of a task.
func (w *simWorker) end(run int, result NodeEvent) {
	if run != w.run {
		w.s.fail("%s: a task goes on after its end", w.id)
		return
	}
	w.run++
	w.waits = false
	if ev := w.lane.Ended(result); ev != nil {
		w.input(ev)
	}
}

// cancel tells the task to end: soon where it waits, and else when what it
// computes is done.
func (w *simWorker) cancel() {
	w.stopped = true
	if w.waits {
		w.run++
		w.core, w.sum, w.waits = nil, nil, false
		run := w.run
		w.after(w.s.between(0, w.s.rest), func() { w.end(run, nil) })
	}
}

// listen makes the ring of an assignment.
func (w *simWorker) listen(run int) {
	if a := w.assign; len(a.Sources) == 0 && (w.digest() != a.Digest || w.step != a.Step) {
		// A bit has flipped; or a coordinator that was frozen has said so to a process
		// before this one.
		if w.s.flips || w.s.split || !w.have {
			w.end(run, LoadFailed{Err: errors.New("the state is another")})
			return
		}
		w.s.fail("%s forms with the state of step %d, %s, want %d, %s", w.id, w.step, w.digest(), a.Step, a.Digest)
	}
	var err error
	o := allreduce.Options{ChunkBytes: 16, WindowBytes: 64, Patience: 60 * time.Millisecond, Deadline: 10 * time.Minute}
	w.core, err = allreduce.NewCore(w.assign.Group, o, w.s.now)
	if err != nil {
		w.s.fail("%s: %v", w.id, err)
		return
	}
	w.end(run, Listens{w.assign.Group.Generation})
}

// catchUp takes the state from a source, half by half, where the assignment
// says so, and begins with the first step.
func (w *simWorker) catchUp(run int) {
	s, a := w.s, w.assign
	if run != w.run {
		return
	}
	if len(a.Sources) == 0 {
		w.begin(run)
		return
	}
	w.waits = true
	src := s.procs[a.Sources[s.rng.IntN(len(a.Sources))]]
	there := func() bool {
		return src != nil && !src.dead && !src.frozen && s.cut[src.id] == s.cut[w.id] && src.have
	}
	if !there() {
		w.after(30*time.Millisecond, func() { w.catchUp(run) })
		return
	}
	state := slices.Clone(src.state)
	w.after(s.between(time.Millisecond, 60*time.Millisecond), func() {
		if run != w.run {
			return
		}
		if !there() {
			w.catchUp(run)
			return
		}
		copy(state[simElements/2:], src.state[simElements/2:])
		reports := src.node.Reports()
		w.state, w.have = state, true
		w.grads, w.losses = nil, nil
		if w.digest() != a.Digest {
			if !s.flips && src.node.generation == a.Group.Generation && src.node.assign.Group.Generation == a.Group.Generation {
				s.fail("%s commits while its state is taken by %s", src.id, w.id)
			}
			w.have = false
			w.core = nil
			w.end(run, LoopBroke{Err: errors.New("the state is another"), Peer: src.id, Digest: w.digest()})
			return
		}
		w.step = a.Step
		w.input(Caught{a.Group.Generation, slices.DeleteFunc(reports, func(r *Report) bool { return r.Step > a.Step })})
		w.begin(run)
	})
}

// begin starts the next step: its missing micro-gradients are computed one by one.
func (w *simWorker) begin(run int) {
	bounds := w.assign.Group.Micro
	if w.step == w.assign.Step {
		bounds = w.assign.First
	}
	r := w.assign.Group.Rank
	if w.grads == nil {
		w.grads, w.losses = map[int][]float32{}, map[int]float64{}
	}
	w.waits = false
	var compute func(m int)
	compute = func(m int) {
		if w.stopped { // what is computed is kept
			w.end(run, nil)
			return
		}
		for ; m < bounds[r+1]; m++ {
			if w.grads[m] == nil {
				w.after(w.s.between(0, w.s.pass), func() {
					w.grads[m], w.losses[m] = simGradient(w.step, m, w.state[:simElements])
					w.lie(w.grads[m])
					compute(m + 1)
				})
				return
			}
		}
		w.reduce(bounds[r], bounds[r+1])
	}
	compute(bounds[r])
}

func (w *simWorker) reduce(lo, hi int) {
	s := w.s
	size := s.floats()
	var micro [][]float32
	for m := lo; m < hi; m++ { // the losses ride along, each in places of its own
		g := append(slices.Clone(w.grads[m]), make([]float32, size-simElements)...)
		g[simElements+2*m] = float32(w.losses[m]) // as simTravel
		g[simElements+2*m+1] = float32(w.losses[m] - float64(float32(w.losses[m])))
		micro = append(micro, g)
	}
	w.tell(micro, lo)
	w.waits = true
	w.sum = make([]float32, size)
	buckets := []allreduce.Range{{Lo: 0, Hi: 20}, {Lo: 20, Hi: size}}
	w.core.Begin(s.now, w.step, buckets, micro, w.sum, func() allreduce.Flags { return w.flags })
	w.core.Ready(s.now, 0)
	w.core.Ready(s.now, 1)
	w.pump()
}

// pump lets the ring work and carries its frames.
func (w *simWorker) pump() {
	s := w.s
	for w.core != nil {
		core := w.core
		for _, o := range core.Outgoing() {
			to := o.To
			s.carry(w.id, to, o.Frame, true, func(f []byte) {
				if p := s.procs[to]; p != nil {
					p.do(func() {
						if p.core != nil {
							p.core.Frame(s.now, f)
							p.pump()
						}
					})
				}
			})
		}
		if !core.Work(s.now) {
			break
		}
	}
	if w.core == nil || w.sum == nil {
		return
	}
	over, flags, err := w.core.Done()
	switch {
	case err != nil:
		w.core, w.sum = nil, nil
		var f *allreduce.FaultError
		peer := ""
		if errors.As(err, &f) {
			peer = f.Peer
		}
		w.end(w.run, LoopBroke{Err: err, Peer: peer, Digest: w.digest()})
	case over:
		w.commit(flags)
	}
}

func (w *simWorker) commit(flags allreduce.Flags) {
	s := w.s
	sum := w.sum
	w.sum = nil
	if w.stops(sum) {
		return
	}
	loss := 0.0
	for m := range s.micro {
		loss += float64(sum[simElements+2*m]) + float64(sum[simElements+2*m+1])
	}
	simUpdate(w.state[:simElements], w.state[simElements:], sum[:simElements], s.micro)
	if w.id == s.evil {
		w.state[0] = math.Float32frombits(math.Float32bits(w.state[0]) ^ 1<<s.rng.IntN(23))
		s.evils++
	}
	w.step++
	n := len(w.grads)
	w.grads, w.losses = nil, nil
	if !s.flips && !s.sampled && !slices.Equal(w.state, s.want[w.step]) {
		s.fail("%s commits step %d with other bits", w.id, w.step)
		return
	}
	w.input(Committed{Report{Step: w.step, Loss: loss / float64(s.micro), Targets: s.micro, GradNorm: math.Abs(float64(sum[0])),
		Micro: n, Digest: w.digest(), Times: Times{Forward: 0.01 * float64(n)}}})
	if w.dead {
		return
	}
	w.flags &^= allreduce.FlagCheckpoint
	last := w.step == uint64(s.steps)
	stop := flags&allreduce.FlagStop != 0
	if last || stop || w.step%uint64(s.every) == 0 || flags&allreduce.FlagCheckpoint != 0 {
		w.room(w.run, func() {
			g := w.assign.Group
			w.offer(w.step, g.Generation, g.Rank, len(g.Members))
			w.goOn(flags, last, stop)
		})
		return
	}
	w.goOn(flags, last, stop)
}

// room waits until no copy is on offer: there is memory for one.
func (w *simWorker) room(run int, then func()) {
	if run != w.run {
		return
	}
	if len(w.offers) > 0 {
		w.after(simPeriod, func() { w.room(run, then) })
		return
	}
	then()
}

func (w *simWorker) goOn(flags allreduce.Flags, last, stop bool) {
	if last || stop || flags&allreduce.FlagReform != 0 {
		w.end(w.run, LoopEnded{w.digest()}) // the ring stays: a neighbour may need a frame again
		return
	}
	w.begin(w.run)
}

func (w *simWorker) offer(step, generation uint64, part, parts int) {
	w.offers[step] = slices.Clone(w.state)
	digest := w.digest()
	w.after(w.s.between(0, 5*time.Millisecond), func() {
		w.input(OfferReady{Offer{Generation: generation, Step: step, Part: part, Parts: parts, Digest: digest}})
	})
}
