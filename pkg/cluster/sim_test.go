package cluster

import (
	"container/heap"
	"errors"
	"flag"
	"fmt"
	"hash/fnv"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/vlaring/vlaring/pkg/allreduce"
)

// The simulation runs whole clusters in one goroutine on a virtual clock: the
// real Machine, Nodes and ring Cores, with a toy model, over a network that
// drops, repeats, delays, reorders, corrupts and parts, while processes are
// killed, frozen and started. Everything that happens is a function of the
// seed, so a seed that fails is run again with
//
//	go test ./pkg/cluster -run TestSimulatedClusters -sim.seed N -v
var (
	simSeed  = flag.Uint64("sim.seed", 0, "run one seed of the simulation, with its log")
	simSeeds = flag.Int("sim.seeds", 250, "seeds that the simulation runs")
)

func TestSimulatedClusters(t *testing.T) {
	if *simSeed != 0 {
		s := newSim(*simSeed)
		s.logf = func(f string, a ...any) { t.Logf("%9.3f "+f, append([]any{s.now.Sub(simStart).Seconds()}, a...)...) }
		if err := s.run(); err != nil {
			t.Fatal(err)
		}
		return
	}
	var faults, recalls int
	for seed := uint64(1); seed <= uint64(*simSeeds); seed++ {
		s := newSim(seed)
		if err := s.run(); err != nil {
			t.Fatalf("seed %d: %v\n(run it alone with -sim.seed %d -v)", seed, err, seed)
		}
		faults += s.faults
		recalls += s.recalls
	}
	t.Logf("%d seeds, %d faults, %d broken generations", *simSeeds, faults, recalls)
	if faults < *simSeeds || recalls < *simSeeds/2 {
		t.Errorf("only %d faults and %d broken generations: the simulation does not do its work", faults, recalls)
	}
}

