package worker

import (
	"context"
	"math"
	"sync/atomic"
	"time"

	"github.com/vlaring/vlaring/pkg/allreduce"
	"github.com/vlaring/vlaring/pkg/train"
)

// Standing is where a worker stands, for who watches its process from outside.
type Standing struct {
	Loaded  bool          // the job is loaded: it can take a place
	Rank    int           // in the newest generation that it had a place in; -1: none yet
	Planned uint64        // steps that the job has; 0: not known yet
	Step    uint64        // committed here
	Loss    float64       // of the newest step that made an update; NaN: of none
	Silence time.Duration // of the coordinator
	Looked  time.Time     // when the driver last looked at its clock; zero before it has joined
	Busy    time.Duration // for how long the same part of a step goes on here; 0 where none does, or another rank is waited for

	Steps  uint64 // committed by this process
	Micro  uint64 // micro-batches that it has computed
	Stalls uint64 // that it has told of
	Faults uint64 // lost, doubled, corrupt and stale frames that its links have mended
	Sent   Sent
}

// Sent is how many bytes of gradients a worker has passed on, by road.
type Sent struct {
	Shared uint64 // laid into memory that ranks of its host share
	NATS   uint64 // frames over NATS, repetitions and acknowledgements among them
	Direct uint64 // and over direct connections
}

// watched is what a Standing is made of.
type watched struct {
	loaded                       atomic.Bool
	looked, began                atomic.Int64 // in nanoseconds since 1970; began: of the part of a step, 0: none
	step, steps, planned         atomic.Uint64
	place                        atomic.Int64  // rank + 1
	loss                         atomic.Uint64 // its bits; 0: none yet
	micro, stalls, faults        atomic.Uint64
	shared, overNATS, everywhere atomic.Uint64 // everywhere: over a network of the road's own, with what fell back on NATS
}

// doing says which part of a step begins, for heartbeats and watchers.
func (w *Worker) doing(words string) {
	w.words.Store(&words)
	w.watch.began.Store(time.Now().UnixNano())
}

// pending is doing for what takes as long as a network or the coordinator's disk does:
// nobody takes it for a step that hangs.
func (w *Worker) pending(words string) {
	w.words.Store(&words)
	w.watch.began.Store(0)
}

// Standing may be asked for from any goroutine.
func (w *Worker) Standing() Standing {
	v := &w.watch
	now := time.Now()
	s := Standing{Loaded: v.loaded.Load(), Rank: int(v.place.Load()) - 1, Planned: v.planned.Load(),
		Step: v.step.Load(), Loss: math.NaN(), Silence: time.Duration(w.silence.Load()),
		Steps: v.steps.Load(), Micro: v.micro.Load(), Stalls: v.stalls.Load(), Faults: v.faults.Load(),
		Sent: Sent{Shared: v.shared.Load(), NATS: v.overNATS.Load()}}
	if bits := v.loss.Load(); bits != 0 {
		s.Loss = math.Float64frombits(bits)
	}
	if all := v.everywhere.Load(); all > s.Sent.NATS {
		s.Sent.Direct = all - s.Sent.NATS
	}
	if at := v.looked.Load(); at != 0 {
		s.Looked = time.Unix(0, at)
	}
	if began := v.began.Load(); began != 0 && !w.waits() {
		s.Busy = now.Sub(time.Unix(0, began))
	}
	return s
}

// waits says whether the step in progress waits for another rank.
func (w *Worker) waits() bool {
	ring := w.ring.Load()
	if ring == nil {
		return false
	}
	f, _ := ring.Waiting()
	return f != nil
}

// committed counts a step of so many micro-batches, whose gradients have so many bytes.
func (v *watched) committed(step uint64, res train.Result, ring *ringRoad, bytes int) {
	micro := res.Computed
	v.step.Store(step)
	if res.Refused == "" {
		v.loss.Store(math.Float64bits(res.Loss))
	}
	v.steps.Add(1)
	v.micro.Add(uint64(micro))
	switch ring.Reducer.(type) {
	case *allreduce.HostRing, *allreduce.TeamRing:
		v.shared.Add(uint64(micro) * uint64(bytes))
	}
}

// counting is a network whose frames are counted.
type counting struct {
	allreduce.Network
	bytes *atomic.Uint64
}

func (c counting) Send(ctx context.Context, peer string, frame []byte) error {
	err := c.Network.Send(ctx, peer, frame)
	if err == nil {
		c.bytes.Add(uint64(len(frame)))
	}
	return err
}
