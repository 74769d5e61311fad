// Package nettest is the conformance suite of allreduce.Network: what every
// implementation must do when nothing is broken. Faults are the business of
// the ring's own tests.
package nettest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/vlaring/vlaring/pkg/allreduce"
)

// limit fails a test that would hang. Nothing waits for it otherwise.
const limit = 30 * time.Second

// Run tests an implementation. open joins the members to a network of their
// own, one Network for each in order, and returns when each can reach all
// others; a test of the suite closes them.
func Run(t *testing.T, open func(t *testing.T, members []string) []allreduce.Network) {
	for _, c := range []struct {
		name string
		test func(*testing.T, opener)
	}{
		{"order", testOrder},
		{"whole", testWhole},
		{"sender owns its buffer", testReuse},
		{"receiver owns what it gets", testOwn},
		{"released frames", testRelease},
		{"addressed", testAddressed},
		{"concurrent senders", testConcurrent},
		{"absent member", testAbsent},
		{"departed member", testDeparted},
		{"cancelled send", testCancelled},
		{"close", testClose},
		{"close while sending", testCloseWhileSending},
		{"ring", testRing},
		{"generations", testGenerations},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.test(t, func(members ...string) []allreduce.Network {
				t.Helper()
				nets := open(t, members)
				if len(nets) != len(members) {
					t.Fatalf("open returned %d networks for %d members", len(nets), len(members))
				}
				t.Cleanup(func() {
					for _, n := range nets {
						n.Close()
					}
				})
				return nets
			})
		})
	}
}

type opener func(members ...string) []allreduce.Network

func send(t *testing.T, n allreduce.Network, peer string, frame []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if err := n.Send(ctx, peer, frame); err != nil {
		t.Fatalf("send of %d bytes to %s: %v", len(frame), peer, err)
	}
}

func recv(t *testing.T, n allreduce.Network) []byte {
	t.Helper()
	select {
	case f, ok := <-n.Frames():
		if !ok {
			t.Fatal("Frames was closed")
		}
		return f
	case <-time.After(limit):
		t.Fatalf("no frame within %v", limit)
	}
	return nil
}

// within fails the test if f hangs.
func within(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(limit):
		t.Fatalf("%s did not return within %v", what, limit)
	}
}

// numbered is a frame that says who sent it and as which.
func numbered(from, i, size int) []byte {
	b := make([]byte, max(size, 8))
	binary.LittleEndian.PutUint32(b, uint32(from))
	binary.LittleEndian.PutUint32(b[4:], uint32(i))
	for j := 8; j < len(b); j++ {
		b[j] = byte(j*7 + i + 31*from)
	}
	return b
}

func testOrder(t *testing.T, open opener) {
	const frames = 300
	nets := open("a", "b", "c")
	for i := range frames { // interleaved, none read meanwhile
		send(t, nets[1], "a", numbered(1, i, 100))
		send(t, nets[2], "a", numbered(2, i, 100))
	}
	next := [3]int{}
	for range 2 * frames {
		f := recv(t, nets[0])
		from := int(binary.LittleEndian.Uint32(f))
		if want := numbered(from, next[from], 100); !bytes.Equal(f, want) {
			t.Fatalf("member %d: got frame %d, want %d", from, binary.LittleEndian.Uint32(f[4:]), next[from])
		}
		next[from]++
	}
}

func testWhole(t *testing.T, open opener) {
	nets := open("a", "b")
	for i, size := range []int{8, 63, 64, 65, 4095, 32 << 10, 32<<10 + 1, allreduce.MaxPayload, allreduce.MaxFrame - 1, allreduce.MaxFrame} {
		send(t, nets[0], "b", numbered(0, i, size))
		if f := recv(t, nets[1]); !bytes.Equal(f, numbered(0, i, size)) {
			t.Errorf("a frame of %d bytes arrived as another of %d bytes", size, len(f))
		}
	}
	send(t, nets[0], "b", []byte{7})
	if f := recv(t, nets[1]); !bytes.Equal(f, []byte{7}) {
		t.Errorf("a frame of one byte arrived as %v", f)
	}
}

