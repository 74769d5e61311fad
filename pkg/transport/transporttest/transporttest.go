// Package transporttest is the conformance suite of transport.Kind: members get
// all three seams of one connection, and each seam passes its own suite.
package transporttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vlaring/vlaring/pkg/allreduce"
	"github.com/vlaring/vlaring/pkg/allreduce/nettest"
	"github.com/vlaring/vlaring/pkg/bulk"
	"github.com/vlaring/vlaring/pkg/bulk/bulktest"
	"github.com/vlaring/vlaring/pkg/cluster"
	"github.com/vlaring/vlaring/pkg/cluster/bustest"
	"github.com/vlaring/vlaring/pkg/transport"
)

// limit fails a test that would hang. Nothing waits for it otherwise.
const limit = 30 * time.Second

// Run tests a transport; open returns one that nobody is on.
func Run(t *testing.T, open func(t *testing.T) transport.Kind) {
	t.Run("members", func(t *testing.T) { testMembers(t, serve(t, open(t), "j")) })
	t.Run("stock", func(t *testing.T) { testStock(t, serve(t, open(t), "j")) })
	t.Run("close", func(t *testing.T) { testClose(t, serve(t, open(t), "j")) })
	t.Run("refused", func(t *testing.T) { testRefused(t, serve(t, open(t), "j")) })
	t.Run("bus", func(t *testing.T) {
		s := serve(t, open(t), "") // the suite has subjects of its own
		bustest.Run(t, func(t *testing.T) cluster.Bus { return s.dial(t, s.fresh()).Bus() })
	})
	t.Run("network", func(t *testing.T) {
		nettest.Run(t, func(t *testing.T, members []string) (nets []allreduce.Network) {
			s := serve(t, open(t), "j")
			for _, m := range members {
				n, err := s.dial(t, m).Network()
				if err != nil {
					t.Fatal(err)
				}
				nets = append(nets, n)
			}
			return nets
		})
	})
	t.Run("blobs", func(t *testing.T) {
		bulktest.Run(t, func(t *testing.T) bulktest.Road {
			s := serve(t, open(t), "j")
			return bulktest.Road{Join: func(t *testing.T, member string) bulktest.End {
				m := s.dial(t, member)
				b, err := m.Blobs(nil)
				if err != nil {
					t.Fatal(err)
				}
				return end{b, m}
			}}
		})
	})
}

// end closes its connection, too.
type end struct {
	transport.Blobs
	m transport.Member
}

func (e end) Close() error {
	e.Blobs.Close()
	return e.m.Close()
}

// served is a transport with a server.
type served struct {
	kind transport.Kind
	host transport.Host
	n    atomic.Int64
}

// serve starts a server; job is the only one that it serves, where it is not empty.
func serve(t *testing.T, k transport.Kind, job string) *served {
	t.Helper()
	h, err := k.Host(transport.HostOptions{Job: job})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Shutdown)
	if err := k.Check(h.URL()); err != nil {
		t.Errorf("its own URL: %v", err)
	}
	return &served{kind: k, host: h}
}

func (s *served) fresh() string { return fmt.Sprint("m", s.n.Add(1)) }

// dial connects every other member within the process, and the others by URL.
func (s *served) dial(t *testing.T, member string) transport.Member {
	t.Helper()
	host := s.host
	if s.n.Add(1)%2 == 0 {
		host = nil
	}
	m, err := transport.Connect(within(t), s.kind, host, s.host.URL(), transport.Credentials{Token: s.host.Token()}, transport.Options{Job: "j", Member: member})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	return ctx
}

