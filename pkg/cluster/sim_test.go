package cluster

import (
	"container/heap"
	"errors"
	"flag"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"sort"
	"strings"
	"testing"
	"time"
)

// The simulation runs whole clusters in one goroutine on a virtual clock: the
// real machine, Nodes and ring Cores, with a toy model, over a network that
// drops, repeats, delays, reorders, corrupts and parts, while processes are
// killed, frozen and started. Everything that happens is a function of the
// seed, so a seed that fails is run again with
//
//	go test ./pkg/cluster -run TestSimulatedClusters -sim.seed N -v
var (
	simSeed  = flag.Uint64("sim.seed", 0, "run one seed of the simulation, with its log")
	simSeeds = flag.Int("sim.seeds", seeds, "seeds that the simulation runs")
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

	share   float64 // of gradients that are verified
	liar    string  // a worker whose gradients, or what it says of others', are wrong now and then
	accuses bool    // the latter
	sampled bool    // not all lies are found at once
	record  Record  // of the newest coordinator
	hung    int     // disputes

	told     map[*simWorker]bool // that were told to go at once, and have yet to
	newest   uint64              // of the steps that those have committed who went since
	spoilt   bool                // something else was done to the cluster meanwhile: steps may be lost
	partings int                 // times that all went and nothing else was done
	leaving  bool                // that is the one kind of fault

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

func newSim(seed uint64) *sim {
	r := rand.New(rand.NewPCG(seed, 77))
	s := &sim{divergence: RewindDivergence, rng: r, now: simStart, logf: func(string, ...any) {},
		cut: map[string]bool{}, dropped: map[string]bool{}, procs: map[string]*simWorker{}}
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

func (s *sim) calm() bool { return s.now.After(s.quiet) }

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

func (s *sim) ids() []string {
	var l []string
	for id := range s.procs {
		l = append(l, id)
	}
	sort.Strings(l)
	return l
}