func testReuse(t *testing.T, open opener) {
	nets := open("a", "b")
	for _, size := range []int{64, 128 << 10} {
		buf := make([]byte, size)
		for i := range 8 {
			copy(buf, numbered(0, i, size))
			send(t, nets[0], "b", buf)
			for j := range buf {
				buf[j] = 0xEE
			}
		}
		for i := range 8 {
			if f := recv(t, nets[1]); !bytes.Equal(f, numbered(0, i, size)) {
				t.Fatalf("frame %d of %d bytes changed after Send had returned", i, size)
			}
		}
	}
}

func testOwn(t *testing.T, open opener) {
	nets := open("a", "b", "c")
	frame := numbered(0, 0, 256)
	send(t, nets[0], "b", frame)
	send(t, nets[0], "b", frame)
	send(t, nets[0], "c", frame)
	first := recv(t, nets[1])
	first = first[:cap(first)]
	for i := range first {
		first[i] = 0xEE
	}
	for i, n := range nets[1:] {
		if f := recv(t, n); !bytes.Equal(f, frame) {
			t.Errorf("writing to a received frame changed another one, of member %d", i+1)
		}
	}
	if !bytes.Equal(frame, numbered(0, 0, 256)) {
		t.Error("writing to a received frame changed the sender's")
	}
}

// testRelease: a frame that was given back may be used for another, one that
// was not is left alone, and the length of neither matters.
func testRelease(t *testing.T, open opener) {
	nets := open("a", "b")
	sizes := []int{64, 300 << 10, 8, 299 << 10, 64 << 10, 4096, 512, 513}
	type held struct {
		i           int
		frame, want []byte
	}
	var kept []held
	for i := range 200 {
		size := sizes[i%len(sizes)]
		want := numbered(0, i, size)
		send(t, nets[0], "b", bytes.Clone(want)) // the network may keep what it is given, and what is wanted is nobody else's
		f := recv(t, nets[1])
		if !bytes.Equal(f, want) {
			t.Fatalf("frame %d of %d bytes arrived as another of %d bytes", i, size, len(f))
		}
		switch {
		case i%7 == 3:
			kept = append(kept, held{i, f, want})
		case i%7 == 5: // given back later
			kept = append(kept, held{i, f, want})
			if h := kept[0]; len(kept) > 8 {
				kept = kept[1:]
				nets[1].Release(h.frame[:len(h.frame)/2])
			}
		default:
			nets[1].Release(f)
		}
		for _, h := range kept {
			if !bytes.Equal(h.frame, h.want) {
				t.Fatalf("frame %d was overwritten by frame %d at the latest, and it was never given back", h.i, i)
			}
		}
	}
	nets[1].Close()
	for _, h := range kept {
		nets[1].Release(h.frame)
	}
}

func testAddressed(t *testing.T, open opener) {
	members := []string{"a", "ab", "b", "worker-1", "worker-10"}
	nets := open(members...)
	for from := range nets {
		for to, name := range members {
			if to != from {
				send(t, nets[from], name, numbered(from, to, 32))
			}
		}
	}
	for to, n := range nets {
		seen := map[int]bool{}
		for range len(nets) - 1 {
			f := recv(t, n)
			from, meant := int(binary.LittleEndian.Uint32(f)), int(binary.LittleEndian.Uint32(f[4:]))
			if meant != to || seen[from] {
				t.Errorf("%s got a frame from %s for %s", members[to], members[from], members[meant])
			}
			seen[from] = true
		}
	}
}

