package run

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/vlaring/vlaring/internal/machine"
	"github.com/vlaring/vlaring/internal/regular"
	"github.com/vlaring/vlaring/pkg/cluster"
)

// A worker process that ends is started again at once. One that has not taken
// part before it ended, and soon, is started after ever longer pauses, and not
// at all once that has come so often in a row.
const (
	restartPause = 250 * time.Millisecond
	restartMost  = 8 * time.Second
	restartTries = 4
	soon         = 10 * time.Second
)

// exitLeft is the exit code of a worker that left because it was told to.
const exitLeft = 3

// maxEnds is how many processes of one worker may end one after another, after
// they had taken part, while the job gets no further.
const maxEnds = 5

// children are the worker processes of this machine. They are kept at a number:
// those that die are replaced. Processes that an earlier coordinator left
// behind count as long as they are members.
type children struct {
	run   *Run
	link  *link
	coord *cluster.Coordinator
	host  string

	mu      sync.Mutex
	wg      sync.WaitGroup
	want    int  // processes to keep up here
	all     bool // want is of the whole job: workers from elsewhere count
	slots   map[string]*slot
	members map[string]bool // ids of the job's members, once told
	orphans map[string]int  // pids of an earlier coordinator's processes
	adopt   time.Time       // until then a member may turn out to live already
	adopted bool            // its end has been brought forward
	closing bool
	last    string        // reason of the newest end
	said    string        // what one that does not join said last, as told
	done    chan struct{} // closed by wait
}

// slot is one worker id of this machine: w0, w1, …
type slot struct {
	cmd     *exec.Cmd // nil: no process of ours
	began   time.Time
	failed  int // ends in a row that came soon, before it took part
	gaveUp  bool
	waiting bool // to be started after a pause
	joined  bool // the process has been a member
	log     string
	from    int64 // where in the log its words begin
}

// startWorkers brings up the local workers, ids w0, w1, … in order of rank. The
// coordinator learns at once when one of them dies. With takeover it first
// waits for those that live on.
func startWorkers(r *Run, l *link, coord *cluster.Coordinator, host string, takeover bool) (*children, error) {
	c := &children{run: r, link: l, coord: coord, host: host, want: r.local, slots: map[string]*slot{}, members: map[string]bool{}, orphans: map[string]int{}, done: make(chan struct{})}
	if r.local == 0 {
		return c, nil
	}
	if err := os.MkdirAll(filepath.Join(r.dir, "logs"), 0o755); err != nil {
		return nil, err
	}
	if takeover {
		wait := 2 * time.Duration(r.job.Cluster.Deadline)
		c.adopt = time.Now().Add(wait)
		time.AfterFunc(wait, c.tend)
		return c, nil
	}
	c.tend()
	return c, nil
}

// told is the coordinator's list of members. Of a job that has ended nobody is
// replaced.
func (c *children) told(p cluster.Phase, members []cluster.Member) {
	c.mu.Lock()
	c.closing = c.closing || p == cluster.Ended
	if p != cluster.Gathering && !c.adopted { // those that train are here; one that was loading says so with its next heartbeat
		c.adopted = true
		rest := time.Duration(c.run.job.Cluster.Deadline) / 2
		if end := time.Now().Add(rest); end.Before(c.adopt) {
			c.adopt = end
			time.AfterFunc(rest, c.tend)
		}
	}
	c.members = map[string]bool{}
	for _, m := range members {
		c.members[m.Worker] = true
		if s := c.slots[m.Worker]; s != nil && s.cmd != nil && s.cmd.Process.Pid == m.PID {
			s.joined = true
		}
		if s := c.slots[m.Worker]; s != nil && m.Rank >= 0 { // it has taken part: whatever ends it now is another matter
			s.failed = 0
		}
		if s := c.slots[m.Worker]; Local(m.Worker) && m.Host == c.host && (s == nil || s.cmd == nil) && c.orphans[m.Worker] != m.PID {
			c.watch(m.Worker, m.PID)
		}
	}
	c.mu.Unlock()
	c.tend()
}

// watch follows a process of this machine that is not our child, but an earlier
// coordinator's: it is not replaced while it exists, though it may be lost for
// a while, and its end is told at once. c.mu is held.
func (c *children) watch(id string, pid int) {
	if syscall.Kill(pid, 0) != nil || !machine.Running(pid) {
		return // of another namespace: that host's name says nothing
	}
	c.orphans[id] = pid
	go func() {
		t := time.NewTicker(watchEvery)
		defer t.Stop()
		for {
			select {
			case <-c.done:
				return
			case <-t.C:
				if !machine.Running(pid) {
					c.coord.Tell(cluster.WorkerGone{Worker: id, Reason: fmt.Sprintf("its process %d is gone", pid)})
					c.mu.Lock()
					if c.orphans[id] == pid {
						delete(c.orphans, id)
					}
					c.mu.Unlock()
					c.tend()
					return
				}
			}
		}
	}()
}

