package allreduce_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	. "github.com/vlaring/vlaring/pkg/allreduce"
	"github.com/vlaring/vlaring/pkg/allreduce/teamtest"
)

func TestMemTeam(t *testing.T) {
	teamtest.Run(t, func(t *testing.T, n int) (l []Team, slabs [][2][]float32) {
		for _, m := range MemTeams(n, teamtest.Words, 2, teamtest.Floats) {
			l, slabs = append(l, m), append(slabs, [2][]float32{m.Own(0), m.Own(1)})
		}
		return l, slabs
	})
}

// hostsWorld runs steps on ranks some of which share memory, and returns each
// rank's sums.
type hostsWorld struct {
	hosts   Hosts
	bounds  []int
	buckets []Range
	opt     Options
}

func (h hostsWorld) floats() int { return h.buckets[len(h.buckets)-1].Hi }

// reducers makes every rank's, with slabs for its micro-gradients.
func (h hostsWorld) reducers(t *testing.T, net *MemNetwork) (reducers []Reducer, slabs [][][]float32) {
	t.Helper()
	world := len(h.bounds) - 1
	members := names(world)
	for i := 0; i+1 < len(h.hosts); i++ {
		lo, hi := h.hosts[i], h.hosts[i+1]
		most := 0
		for r := lo; r < hi; r++ {
			most = max(most, h.bounds[r+1]-h.bounds[r])
		}
		teams := MemTeams(hi-lo, TeamWords(len(h.buckets), h.bounds[world]), most+1, h.floats())
		for r := lo; r < hi; r++ {
			g := Group{Generation: 3, Rank: r, Members: members, Micro: h.bounds}
			var red Reducer
			var err error
			if hi-lo == 1 {
				red, err = NewLane(net.Join(members[r]), g, h.hosts, h.opt)
			} else {
				red, err = NewTeamRing(net.Join(members[r]), teams[r-lo], g, h.hosts, h.opt)
			}
			if err != nil {
				t.Fatal(err)
			}
			var own [][]float32
			for m := range h.bounds[r+1] - h.bounds[r] {
				own = append(own, teams[r-lo].Own(m))
			}
			own = append(own, teams[r-lo].Own(most)) // for the rank's shard: behind those that are folded
			reducers, slabs = append(reducers, red), append(slabs, own[:len(own)-1])
		}
	}
	return reducers, slabs
}

// TestTeamRing holds rings whose ranks share memory in every way against the
// fold, written as a loop.
func TestTeamRing(t *testing.T) {
	buckets := []Range{{0, 100}, {100, 100}, {100, 1337}, {1400, 1401}, {1401, 1500}}
	for name, h := range map[string]hostsWorld{
		"one host of one":       {hosts: Hosts{0, 1}, bounds: []int{0, 3}},
		"one host of two":       {hosts: Hosts{0, 2}, bounds: []int{0, 2, 3}},
		"one host of four":      {hosts: Hosts{0, 4}, bounds: []int{0, 2, 4, 6, 8}},
		"a spare":               {hosts: Hosts{0, 3}, bounds: []int{0, 2, 4, 4}},
		"two of two":            {hosts: Hosts{0, 2, 4}, bounds: []int{0, 1, 2, 3, 4}},
		"three and one":         {hosts: Hosts{0, 3, 4}, bounds: []int{0, 1, 3, 4, 5}},
		"one and three":         {hosts: Hosts{0, 1, 4}, bounds: []int{0, 1, 2, 3, 4}},
		"one, two, two":         {hosts: Hosts{0, 1, 3, 5}, bounds: []int{0, 2, 3, 4, 5, 7}},
		"five, two, four":       {hosts: Hosts{0, 5, 7, 11}, bounds: []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}},
		"four lanes of six":     {hosts: Hosts{0, 6}, bounds: []int{0, 1, 2, 3, 4, 5, 6}, buckets: []Range{{0, 20000}, {20000, 20100}, {20100, 70000}}},
		"a host without micros": {hosts: Hosts{0, 2, 4}, bounds: []int{0, 1, 3, 3, 3}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if h.opt = (Options{ChunkBytes: 256, WindowBytes: 1024}); h.buckets == nil {
					h.buckets = buckets
				}
				marks := newMarkBook(&h.opt)
				net := NewMemNetwork(Faults{})
				reducers, slabs := h.reducers(t, net)
				for step := range uint64(4) {
					h.step(t, reducers, slabs, step)
				}
				for _, r := range reducers {
					r.Close()
				}
				marks.check(t, h, 4)
			})
		})
	}
}

