package allreduce

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"
)

// A sender and a receiver over a network that loses, repeats and reorders,
// driven by random events: every frame is accepted once and in order, the
// window holds, and all gets through once time passes.
func TestLinkIsExactlyOnceInOrder(t *testing.T) {
	const frames, window, patience = 200, 8, 4 * time.Second
	for seed := range uint64(100) {
		random := rand.New(rand.NewPCG(seed, 0))
		now := time.Unix(0, 0)
		s, r := sender{window: window, heard: now}, receiver{window: window}
		type note struct {
			received, consumed uint64
			nack               bool
		}
		var data []uint64
		var notes []note
		var accepted uint64
		tell := func(nack bool) {
			e, c := r.tell()
			notes = append(notes, note{e, c, nack})
		}
		repeat := func(lo, hi uint64) {
			for ; lo < hi; lo++ {
				if lo < s.consumed {
					t.Fatalf("seed %d: frame %d is repeated from a slot that is free", seed, lo)
				}
				data = append(data, lo)
			}
		}
		for turn := 0; s.consumed < frames; turn++ {
			if turn > 200000 {
				t.Fatalf("seed %d: stuck at %+v, %+v", seed, s, r)
			}
			switch random.IntN(8) {
			case 0, 1: // a new frame
				if s.next < frames && s.room() {
					if s.received == s.next {
						s.heard = now
					}
					data = append(data, s.next)
					s.next++
				}
			case 2, 3: // a frame arrives, or not, mostly the oldest, sometimes twice
				if len(data) == 0 {
					break
				}
				i := random.IntN(len(data)) * random.IntN(2)
				seq := data[i]
				if random.IntN(4) > 0 {
					data = append(data[:i], data[i+1:]...)
				}
				if random.IntN(6) == 0 {
					break
				}
				switch r.take(seq) {
				case accept:
					if seq != accepted {
						t.Fatalf("seed %d: accepted %d, want %d", seed, seq, accepted)
					}
					if accepted++; accepted-r.consumed > window {
						t.Fatalf("seed %d: %d frames wait in a window of %d", seed, accepted-r.consumed, window)
					}
				case duplicate:
					if r.answer() {
						tell(false)
					}
				case gap:
					if r.ask() {
						tell(true)
					}
				}
			case 4: // the chunk is used
				if r.consumed < r.expected && r.consume() {
					tell(false)
				}
			case 5, 6: // word comes back, or not
				if len(notes) == 0 {
					break
				}
				i := random.IntN(len(notes)) * random.IntN(2)
				n := notes[i]
				notes = append(notes[:i], notes[i+1:]...)
				if random.IntN(6) == 0 {
					break
				}
				s.ack(n.received, n.consumed, now)
				if n.nack {
					repeat(s.nack(n.received, now))
				}
			case 7:
				now = now.Add(time.Second)
				if r.tick() {
					tell(false)
				}
				lo, hi, probe := s.due(now, patience, !s.room() || s.next == frames)
				repeat(lo, hi)
				if probe {
					tell(false)
				}
			}
			if s.next-s.consumed > window || s.consumed > s.received || s.received > s.next || r.consumed > r.expected || s.received > r.expected {
				t.Fatalf("seed %d: impossible: %+v, %+v", seed, s, r)
			}
		}
	}
}

func TestImpossibleAcknowledgements(t *testing.T) {
	now := time.Unix(9, 0)
	s := sender{window: 8, next: 10, received: 7, consumed: 5, heard: time.Unix(1, 0), tries: 2}
	before := s
	for _, a := range [][2]uint64{{11, 5}, {8, 9}, {6, 5}, {7, 4}, {7, 5}, {0, 0}} {
		if s.ack(a[0], a[1], now) || s != before {
			t.Errorf("ack of %d received, %d consumed changed %+v to %+v", a[0], a[1], before, s)
		}
	}
	if !s.ack(9, 6, now) || s.received != 9 || s.consumed != 6 || s.tries != 0 || s.heard != now {
		t.Errorf("news was not taken: %+v", s)
	}
	if lo, hi := s.nack(7, now); lo != hi {
		t.Errorf("an overtaken NACK repeats %d to %d", lo, hi)
	}
	if lo, hi := s.nack(9, now); lo != 9 || hi != 10 {
		t.Errorf("a NACK for 9 repeats %d to %d", lo, hi)
	}
}

// A stream without trouble costs one acknowledgement for each quarter of the
// window, and each of its frames once.
func TestAcknowledgementsAreBatched(t *testing.T) {
	r := receiver{window: 16}
	told := 0
	for seq := range uint64(160) {
		if r.take(seq) != accept {
			t.Fatal("a frame in order was not accepted")
		}
		if r.consume() {
			r.tell()
			told++
		}
	}
	if told != 40 {
		t.Errorf("%d acknowledgements for 160 frames, want 40", told)
	}
}

// nowhere takes every frame, and none arrives.
type nowhere struct{ bytes int }

func (n *nowhere) Send(_ context.Context, _ string, frame []byte) error {
	n.bytes += len(frame)
	return nil
}
func (n *nowhere) Frames() <-chan []byte { return nil }
func (n *nowhere) Close() error          { return nil }

func TestSendingDoesNotAllocate(t *testing.T) {
	net := &nowhere{}
	ring, err := NewRing(net, Group{Generation: 1, Rank: 0, Members: []string{"a", "b"}, Micro: []int{0, 1, 2}}, Options{ChunkBytes: 4096, WindowBytes: 8 * 4096, Patience: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	defer ring.Close()
	o := &Op{ring: ring, ctx: ring.ctx}
	p := plan{Range: Range{Hi: 1024}}
	m := Move{Pass: Reduce, Hi: 1024, From: -1, To: 1}
	data := make([]float32, 1024)
	out := ring.out[Reduce]
	send := func() {
		h, frame, err := ring.stage(o, 0, p, m, Reduce, 0, data)
		if err != nil {
			t.Fatal(err)
		}
		if !ring.transmit(o.ctx, 1, h, frame) {
			t.Fatal("not sent")
		}
		ring.acked(out, header{kind: kindAck, pass: Reduce, from: 1, seq: h.seq + 1, offset: h.seq + 1})
	}
	for range 16 { // all slots are made
		send()
	}
	net.bytes = 0
	const runs = 200
	if n := testing.AllocsPerRun(runs, send); n != 0 {
		t.Errorf("%v allocations to send a chunk, want none", n)
	}
	if want := (runs + 1) * (headerBytes + 4096); net.bytes != want {
		t.Errorf("%d bytes went, want %d", net.bytes, want)
	}
}
