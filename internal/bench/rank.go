package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"time"

	"github.com/vlaring/vlaring/internal/bench/measure"
	"github.com/vlaring/vlaring/pkg/allreduce"
	"github.com/vlaring/vlaring/pkg/allreduce/shm"
	"github.com/vlaring/vlaring/pkg/allreduce/stream"
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
	Micros int    `json:"micros"`         // micro-gradients of each rank
	Fast   bool   `json:"fast,omitempty"` // which it folds by itself, as cluster.reduce fast
	BF16   bool   `json:"bf16,omitempty"` // as cluster.wire
	URL    string `json:"url,omitempty"`  // nats: of the broker
	Join   string `json:"join,omitempty"` // mesh: where other brokers meet
	Token  string `json:"token,omitempty"`
	Secret string `json:"secret,omitempty"` // direct: of the connections

	Encrypt bool `json:"encrypt,omitempty"` // direct: as those to NATS are, where the broker listens for other machines
}

// own is how many micro-gradients of each rank the ring folds.
func (s *rankSpec) own() int {
	if s.Fast {
		return 1
	}
	return s.Micros
}

// rankPeers are the addresses of all ranks' memory, or where they take direct
// connections.
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
	Vain    uint64    `json:"vain,omitempty"`    // frames that came twice
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
	direct  *stream.Network // net, where it is of direct connections
	segment *shm.Segment
	ring    allreduce.Reducer
	micro   [][]float32
	out     []float32 // nil: the ring has memory of its own
	step    uint64
	closers []func()
}

func (k *rank) close() {
	for i := len(k.closers) - 1; i >= 0; i-- {
		k.closers[i]()
	}
}

// open is what a rank can do alone: it returns the address of its memory, or
// where it takes direct connections.
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
		if k.segment, err = shm.Open(shm.NewAddress(), shm.Layout{Words: allreduce.TeamWords(buckets, s.own()), Floats: floats}); err != nil {
			return "", err
		}
		k.closers = append(k.closers, func() { k.segment.Close() })
		for range s.Micros {
			g, err := k.segment.Slab()
			if err != nil {
				return "", err
			}
			k.micro = append(k.micro, g)
		}
		return k.segment.Address(), nil
	default:
		if err := k.connect(ctx); err != nil {
			return "", err
		}
		if s.Road == "direct" {
			if address, err = k.listen(); err != nil {
				return "", err
			}
		}
	}
	for range s.Micros {
		k.micro = append(k.micro, tensor.Floats(floats))
	}
	k.out = tensor.Floats(floats)
	return address, nil
}

// listen takes direct connections, at the address by which this rank reaches the
// broker: other ranks reach it there too. What is not reached would go over NATS.
func (k *rank) listen() (address string, err error) {
	u, err := url.Parse(k.spec.URL)
	if err != nil {
		return "", err
	}
	way, err := net.Dial("udp", u.Host) // sends nothing: it asks which address is this host's on the way there
	if err != nil {
		return "", fmt.Errorf("the way to %s: %w", u.Host, err)
	}
	here, _, err := net.SplitHostPort(way.LocalAddr().String())
	way.Close()
	if err != nil {
		return "", err
	}
	l, err := net.Listen("tcp", net.JoinHostPort(here, "0"))
	if err != nil {
		return "", err
	}
	if k.direct, err = stream.New(allreduce.End{Member: rankName(k.spec.Rank), Listener: l, Fallback: k.net, Encrypt: k.spec.Encrypt, Event: func(string) {}}); err != nil {
		l.Close()
		return "", err
	}
	k.net = k.direct
	k.closers = append(k.closers, func() { k.direct.Close() })
	return l.Addr().String(), nil
}