func testConcurrent(t *testing.T, open opener) {
	const each, frames, size = 3, 60, 9000
	nets := open("a", "b", "c")
	var wg sync.WaitGroup
	errs := make(chan error, len(nets)*each)
	for s := 1; s < len(nets); s++ { // several goroutines of each of two members
		for g := range each {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), limit)
				defer cancel()
				from := s*each + g
				for i := range frames {
					if err := nets[s].Send(ctx, "a", numbered(from, i, size)); err != nil {
						errs <- fmt.Errorf("sender %d, frame %d: %w", from, i, err)
						return
					}
				}
			})
		}
	}
	next := map[int]int{}
	for range (len(nets) - 1) * each * frames {
		f := recv(t, nets[0])
		if len(f) != size {
			t.Fatalf("a frame of %d bytes, want %d", len(f), size)
		}
		from := int(binary.LittleEndian.Uint32(f))
		if want := numbered(from, next[from], size); !bytes.Equal(f, want) {
			t.Fatalf("sender %d: got frame %d or a mixture, want %d", from, binary.LittleEndian.Uint32(f[4:]), next[from])
		}
		next[from]++
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		t.Error(err)
	}
}

func testAbsent(t *testing.T, open opener) {
	nets := open("a", "b")
	within(t, "sending to nobody", func() {
		for range 50 {
			nets[0].Send(context.Background(), "nobody", numbered(0, 0, 100<<10)) // an error is allowed, hanging is not
		}
	})
	send(t, nets[0], "b", numbered(0, 1, 64))
	if f := recv(t, nets[1]); !bytes.Equal(f, numbered(0, 1, 64)) {
		t.Error("b got what was sent to nobody")
	}
}

func testDeparted(t *testing.T, open opener) {
	nets := open("a", "b", "c")
	send(t, nets[0], "b", numbered(0, 0, 64))
	recv(t, nets[1])
	nets[1].Close()
	within(t, "sending to one that has left", func() {
		for i := range 50 {
			nets[0].Send(context.Background(), "b", numbered(0, i, 100<<10))
		}
	})
	send(t, nets[0], "c", numbered(0, 1, 64))
	if f := recv(t, nets[2]); !bytes.Equal(f, numbered(0, 1, 64)) {
		t.Error("c got another frame than was sent to it")
	}
}

func testCancelled(t *testing.T, open opener) {
	nets := open("a", "b")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	within(t, "a cancelled send", func() { nets[0].Send(ctx, "b", numbered(0, 0, 64)) })
	send(t, nets[0], "b", numbered(0, 1, 64)) // the one before may have arrived
	f := recv(t, nets[1])
	if bytes.Equal(f, numbered(0, 0, 64)) {
		f = recv(t, nets[1])
	}
	if !bytes.Equal(f, numbered(0, 1, 64)) {
		t.Error("the frame after a cancelled send did not arrive")
	}
}

func testClose(t *testing.T, open opener) {
	nets := open("a", "b")
	send(t, nets[0], "b", numbered(0, 0, 64))
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		for range nets[0].Frames() {
		}
	}()
	within(t, "Close", func() { nets[0].Close() })
	within(t, "a reader of Frames after Close", func() { <-closed })
	within(t, "Send after Close", func() {
		if err := nets[0].Send(context.Background(), "b", numbered(0, 1, 64)); !errors.Is(err, allreduce.ErrNetworkClosed) {
			t.Errorf("Send after Close: %v, want ErrNetworkClosed", err)
		}
	})
	within(t, "a second Close", func() { nets[0].Close() })
	if f := recv(t, nets[1]); !bytes.Equal(f, numbered(0, 0, 64)) {
		t.Error("what was sent before Close did not arrive")
	}
	within(t, "Close with unread frames", func() { nets[1].Close() })
}

func testCloseWhileSending(t *testing.T, open opener) {
	nets := open("a", "b", "c")
	var wg sync.WaitGroup
	first := make(chan struct{}, 2)
	for s := 1; s < 3; s++ {
		wg.Go(func() {
			for i := 0; i < 10000; i++ {
				if nets[s].Send(context.Background(), "a", numbered(s, i, 64)) != nil {
					return
				}
				if i == 10 {
					first <- struct{}{}
				}
			}
		})
	}
	<-first
	<-first
	within(t, "Close of a busy receiver", func() { nets[0].Close() })
	within(t, "Frames after Close", func() {
		for range nets[0].Frames() {
		}
	})
	within(t, "Close of a busy sender", func() { nets[1].Close(); nets[2].Close() })
	within(t, "senders", wg.Wait)
}

