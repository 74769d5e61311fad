package bench

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/vlaring/vlaring/internal/bench/measure"
	"github.com/vlaring/vlaring/pkg/allreduce"
	"github.com/vlaring/vlaring/pkg/transport"
)

// ranks are the members of a ring that is measured, and their broker.
type ranks struct {
	members []*ringMember
	kill    func()   // all that are processes
	closers []func() // in reverse
	apart   bool     // each is a process of its own, so that CPU time can be told
}

// ringMember is one rank as whoever measures sees it.
type ringMember struct {
	in   io.WriteCloser
	enc  *json.Encoder
	dec  *json.Decoder
	wait func() error // until it has ended: with its words, if it failed
}

// startRanks starts a rank for each place of spec's world and has them make
// their ring.
func startRanks(ctx context.Context, spec rankSpec, mesh bool, listen, through string) (l *ranks, err error) {
	ctx, cancel := context.WithCancel(ctx)
	l = &ranks{kill: cancel, closers: []func(){cancel}, apart: spec.Road != "memory"}
	defer func() {
		if err != nil {
			l.stop()
			l = nil
		}
	}()
	if spec.Road == "nats" || spec.Road == "direct" { // which is negotiated over nats, and falls back on it
		o := transport.HostOptions{Job: benchJob, Host: listen}
		if mesh {
			o.Routes = &transport.Routes{Host: listen}
		}
		broker, err := transport.NATS{}.Host(o)
		if err != nil {
			return l, err
		}
		l.closers = append(l.closers, broker.Shutdown)
		spec.URL, spec.Token, spec.Join, spec.Secret = broker.URL(), broker.Token(), broker.RouteAddr(), rand.Text()
		ip := net.ParseIP(listen)
		spec.Encrypt = listen != "" && (ip == nil || !ip.IsLoopback()) // as in a job
	}
	hub := allreduce.NewMemNetwork(allreduce.Faults{})
	for r := range spec.World {
		m, err := startMember(ctx, r, l.apart, hub, through)
		if err != nil {
			return l, err
		}
		l.members = append(l.members, m)
	}
	replies, err := l.ask(func(r int) any { s := spec; s.Rank = r; return s })
	if err != nil {
		return l, err
	}
	var p rankPeers
	for _, r := range replies {
		p.Addresses = append(p.Addresses, r.Address)
	}
	_, err = l.ask(func(int) any { return p })
	return l, err
}

func startMember(ctx context.Context, r int, apart bool, hub *allreduce.MemNetwork, through string) (*ringMember, error) {
	if !apart {
		inR, inW := io.Pipe()
		outR, outW := io.Pipe()
		done := make(chan error, 1)
		go func() {
			err := ServeRank(ctx, inR, outW, hub)
			inR.Close()
			outW.CloseWithError(io.EOF)
			done <- err
			close(done)
		}()
		return &ringMember{inW, json.NewEncoder(inW), json.NewDecoder(outR), func() error { outR.Close(); return <-done }}, nil
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	args := append(strings.Fields(strings.ReplaceAll(through, "{}", strconv.Itoa(r))), self, "bench", "ring", "--as-rank")
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.WaitDelay = endWait // for what a killed ssh leaves with our pipes
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting rank %d: %w", r, err)
	}
	return &ringMember{in, json.NewEncoder(in), json.NewDecoder(out), func() error {
		err := cmd.Wait()
		if text := strings.TrimSpace(stderr.String()); err != nil && text != "" {
			err = fmt.Errorf("%w: %.2000s", err, text)
		}
		return err
	}}, nil
}

// ask gives each rank an order and waits for all answers.
func (l *ranks) ask(order func(rank int) any) ([]rankReply, error) {
	for i, m := range l.members {
		if err := m.enc.Encode(order(i)); err != nil {
			return nil, l.gone(i, err)
		}
	}
	type answer struct {
		rank  int
		reply rankReply
		err   error
	}
	answers := make(chan answer, len(l.members))
	for i, m := range l.members {
		go func() {
			a := answer{rank: i}
			a.err = m.dec.Decode(&a.reply)
			answers <- a
		}()
	}
	replies := make([]rankReply, len(l.members))
	for range l.members {
		a := <-answers
		switch {
		case a.err != nil:
			return nil, l.gone(a.rank, a.err)
		case a.reply.Error != "":
			return nil, fmt.Errorf("rank %d: %s", a.rank, a.reply.Error)
		}
		replies[a.rank] = a.reply
	}
	return replies, nil
}

// endWait is how long a rank whose input has ended may take to end.
const endWait = 5 * time.Second

// gone is the error of a rank that no longer answers.
func (l *ranks) gone(rank int, err error) error {
	defer time.AfterFunc(endWait, l.kill).Stop()
	m := l.members[rank]
	m.in.Close()
	return fmt.Errorf("rank %d has ended: %w", rank, errors.Join(m.wait(), err))
}

// stop ends all ranks: their input ends, and after a while they are killed.
func (l *ranks) stop() {
	defer time.AfterFunc(endWait, l.kill).Stop()
	for _, m := range l.members {
		m.in.Close()
	}
	for _, m := range l.members {
		m.wait()
	}
	for i := len(l.closers) - 1; i >= 0; i-- {
		l.closers[i]()
	}
}

// Rounds of a measurement: enough for a median, and as long as the clock needs.
const (
	leastRounds = 5
	mostRounds  = 200
	leastRound  = 10 * time.Millisecond
	mostOps     = 2000
)

// rounds is how many rounds of how many all-reduces fill a budget, if one takes
// so many seconds.
func rounds(seconds float64, budget time.Duration) (rounds, ops int) {
	ops = 1
	if seconds < leastRound.Seconds()/2 {
		ops = min(mostOps, int(math.Ceil(leastRound.Seconds()/seconds)))
	}
	return max(leastRounds, min(mostRounds, int(budget.Seconds()/(seconds*float64(ops))))), ops
}

// measure fills the row. The first rounds, which touch the memory, do not count.
func (b *RingRow) measure(l *ranks, budget time.Duration) error {
	order := rankOrder{Floats: b.Bytes / 4, Rounds: 3, Ops: 1}
	warm, err := l.ask(func(int) any { return order })
	if err != nil {
		return err
	}
	order.Rounds, order.Ops = rounds(slowest(warm)[order.Rounds-1], budget)
	broker := measure.CPUTime()
	replies, err := l.ask(func(int) any { return order })
	if err != nil {
		return err
	}
	broker = measure.CPUTime() - broker
	ops := float64(order.Ops)
	b.Runs = order.Rounds * order.Ops
	seconds := measure.Median(slowest(replies)) / ops
	b.MS, b.Rate = 1e3*seconds, float64(b.Bytes)/seconds/1e9
	for _, r := range replies {
		b.Repeats += r.Repeats
		b.Vain += r.Vain
		b.CPU += measure.Median(r.CPU) / ops
	}
	if !l.apart {
		b.CPU = 0
		return nil
	}
	if b.sends() {
		b.Broker = broker.Seconds() / float64(b.Runs) // of the whole process, which does nothing else
	}
	b.CPU += b.Broker
	gb := float64(b.Bytes) / 1e9
	b.PerGB = b.CPU / gb
	if b.sends() && b.Ranks > 1 {
		b.PerSent = b.PerGB / float64(2*(b.Ranks-1))
	}
	return nil
}

// slowest is the time of each round until the last rank was done with it.
func slowest(replies []rankReply) []float64 {
	l := append([]float64(nil), replies[0].Seconds...)
	for _, r := range replies[1:] {
		for i, s := range r.Seconds {
			l[i] = max(l[i], s)
		}
	}
	return l
}
