package allreduce

import (
	"container/heap"
	"fmt"
	"time"
)

// Wire is the time that frames take on a MemNetwork. The zero Wire takes none.
// Where there is one, the network reads the clock, which tests fake
// (testing/synctest).
type Wire struct {
	Rate    float64       // bytes a second out of each member; 0: no limit
	Shared  bool          // all frames take turns at Rate, whoever sends them, as at a broker's port
	Latency time.Duration // from end to end, after a frame's turn
	Jitter  time.Duration // up to so much more, drawn for each frame like Faults: frames overtake each other
}

// wire is where frames are in time.
type wire struct {
	Wire
	free   map[string]time.Time // when a member's way out has carried all; "" for all
	flying sky
	count  uint64
	timer  *time.Timer
}

// SetWire changes how long frames take from now on; those on the way keep their
// time.
func (n *MemNetwork) SetWire(w Wire) {
	if w.Rate < 0 || w.Latency < 0 || w.Jitter < 0 {
		panic(fmt.Sprintf("allreduce: wire %+v: want nothing below 0", w))
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.wire.Wire = w
}

// carry delivers a frame when its time has come.
func (n *MemNetwork) carry(l *memLink, peer string, frame []byte) {
	w := &n.wire
	if w.Wire == (Wire{}) && len(w.flying) == 0 {
		n.deliver(peer, frame)
		return
	}
	now := time.Now()
	at := now
	if w.Rate > 0 {
		from := l.from
		if w.Shared {
			from = ""
		}
		if w.free == nil {
			w.free = map[string]time.Time{}
		}
		if t := w.free[from]; t.After(at) {
			at = t
			n.count.Queued = max(n.count.Queued, at.Sub(now))
		}
		at = at.Add(time.Duration(float64(len(frame)) / w.Rate * float64(time.Second)))
		w.free[from] = at
	}
	at = at.Add(w.Latency)
	if w.Jitter > 0 {
		at = at.Add(time.Duration(l.random.Int64N(int64(w.Jitter))))
	}
	w.count++
	heap.Push(&w.flying, flying{at, w.count, peer, frame})
	n.wake(now)
}

// wake sets the one timer to the next arrival: so frames of one instant arrive
// in the order in which they were sent.
func (n *MemNetwork) wake(now time.Time) {
	w := &n.wire
	if len(w.flying) == 0 {
		return
	}
	d := w.flying[0].at.Sub(now)
	if w.timer == nil {
		w.timer = time.AfterFunc(d, n.land)
	} else {
		w.timer.Reset(d)
	}
}

// land delivers what is due.
func (n *MemNetwork) land() {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	for w := &n.wire; len(w.flying) > 0 && !w.flying[0].at.After(now); {
		f := heap.Pop(&w.flying).(flying)
		n.deliver(f.peer, f.frame)
	}
	n.wake(now)
}

// flying is a frame on its way.
type flying struct {
	at    time.Time
	count uint64
	peer  string
	frame []byte
}

type sky []flying

func (f sky) Len() int      { return len(f) }
func (f sky) Swap(i, j int) { f[i], f[j] = f[j], f[i] }
func (f sky) Less(i, j int) bool {
	return f[i].at.Before(f[j].at) || f[i].at.Equal(f[j].at) && f[i].count < f[j].count
}
func (f *sky) Push(x any) { *f = append(*f, x.(flying)) }
func (f *sky) Pop() any {
	last := len(*f) - 1
	x := (*f)[last]
	(*f)[last] = flying{}
	*f = (*f)[:last]
	return x
}