func testRing(t *testing.T, open opener) {
	for _, world := range []int{1, 2, 3, 5} {
		t.Run(fmt.Sprintf("world %d", world), func(t *testing.T) {
			members := []string{"a", "b", "c", "d", "e"}[:world]
			// 64 chunks where four may be in flight
			opt := allreduce.Options{ChunkBytes: 4 << 10, WindowBytes: 16 << 10, Deadline: limit}
			reduce(t, open(members...), members, 1, 3, 64<<10, opt)
		})
	}
	t.Run("longest chunks", func(t *testing.T) {
		members := []string{"a", "b"}
		reduce(t, open(members...), members, 1, 1, 3*allreduce.MaxPayload/4+1, allreduce.Options{ChunkBytes: allreduce.MaxPayload, WindowBytes: 2 * allreduce.MaxPayload, Deadline: limit})
	})
}

func testGenerations(t *testing.T, open opener) {
	members := []string{"a", "b", "c"}
	nets := open(members...)
	opt := allreduce.Options{ChunkBytes: 1 << 10, WindowBytes: 4 << 10, Deadline: limit}
	reduce(t, nets, members, 1, 2, 5000, opt)
	reduce(t, nets[1:], members[1:], 2, 2, 5000, opt)
	slices.Reverse(nets)
	slices.Reverse(members)
	reduce(t, nets, members, 3, 2, 5000, opt)
}

// reduce runs steps on a ring over nets and compares them with the naive fold.
func reduce(t *testing.T, nets []allreduce.Network, members []string, generation uint64, steps, elements int, opt allreduce.Options) {
	t.Helper()
	const micro = 7
	world := len(nets)
	bounds := make([]int, world+1)
	for r := range bounds {
		bounds[r] = (micro*r + world - 1) / world
	}
	buckets := []allreduce.Range{{Lo: 0, Hi: elements / 3}, {Lo: elements / 3, Hi: elements}}
	grads := make([][]float32, micro)
	for m := range grads {
		grads[m] = make([]float32, elements)
		for i := range grads[m] { // far apart in size: another order would show
			x := uint32(i*micro+m)*2654435761 + uint32(generation)
			grads[m][i] = (float32(x>>8)/(1<<24) - 0.5) * float32(uint32(1)<<(x%20))
		}
	}
	want := append([]float32(nil), grads[0]...)
	for _, g := range grads[1:] {
		for i := range want {
			want[i] += g[i]
		}
	}
	rings := make([]*allreduce.Ring, world)
	for r := range rings {
		ring, err := allreduce.NewRing(nets[r], allreduce.Group{Generation: generation, Rank: r, Members: members, Micro: bounds}, opt)
		if err != nil {
			t.Fatal(err)
		}
		defer ring.Close()
		rings[r] = ring
	}
	var wg sync.WaitGroup
	for r, ring := range rings {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), limit)
			defer cancel()
			out := make([]float32, elements)
			for step := range steps {
				clear(out)
				op := ring.Begin(uint64(step), buckets, grads[bounds[r]:bounds[r+1]], out, func() allreduce.Flags { return 1 << r })
				op.Ready(0)
				op.Ready(1)
				flags, err := op.Wait(ctx)
				if err != nil {
					t.Errorf("rank %d, step %d: %v", r, step, err)
					return
				}
				if flags != 1<<world-1 {
					t.Errorf("rank %d, step %d: flags %b of %d ranks", r, step, flags, world)
				}
				for i := range want {
					if out[i] != want[i] {
						t.Errorf("rank %d, step %d, element %d: %v, want %v", r, step, i, out[i], want[i])
						break
					}
				}
			}
		})
	}
	wg.Wait()
}