// Local says whether an id is one that coordinators give to their own
// processes: w0, w1, …
func Local(id string) bool {
	n, ok := strings.CutPrefix(id, "w")
	_, err := strconv.ParseUint(n, 10, 32)
	return ok && err == nil
}

// watchEvery is how often processes that are not children are looked for.
const watchEvery = 50 * time.Millisecond

// scale sets how many workers the job is to have; none are stopped: those that
// are not needed any more are told to leave by the coordinator.
func (c *children) scale(n int) {
	c.mu.Lock()
	if c.run.local > 0 {
		c.want, c.all = n, true
	}
	c.mu.Unlock()
	c.tend()
}

// dropped says that a worker was let go because it is slow or wrong. Another
// process of this machine would be no better, so it is not replaced.
func (c *children) dropped(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.slots[id]; c.want > 0 && (s != nil && s.cmd != nil || c.orphans[id] > 0) {
		c.want--
	}
}

// tend starts what is missing.
func (c *children) tend() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing || c.want == 0 || time.Now().Before(c.adopt) {
		return
	}
	missing, alive, hopeless := c.missing()
	for _, id := range missing {
		c.start(id)
	}
	alive += len(missing)
	if alive == 0 && hopeless > 0 && len(c.members) == 0 { // workers from elsewhere may go on; told again as they end
		go c.coord.Tell(cluster.Hopeless{Reason: c.last})
	}
}

// missing are the ids of the processes to be started: as many as are wanted
// beyond those alive, but for places that are hopeless. c.mu is held.
func (c *children) missing() (ids []string, alive, hopeless int) {
	taken := map[string]bool{} // by what is alive, or about to be
	for id := range c.members {
		if Local(id) {
			taken[id] = true
		} else if c.all {
			alive++
		}
	}
	for id := range c.orphans {
		taken[id] = true
	}
	for id, s := range c.slots {
		if s.cmd != nil || s.waiting {
			taken[id] = true
		}
	}
	alive += len(taken)
	for i := 0; alive+len(ids) < c.want-hopeless; i++ {
		id := fmt.Sprintf("w%d", i)
		switch s := c.slots[id]; {
		case taken[id]:
		case s != nil && s.gaveUp:
			hopeless++
		default:
			ids = append(ids, id)
		}
	}
	return ids, alive, hopeless
}

// start starts one process. c.mu is held.
func (c *children) start(id string) {
	r, l := c.run, c.link
	s := c.slots[id]
	if s == nil {
		s = &slot{}
		c.slots[id] = s
	}
	s.waiting = false
	p := Place{ID: id, Job: r.job.Name, URL: l.url, Own: l.broker != nil, Credentials: l.creds, Threads: r.threads, RescueDir: filepath.Join(r.dir, "rescue")}
	p.Credentials.TLS.Name = l.tlsName
	if l.broker != nil {
		p.Mesh = l.broker.RouteAddr()
	}
	cmd := r.worker(p)
	// a process group of its own: Ctrl-C on the terminal reaches the coordinator alone, which decides
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// a file, not a pipe: a worker outlives the coordinator that started it
	log, err := regular.OpenFile(filepath.Join(r.dir, "logs", id+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err == nil {
		cmd.Stdout, cmd.Stderr = log, log
		err = cmd.Start()
	}
	if err != nil {
		c.ended(id, s, fmt.Sprintf("it could not be started: %v", err), false)
		return
	}
	began, _ := log.Seek(0, io.SeekEnd)
	s.cmd, s.began, s.joined, s.log, s.from = cmd, time.Now(), false, log.Name(), began
	time.AfterFunc(joinSoon, func() { c.overdue(id, s, cmd) })
	kills, _ := machine.Kills()
	c.wg.Add(1)
	go func() {
		defer c.wg.Done()
		defer log.Close()
		err := cmd.Wait()
		reason := exitReason(err, lastWords(log.Name(), began))
		if why := killedForMemory(kills); why != "" && killed(err) {
			reason += "; " + why
		}
		c.coord.Tell(cluster.WorkerGone{Worker: id, Reason: reason})
		c.mu.Lock()
		defer c.mu.Unlock()
		c.ended(id, s, reason, cmd.ProcessState != nil && cmd.ProcessState.ExitCode() == exitLeft)
	}()
}

// words are the last of a slot's process, without their time.
func (s *slot) words() string {
	words := lastWords(s.log, s.from)
	if i := strings.IndexByte(words, ' '); i > 0 && strings.Contains(words[:i], ":") {
		words = words[i+1:]
	}
	return words
}

// joinSoon is how long a process has to join before its own words are told.
const joinSoon = 5 * time.Second

// overdue tells what a process that has not joined says of it: people look at
// the coordinator, not at a log of a worker that nobody has heard of yet. The
// same words are told once.
func (c *children) overdue(id string, s *slot, cmd *exec.Cmd) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.cmd != cmd || s.joined || c.closing {
		return
	}
	words := s.words()
	same := strings.ReplaceAll(words, id, "")
	if words == "" || same == c.said {
		return
	}
	c.said = same
	c.run.log.Warn(fmt.Sprintf("worker %s has not joined yet; its log says: %s", id, words))
}

// silent has the last words of the processes that never became members, one a line.
func (c *children) silent() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var b strings.Builder
	told := map[string]bool{}
	for _, id := range slices.Sorted(maps.Keys(c.slots)) {
		s := c.slots[id]
		if s.joined || s.cmd == nil { // the end of one that has ended is told
			continue
		}
		words := s.words()
		if same := strings.ReplaceAll(words, id, ""); words != "" && !told[same] {
			told[same] = true
			fmt.Fprintf(&b, "\nworker %s did not join; its log ends: %s", id, words)
		}
	}
	return b.String()
}

