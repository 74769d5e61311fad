package run

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vlaring/vlaring/pkg/cluster"
)

// fakeProcesses are a machine of processes that do what a test says. It notes
// what happens, with the time since it began: "1.5s +w0" is a start, "2s -w0"
// the end that the coordinator is told of, "3s !w0" a kill; what else is told
// and logged stands as it is.
type fakeProcesses struct {
	began time.Time

	mu     sync.Mutex
	next   int
	procs  map[string]*fakeProcess // the newest of each id
	others map[int]bool            // that somebody else started
	refuse error                   // what a start fails with
	lives  func(id string) time.Duration
	said   string
	seen   []string
}

type fakeProcess struct {
	of   *fakeProcesses
	id   string
	pid  int
	ends chan exit
}

func newFakeProcesses() *fakeProcesses {
	return &fakeProcesses{began: time.Now(), procs: map[string]*fakeProcess{}, others: map[int]bool{}, next: 100}
}

func (f *fakeProcesses) note(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen = append(f.seen, fmt.Sprintf("%v ", time.Since(f.began))+fmt.Sprintf(format, args...))
}

func (f *fakeProcesses) Start(id string) (child, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.refuse != nil {
		return nil, f.refuse
	}
	f.seen = append(f.seen, fmt.Sprintf("%v +%s", time.Since(f.began), id))
	f.next++
	p := &fakeProcess{of: f, id: id, pid: f.next, ends: make(chan exit, 1)}
	f.procs[id] = p
	if f.lives != nil {
		time.AfterFunc(f.lives(id), func() { p.end(exit{Reason: "it ended"}) })
	}
	return p, nil
}

func (f *fakeProcesses) Running(pid int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.others[pid]
}

func (f *fakeProcesses) Log(id string) string { return "logs/" + id + ".log" }

// set changes f while it is in use.
func (f *fakeProcesses) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// take is what has happened since it was last looked at.
func (f *fakeProcesses) take() []string {
	synctest.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	seen := f.seen
	f.seen = nil
	return seen
}

// of is the newest process of an id.
func (f *fakeProcesses) of(id string) *fakeProcess {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.procs[id]
}

// member is how the newest process of an id is a member; rank -1 is none yet.
func (f *fakeProcesses) member(id string, rank int) cluster.Member {
	return cluster.Member{Join: cluster.Join{Worker: id, Host: "here", PID: f.of(id).pid}, Rank: rank}
}

func (p *fakeProcess) PID() int   { return p.pid }
func (p *fakeProcess) Wait() exit { return <-p.ends }
func (p *fakeProcess) Kill() {
	p.of.note("!%s", p.id)
	p.end(exit{Reason: "killed"})
}
func (p *fakeProcess) Words() string { return p.of.said }

func (p *fakeProcess) end(e exit) {
	select {
	case p.ends <- e:
	default: // it has ended before
	}
}

// supervise starts a supervisor of f's processes.
func (f *fakeProcesses) supervise(want int, takeover bool) *supervisor {
	log := func(text string) { f.note("%s", text) }
	return newSupervisor(f, tells{event: func(ev cluster.Event) {
		switch e := ev.(type) {
		case cluster.WorkerGone:
			f.note("-%s %s", e.Worker, e.Reason)
		case cluster.Hopeless:
			f.note("hopeless: %s", e.Reason)
		default:
			panic(fmt.Sprintf("%T", ev))
		}
	}, warn: log, error: log}, "here", want, 20*time.Second, takeover)
}

// saw compares what has happened since the last call, order within a moment aside.
func (f *fakeProcesses) saw(t *testing.T, want ...string) {
	t.Helper()
	got := f.take()
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("it saw\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

// A process that ends is started again at once; one that keeps ending soon after
// ever longer pauses, and then not at all. With nobody left the job is hopeless.
func TestSupervisorBacksOffAndGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeProcesses()
		f.lives = func(string) time.Duration { return time.Second }
		c := f.supervise(1, false)
		time.Sleep(time.Minute)
		f.saw(t, "0s +w0", "1s -w0 it ended", "1s +w0", "2s -w0 it ended", "2.5s +w0", "3.5s -w0 it ended", "4.5s +w0", "5.5s -w0 it ended",
			"5.5s worker w0 has ended 4 times in a row within 10s and is not started again; see logs/w0.log", "5.5s hopeless: worker w0: it ended")
		c.wait(0)
	})
}

