package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/vlaring/vlaring/internal/bench/measure"
	"github.com/vlaring/vlaring/pkg/allreduce"
	"github.com/vlaring/vlaring/pkg/allreduce/shm"
	"github.com/vlaring/vlaring/pkg/tensor"
	"github.com/vlaring/vlaring/pkg/train"
	"github.com/vlaring/vlaring/pkg/transport"
)

// A rank of bench ring is told what to do by JSON objects on its standard
// input, and answers each with one. It ends with its input.
//
//	bench          rank
//	rankSpec   ─>        open memory or connect
//	           <─  rankReply{Address}
//	rankPeers  ─>        make the ring
//	           <─  rankReply{}
//	rankOrder  ─>        reduce, for so many rounds
//	           <─  rankReply{Seconds, CPU, Repeats}       and so on

// rankSpec is what a rank is to be. It holds the token, which therefore is on
// no command line.
type rankSpec struct {
	Road   string `json:"road"`
	Rank   int    `json:"rank"`
	World  int    `json:"world"`
	Sizes  []int  `json:"sizes"` // of the gradients, in bytes
	Chunk  int    `json:"chunk"`
	Window int    `json:"window"`
	Bucket int    `json:"bucket"`         // 0: as fits the gradient
	URL    string `json:"url,omitempty"`  // nats: of the broker
	Join   string `json:"join,omitempty"` // mesh: where other brokers meet
	Token  string `json:"token,omitempty"`
}

// rankPeers are the addresses of all ranks' memory.
type rankPeers struct {
	Addresses []string `json:"addresses"`
}

// rankOrder is some rounds of a number of all-reduces, one after the other.
type rankOrder struct {
	Floats int `json:"floats"`
	Rounds int `json:"rounds"`
	Ops    int `json:"ops"` // of a round
}

type rankReply struct {
	Error   string    `json:"error,omitempty"`
	Address string    `json:"address,omitempty"`
	Seconds []float64 `json:"seconds,omitempty"` // of each round
	CPU     []float64 `json:"cpu,omitempty"`     // of this process in each
	Repeats uint64    `json:"repeats,omitempty"` // frames sent again in all
}

// benchJob is the name under which ranks meet on a broker.
const benchJob = "bench"

// meshWait bounds the wait for all brokers of a mesh to know each other.
const meshWait = 20 * time.Second

func rankName(r int) string { return fmt.Sprintf("w%d", r) }

// ServeRank is a rank until in ends. hub is the network of ranks in one
// process, nil in a process of its own.
func ServeRank(ctx context.Context, in io.Reader, out io.Writer, hub *allreduce.MemNetwork) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	orders := make(chan json.RawMessage)
	go func() { // an input that ends, because whoever gave the orders is gone, ends a round in progress too
		defer cancel()
		for d := json.NewDecoder(in); ; {
			var m json.RawMessage
			if d.Decode(&m) != nil {
				return
			}
			select {
			case orders <- m:
			case <-ctx.Done():
				return
			}
		}
	}()
	enc := json.NewEncoder(out)
	next := func(v any) error {
		select {
		case m := <-orders:
			return json.Unmarshal(m, v)
		case <-ctx.Done():
			return io.EOF
		}
	}
	k := &rank{hub: hub}
	defer k.close()
	for stage := 0; ; stage++ {
		var r rankReply
		var err error
		switch stage {
		case 0:
			if err = next(&k.spec); err == nil {
				r.Address, err = k.open(ctx)
			}
		case 1:
			var p rankPeers
			if err = next(&p); err == nil {
				err = k.join(ctx, p.Addresses)
			}
		default:
			var o rankOrder
			if err = next(&o); err == nil {
				r, err = k.obey(ctx, o)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			r.Error = err.Error()
		}
		if e := enc.Encode(r); e != nil || err != nil {
			return e
		}
	}
}

// rank is one member of the ring that is measured.
type rank struct {
	spec    rankSpec
	hub     *allreduce.MemNetwork
	net     allreduce.Network
	segment *shm.Segment
	ring    allreduce.Reducer
	micro   []float32
	out     []float32 // nil: the ring has memory of its own
	step    uint64
	closers []func()
}

func (k *rank) close() {
	for i := len(k.closers) - 1; i >= 0; i-- {
		k.closers[i]()
	}
}

// open is what a rank can do alone: it returns the address of its memory.
func (k *rank) open(ctx context.Context) (address string, err error) {
	s := &k.spec
	floats, buckets := 0, 0
	for _, n := range s.Sizes {
		floats, buckets = max(floats, n/4), max(buckets, len(k.buckets(n/4)))
	}
	switch s.Road {
	case "memory":
		k.net = k.hub.Join(rankName(s.Rank))
	case "shm":
		k.net = allreduce.NewMemNetwork(allreduce.Faults{}).Join(rankName(s.Rank)) // never used: all ranks are of one host
		if k.segment, err = shm.Open(shm.NewAddress(), shm.Layout{Words: allreduce.TeamWords(buckets, 1), Floats: floats}); err != nil {
			return "", err
		}
		k.closers = append(k.closers, func() { k.segment.Close() })
		if k.micro, err = k.segment.Slab(); err != nil {
			return "", err
		}
		return k.segment.Address(), nil
	default:
		if err := k.connect(ctx); err != nil {
			return "", err
		}
	}
	k.micro, k.out = tensor.Floats(floats), tensor.Floats(floats)
	return "", nil
}

