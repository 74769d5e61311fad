package run

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vlaring/vlaring/pkg/cluster"
)

// processes are where a supervisor's workers come from: those of this machine
// (machineWorkers), or a test's. Its methods may be called from any goroutine.
type processes interface {
	// Start starts a worker of the id; it does not wait for it to do anything.
	Start(id string) (child, error)
	// Running says whether a process of this machine runs, whoever started it.
	Running(pid int) bool
	// Log is where the words of an id's processes are kept.
	Log(id string) string
}

// child is a worker that was started.
type child interface {
	PID() int
	// Wait waits for its end. It is called once.
	Wait() exit
	// Kill ends it; of one that has ended it does nothing.
	Kill()
	// Words are the last that it has said, in one line.
	Words() string
}

// exit is how a process ended.
type exit struct {
	Reason string // in words that follow "worker w0: "
	Left   bool   // it was told to, and has not failed
}

// tells is what a supervisor says: events to the coordinator, words to the log.
type tells struct {
	event       func(cluster.Event)
	warn, error func(text string)
}

// supervisor keeps the worker processes of this machine at a number: those that
// die are replaced. Processes that an earlier coordinator left behind count as
// long as they are members. What it does is decided by its places.
type supervisor struct {
	procs processes
	tell  tells

	mu     sync.Mutex
	wg     sync.WaitGroup // of processes
	places *places
	said   string        // what one that does not join said last, as told
	done   chan struct{} // closed by wait or leave
}

// newSupervisor brings up want workers of this machine, whose name is host, with
// ids w0, w1, … in order of rank. The coordinator learns at once when one of
// them dies. With takeover it first waits for those that live on.
func newSupervisor(procs processes, tell tells, host string, want int, deadline time.Duration, takeover bool) *supervisor {
	c := &supervisor{procs: procs, tell: tell, places: newPlaces(host, want, deadline), done: make(chan struct{})}
	if takeover && want > 0 {
		time.AfterFunc(c.places.takeOver(time.Now()), c.tend)
	}
	c.tend()
	return c
}

// told is the coordinator's list of members.
func (c *supervisor) told(phase cluster.Phase, members []cluster.Member) {
	c.mu.Lock()
	strangers, wake := c.places.told(time.Now(), phase, members)
	for _, m := range strangers {
		c.watch(m.Worker, m.PID)
	}
	c.mu.Unlock()
	if wake > 0 {
		time.AfterFunc(wake, c.tend)
	}
	c.tend()
}

// watchEvery is how often processes that are not children are looked for.
const watchEvery = 50 * time.Millisecond

// watch follows a process of this machine that is not our child, but an earlier
// coordinator's: it is not replaced while it exists, though it may be lost for
// a while, and its end is told at once. c.mu is held.
func (c *supervisor) watch(id string, pid int) {
	if !c.procs.Running(pid) {
		return // of another namespace: that host's name says nothing
	}
	c.places.orphans[id] = pid
	go func() {
		t := time.NewTicker(watchEvery)
		defer t.Stop()
		for {
			select {
			case <-c.done:
				return
			case <-t.C:
			}
			if c.procs.Running(pid) {
				continue
			}
			c.tell.event(cluster.WorkerGone{Worker: id, Reason: fmt.Sprintf("its process %d is gone", pid)})
			c.mu.Lock()
			if c.places.orphans[id] == pid {
				delete(c.places.orphans, id)
			}
			c.mu.Unlock()
			c.tend()
			return
		}
	}()
}

// scale sets how many workers the job is to have; none are stopped: those that
// are not needed any more are told to leave by the coordinator.
func (c *supervisor) scale(n int) {
	c.mu.Lock()
	c.places.scale(n)
	c.mu.Unlock()
	c.tend()
}

// dropped says that a worker was let go because it is slow or wrong.
func (c *supervisor) dropped(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.places.dropped(id)
}