// Of two places one that is hopeless costs the job one worker, not the other.
func TestSupervisorGoesOnWithWhoIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeProcesses()
		f.lives = func(id string) time.Duration {
			if id == "w0" {
				return time.Second
			}
			return time.Hour
		}
		c := f.supervise(2, false)
		synctest.Wait()
		c.told(cluster.Running, []cluster.Member{f.member("w1", 0)})
		time.Sleep(time.Minute)
		f.saw(t, "0s +w0", "0s +w1", "1s -w0 it ended", "1s +w0", "2s -w0 it ended", "2.5s +w0", "3.5s -w0 it ended", "4.5s +w0", "5.5s -w0 it ended",
			"5.5s worker w0 has ended 4 times in a row within 10s and is not started again; see logs/w0.log")
		f.of("w1").end(exit{Reason: "killed"}) // whom nothing was wrong with
		time.Sleep(time.Second)
		f.saw(t, "1m0s -w1 killed", "1m0s +w1")
		c.wait(0)
	})
}

// A worker that took part is started again at once however soon it ends, and
// one that ran for long before it ended, too.
func TestSupervisorReplacesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeProcesses()
		c := f.supervise(1, false)
		f.saw(t, "0s +w0")
		for i := range 6 {
			c.told(cluster.Running, []cluster.Member{f.member("w0", 0)})
			time.Sleep(time.Second)
			f.of("w0").end(exit{Reason: "killed"})
			synctest.Wait()
			c.told(cluster.Gathering, nil)
			f.saw(t, fmt.Sprintf("%ds -w0 killed", i+1), fmt.Sprintf("%ds +w0", i+1))
		}
		for range 6 {
			time.Sleep(soon)
			f.of("w0").end(exit{Reason: "killed"})
			synctest.Wait()
		}
		seen := f.take()
		if n := strings.Count(strings.Join(seen, " "), "+w0"); n != 6 {
			t.Errorf("started %d times, want 6: %v", n, seen)
		}
		c.wait(0)
	})
}

// A start that fails is told, and tried again as rarely as a process that ends
// soon: not at once and for ever.
func TestSupervisorStartFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeProcesses()
		f.refuse = fmt.Errorf("open logs/w0.log: %w", os.ErrPermission)
		c := f.supervise(1, false)
		time.Sleep(time.Minute)
		could := " worker w0 could not be started: open logs/w0.log: permission denied"
		f.saw(t, "0s"+could, "0s"+could, "500ms"+could, "1.5s"+could,
			"1.5s worker w0 has ended 4 times in a row within 10s and is not started again; see logs/w0.log",
			"1.5s hopeless: worker w0: it could not be started: open logs/w0.log: permission denied")
		c.wait(0)

		f = newFakeProcesses() // for a moment: a disk that was full
		f.refuse = errors.New("no space left on device")
		c = f.supervise(1, false)
		synctest.Wait()
		f.set(func() { f.refuse = nil })
		time.Sleep(time.Second)
		f.saw(t, "0s worker w0 could not be started: no space left on device", "0s worker w0 could not be started: no space left on device", "500ms +w0")
		c.wait(0)
	})
}

// After a takeover nothing is started for two deadlines: workers that live say
// so, and are kept.
func TestSupervisorAfterATakeover(t *testing.T) {
	other := func(id string, pid, rank int) cluster.Member {
		return cluster.Member{Join: cluster.Join{Worker: id, Host: "here", PID: pid}, Rank: rank}
	}
	t.Run("nobody lives", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFakeProcesses()
			c := f.supervise(2, true)
			time.Sleep(time.Minute)
			f.saw(t, "40s +w0", "40s +w1")
			c.wait(0)
		})
	})
	t.Run("one lives", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFakeProcesses()
			f.others[7] = true
			c := f.supervise(2, true)
			time.Sleep(time.Second)
			c.told(cluster.Gathering, []cluster.Member{other("w1", 7, -1)}) // the other may come yet
			time.Sleep(4 * time.Second)
			f.saw(t)
			c.told(cluster.Running, []cluster.Member{other("w1", 7, 0)}) // it has not: half a deadline more, for its heartbeat
			time.Sleep(time.Minute)
			f.saw(t, "15s +w0")
			c.told(cluster.Running, []cluster.Member{f.member("w0", 0)}) // w1 is lost for a while, and not replaced
			time.Sleep(time.Minute)
			f.saw(t)
			f.set(func() { f.others[7] = false })
			time.Sleep(time.Second)
			f.saw(t, "2m5.05s -w1 its process 7 is gone", "2m5.05s +w1")
			c.wait(0)
		})
	})
	t.Run("training goes on late", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFakeProcesses()
			f.others[7] = true
			c := f.supervise(2, true)
			time.Sleep(35 * time.Second)
			c.told(cluster.Running, []cluster.Member{other("w1", 7, 0)})
			time.Sleep(time.Minute)
			f.saw(t, "40s +w0") // no later than without it
			c.leave()           // to another coordinator, which replaces who ends
			f.of("w0").end(exit{Reason: "killed"})
			time.Sleep(time.Minute)
			f.saw(t, "1m35s -w0 killed")
		})
	})
	t.Run("a host of the same name", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFakeProcesses()
			c := f.supervise(2, false)
			synctest.Wait()
			f.of("w1").end(exit{Reason: "killed"})
			time.Sleep(time.Second)
			c.told(cluster.Running, []cluster.Member{f.member("w0", 0), other("w5", 99, 1)}) // pid 99 is of another container
			f.saw(t, "0s +w0", "0s +w1", "0s -w1 killed", "0s +w1")
			if len(c.places.orphans) > 0 {
				t.Errorf("orphans: %v", c.places.orphans)
			}
			c.wait(0)
		})
	})
}