// connect goes to the broker, or to one of its own that joins it.
func (k *rank) connect(ctx context.Context) error {
	s := &k.spec
	nats := transport.NATS{}
	var broker transport.Host
	if s.Join != "" {
		var err error
		if broker, err = nats.Host(transport.HostOptions{Job: benchJob, Token: s.Token, Routes: &transport.Routes{Join: []string{s.Join}}}); err != nil {
			return err
		}
		k.closers = append(k.closers, broker.Shutdown)
	}
	conn, err := transport.Connect(ctx, nats, broker, s.URL, transport.Credentials{Token: s.Token}, transport.Options{Job: benchJob, Member: rankName(s.Rank)})
	if err != nil {
		return err
	}
	k.closers = append(k.closers, func() { conn.Close() })
	if k.net, err = conn.Network(); err != nil {
		return err
	}
	end := time.Now().Add(meshWait)
	for broker != nil && broker.Peers() < s.World { // the other ranks', and the one of whoever measures
		if time.Now().After(end) {
			return fmt.Errorf("its broker knows %d other(s) after %v, want %d", broker.Peers(), meshWait, s.World)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil
}

// join makes the ring, once all ranks are open.
func (k *rank) join(ctx context.Context, addresses []string) error {
	s := &k.spec
	g := allreduce.Group{Generation: 1, Rank: s.Rank, Micro: []int{0}}
	for r := range s.World {
		g.Members, g.Micro = append(g.Members, rankName(r)), append(g.Micro, r+1)
	}
	opt := allreduce.Options{ChunkBytes: s.Chunk, WindowBytes: s.Window, Fold: tensor.Fold}
	switch {
	case k.segment != nil && s.World > 1:
		team, err := k.segment.Join(ctx, g.Generation, addresses, s.Rank)
		if err != nil {
			return err
		}
		if k.ring, err = allreduce.NewTeamRing(k.net, team, g, allreduce.Hosts{0, s.World}, opt); err != nil {
			team.Close()
			return err
		}
	case s.World == 1:
		k.ring = allreduce.NewSolo(tensor.Fold)
	default:
		ring, err := allreduce.NewRing(k.net, g, opt)
		if err != nil {
			return err
		}
		k.ring = ring
	}
	k.closers = append(k.closers, func() { k.ring.Close() })
	return nil
}

// buckets cuts a gradient as a job does.
func (k *rank) buckets(floats int) (l []allreduce.Range) {
	n := k.spec.Bucket / 4
	if n == 0 {
		n = train.BucketBytes(floats) / 4
	}
	for lo := 0; lo < floats; lo += n {
		l = append(l, allreduce.Range{Lo: lo, Hi: min(lo+n, floats)})
	}
	return l
}

// obey runs the rounds of an order. A barrier, which is a small all-reduce over
// the same road, stands before each, so that all ranks begin it together.
func (k *rank) obey(ctx context.Context, o rankOrder) (r rankReply, err error) {
	before := k.ring.Stats().Retransmits
	whole, barrier := k.buckets(o.Floats), k.buckets(min(o.Floats, 16))
	p := pattern{world: k.spec.World}
	for round := range o.Rounds {
		k.fill(&p, o.Floats)
		if _, err := k.reduce(ctx, barrier); err != nil {
			return r, err
		}
		cpu, at := measure.CPUTime(), time.Now()
		var sum []float32
		for op := range o.Ops {
			if op > 0 { // a small gradient: writing and checking it is nothing beside the reduction
				if err := p.check(sum[:o.Floats]); err != nil {
					return r, fmt.Errorf("round %d: %w", round, err)
				}
				k.fill(&p, o.Floats)
			}
			if sum, err = k.reduce(ctx, whole); err != nil {
				return r, err
			}
		}
		r.Seconds, r.CPU = append(r.Seconds, time.Since(at).Seconds()), append(r.CPU, (measure.CPUTime()-cpu).Seconds())
		if err := p.check(sum[:o.Floats]); err != nil {
			return r, fmt.Errorf("round %d: %w", round, err)
		}
	}
	r.Repeats = k.ring.Stats().Retransmits - before
	return r, nil
}

func (k *rank) fill(p *pattern, floats int) {
	p.turn++
	p.fill(k.micro[:floats], k.spec.Rank)
}

func (k *rank) reduce(ctx context.Context, buckets []allreduce.Range) ([]float32, error) {
	op := k.ring.Begin(k.step, buckets, [][]float32{k.micro}, k.out, nil)
	k.step++
	for b := range buckets {
		op.Ready(b)
	}
	if _, err := op.Wait(ctx); err != nil {
		return nil, err
	}
	sum, _ := op.Sum()
	return sum, nil
}

// pattern is what ranks reduce: whole numbers, so that their sum is exact in any
// order, which differ by rank, place and turn.
type pattern struct {
	world int
	turn  int
	table [period]float32
}

// period is after how many elements numbers come again: a prime, so that a
// chunk or a bucket in the place of another is wrong.
const period = 1021

// at is the number of a rank at a place.
func (p *pattern) at(rank, i int) float32 {
	return float32((i%period*7+rank*131+p.turn*37)%period + 1)
}

func (p *pattern) fill(dst []float32, rank int) {
	for i := range p.table {
		p.table[i] = p.at(rank, i)
	}
	for len(dst) > 0 {
		dst = dst[copy(dst, p.table[:]):]
	}
}

// check compares every element of a sum.
func (p *pattern) check(sum []float32) error {
	clear(p.table[:])
	for r := range p.world {
		for i := range p.table {
			p.table[i] += p.at(r, i)
		}
	}
	for lo := 0; lo < len(sum); lo += period {
		for i, v := range sum[lo:min(lo+period, len(sum))] {
			if v != p.table[i] {
				return fmt.Errorf("the sum is wrong: element %d is %v, want %v", lo+i, v, p.table[i])
			}
		}
	}
	return nil
}
