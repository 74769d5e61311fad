package natsbus

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vlaring/vlaring/pkg/allreduce"
	"github.com/vlaring/vlaring/pkg/allreduce/nettest"
)

func openNetworks(t *testing.T, broker *Broker, job string, members []string) []allreduce.Network {
	t.Helper()
	var nets []allreduce.Network
	for _, m := range members {
		n, err := connect(t, broker, job, m).Network()
		if err != nil {
			t.Fatal(err)
		}
		nets = append(nets, n)
	}
	return nets
}

func TestNetwork(t *testing.T) {
	broker := startBroker(t, BrokerOptions{})
	jobs := 0
	nettest.Run(t, func(t *testing.T, members []string) []allreduce.Network {
		jobs++
		return openNetworks(t, broker, fmt.Sprintf("job%d", jobs), members)
	})
}

func TestJobsAreApart(t *testing.T) {
	broker := startBroker(t, BrokerOptions{})
	a := openNetworks(t, broker, "a", []string{"x", "y"})
	b := openNetworks(t, broker, "b", []string{"x", "y"})
	for i, nets := range [][]allreduce.Network{a, b} {
		if err := nets[0].Send(within(t), "y", []byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
	}
	for i, nets := range [][]allreduce.Network{a, b} {
		if f := <-nets[1].Frames(); len(f) != 1 || f[0] != byte(i) {
			t.Errorf("job %d got %v", i, f)
		}
	}
	if err := a[0].Send(within(t), "a.>", nil); err == nil {
		t.Error("sent to a wildcard")
	}
	err := a[0].Send(within(t), "y", make([]byte, brokerMaxPayload+1))
	if err == nil || !strings.Contains(err.Error(), "max_payload") {
		t.Errorf("a frame beyond the server's limit: %v", err)
	}
}

// TestConnCloseClosesNetwork: readers and senders end with the connection.
func TestConnCloseClosesNetwork(t *testing.T) {
	broker := startBroker(t, BrokerOptions{})
	c := connect(t, broker, "j", "m")
	n, err := c.Network()
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if _, open := <-n.Frames(); open {
		t.Error("a frame from nowhere")
	}
	if err := n.Send(within(t), "m", nil); !errors.Is(err, allreduce.ErrNetworkClosed) {
		t.Errorf("send: %v", err)
	}
	if _, err := c.Network(); err == nil {
		t.Error("a network of a closed connection")
	}
}

// counted tells when it has sent so many frames.
type counted struct {
	allreduce.Network
	sent    atomic.Int64
	at      int64
	reached chan struct{}
}

func (c *counted) Send(ctx context.Context, peer string, frame []byte) error {
	err := c.Network.Send(ctx, peer, frame)
	if c.sent.Add(1) == c.at {
		c.reached <- struct{}{}
	}
	return err
}

// TestRingSurvivesRestart stops the broker when a ring operation is half done,
// which the last bucket's Ready holds open and which cannot end before the
// broker is back, and starts it again.
func TestRingSurvivesRestart(t *testing.T) {
	broker := startBroker(t, BrokerOptions{})
	members := []string{"a", "b", "c"}
	ringThrough(t, openNetworks(t, broker, "j", members), members, broker.Shutdown, func() { again(t, broker) })
}

// ringThrough runs a ring operation, calls broken when it is half done, and
// mended once the other half has begun.
func ringThrough(t *testing.T, nets []allreduce.Network, members []string, broken, mended func()) {
	t.Helper()
	const elements = 300_000
	buckets := []allreduce.Range{{Lo: 0, Hi: elements / 2}, {Lo: elements / 2, Hi: elements}}
	begun := make(chan struct{}, len(nets))
	rings := make([]*allreduce.Ring, len(nets))
	ops := make([]allreduce.Reduction, len(nets))
	outs := make([][]float32, len(nets))
	var micro []int // one each
	for r := range len(nets) + 1 {
		micro = append(micro, r)
	}
	for r := range nets {
		var err error
		rings[r], err = allreduce.NewRing(&counted{Network: nets[r], at: 5, reached: begun}, allreduce.Group{Generation: 1, Rank: r, Members: members, Micro: micro},
			allreduce.Options{ChunkBytes: 16 << 10, WindowBytes: 64 << 10, Patience: 50 * time.Millisecond, Deadline: patience})
		if err != nil {
			t.Fatal(err)
		}
		defer rings[r].Close()
		grad := make([]float32, elements)
		for i := range grad {
			grad[i] = float32(r*1000 + i%1000)
		}
		outs[r] = make([]float32, elements)
		ops[r] = rings[r].Begin(0, buckets, [][]float32{grad}, outs[r], nil)
		ops[r].Ready(0)
	}
	select {
	case <-begun:
	case <-time.After(patience):
		t.Fatal("the ring does not begin")
	}
	broken()
	for r := range ops {
		ops[r].Ready(1)
	}
	mended()
	var wg sync.WaitGroup
	for r := range ops {
		wg.Go(func() {
			if _, err := ops[r].Wait(within(t)); err != nil {
				t.Errorf("rank %d: %v", r, err)
			}
		})
	}
	wg.Wait()
	for r := range outs {
		for i, x := range outs[r] {
			if n := len(nets); x != float32(1000*n*(n-1)/2+n*(i%1000)) {
				want := 1000*n*(n-1)/2 + n*(i%1000)
				t.Fatalf("rank %d, element %d: %v, want %v", r, i, x, want)
			}
		}
	}
}

// After a time without control messages a connection for frames on which the
// server does not answer is made anew; one on which it does stays.
func TestRingConnectionIsVerified(t *testing.T) {
	t.Parallel()
	broker := startBroker(t, BrokerOptions{})
	n := openNetworks(t, broker, "j", []string{"a", "b"})[0].(*network)
	link := func() *ringLink {
		n.mu.Lock()
		defer n.mu.Unlock()
		return n.link
	}
	was := link()
	n.verify()
	time.Sleep(verifyWait + 100*time.Millisecond) // how long it has to answer
	if link() != was {
		t.Fatal("a connection on which the server answers was made anew")
	}
	// A proxy would do the same: the server's answers are kept from the reader.
	was.silent.Add(1 << 20)
	n.conn.heard.Store(1)
	n.conn.began = time.Now().Add(-time.Hour)
	stop := make(chan struct{})
	go func() {
		for {
			select {
			case <-stop:
				return
			default:
				was.silent.Store(1)
			}
		}
	}()
	n.conn.hears()
	for deadline := time.Now().Add(time.Minute); link() == was || link() == nil; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a connection without answers stays")
		}
	}
	close(stop)
}