// markBook counts the marks of a world.
type markBook struct {
	mu sync.Mutex
	n  map[[3]int]int // by step, bucket and mark
}

func newMarkBook(o *Options) *markBook {
	b := &markBook{n: map[[3]int]int{}}
	o.Marked = func(step uint64, bucket int, m Mark) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.n[[3]int{int(step), bucket, int(m)}]++
	}
	return b
}

// check wants of each bucket that each lane which has something of it folds it once, and
// on all hosts but the last gets its total once; and nothing of what is gathered.
func (b *markBook) check(t *testing.T, h hostsWorld, steps int) {
	t.Helper()
	hosts, lanes := len(h.hosts)-1, len(h.bounds)
	for i := range hosts {
		lanes = min(lanes, h.hosts[i+1]-h.hosts[i])
	}
	for at := range b.n {
		if at[0] >= steps || at[1] >= len(h.buckets) {
			t.Errorf("a mark of step %d, bucket %d: %v", at[0], at[1], b.n)
		}
	}
	for step := range steps {
		for i, r := range h.buckets {
			n := func(m Mark) int { return b.n[[3]int{step, i, int(m)}] }
			if r.Lo < r.Hi && (n(Folded) < hosts || n(Folded) > lanes*hosts) || n(Total)*hosts != n(Folded)*(hosts-1) && hosts > 1 || n(Together) > lanes*hosts || n(Together) < n(Folded) && lanes > 1 {
				t.Errorf("step %d, bucket %d of %v: %d lanes of %d saw it written, %d folded it, %d were told its total", step, i, r, n(Together), lanes*hosts, n(Folded), n(Total))
			}
		}
	}
}

func (h hostsWorld) step(t *testing.T, reducers []Reducer, slabs [][][]float32, step uint64) {
	t.Helper()
	rnd := rand.New(rand.NewPCG(step, 5))
	want := make([]float32, h.floats())
	var all [][]float32
	for _, own := range slabs {
		for range own {
			g := make([]float32, h.floats())
			for k := range g {
				g[k] = float32(rnd.NormFloat64() * math.Exp(8*rnd.NormFloat64()))
			}
			all = append(all, g)
		}
	}
	for m, g := range all {
		for k := range g {
			if m == 0 {
				want[k] = g[k]
			} else {
				want[k] += g[k]
			}
		}
	}
	var wg sync.WaitGroup
	got, flags := make([][]float32, len(reducers)), make([]Flags, len(reducers))
	m := 0
	for r, red := range reducers {
		mine := all[m : m+len(slabs[r])]
		m += len(mine)
		pause := time.Duration(rnd.IntN(50)) * time.Millisecond
		wg.Go(func() {
			time.Sleep(pause)
			out := make([]float32, h.floats())
			op := red.Begin(step, h.buckets, slabs[r], out, func() Flags { return Flags(1<<r) & Flags(step) << 1 })
			write := func(b int) {
				at := h.buckets[b]
				for i, g := range mine {
					copy(slabs[r][i][at.Lo:at.Hi], g[at.Lo:at.Hi])
				}
				op.Ready(b)
			}
			write(len(h.buckets) - 1) // as the losses, before the others
			for b := range h.buckets[1:] {
				write(b)
			}
			f, err := op.Wait(context.Background())
			if err != nil {
				t.Errorf("rank %d: %v", r, err)
				return
			}
			flags[r] = f
			sum, _ := op.Sum()
			got[r] = slices.Clone(sum[:h.floats()])
			shard(t, red, r, len(reducers), step, h.floats(), slabs[r][:len(slabs[r])+1][len(slabs[r])], make([]float32, h.floats()))
		})
	}
	wg.Wait()
	for r := range reducers {
		for _, b := range h.buckets {
			for k := b.Lo; k < b.Hi && got[r] != nil; k++ {
				if math.Float32bits(got[r][k]) != math.Float32bits(want[k]) {
					t.Fatalf("step %d, rank %d, element %d: %v, want %v", step, r, k, got[r][k], want[k])
				}
			}
		}
		if flags[r] != flags[0] {
			t.Errorf("step %d: rank %d was told flags %b, rank 0 %b", step, r, flags[r], flags[0])
		}
	}
	var or Flags
	for r := range reducers {
		or |= Flags(1<<r) & Flags(step) << 1
	}
	if flags[0] != or {
		t.Errorf("step %d: flags %b, want %b", step, flags[0], or)
	}
}

