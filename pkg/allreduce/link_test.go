package allreduce

import (
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

// A steady ring allocates nothing to send. What it receives belongs to it, so
// there the network allocates.
func TestSendingDoesNotAllocate(t *testing.T) {
	now := time.Unix(0, 0)
	c, err := NewCore(Group{Generation: 1, Rank: 0, Members: []string{"a", "b"}, Micro: []int{0, 1, 2}}, Options{ChunkBytes: 4096, WindowBytes: 8 * 4096, Patience: time.Hour}, now)
	if err != nil {
		t.Fatal(err)
	}
	const chunks = 64
	sent := 0
	ack := make([]byte, headerBytes)
	total := make([]byte, headerBytes+4096)
	buckets, micro, out := []Range{{0, chunks * 1024}}, [][]float32{make([]float32, chunks*1024)}, make([]float32, chunks*1024)
	var step, seq uint64
	run := func() {
		c.Begin(now, step, buckets, micro, out, nil)
		c.Ready(now, 0)
		for k := uint64(0); k < chunks; {
			for c.Work(now) {
			}
			for _, o := range c.Outgoing() {
				sent += len(o.Frame)
			}
			h := header{kind: kindAck, generation: 1, pass: Reduce, from: 1, seq: c.out[Reduce].link.next, offset: c.out[Reduce].link.next}
			h.put(ack)
			c.Frame(now, ack)
			for ; k < h.seq-step*chunks; k++ {
				h := header{kind: kindData, generation: 1, pass: Broadcast, from: 1, step: step, chunk: uint32(k), offset: k * 1024, length: 4096, seq: seq}
				h.put(total)
				seq++
				c.Frame(now, total)
				for c.Work(now) {
				}
			}
		}
		if over, _, err := c.Done(); !over || err != nil {
			t.Fatalf("over: %v, error: %v", over, err)
		}
		step++
	}
	run()
	run() // all slots and batches are made
	sent = 0
	const runs = 50
	if n := testing.AllocsPerRun(runs, run); n != 0 {
		t.Errorf("%v allocations for a step of %d chunks, want none", n, chunks)
	}
	if want := (runs + 1) * chunks * (headerBytes + 4096); sent < want {
		t.Errorf("%d bytes went, want at least %d", sent, want)
	}
}