// ended decides whether a process is to be started again; one that left because
// it was told to has not failed. c.mu is held.
func (c *children) ended(id string, s *slot, reason string, left bool) {
	if left {
		s.failed = 0
	} else if time.Since(s.began) < soon {
		s.failed++
	} else {
		s.failed = 0
	}
	s.cmd = nil
	delete(c.members, id)
	if c.closing {
		return
	}
	c.last = fmt.Sprintf("worker %s: %s", id, reason)
	if s.failed >= restartTries {
		s.gaveUp = true
		c.run.log.Error(fmt.Sprintf("worker %s has ended %d times in a row within %v and is not started again; see %s", id, s.failed, soon, filepath.Join(c.run.dir, "logs", id+".log")))
		go c.tend()
		return
	}
	pause := time.Duration(0)
	if s.failed > 1 {
		pause = min(restartPause<<(s.failed-1), restartMost)
	}
	s.waiting = true
	time.AfterFunc(pause, func() {
		c.mu.Lock()
		s.waiting = false
		c.mu.Unlock()
		c.tend()
	})
}

// wait lets the workers leave by themselves for a while, then kills.
func (c *children) wait(while time.Duration) {
	c.mu.Lock()
	c.closing = true
	for _, s := range c.slots { // who never became a member hears of no end, and holds nothing
		if s.cmd != nil && !s.joined {
			s.cmd.Process.Kill()
		}
	}
	c.mu.Unlock()
	gone := make(chan struct{})
	go func() { c.wg.Wait(); close(gone) }()
	select {
	case <-gone:
	case <-time.After(while):
	}
	c.mu.Lock()
	for _, s := range c.slots {
		if s.cmd != nil {
			s.cmd.Process.Kill()
		}
	}
	c.mu.Unlock()
	<-gone
	close(c.done)
}

// alone says whether all members that were told of last are of this machine's
// processes, which are ended with the coordinator.
func (c *children) alone() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id := range c.members {
		if s := c.slots[id]; s == nil {
			return false
		}
	}
	return true
}

// leave lets go of the processes: another coordinator has them.
func (c *children) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closing = true
	close(c.done)
}

// killed says whether a process ended by SIGKILL.
func killed(err error) bool {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return false
	}
	st, ok := exit.Sys().(syscall.WaitStatus)
	return ok && st.Signaled() && st.Signal() == syscall.SIGKILL
}

func exitReason(err error, last string) string {
	reason := "its process ended"
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		reason = "its process ended with " + exit.ProcessState.String()
	case err != nil:
		reason = "its process: " + err.Error()
	}
	if err != nil && last != "" && !(killed(err) && strings.Contains(last, " INFO ")) { // it had nothing to say of its end
		reason += "; its last words: " + last
	}
	return reason
}

// lastWords is the last line that a log holds beyond offset.
func lastWords(path string, offset int64) string {
	f, _, err := regular.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	if i, err := f.Stat(); err == nil {
		offset = max(offset, i.Size()-4096)
	}
	b, _ := io.ReadAll(io.NewSectionReader(f, offset, 4096))
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}