// tend starts what is missing.
func (c *supervisor) tend() {
	c.mu.Lock()
	defer c.mu.Unlock()
	ids, hopeless := c.places.tend(time.Now())
	for _, id := range ids {
		c.start(id)
	}
	if hopeless {
		go c.tell.event(cluster.Hopeless{Reason: c.places.last})
	}
}

// start starts one process. c.mu is held.
func (c *supervisor) start(id string) {
	s := c.places.starts(time.Now(), id)
	p, err := c.procs.Start(id)
	if err != nil {
		c.tell.error(fmt.Sprintf("worker %s could not be started: %v", id, err))
		c.ended(id, exit{Reason: fmt.Sprintf("it could not be started: %v", err)})
		return
	}
	s.proc = p
	time.AfterFunc(joinSoon, func() { c.overdue(id, s, p) })
	c.wg.Add(1)
	go func() {
		defer c.wg.Done()
		end := p.Wait()
		c.tell.event(cluster.WorkerGone{Worker: id, Reason: end.Reason})
		c.mu.Lock()
		defer c.mu.Unlock()
		c.ended(id, end)
	}()
}

// ended has a process started again, if it is to be. c.mu is held.
func (c *supervisor) ended(id string, end exit) {
	pause, next := c.places.ended(time.Now(), id, end)
	s := c.places.slots[id]
	switch next {
	case givenUp:
		c.tell.error(fmt.Sprintf("worker %s has ended %d times in a row within %v and is not started again; see %s", id, s.failed, soon, c.procs.Log(id)))
		go c.tend()
	case again:
		time.AfterFunc(pause, func() {
			c.mu.Lock()
			s.waiting = false
			c.mu.Unlock()
			c.tend()
		})
	}
}

// joinSoon is how long a process has to join before its own words are told.
const joinSoon = 5 * time.Second

// overdue tells what a process that has not joined says of it: people look at
// the coordinator, not at a log of a worker that nobody has heard of yet. The
// same words are told once.
func (c *supervisor) overdue(id string, s *slot, p child) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.proc != p || s.joined || c.places.closing {
		return
	}
	words := p.Words()
	same := strings.ReplaceAll(words, id, "")
	if words == "" || same == c.said {
		return
	}
	c.said = same
	c.tell.warn(fmt.Sprintf("worker %s has not joined yet; its log says: %s", id, words))
}

// silent has the last words of the processes that never became members, one a line.
func (c *supervisor) silent() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var b strings.Builder
	told := map[string]bool{}
	for _, id := range slices.Sorted(maps.Keys(c.places.slots)) {
		s := c.places.slots[id]
		if s.joined || s.proc == nil { // the end of one that has ended is told
			continue
		}
		words := s.proc.Words()
		if same := strings.ReplaceAll(words, id, ""); words != "" && !told[same] {
			told[same] = true
			fmt.Fprintf(&b, "\nworker %s did not join; its log ends: %s", id, words)
		}
	}
	return b.String()
}

// wait lets the workers leave by themselves for a while, then kills. Those that
// never became members hear of no end, and hold nothing: they go at once.
func (c *supervisor) wait(while time.Duration) {
	c.mu.Lock()
	c.places.closing = true
	c.kill(func(s *slot) bool { return !s.joined })
	c.mu.Unlock()
	gone := make(chan struct{})
	go func() { c.wg.Wait(); close(gone) }()
	select {
	case <-gone:
	case <-time.After(while):
	}
	c.mu.Lock()
	c.kill(func(*slot) bool { return true })
	c.mu.Unlock()
	<-gone
	close(c.done)
}

// kill ends the processes that which chooses. c.mu is held.
func (c *supervisor) kill(which func(*slot) bool) {
	for _, s := range c.places.slots {
		if s.proc != nil && which(s) {
			s.proc.Kill()
		}
	}
}

// alone says whether all members that were told of last are of this machine's
// processes, which are ended with the coordinator.
func (c *supervisor) alone() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.places.alone()
}

// leave lets go of the processes: another coordinator has them.
func (c *supervisor) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.places.closing = true
	close(c.done)
}
