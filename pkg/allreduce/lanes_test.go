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

// waiting counts how often a rank looks at another's word while it waits, and says
// when it sleeps.
type waiting struct {
	*MemTeam
	looked *atomic.Int64
	asleep chan struct{}
}

func (t waiting) Load(rank, word int) uint64 {
	if rank != t.Self() {
		t.looked.Add(1)
	}
	return t.MemTeam.Load(rank, word)
}

func (t waiting) Wait(ctx context.Context) error {
	select {
	case t.asleep <- struct{}{}:
	default:
	}
	return t.MemTeam.Wait(ctx)
}

// A rank that waits looks again and again for a moment where it has a core to itself.
// Where the ranks have fewer cores than they are, as a container's quota may say on a machine
// of many, it sleeps at once: the time that it looks is taken from who is waited for.
func TestRanksBeyondTheCoresSleepAtOnce(t *testing.T) {
	buckets := []Range{{0, 4}}
	for cores, often := range map[int]bool{1: false, 2: true, 64: true} {
		var looked atomic.Int64
		asleep := make(chan struct{}, 1)
		net := NewMemNetwork(Faults{})
		teams := MemTeams(2, TeamWords(len(buckets), 2), 1, 4)
		group := Group{Generation: 1, Members: []string{"A", "B"}, Micro: []int{0, 1, 2}}
		var rings [2]Reducer
		for r, team := range teams {
			var err error
			group.Rank = r
			var of Team = team
			if r == 0 {
				of = waiting{team, &looked, asleep}
			}
			if rings[r], err = NewTeamRing(net.Join(group.Members[r]), of, group, Hosts{0, 2}, Options{Cores: cores}); err != nil {
				t.Fatal(err)
			}
			defer rings[r].Close()
		}
		first := rings[0].Begin(0, buckets, [][]float32{teams[0].Own(0)}, nil, nil)
		first.Ready(0)
		done := make(chan error)
		go func() { _, err := first.Wait(context.Background()); done <- err }()
		<-asleep // the other has not begun
		if n := looked.Load(); (n >= looks) != often || n == 0 {
			t.Errorf("%d cores for two ranks: it looked %d times before it slept", cores, n)
		}
		second := rings[1].Begin(0, buckets, [][]float32{teams[1].Own(0)}, nil, nil)
		second.Ready(0)
		if _, err := second.Wait(context.Background()); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}
