package allreduce

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
)

// ringing counts whom the bells of a team wake.
type ringing struct {
	*MemTeam
	woken *atomic.Int64
}

func (t ringing) Bell(rank int) {
	t.woken.Add(1)
	t.MemTeam.Bell(rank)
}

// A gradient that a few ranks fold in no time does not wake all 64 for each of its
// buckets: each rank that wakes costs as much as folding 64 KiB.
func TestSmallGradientsWakeFewRanks(t *testing.T) {
	const ranks, steps = 64, 3
	buckets := []Range{{0, 20000}, {20000, 40000}, {40000, 40100}}
	if n := lanesFor(buckets, ranks); n != 2 {
		t.Fatalf("%d lanes fold %d floats", n, 40100)
	}
	if n := lanesFor([]Range{{0, 1 << 30}}, ranks); n != ranks {
		t.Fatalf("%d lanes fold a large gradient", n)
	}
	var woken atomic.Int64
	bounds, members := []int{0}, []string{}
	for r := range ranks {
		bounds, members = append(bounds, r+1), append(members, string(rune('A'+r)))
	}
	net := NewMemNetwork(Faults{})
	teams := MemTeams(ranks, TeamWords(len(buckets), ranks), 1, 40100)
	var wg sync.WaitGroup
	for r, team := range teams {
		ring, err := NewTeamRing(net.Join(members[r]), ringing{team, &woken}, Group{Generation: 1, Rank: r, Members: members, Micro: bounds}, Hosts{0, ranks}, Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer ring.Close()
		own := team.Own(0)
		wg.Go(func() {
			for step := range uint64(steps) {
				op := ring.Begin(step, buckets, [][]float32{own}, nil, nil)
				for i := range own {
					own[i] = float32(r + i)
				}
				for b := range buckets {
					op.Ready(b)
				}
				if _, err := op.Wait(context.Background()); err != nil {
					t.Error(err)
					return
				}
				if got, want := team.Sum()[7], float32(ranks*(ranks-1)/2+7*ranks); got != want {
					t.Errorf("rank %d, step %d: %v, want %v", r, step, got, want)
				}
			}
		})
	}
	wg.Wait()
	// all for the sum, and the lanes for each bucket; the last ones may ring together
	if most := int64(steps * (2*ranks + 2*2*len(buckets))); woken.Load() > most {
		t.Errorf("%d were woken in %d steps, want at most %d", woken.Load(), steps, most)
	}
}