// TestTeamRingWaits has one rank of a host stay away: the others name it, and
// give up at the deadline or when they are told.
func TestTeamRingWaits(t *testing.T) {
	for name, begun := range map[string]bool{"never began": false, "never wrote": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := hostsWorld{hosts: Hosts{0, 2}, bounds: []int{0, 1, 2}, buckets: []Range{{0, 64}, {64, 80}}, opt: Options{Deadline: 3 * time.Second}}
				net := NewMemNetwork(Faults{})
				reducers, slabs := h.reducers(t, net)
				op := reducers[0].Begin(6, h.buckets, slabs[0], nil, nil)
				op.Ready(0)
				op.Ready(1)
				var other Reduction
				if begun {
					other = reducers[1].Begin(6, h.buckets, slabs[1], nil, nil)
					other.Ready(0)
				}
				time.Sleep(2 * time.Second)
				synctest.Wait()
				if begun {
					other.Abort()
					if _, err := other.Wait(context.Background()); !errors.Is(err, ErrAborted) {
						t.Errorf("the aborted one ends with %v", err)
					}
				}
				f, since := reducers[0].Waiting()
				if f == nil || f.Peer != "worker-1" || f.Rank != 1 || time.Since(since) < 2*time.Second {
					t.Errorf("waits for %v since %v", f, since)
				}
				_, err := op.Wait(context.Background())
				var fault *FaultError
				if !errors.As(err, &fault) || fault.Kind != FaultTimeout || fault.Peer != "worker-1" || !strings.Contains(err.Error(), "step 7") {
					t.Errorf("got %v", err)
				}
				reducers[0].Close()
				reducers[1].Close()
			})
		})
	}
}

// TestTeamRingCancel ends operations in three ways, none of which may leave a
// goroutine.
func TestTeamRingCancel(t *testing.T) {
	cause := errors.New("recalled")
	for name, end := range map[string]func(Reducer, Reduction, context.CancelCauseFunc){
		"closed":    func(r Reducer, _ Reduction, _ context.CancelCauseFunc) { r.Close() },
		"aborted":   func(_ Reducer, o Reduction, _ context.CancelCauseFunc) { o.Abort() },
		"cancelled": func(_ Reducer, _ Reduction, cancel context.CancelCauseFunc) { cancel(cause) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := hostsWorld{hosts: Hosts{0, 2, 4}, bounds: []int{0, 1, 2, 3, 4}, buckets: []Range{{0, 64}}}
				net := NewMemNetwork(Faults{})
				reducers, slabs := h.reducers(t, net)
				ctx, cancel := context.WithCancelCause(context.Background())
				op := reducers[0].Begin(0, h.buckets, slabs[0], nil, nil)
				op.Ready(0)
				second := reducers[1].Begin(0, h.buckets, slabs[1], nil, nil)
				second.Ready(0) // so that the lane waits for the other host
				go func() {
					time.Sleep(time.Second)
					end(reducers[0], op, cancel)
				}()
				_, err := op.Wait(ctx)
				if want := map[string]error{"closed": ErrClosed, "aborted": ErrAborted, "cancelled": cause}[name]; !errors.Is(err, want) {
					t.Errorf("got %v, want %v", err, want)
				}
				for _, r := range reducers {
					r.Close()
				}
				cancel(nil)
			})
		})
	}
}