// With workers from elsewhere a job goes on though no process of this machine
// can be started; it is hopeless once they have gone.
func TestSupervisorHopelessOnceTheOthersHaveGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeProcesses()
		f.lives = func(string) time.Duration { return 0 }
		c := f.supervise(1, false)
		c.told(cluster.Running, []cluster.Member{{Join: cluster.Join{Worker: "x7", Host: "there", PID: 1}, Rank: 0}})
		time.Sleep(time.Minute)
		for _, s := range f.take() {
			if strings.Contains(s, "hopeless") {
				t.Errorf("it is told with a worker left: %s", s)
			}
		}
		c.told(cluster.Gathering, nil)
		f.saw(t, "1m0s hopeless: worker w0: it ended")
		c.wait(0)
	})
}

// More are started as the job is scaled up; scaled down, nobody who ends is
// replaced until there are fewer than are wanted.
func TestSupervisorScales(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeProcesses()
		c := f.supervise(1, false)
		synctest.Wait()
		c.told(cluster.Running, []cluster.Member{f.member("w0", 0), {Join: cluster.Join{Worker: "x7", Host: "there"}, Rank: 1}})
		c.scale(3) // of the whole job: with x7
		f.saw(t, "0s +w0", "0s +w1")
		c.scale(1)
		time.Sleep(time.Second)
		f.of("w1").end(exit{Reason: "it was told to leave", Left: true})
		time.Sleep(time.Second)
		f.saw(t, "1s -w1 it was told to leave")
		c.wait(0)

		f = newFakeProcesses() // where all come from elsewhere none is started here
		c = f.supervise(0, false)
		c.scale(3)
		c.told(cluster.Running, nil)
		time.Sleep(time.Minute)
		f.saw(t)
		c.wait(0)
	})
}

// What a process that has not joined says is told once, though several say it.
func TestSupervisorTellsWhoDoesNotJoin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeProcesses()
		f.said = "no such server"
		c := f.supervise(3, false)
		synctest.Wait()
		c.told(cluster.Gathering, []cluster.Member{f.member("w2", -1)})
		time.Sleep(joinSoon)
		var told []string
		for _, s := range f.take() {
			if strings.Contains(s, "joined") {
				told = append(told, s[:3]+s[len("5s worker w0"):])
			}
		}
		if want := []string{"5s  has not joined yet; its log says: no such server"}; !slices.Equal(told, want) {
			t.Errorf("told is %q, want %q", told, want)
		}
		if got, want := c.silent(), "\nworker w0 did not join; its log ends: no such server"; got != want {
			t.Errorf("the silent ones: %q, want %q", got, want)
		}
		c.wait(0)
	})
}

// At the end of a job nobody is replaced. Who never joined is killed at once;
// the others leave by themselves, or are killed when their time is over.
func TestSupervisorWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeProcesses()
		c := f.supervise(3, false)
		synctest.Wait()
		c.told(cluster.Ended, []cluster.Member{f.member("w0", 0), f.member("w1", 1)})
		time.AfterFunc(2*time.Second, func() { f.of("w0").end(exit{Reason: "its process ended"}) })
		if !c.alone() {
			t.Error("somebody is a member who is no process of this machine")
		}
		c.wait(10 * time.Second)
		f.saw(t, "0s +w0", "0s +w1", "0s +w2", "0s !w2", "0s -w2 killed", "2s -w0 its process ended", "10s !w1", "10s -w1 killed")
		<-c.done
	})
}