// testMembers: two members, one of the process and one by URL, share all three seams.
func testMembers(t *testing.T, s *served) {
	a, b := s.dial(t, "a"), s.dial(t, "b")
	if _, err := a.Bus().Subscribe(cluster.FromSubject("j", "b"), func(_ string, data []byte, reply func([]byte) error) { reply(append(data, '!')) }); err != nil {
		t.Fatal(err)
	}
	if got, err := b.Bus().Request(within(t), cluster.FromSubject("j", "b"), []byte("b")); err != nil || string(got) != "b!" {
		t.Errorf("over the bus: %q, %v", got, err)
	}
	na, err := a.Network()
	if err != nil {
		t.Fatal(err)
	}
	nb, err := b.Network()
	if err != nil {
		t.Fatal(err)
	}
	if err := na.Send(within(t), "b", []byte("frame")); err != nil {
		t.Fatal(err)
	}
	select {
	case got := <-nb.Frames():
		if string(got) != "frame" {
			t.Errorf("over the network: %q", got)
		}
	case <-time.After(limit):
		t.Error("no frame came over the network")
	}
	ba, err := a.Blobs(nil)
	if err != nil {
		t.Fatal(err)
	}
	bb, err := b.Blobs(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := ba.Offer("x", 4, "", bytes.NewReader([]byte("blob"))); err != nil {
		t.Fatal(err)
	}
	if got, err := bb.Get(within(t), "a", "x", 4); err != nil || string(got) != "blob" {
		t.Errorf("a blob: %q, %v", got, err)
	}
	for _, m := range []transport.Member{a, b} {
		select {
		case <-m.Broken():
			t.Errorf("broken: %v", m.Err())
		default:
		}
		if err := m.Err(); err != nil {
			t.Error(err)
		}
	}
}

// testStock: nobody is told that a blob is unknown while its owner is still putting
// on offer what there is.
func testStock(t *testing.T, s *served) {
	a, b := s.dial(t, "a"), s.dial(t, "b")
	bb, err := b.Blobs(nil)
	if err != nil {
		t.Fatal(err)
	}
	failed := errors.New("the disk is gone")
	if _, err := a.Blobs(func(bulk.Blobs) error { return failed }); !errors.Is(err, failed) {
		t.Errorf("a stock that fails: %v", err)
	}
	_, err = a.Blobs(func(ba bulk.Blobs) error {
		ctx, cancel := context.WithTimeout(within(t), 50*time.Millisecond)
		defer cancel()
		if got, err := bb.Get(ctx, "a", "x", 4); err == nil || errors.Is(err, bulk.ErrUnknown) || errors.Is(err, bulk.ErrOwner) {
			t.Errorf("in the middle of putting on offer there is an answer: %q, %v", got, err)
		}
		return ba.Offer("x", 4, "", bytes.NewReader([]byte("blob")))
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := bb.Get(within(t), "a", "x", 4); err != nil || string(got) != "blob" {
		t.Errorf("afterwards: %q, %v", got, err)
	}
}

// testClose: a member that closes ends what came from it, and nobody else.
func testClose(t *testing.T, s *served) {
	a, b := s.dial(t, "a"), s.dial(t, "b")
	blobs, err := a.Blobs(nil)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { _, err := blobs.Get(context.Background(), "nobody", "x", 1); done <- err }()
	net, err := a.Network()
	if err != nil {
		t.Fatal(err)
	}
	a.Close()
	a.Close()
	if err := <-done; err == nil {
		t.Error("something was fetched over a closed member")
	}
	if _, open := <-net.Frames(); open {
		t.Error("something was received over a closed member")
	}
	if _, err := a.Blobs(nil); err == nil {
		t.Error("a closed member gives blobs")
	}
	if bb, err := b.Blobs(nil); err != nil {
		t.Error(err)
	} else if err := bb.Offer("x", 1, "", bulk.Buffer{1}); err != nil {
		t.Error(err)
	} else if got, err := bb.Get(within(t), "b", "x", 1); err != nil || len(got) != 1 {
		t.Errorf("the other member: %v, %v", got, err)
	}
}

func testRefused(t *testing.T, s *served) {
	for _, o := range []transport.Options{{Member: "a"}, {Job: "j"}, {Job: "a.b", Member: "a"}, {Job: "j", Member: "a b"}} {
		if m, err := s.host.Dial(within(t), o); err == nil {
			m.Close()
			t.Errorf("job %q and member %q were taken", o.Job, o.Member)
		}
	}
}