func TestHosts(t *testing.T) {
	for _, bad := range []Hosts{{}, {0}, {1, 3}, {0, 2}, {0, 2, 2, 3}, {0, 4}, {0, 2, 1, 3}} {
		if bad.Check(3) == nil {
			t.Errorf("hosts %v divide three ranks", bad)
		}
	}
	h := Hosts{0, 3, 4, 6}
	if err := h.Check(6); err != nil {
		t.Fatal(err)
	}
	var runs string
	for r := range 6 {
		lo, hi := h.Run(r)
		runs += fmt.Sprint(lo, "-", hi, " ")
	}
	if runs != "0-3 0-3 0-3 3-4 4-6 4-6 " {
		t.Error(runs)
	}
	if lo, hi := Hosts(nil).Run(4); lo != 4 || hi != 5 {
		t.Errorf("without hosts rank 4 shares with %d-%d", lo, hi)
	}
}

// TestBFloat16 sends half the bytes: all ranks get one total, the last bucket is
// exact, and what rounding takes away in one step comes in the next ones.
func TestBFloat16(t *testing.T) {
	for name, h := range map[string]hostsWorld{
		"two hosts":        {hosts: Hosts{0, 1, 2}, bounds: []int{0, 1, 2}},
		"three hosts":      {hosts: Hosts{0, 1, 2, 3}, bounds: []int{0, 2, 3, 4}},
		"two hosts of two": {hosts: Hosts{0, 2, 4}, bounds: []int{0, 1, 2, 3, 4}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h.buckets, h.opt = []Range{{0, 700}, {700, 1000}, {1000, 1016}}, Options{ChunkBytes: 256, WindowBytes: 1024, Coding: BFloat16}
				net := NewMemNetwork(Faults{})
				reducers, slabs := h.reducers(t, net)
				rnd := rand.New(rand.NewPCG(3, 4))
				exact := make([]float64, h.floats())
				for _, own := range slabs {
					for _, g := range own {
						for k := range g {
							g[k] = float32(rnd.NormFloat64())
							exact[k] += float64(g[k])
						}
					}
				}
				const steps = 200
				total := make([]float64, h.floats())
				off := 0
				for step := range uint64(steps) {
					got := make([][]float32, len(reducers))
					var wg sync.WaitGroup
					for r, red := range reducers {
						wg.Go(func() {
							op := red.Begin(step, h.buckets, slabs[r], make([]float32, h.floats()), nil)
							for b := range h.buckets {
								op.Ready(b)
							}
							if _, err := op.Wait(context.Background()); err != nil {
								t.Error(err)
								return
							}
							sum, _ := op.Sum()
							got[r] = slices.Clone(sum[:h.floats()])
						})
					}
					wg.Wait()
					for r := range reducers {
						if !slices.Equal(got[r], got[0]) {
							t.Fatalf("step %d: rank %d has another total than rank 0", step, r)
						}
					}
					for k, x := range got[0] {
						total[k] += float64(x)
						if d := math.Abs(float64(x) - exact[k]); k >= 1000 && d > 1e-6 {
							t.Fatalf("step %d: element %d of the last bucket is %v, want %v", step, k, x, exact[k])
						} else if d > 1e-3*math.Abs(exact[k]) {
							off++
						}
					}
				}
				if off == 0 {
					t.Error("no total was rounded: nothing was tried")
				}
				for k := range total {
					if d := math.Abs(total[k]/steps - exact[k]); d > 0.05*float64(len(reducers))/steps {
						t.Errorf("element %d is %v on average over %d steps, want %v", k, total[k]/steps, steps, exact[k])
					}
				}
				for _, r := range reducers {
					r.Close()
				}
			})
		})
	}
}