// A bit that flips in a worker's memory costs a way back to the last state that
// all agreed on, and nothing of it reaches the disk.
func TestSimulatedDivergence(t *testing.T) {
	rewinds := 0
	seeds := *simSeeds / 2
	for seed := uint64(1); seed <= uint64(seeds); seed++ {
		s := newSim(seed)
		s.flips = true
		s.workers = max(s.workers, 2)
		s.wanted = s.workers
		if err := s.run(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		rewinds += s.rewinds
	}
	if rewinds < seeds/2 {
		t.Errorf("in %d seeds the job went back only %d times", seeds, rewinds)
	}
}

// Bits that flip among all the other faults, with either policy: what was
// computed with them may be in the sums for good, by policy or where who had
// them is lost before anyone compared. But the job goes on to its end, its
// metrics are whole, and nobody is left idle.
func TestSimulatedDivergenceAmongFaults(t *testing.T) {
	for seed := uint64(1); seed <= uint64(*simSeeds/2); seed++ {
		s := newSim(seed)
		s.flips, s.mixed = true, true
		if seed%2 == 0 {
			s.divergence = ResyncDivergence
		}
		if err := s.run(); err != nil && !strings.Contains(err.Error(), "going back to the same checkpoint") {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

// A worker that diverges at every step is put out by name, and the job comes to
// its end without it: with right weights where all go back to the disk, and with
// those of the majority otherwise.
func TestSimulatedEvil(t *testing.T) {
	tied, idle := 0, 0
	for seed := uint64(1); seed <= uint64(*simSeeds/5); seed++ {
		s := newSim(seed)
		s.flips, s.evil, s.strikes = true, "w1", 3
		s.workers, s.wanted = 3, 3
		s.quiet = simStart
		if seed%2 == 0 {
			s.divergence, s.mixed = ResyncDivergence, true // what it computed stays in the sums
		}
		err := s.run()
		if err != nil && strings.Contains(err.Error(), "without a majority") { // the network has cut the third one off for long
			tied++
			continue
		}
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if s.evils < s.strikes && len(s.dropped) == 0 { // the job was scaled down before it could
			idle++
			continue
		}
		if len(s.dropped) != 1 || !s.dropped[s.evil] {
			t.Fatalf("seed %d: put out were %v, want %s", seed, s.dropped, s.evil)
		}
	}
	if tied > *simSeeds/100 || idle > *simSeeds/100 {
		t.Errorf("without a majority in %d runs of %d, and in %d it did nothing", tied, *simSeeds/5, idle)
	}
}

// A seed gives the same run, event by event.
func TestSimulationReplays(t *testing.T) {
	trace := func() string {
		h := fnv.New64a()
		s := newSim(12)
		s.logf = func(f string, a ...any) { fmt.Fprintf(h, "%v "+f+"\n", append([]any{s.now}, a...)...) }
		if err := s.run(); err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%x after %v", h.Sum64(), s.now.Sub(simStart))
	}
	if a, b := trace(), trace(); a != b {
		t.Errorf("two runs of one seed: %s and %s", a, b)
	}
}

var simStart = time.Unix(1000, 0)

const (
	simElements = 37
	simPeriod   = 20 * time.Millisecond // of ticks
)

type sim struct {
	rng     *rand.Rand
	now     time.Time
	queue   simQueue
	seq     int
	logf    func(string, ...any)
	err     error
	faults  int
	recalls int
	rewinds int
	flips   bool   // of bits in memory: the one kind of fault
	mixed   bool   // unless this is set
	evil    string // a worker in whose memory a bit flips at every step, whichever process it is
	evils   int    // steps at which one did
	dropped map[string]bool

	divergence DivergencePolicy
	strikes    int // divergences until a worker is put out

	steps, micro, every int
	workers, most       int         // to begin with, and that compute
	crowd               bool        // many are harmed at once
	want                [][]float32 // weights after each step
	wantLoss            []float64
	drop, dup, corrupt  float64
	slow                time.Duration // most that a message is delayed
	pass, rest          time.Duration // most that a micro-batch takes, and the end of what was told to halt
	cut                 map[string]bool
	quiet               time.Time // no faults after it

	coord  *simCoordinator
	others []*simCoordinator // superseded ones
	procs  map[string]*simWorker
	split  bool // there were two coordinators: each has its own disk
	nonce  int
	ended  *Finish
	disk   *simDisk // of the newest coordinator
	last   *simDisk // of the one that ended the job
	wanted int      // worker processes that the supervisor keeps alive
}

type simEvent struct {
	at  time.Time
	seq int
	f   func()
}
type simQueue []simEvent

func (q simQueue) Len() int { return len(q) }
func (q simQueue) Less(i, j int) bool {
	return q[i].at.Before(q[j].at) || q[i].at.Equal(q[j].at) && q[i].seq < q[j].seq
}
func (q simQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *simQueue) Push(x any)   { *q = append(*q, x.(simEvent)) }
func (q *simQueue) Pop() any {
	o := *q
	x := o[len(o)-1]
	*q = o[:len(o)-1]
	return x
}

func newSim(seed uint64) *sim {
	r := rand.New(rand.NewPCG(seed, 77))
	s := &sim{divergence: RewindDivergence, rng: r, now: simStart, logf: func(string, ...any) {}, cut: map[string]bool{}, dropped: map[string]bool{}, procs: map[string]*simWorker{}}
	s.steps, s.micro, s.every = 6+r.IntN(20), 2+r.IntN(7), 1+r.IntN(6)
	s.workers = 1 + r.IntN(4)
	s.wanted, s.most = s.workers, 3
	s.quiet = simStart.Add(time.Duration(500+r.IntN(6000)) * time.Millisecond)
	if r.IntN(2) == 0 {
		s.drop, s.dup, s.corrupt = 0.1*r.Float64(), 0.1*r.Float64(), 0.05*r.Float64()
		s.slow = time.Duration(r.IntN(60)) * time.Millisecond
	}
	s.pass, s.rest = 20*time.Millisecond, 10*time.Millisecond
	if r.IntN(4) == 0 { // passes that cannot be interrupted, of up to several deadlines
		s.pass, s.rest = time.Duration(1+r.IntN(4000))*time.Millisecond, time.Duration(r.IntN(3000))*time.Millisecond
		s.steps, s.micro = min(s.steps, 8), min(s.micro, 5)
		s.quiet = simStart.Add(time.Duration(500+r.IntN(20000)) * time.Millisecond)
	}
	s.expect()
	return s
}

// expect computes what comes of the job.
func (s *sim) expect() {
	w, mom := simInit(), make([]float32, simElements)
	s.want, s.wantLoss = [][]float32{append(slices.Clone(w), mom...)}, []float64{0}
	for step := range s.steps {
		var sum []float32
		loss := 0.0
		for m := range s.micro {
			g, l := simGradient(uint64(step), m, w)
			loss += simTravel(l)
			if m == 0 {
				sum = g
			} else {
				for i := range sum {
					sum[i] += g[i]
				}
			}
		}
		simUpdate(w, mom, sum, s.micro)
		s.want = append(s.want, append(slices.Clone(w), mom...))
		s.wantLoss = append(s.wantLoss, loss/float64(s.micro))
	}
}

func simInit() []float32 {
	w := make([]float32, simElements)
	for i := range w {
		w[i] = float32(i%7) - 3
	}
	return w
}

// simGradient is far from associative in its sums: sizes differ by 2^20.
func simGradient(step uint64, m int, w []float32) (g []float32, loss float64) {
	r := rand.New(rand.NewPCG(step, uint64(m)))
	g = make([]float32, simElements)
	for i := range g {
		g[i] = float32(math.Ldexp(r.Float64()-0.5, r.IntN(20)-10)) * (1 + w[i]/8)
		loss += float64(g[i])
	}
	return g, loss
}

func simUpdate(w, mom, sum []float32, micro int) {
	for i := range w {
		mom[i] = 0.9*mom[i] + sum[i]/float32(micro)
		w[i] -= 0.01 * mom[i]
	}
}

func simDigest(state []float32) string {
	h := fnv.New64a()
	for _, x := range state {
		b := math.Float32bits(x)
		h.Write([]byte{byte(b), byte(b >> 8), byte(b >> 16), byte(b >> 24)})
	}
	return fmt.Sprintf("%016x", h.Sum64())
}

func (s *sim) after(d time.Duration, f func()) {
	s.seq++
	heap.Push(&s.queue, simEvent{s.now.Add(d), s.seq, f})
}

func (s *sim) between(lo, hi time.Duration) time.Duration {
	return lo + time.Duration(s.rng.Int64N(int64(hi-lo)+1))
}

func (s *sim) fail(f string, a ...any) {
	if s.err == nil {
		s.err = fmt.Errorf("at %v: %s", s.now.Sub(simStart), fmt.Sprintf(f, a...))
	}
}

func (s *sim) calm() bool { return s.now.After(s.quiet) }

// carry delivers a message, or not, once or twice, soon or late.
func (s *sim) carry(from, to string, b []byte, lossy bool, deliver func([]byte)) {
	if s.cut[from] != s.cut[to] {
		return
	}
	drop, dup, corrupt, slow := s.drop, s.dup, s.corrupt, s.slow
	if s.calm() {
		drop, dup, corrupt, slow = 0, 0, 0, 0
	}
	n := 1
	if s.rng.Float64() < drop {
		n = 0
	} else if s.rng.Float64() < dup {
		n = 2
	}
	for range n {
		c := slices.Clone(b)
		if lossy && s.rng.Float64() < corrupt {
			c[s.rng.IntN(len(c))] ^= 1 << s.rng.IntN(8)
		}
		s.after(s.between(100*time.Microsecond, time.Millisecond+slow), func() { deliver(c) })
	}
}

func (s *sim) run() error {
	s.disk = &simDisk{states: map[uint64][]float32{}}
	s.startCoordinator(false)
	for i := range s.wanted {
		s.startWorker(fmt.Sprintf("w%d", i))
	}
	s.after(0, s.disturb)
	limit := s.quiet.Add(60*time.Second + 4*time.Duration(s.steps*s.micro)*(s.pass+s.rest))
	for len(s.queue) > 0 && s.err == nil && s.ended == nil {
		e := heap.Pop(&s.queue).(simEvent)
		s.now = e.at
		if s.now.After(limit) {
			s.fail("the job has not ended %v after the last fault: %s", limit.Sub(s.quiet), s.where())
			break
		}
		e.f()
	}
	if s.err != nil {
		return s.err
	}
	if s.ended == nil {
		return errors.New("nothing happens any more")
	}
	if f := s.ended; f.Outcome != Done || f.Step != uint64(s.steps) || !f.Stored {
		return fmt.Errorf("the job ended as %+v", *f)
	}
	if s.split { // what the other coordinator took note of is on its disk
		return nil
	}
	for i, step := range s.last.metrics {
		if step != uint64(i+1) {
			return fmt.Errorf("the metrics' line %d is of step %d", i+1, step)
		}
	}
	if n := len(s.last.metrics); n != s.steps {
		return fmt.Errorf("the metrics have %d steps of %d", n, s.steps)
	}
	return nil
}

func (s *sim) where() string {
	var l []string
	if s.coord != nil {
		m := s.coord.m
		l = append(l, fmt.Sprintf("coordinator %v, generation %d, committed %d, reported %d, stored %d", m.phase, m.generation, m.committed, m.reported, m.stored))
		for _, w := range m.Members() {
			l = append(l, fmt.Sprintf("  member %s: %v, state %v, step %d", w.Worker, w.Status, w.State, w.Step))
		}
	}
	for _, id := range s.ids() {
		w := s.procs[id]
		if w.node != nil {
			l = append(l, fmt.Sprintf("  process %s: %v, generation %d, step %d, fault %v", id, w.node.phase, w.node.generation, w.node.step, w.node.fault))
		} else {
			l = append(l, fmt.Sprintf("  process %s: joining", id))
		}
	}
	return strings.Join(l, "\n")
}

func (s *sim) ids() []string {
	var l []string
	for id := range s.procs {
		l = append(l, id)
	}
	sort.Strings(l)
	return l
}

// disturb does one random harm after another until it is time to be quiet.
func (s *sim) disturb() {
	if s.calm() {
		for _, w := range s.procs {
			if s.cut[w.id] {
				w.harmed = s.now
			}
		}
		clear(s.cut)
		if s.coord == nil {
			s.startCoordinator(true)
		}
		for _, w := range s.procs {
			w.resume()
		}
		s.coord.resume()
		return
	}
	s.faults++
	ids := s.ids()
	flip := func() {
		if w := s.procs[ids[s.rng.IntN(len(ids))]]; w.have && w.node != nil && w.node.phase == nodeStepping && len(w.assign.Group.Members) > 1 { // alone, nobody would know
			s.logf("fault: a bit flips in %s after step %d", w.id, w.step)
			i := s.rng.IntN(len(w.state))
			w.state[i] = math.Float32frombits(math.Float32bits(w.state[i]) ^ 1<<s.rng.IntN(23))
		}
	}
	if s.mixed && len(ids) > 0 && s.rng.IntN(3) == 0 {
		flip()
	}
	if s.flips && !s.mixed {
		flip()
		if s.faults < 3 { // one that never agrees fails
			s.after(s.between(50*time.Millisecond, 500*time.Millisecond), s.disturb)
		}
		return
	}
	if s.crowd {
		s.harmCrowd(ids)
		return
	}
	pick := func() *simWorker {
		if len(ids) == 0 {
			return nil
		}
		return s.procs[ids[s.rng.IntN(len(ids))]]
	}
	switch s.rng.IntN(11) {
	case 10:
		if c := s.coord; c != nil && !c.frozen {
			d := s.between(10*time.Millisecond, 5*time.Second)
			s.logf("fault: freeze %s for %v", c.name, d)
			c.frozen = true
			s.after(d, c.resume)
		}
	case 0, 1, 2:
		if w := pick(); w != nil {
			s.logf("fault: kill %s", w.id)
			w.kill()
		}
	case 3:
		if w := pick(); w != nil && !w.frozen {
			d := s.between(10*time.Millisecond, 3*time.Second)
			s.logf("fault: freeze %s for %v", w.id, d)
			w.frozen = true
			s.after(d, w.resume)
		}
	case 4, 5:
		if s.coord != nil {
			d := s.between(10*time.Millisecond, 1500*time.Millisecond)
			s.logf("fault: kill the coordinator for %v", d)
			s.coord.dead, s.coord = true, nil
			s.after(d, func() {
				if s.coord == nil {
					s.startCoordinator(true)
				}
			})
		}
	case 6, 7:
		if w := pick(); w != nil {
			d := s.between(10*time.Millisecond, 2*time.Second)
			s.logf("fault: cut %s off for %v", w.id, d)
			s.cut[w.id] = true
			s.after(d, func() {
				delete(s.cut, w.id)
				w.harmed = s.now
			})
		}
	case 8:
		n := 1 + s.rng.IntN(5)
		s.wanted = n
		for i := range n {
			if id := fmt.Sprintf("w%d", i); s.procs[id] == nil {
				s.logf("fault: %s is started", id)
				s.startWorker(id)
			}
		}
		if s.coord != nil && s.rng.IntN(2) == 0 {
			s.logf("fault: scale to %d", n)
			c := s.coord
			c.do(func() { c.step(Scale{n}) })
		}
	case 9:
		if s.coord != nil && !s.coord.frozen && s.rng.IntN(3) == 0 {
			d := s.between(10*time.Millisecond, 3*time.Second)
			s.logf("fault: freeze %s for %v, and start another", s.coord.name, d)
			old := s.coord
			old.frozen = true
			s.after(time.Second, func() { // the new one has asked in vain who leads
				if !old.frozen || s.coord != old {
					return
				}
				s.others = append(s.others, old)
				s.split = true
				s.disk = &simDisk{slices.Clone(s.disk.metrics), maps.Clone(s.disk.states)}
				s.startCoordinator(true)
				lead := &Lead{Coordinator: s.coord.name}
				old.do(func() { old.step(lead) })
			})
			s.after(d, old.resume)
		}
	}
	s.after(s.between(5*time.Millisecond, 800*time.Millisecond), s.disturb)
}

// --- the coordinator's process

// simDisk is a run directory.
type simDisk struct {
	metrics []uint64 // steps written
	states  map[uint64][]float32
}

func (d *simDisk) newest() (best uint64) {
	for step := range d.states {
		best = max(best, step)
	}
	return best
}

type simCoordinator struct {
	s *sim
	*simDisk
	name   string
	idle   map[string]time.Time // members that have loaded, and are taken for loading
	m      *Machine
	clock  *Clock
	dead   bool
	frozen bool
	stash  []func()
}

func (c *simCoordinator) do(f func()) {
	switch {
	case c.dead:
	case c.frozen:
		c.stash = append(c.stash, f)
	default:
		f()
	}
}

func (c *simCoordinator) resume() {
	c.frozen = false
	l := c.stash
	c.stash = nil
	for _, f := range l {
		c.do(f)
	}
}

func (s *sim) startCoordinator(takeover bool) {
	s.nonce++
	c := &simCoordinator{s: s, idle: map[string]time.Time{}, name: fmt.Sprintf("coordinator-%d", s.nonce), simDisk: s.disk}
	stored := c.newest()
	s.logf("%s starts from step %d", c.name, stored)
	reported := uint64(0)
	if n := len(c.metrics); n > 0 {
		reported = c.metrics[n-1]
	}
	c.m = NewMachine(Config{Coordinator: c.name, Workers: s.workers, MinWorkers: 1, MaxWorkers: s.most, Micro: s.micro, Steps: uint64(s.steps),
		StartStep: stored, Stored: stored > 0, Reported: reported, Takeover: takeover, Deadline: time.Second, JoinTimeout: 20 * time.Second, Straggler: KeepStraggler, Divergence: s.divergence, MaxDivergences: s.strikes}, s.now)
	s.coord = c
	c.clock = NewClock(s.now, 2*tickPeriod(time.Second))
	var tick func()
	tick = func() {
		if !c.dead {
			c.do(func() { c.step(Tick{}) })
			c.watchIdle()
			s.after(simPeriod, tick)
		}
	}
	s.after(simPeriod, tick)
}

// watchIdle fails where a member that has loaded is never given anything to do.
func (c *simCoordinator) watchIdle() {
	s := c.s
	for id, w := range c.m.members {
		p := s.procs[id]
		if !s.calm() || c != s.coord || c.m.phase == Ended || w.Status != Loading || p == nil || p.node == nil || p.node.phase == nodeLoading {
			delete(c.idle, id)
			continue
		}
		if c.idle[id].IsZero() {
			c.idle[id] = s.now
		}
		if s.now.Sub(c.idle[id]) > 10*time.Second+2*time.Duration(s.micro)*(s.pass+s.rest) {
			s.fail("%s is idle for good: %s", id, s.where())
		}
	}
}

// receive is what the bus brings for the coordinator, whoever that is.
func (s *sim) receive(b []byte, reply func([]byte)) {
	for _, c := range append(slices.Clone(s.others), s.coord) {
		if c == nil || c.dead {
			continue
		}
		msg, err := Decode(b)
		if err != nil {
			s.fail("%v", err)
			return
		}
		c.do(func() {
			for _, a := range c.step(msg) {
				if ans, ok := a.(Answer); ok && reply != nil {
					w := &Welcome{Refused: ans.Refused, Source: ans.Source, StartStep: c.newest()}
					reply(Encode(w))
				}
			}
		})
	}
}

func (c *simCoordinator) step(ev any) []any {
	s := c.s
	if c.dead {
		return nil
	}
	before := c.m.phase
	acts := c.m.StepAt(c.clock, s.now, ev)
	if c.m.phase != before {
		s.logf("%s is %v", c.name, c.m.phase)
		if c.m.phase == Settling {
			s.recalls++
		}
	}
	for _, a := range acts {
		switch a := a.(type) {
		case Send:
			b := Encode(a.Msg)
			s.carry(c.name, a.To, b, false, func(b []byte) {
				if w := s.procs[a.To]; w != nil {
					w.hear(b)
				}
			})
		case Dropped:
			s.dropped[a.Worker] = true
		case Note:
			s.logf("%s: %s", c.name, a.Text)
			c.lost(a.Text)
		case StepDone:
			c.stepDone(a.Reports)
		case Save:
			s.after(s.between(time.Millisecond, 80*time.Millisecond), func() { c.do(func() { c.save(a) }) })
		case Rewind:
			s.rewinds++
			step, slow := c.newest(), time.Millisecond
			if s.rng.IntN(3) == 0 { // the disk is verified at leisure, and may be overtaken
				slow = s.between(time.Millisecond, 1500*time.Millisecond)
			}
			s.after(slow, func() { c.do(func() { c.step(Restored{Step: step}) }) })
		case Finish:
			s.logf("%s finishes: %+v", c.name, a)
			if a.Outcome == Superseded {
				c.dead = true
				if s.coord == c {
					s.coord = nil
					s.after(100*time.Millisecond, func() {
						if s.coord == nil {
							s.startCoordinator(true)
						}
					})
				}
				continue
			}
			if s.ended == nil {
				s.ended = &a
				s.last = c.simDisk
			}
		}
	}
	return acts
}

// lost fails where a worker is given up as silent that was not: neither killed
// nor frozen nor cut off, however long it computes and the coordinator was held up.
func (c *simCoordinator) lost(note string) {
	s := c.s
	id, why, ok := strings.Cut(strings.TrimPrefix(note, "lost worker "), ": ")
	if !ok || !strings.HasPrefix(note, "lost worker ") || !strings.HasPrefix(why, "not heard from") || s.drop > 0 || c != s.coord || len(s.others) > 0 {
		return
	}
	id, _, _ = strings.Cut(id, " ")
	if w := s.procs[id]; w != nil && w.node != nil && !w.frozen && !s.cut[id] && s.now.Sub(w.harmed) > 3*time.Second {
		s.fail("%s was lost, and nothing had happened to it: %s", id, note)
	}
}

func (c *simCoordinator) stepDone(reports []*Report) {
	s := c.s
	r := reports[0]
	if !s.flips && (r.Targets != s.micro || r.Loss != s.wantLoss[r.Step]) {
		s.fail("step %d was reported with another loss", r.Step)
	}
	if n := len(c.metrics); n > 0 && r.Step <= c.metrics[n-1] {
		s.fail("%s reports step %d after step %d", c.name, r.Step, c.metrics[n-1])
	}
	c.metrics = append(c.metrics, r.Step)
}

// save fetches the parts of a checkpoint from the workers that offer them.
func (c *simCoordinator) save(a Save) {
	s := c.s
	if c.dead {
		return
	}
	state := make([]float32, 2*simElements)
	for i, o := range a.Parts {
		w := s.procs[o.Worker]
		if w == nil || w.frozen || s.cut[w.id] || w.offers[o.Step] == nil {
			c.step(Saved{a.Step, fmt.Errorf("part %d of worker %s is not there", i, o.Worker)})
			return
		}
		for j := i; j < len(state); j += len(a.Parts) {
			state[j] = w.offers[o.Step][j]
		}
	}
	if !s.mixed && !slices.Equal(state, s.want[a.Step]) {
		s.fail("the checkpoint of step %d is not the state after it", a.Step)
	}
	c.states[a.Step] = state
	c.step(Saved{Step: a.Step})
}

// --- a worker's process

type simWorker struct {
	s      *sim
	id     string
	pid    int
	dead   bool
	frozen bool
	harmed time.Time // when it was last started, frozen, or cut off
	stash  []func()  // what happened while frozen
	node   *Node
	clock  *Clock
	state  []float32 // weights and momentum
	step   uint64
	have   bool
	grads  map[int][]float32 // micro-gradients of the step in progress
	losses map[int]float64
	offers map[uint64][]float32

	lane    Lane
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
	w.lane = NewLane(w.task, w.cancel)
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
		w.node = NewNode(NodeConfig{Join: w.me(), Heartbeat: 200 * time.Millisecond}, w.s.now)
		var tick func()
		tick = func() { w.input(Tick{}); w.s.after(simPeriod, func() { w.do(tick) }) }
		w.after(0, tick)
		w.clock = NewClock(w.s.now, 200*time.Millisecond)
		w.lane.Do(a)
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
			w.input(msg)
		}
	})
}

func (w *simWorker) input(ev any) {
	s := w.s
	if w.core != nil {
		if _, ok := ev.(Tick); ok {
			w.core.Tick(s.now)
			w.pump()
		}
	}
	for _, a := range w.node.Step(w.clock.At(s.now), ev) {
		switch a := a.(type) {
		case Tell:
			s.carry(w.id, "coordinator", Encode(a.Msg), false, func(b []byte) { s.receive(b, nil) })
		case Introduced:
			w.ask(a.Join, func(*Welcome) {})
		case Load, Form, Run, Halt:
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
			w.kill()
			return
		}
	}
}

// task begins what takes time; end is its end. Only its own events count: it may
// be told to stop, and then goes on until it can.
func (w *simWorker) task(task any) {
	s := w.s
	w.run++
	w.stopped, w.waits = false, false
	run := w.run
	switch a := task.(type) {
	case *Welcome:
		w.after(s.between(time.Millisecond, 60*time.Millisecond), func() {
			if a.Source == FromCoordinator {
				w.load(a.StartStep)
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
func (w *simWorker) end(run int, result any) {
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
		if w.s.flips || w.s.split || !w.have { // a bit flipped; or it is said to a process before this one, by a coordinator that was frozen
			w.end(run, LoadFailed{Err: errors.New("the state is another")})
			return
		}
		w.s.fail("%s forms with the state of step %d, %s, want %d, %s", w.id, w.step, w.digest(), a.Step, a.Digest)
	}
	var err error
	w.core, err = allreduce.NewCore(w.assign.Group, allreduce.Options{ChunkBytes: 16, WindowBytes: 64, Patience: 60 * time.Millisecond, Deadline: 10 * time.Minute}, w.s.now)
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
	size := simElements + 2*s.micro
	var micro [][]float32
	for m := lo; m < hi; m++ { // the losses ride along, each in places of its own
		g := append(slices.Clone(w.grads[m]), make([]float32, 2*s.micro)...)
		g[simElements+2*m] = float32(w.losses[m]) // as simTravel
		g[simElements+2*m+1] = float32(w.losses[m] - float64(float32(w.losses[m])))
		micro = append(micro, g)
	}
	w.waits = true
	w.sum = make([]float32, size)
	w.core.Begin(s.now, w.step, []allreduce.Range{{Lo: 0, Hi: 20}, {Lo: 20, Hi: size}}, micro, w.sum, func() allreduce.Flags { return w.flags })
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

// simTravel is a loss after its way through the ring as two floats.
func simTravel(l float64) float64 {
	return float64(float32(l)) + float64(float32(l-float64(float32(l))))
}

func (w *simWorker) commit(flags allreduce.Flags) {
	s := w.s
	sum := w.sum
	w.sum = nil
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
	if !s.flips && !slices.Equal(w.state, s.want[w.step]) {
		s.fail("%s commits step %d with other bits", w.id, w.step)
		return
	}
	w.input(Committed{Report{Step: w.step, Loss: loss / float64(s.micro), Targets: s.micro, GradNorm: math.Abs(float64(sum[0])), Micro: n, Digest: w.digest(), Times: Times{Forward: 0.01 * float64(n)}}})
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
