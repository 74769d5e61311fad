package run

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/vlaring/vlaring/pkg/cluster"
)

// A worker process that ends is started again at once. One that has not taken
// part before it ended, and soon, is started after ever longer pauses, and not
// at all once that has come so often in a row.
const (
	restartPause = 250 * time.Millisecond
	restartTries = 4
	soon         = 10 * time.Second
)

// places are the worker ids of this machine, w0, w1, … , and what is known of
// each. They hold every decision of a supervisor: which process is missing, when
// one that has ended is started again, when none can be. They start nothing, and
// their time is an argument.
//
//	          start                told: a member         told: it has a rank
//	free ───────────────> started ────────────────> joined ──────────────────> takes part
//	 ^                       │                         │                           │
//	 │ pause over            │ its process ends        │                           │
//	waiting <────────────────┴─────────────────────────┴───────────────────────────┘
//	                         └──> given up, at the last of restartTries in a row that came soon
type places struct {
	host     string        // this machine, as members name it
	deadline time.Duration // cluster.deadline: who lives is heard of within it

	here    bool // this machine has processes to keep up
	want    int  // so many of them
	all     bool // want is of the whole job: workers from elsewhere count
	slots   map[string]*slot
	members map[string]bool // ids of the job's members, once told
	orphans map[string]int  // pids of an earlier coordinator's processes
	adopt   time.Time       // until then a member may turn out to live already
	adopted bool            // its end has been brought forward
	closing bool            // nobody is replaced any more
	last    string          // reason of the newest end
}

// slot is one id.
type slot struct {
	proc    child // nil: no process of ours
	began   time.Time
	failed  int // ends in a row that came soon, before it took part
	gaveUp  bool
	waiting bool // to be started after a pause
	joined  bool // the process has been a member
}

func newPlaces(host string, want int, deadline time.Duration) *places {
	return &places{host: host, deadline: deadline, here: want > 0, want: want, slots: map[string]*slot{}, members: map[string]bool{}, orphans: map[string]int{}}
}

// Local says whether an id is one that coordinators give to their own
// processes: w0, w1, …
func Local(id string) bool {
	n, ok := strings.CutPrefix(id, "w")
	_, err := strconv.ParseUint(n, 10, 32)
	return ok && err == nil
}

// takeOver holds starts back: workers that an earlier coordinator started may
// live, and say so within two deadlines, which it returns.
func (p *places) takeOver(now time.Time) time.Duration {
	wait := 2 * p.deadline
	p.adopt = now.Add(wait)
	return wait
}

// told is the coordinator's list of members. Those of this machine that are no
// process of ours are strangers: processes of an earlier coordinator, if they
// run. wake, unless it is 0, is when to look for missing ones again. Of a job
// that has ended nobody is replaced.
func (p *places) told(now time.Time, phase cluster.Phase, members []cluster.Member) (strangers []cluster.Member, wake time.Duration) {
	p.closing = p.closing || phase == cluster.Ended
	if phase != cluster.Gathering && !p.adopted { // those that train are here; one that was loading says so with its next heartbeat
		p.adopted = true
		if rest := p.deadline / 2; now.Add(rest).Before(p.adopt) {
			p.adopt, wake = now.Add(rest), rest
		}
	}
	p.members = map[string]bool{}
	for _, m := range members {
		p.members[m.Worker] = true
		s := p.slots[m.Worker]
		if s != nil && s.proc != nil && s.proc.PID() == m.PID {
			s.joined = true
		}
		if s != nil && m.Rank >= 0 { // it has taken part: whatever ends it now is another matter
			s.failed = 0
		}
		if Local(m.Worker) && m.Host == p.host && (s == nil || s.proc == nil) && p.orphans[m.Worker] != m.PID {
			strangers = append(strangers, m)
		}
	}
	return strangers, wake
}

// scale sets how many workers the whole job is to have. Where all of them come
// from elsewhere none is started here.
func (p *places) scale(n int) {
	if p.here {
		p.want, p.all = n, true
	}
}

// dropped says that a worker was let go because it is slow or wrong. Another
// process of this machine would be no better, so it is not replaced.
func (p *places) dropped(id string) {
	if s := p.slots[id]; p.want > 0 && (s != nil && s.proc != nil || p.orphans[id] > 0) {
		p.want--
	}
}

// tend are the ids of the processes to be started now. It is hopeless where
// nobody is alive and nobody can be started; that is told again as workers from
// elsewhere end.
func (p *places) tend(now time.Time) (start []string, hopeless bool) {
	if p.closing || p.want == 0 || now.Before(p.adopt) {
		return nil, false
	}
	start, alive, gone := p.missing()
	return start, alive+len(start) == 0 && gone > 0 && len(p.members) == 0
}

// missing are the ids of the processes to be started: as many as are wanted
// beyond those alive, but for places that are hopeless.
func (p *places) missing() (ids []string, alive, hopeless int) {
	taken := map[string]bool{} // by what is alive, or about to be
	for id := range p.members {
		if Local(id) {
			taken[id] = true
		} else if p.all {
			alive++
		}
	}
	for id := range p.orphans {
		taken[id] = true
	}
	for id, s := range p.slots {
		if s.proc != nil || s.waiting {
			taken[id] = true
		}
	}
	alive += len(taken)
	for i := 0; alive+len(ids) < p.want-hopeless; i++ {
		id := fmt.Sprintf("w%d", i)
		switch s := p.slots[id]; {
		case taken[id]:
		case s != nil && s.gaveUp:
			hopeless++
		default:
			ids = append(ids, id)
		}
	}
	return ids, alive, hopeless
}

// starts notes that a process of id is being started.
func (p *places) starts(now time.Time, id string) *slot {
	s := p.slots[id]
	if s == nil {
		s = &slot{}
		p.slots[id] = s
	}
	s.proc, s.began, s.waiting, s.joined = nil, now, false, false
	return s
}

// ended decides what becomes of a place whose process has ended: it is free
// again after a pause, given up, or, where the job is ending, left. One that
// left because it was told to has not failed.
func (p *places) ended(now time.Time, id string, end exit) (pause time.Duration, next fate) {
	s := p.slots[id]
	if !end.Left && now.Sub(s.began) < soon {
		s.failed++
	} else {
		s.failed = 0
	}
	s.proc = nil
	delete(p.members, id)
	if p.closing {
		return 0, left
	}
	p.last = fmt.Sprintf("worker %s: %s", id, end.Reason)
	if s.failed >= restartTries {
		s.gaveUp = true
		return 0, givenUp
	}
	s.waiting = true
	if s.failed > 1 {
		pause = restartPause << (s.failed - 1)
	}
	return pause, again
}

// fate is what becomes of a place whose process has ended.
type fate int

const (
	again fate = iota
	givenUp
	left
)

// alone says whether all members that were told of last are of this machine's
// processes, which are ended with the coordinator.
func (p *places) alone() bool {
	for id := range p.members {
		if p.slots[id] == nil {
			return false
		}
	}
	return true
}
