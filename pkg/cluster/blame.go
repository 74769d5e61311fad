package cluster

import "fmt"

// blame is whose fault it is that the job gets no further, as far as that can be
// counted: one fault is bad luck, the same one again and again is somebody's.
type blame struct {
	waitedFor map[string]int    // generations in a row that broke waiting for a member
	own       map[string]string // members' own faults since the last commit, the newest of each
	ends      ends
}

func newBlame(cfg Config) blame {
	return blame{waitedFor: map[string]int{}, own: map[string]string{},
		ends: ends{most: cfg.MaxEnds, furthest: cfg.StartStep, how: map[string]string{}, number: map[string]int{}}}
}

// mostWaits is how many generations in a row may break waiting for one member.
const mostWaits = 3

// waited counts a generation that broke waiting for a member. If it was one too many
// it returns their number, and begins to count anew; else 0.
func (b *blame) waited(id string) int {
	b.waitedFor[id]++
	n := b.waitedFor[id]
	if n < mostWaits {
		return 0
	}
	b.waitedFor[id] = 0
	return n
}

// committed forgets what a step that succeeds disproves.
func (b *blame) committed() {
	clear(b.own)
	clear(b.waitedFor)
}

// ends counts the processes that end one after another while the job gets no
// further. Where the only worker needs more memory than there is, say, it would
// be started again, and go back to the same checkpoint, for ever.
type ends struct {
	most     int               // that there may be of one worker; 0: any number
	furthest uint64            // step that the job has come to
	how      map[string]string // how a worker ended that took part, and has yet to come back
	number   map[string]int    // of a worker's processes that ended so, since the job got to furthest
}

// lost records how a worker ended that had taken part.
func (e *ends) lost(id, reason string) { e.how[id] = reason }

// left records that it went of its own accord, which is no end to count.
func (e *ends) left(id string) { delete(e.how, id) }

// reached records how far the job is. Steps that are run again are no progress.
func (e *ends) reached(step uint64) {
	if step > e.furthest {
		e.furthest = step
		clear(e.number)
	}
}

// began counts a worker's new process, which holds nothing: the process before it
// has ended, whatever it was lost for. It returns why the job has to end for that;
// empty: it need not.
func (e *ends) began(id string) string {
	how := e.how[id]
	if how == "" {
		return ""
	}
	delete(e.how, id)
	if e.number[id]++; e.most == 0 || e.number[id] < e.most {
		return ""
	}
	return fmt.Sprintf("worker %s has ended %d times, and the job did not get beyond step %d in between; the last time %s",
		id, e.number[id], e.furthest, how)
}
