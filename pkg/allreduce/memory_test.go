package allreduce_test

import (
	"sync"
	"testing"
	"testing/synctest"

	"github.com/vlaring/vlaring/pkg/allreduce"
	"github.com/vlaring/vlaring/pkg/allreduce/nettest"
)

func TestMemNetwork(t *testing.T) {
	nettest.Run(t, func(t *testing.T, members []string) []allreduce.Network {
		return join(allreduce.NewMemNetwork(allreduce.Faults{}), members)
	})
}

func join(hub *allreduce.MemNetwork, members []string) []allreduce.Network {
	nets := make([]allreduce.Network, len(members))
	for i, m := range members {
		nets[i] = &spoiler{Network: hub.Join(m)}
	}
	return nets
}

// spoiler overwrites what is given back, so that a ring that still reads it
// cannot come to the right sum, and a frame that is given back twice shows.
type spoiler struct {
	allreduce.Network
	mu   sync.Mutex
	back map[*byte]bool
}

func (s *spoiler) Release(frame []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.back[&frame[0]] {
		panic("a frame is given back twice")
	}
	if s.back == nil {
		s.back = map[*byte]bool{}
	}
	s.back[&frame[0]] = true // and so kept: nothing else gets its address
	for i := range frame {
		frame[i] = 0xEE
	}
	s.Network.Release(frame)
}

// TestRingGivesFramesBack: all that a ring is done with, though the network lies.
func TestRingGivesFramesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := allreduce.NewMemNetwork(allreduce.Faults{Drop: 0.05, Duplicate: 0.1, Corrupt: 0.05, Delay: 0.1})
		nets := join(hub, names(3))
		j := trial{micro: 6, buckets: []allreduce.Range{{Lo: 0, Hi: 100}, {Lo: 100, Hi: 333}}, steps: 4, opt: allreduce.Options{ChunkBytes: 32, WindowBytes: 8 * 32}}
		j.run(t, nets, names(3), 1)
		back := 0
		for _, n := range nets {
			s := n.(*spoiler)
			s.mu.Lock() // its ring still reads acknowledgements
			back += len(s.back)
			s.mu.Unlock()
		}
		in := hub.Injected()
		arrived := int(in.Frames + in.Duplicated - in.Dropped)
		if late := arrived - back; late < 0 || late > 20 { // held back, or unread at the end
			t.Errorf("%d frames of %d were given back: %+v", back, arrived, in)
		}
	})
}