// dial connects this rank with its neighbours in the ring.
func (k *rank) dial(ctx context.Context, g allreduce.Group, addresses []string) error {
	peers := map[string]allreduce.Peer{}
	for _, r := range []int{g.Rank + 1, g.Rank - 1, g.Rank + len(g.Members) - 1, g.Rank + 1 - len(g.Members)} { // the last rank's total goes to the first
		if r >= 0 && r < len(g.Members) && r != g.Rank {
			peers[g.Members[r]] = allreduce.Peer{Address: addresses[r], Secret: []byte(k.spec.Secret)}
		}
	}
	for peer, err := range k.direct.Form(ctx, g.Generation, peers) {
		return fmt.Errorf("no direct connection to %s at %s: %w", peer, peers[peer].Address, err)
	}
	return nil
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
		g.Members, g.Micro = append(g.Members, rankName(r)), append(g.Micro, (r+1)*s.own())
	}
	opt := allreduce.Options{ChunkBytes: s.Chunk, WindowBytes: s.Window, Fold: tensor.Fold, Add: tensor.Add}
	if s.BF16 {
		opt.Coding = allreduce.BFloat16
	}
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
		if k.direct != nil {
			if err := k.dial(ctx, g, addresses); err != nil {
				return err
			}
		}
		ring, err := allreduce.NewRing(k.net, g, opt)
		if err != nil {
			return err
		}
		k.ring = ring
	}
	k.closers = append(k.closers, func() { k.ring.Close() })
	return nil
}

// buckets cuts a gradient as a job does. With bf16 the last is no larger than a
// job's, which holds the losses: it stays float32.
func (k *rank) buckets(floats int) (l []allreduce.Range) {
	n, end := k.spec.Bucket/4, floats
	if n == 0 {
		n = train.BucketBytes(floats) / 4
	}
	const losses = 16
	if k.spec.BF16 && floats > losses {
		end -= losses
	}
	for lo := 0; lo < end; lo += n {
		l = append(l, allreduce.Range{Lo: lo, Hi: min(lo+n, end)})
	}
	if end < floats {
		l = append(l, allreduce.Range{Lo: end, Hi: floats})
	}
	return l
}

// obey runs the rounds of an order. A barrier, which is a small all-reduce over
// the same road, stands before each, so that all ranks begin it together.
func (k *rank) obey(ctx context.Context, o rankOrder) (r rankReply, err error) {
	before := k.ring.Stats()
	whole, barrier := k.buckets(o.Floats), k.buckets(min(o.Floats, 16))
	p := newPattern(&k.spec)
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
	after := k.ring.Stats()
	r.Repeats, r.Vain = after.Retransmits-before.Retransmits, after.Spurious-before.Spurious
	return r, nil
}

// fill writes this rank's micro-gradients. Where it folds them by itself it does
// so here, as a job does while backward goes on.
func (k *rank) fill(p *pattern, floats int) {
	p.turn++
	for m, g := range k.micro {
		p.fill(g[:floats], k.spec.Rank*k.spec.Micros+m)
		if k.spec.Fast && m > 0 {
			tensor.Fold(k.micro[0][:floats], g[:floats])
		}
	}
}

func (k *rank) reduce(ctx context.Context, buckets []allreduce.Range) ([]float32, error) {
	op := k.ring.Begin(k.step, buckets, k.micro[:k.spec.own()], k.out, nil)
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
// order, which differ by micro-gradient, place and turn.
type pattern struct {
	micros int // of all ranks
	most   int // numbers are 1 … most
	turn   int
	table  [period]float32
}

// period is after how many elements numbers come again: a prime, so that a
// chunk or a bucket in the place of another is wrong.
const period = 1021

// exactBF16 is up to where bfloat16 has all whole numbers.
const exactBF16 = 256

func newPattern(s *rankSpec) pattern {
	p := pattern{micros: s.World * s.Micros, most: period}
	if s.BF16 {
		p.most = exactBF16 / p.micros // so that the sum is one that it has
	}
	return p
}

// add adds a micro-gradient's numbers at the first places to table, as many as it has.
func (p *pattern) add(table []float32, micro int) {
	x := (micro*131 + p.turn*37) % period
	for i := range table {
		table[i] += float32(x%p.most + 1)
		if x += 7; x >= period {
			x -= period
		}
	}
}

func (p *pattern) fill(dst []float32, micro int) {
	table := p.table[:min(period, len(dst))]
	clear(table)
	p.add(table, micro)
	for len(dst) > 0 {
		dst = dst[copy(dst, table):]
	}
}

// check compares every element of a sum.
func (p *pattern) check(sum []float32) error {
	table := p.table[:min(period, len(sum))]
	clear(table)
	for r := range p.micros {
		p.add(table, r)
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
