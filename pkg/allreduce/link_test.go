package allreduce

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// A sender and a receiver over a network that loses, repeats and reorders,
// driven by random events: every frame is accepted once, the window holds on
// both sides, nothing is sent again from a slot that is free or while it is
// there, and all gets through once time passes.
func TestLinkIsExactlyOnceInOrder(t *testing.T) {
	const frames, size = 200, 100
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 0))
		window := []uint64{2, 3, 8, 40}[seed%4]
		now := time.Unix(0, 0)
		s, r := newSender(window, size, 4*time.Second, now), newReceiver(window)
		type sent struct {
			seq    uint64 // plus one; 0 is a probe
			number uint32
			ask    bool
		}
		var data []sent
		var notes []report
		got := make([]bool, frames)
		tell := func() { notes = append(notes, r.tell(now, nil)) }
		mend := func() {
			for {
				seq, number, ok := s.repeat(now)
				if !ok {
					return
				}
				if seq < s.received || seq >= s.next {
					t.Fatalf("seed %d: frame %d is repeated, of %d to %d under way", seed, seq, s.received, s.next)
				}
				data = append(data, sent{seq + 1, number, true})
			}
		}
		for turn := 0; s.consumed < frames; turn++ {
			if turn > 200000 {
				t.Fatalf("seed %d: stuck at %+v, %+v", seed, s, r)
			}
			switch random.IntN(8) {
			case 0, 1: // a new frame
				if s.next < frames && s.room() {
					seq, number, ask := s.push(1+random.IntN(size), now)
					data = append(data, sent{seq + 1, number, ask})
				}
			case 2, 3: // a frame arrives, or not, mostly the oldest, sometimes twice
				if len(data) == 0 {
					break
				}
				i := random.IntN(len(data)) * random.IntN(2)
				f := data[i]
				if random.IntN(4) > 0 {
					data = append(data[:i], data[i+1:]...)
				}
				if random.IntN(6) == 0 {
					break
				}
				if f.seq == 0 {
					r.came(f.number, now)
					tell()
					break
				}
				switch v := r.take(f.seq-1, f.number, f.ask, now); v {
				case accept, ahead:
					if got[f.seq-1] {
						t.Fatalf("seed %d: accepted %d twice", seed, f.seq-1)
					}
					got[f.seq-1] = true
				case duplicate:
					if !got[f.seq-1] {
						t.Fatalf("seed %d: frame %d was not there", seed, f.seq-1)
					}
					r.owed = r.owed || r.answer()
				default:
					t.Fatalf("seed %d: frame %d beyond the window: %+v", seed, f.seq-1, r)
				}
			case 4: // the chunk is used; the answers that are owed
				if r.waiting() > 0 {
					if !got[r.consumed] {
						t.Fatalf("seed %d: frame %d is used and has not come", seed, r.consumed)
					}
					if r.consume() {
						tell()
					}
				}
				if r.owed {
					tell()
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
				s.ack(n, now)
				mend()
			case 7:
				now = now.Add(time.Second)
				if r.tick() {
					tell()
				}
				s.judge(now)
				mend()
				if number, probe := s.due(now, !s.room() || s.next == frames); probe {
					data = append(data, sent{0, number, true})
				}
			}
			under, many, lost := 0, 0, 0
			for seq := s.received; seq < s.next; seq++ {
				switch f := s.flights[seq%window]; f.state {
				case underWay:
					under, many = under+f.bytes, many+1
				case missing:
					lost++
				case arrived:
					if !got[seq] {
						t.Fatalf("seed %d: frame %d is said to be there", seed, seq)
					}
				}
			}
			if s.next-s.consumed > window || s.consumed > s.received || s.received > s.next || r.consumed > r.expected || s.received > r.expected ||
				under != s.under || many != s.many || lost != s.lost {
				t.Fatalf("seed %d: impossible: %+v, %+v", seed, s, r)
			}
		}
	}
}

func TestImpossibleAcknowledgements(t *testing.T) {
	now := time.Unix(9, 0)
	s := newSender(8, 100, time.Second, time.Unix(1, 0))
	for range 8 {
		s.push(100, now)
	}
	if !s.ack(report{received: 5, consumed: 3, newest: 4, all: true}, now) {
		t.Fatal("news was not taken")
	}
	s.tries = 2
	before := fmt.Sprint(s)
	for _, a := range []report{{received: 9, consumed: 5}, {received: 6, consumed: 7}, {received: 4, consumed: 3}, {received: 5, consumed: 2}, {received: 5, consumed: 3},
		{}, {received: 8, consumed: 3, newest: 9}, {received: 5, consumed: 3, ranges: []span{{0, 5}, {8, 99}}}} {
		a.all = true
		if s.ack(a, now.Add(time.Second)) || fmt.Sprint(s) != before {
			t.Errorf("%+v changed %s to %+v", a, before, s)
		}
	}
	later := now.Add(time.Second)
	if !s.ack(report{received: 6, consumed: 5, newest: 8, ranges: []span{{7, 99}}, all: true}, later) || s.received != 6 || s.consumed != 5 || s.tries != 0 || s.heard != later {
		t.Errorf("news was not taken: %+v", s)
	}
	if seq, number, ok := s.repeat(later); ok || s.many != 1 { // one transmission after it has come: it may be overtaken
		t.Errorf("frame %d is sent again as %d at once: %+v", seq, number, s)
	}
}

// stream sends frames in turn over a way that keeps order: keep says what of it arrives.
func stream(s *sender, r *receiver, now time.Time, frames int, keep func(seq uint64, number uint32) bool) (repeated []uint64, told int) {
	var tell []report
	arrive := func(seq uint64, number uint32, ask bool) {
		if keep(seq, number) {
			r.take(seq, number, ask, now)
		}
		for r.waiting() > 0 {
			if r.consume() {
				told++
				tell = append(tell, r.tell(now, nil))
			}
		}
		if r.owed {
			told++
			tell = append(tell, r.tell(now, nil))
		}
	}
	for i := 0; i < frames; {
		if s.room() {
			arrive(s.push(s.largest, now))
			i++
		}
		for len(tell) > 0 {
			s.ack(tell[0], now)
			tell = tell[1:]
			for {
				seq, number, ok := s.repeat(now)
				if !ok {
					break
				}
				repeated = append(repeated, seq)
				arrive(seq, number, true)
			}
		}
	}
	return repeated, told
}

// A stream without trouble costs one acknowledgement for each quarter of the
// window, once the window is known, and each of its frames once.
func TestAcknowledgementsAreBatched(t *testing.T) {
	now := time.Unix(0, 0)
	s, r := newSender(16, 100, time.Second, now), newReceiver(16)
	all := func(uint64, uint32) bool { return true }
	stream(&s, &r, now, 16, all) // the way turns out to be fast
	if again, told := stream(&s, &r, now, 160, all); len(again) > 0 || told < 38 || told > 42 {
		t.Errorf("%d acknowledgements for 160 frames, want 40; repeated: %v", told, again)
	}
}

// Only what is missing goes again, as soon as three later ones have come; what is
// lost again goes again.
func TestOnlyWhatIsMissingGoesAgain(t *testing.T) {
	now := time.Unix(0, 0)
	s, r := newSender(16, 100, time.Second, now), newReceiver(16)
	stream(&s, &r, now, 16, func(uint64, uint32) bool { return true })
	times := map[uint64]int{}
	again, _ := stream(&s, &r, now, 60, func(seq uint64, _ uint32) bool {
		times[seq]++
		return !(seq == 20 || seq == 22 || seq == 23) || times[seq] > int(seq-19)
	})
	if want := []uint64{20, 22, 22, 22, 23, 23, 23, 23}; !slices.Equal(slices.Sorted(slices.Values(again)), want) {
		t.Errorf("frames %v went again, want %v", again, want)
	}
	if r.expected != 76 || r.again != 0 {
		t.Errorf("%d of 76 frames came, %d twice", r.expected, r.again)
	}
}

// Frames sent again in vain make the sender more patient with those that
// overtake each other.
func TestReorderingIsLearnt(t *testing.T) {
	now := time.Unix(0, 0)
	s, r := newSender(64, 100, time.Second, now), newReceiver(64)
	stream(&s, &r, now, 64, func(uint64, uint32) bool { return true })
	repeats := 0
	for range 8 { // every eighth comes five late
		first := s.next
		type sent struct {
			seq    uint64
			number uint32
			ask    bool
		}
		var way []sent
		for range 16 {
			seq, number, ask := s.push(100, now)
			way = append(way, sent{seq, number, ask})
		}
		way = slices.Insert(slices.Delete(slices.Clone(way), 2, 3), 7, way[2])
		for len(way) > 0 {
			r.take(way[0].seq, way[0].number, way[0].ask, now)
			way = way[1:]
			if r.owed {
				s.ack(r.tell(now, nil), now)
			}
			for {
				seq, number, ok := s.repeat(now)
				if !ok {
					break
				}
				repeats++
				way = append(way, sent{seq, number, true})
			}
		}
		for r.waiting() > 0 {
			r.consume()
		}
		s.ack(r.tell(now, nil), now)
		if s.received != first+16 {
			t.Fatalf("%d of %d frames came", s.received, first+16)
		}
	}
	if repeats != 1 || r.again != 1 || s.reorder != 2*minReorder {
		t.Errorf("%d frames went again, %d came twice, %d may overtake: want one, from which the sender learns", repeats, r.again, s.reorder)
	}
}

// An acknowledgement has room for so many ranges: what it does not tell of is
// not lost.
func TestMoreGapsThanRanges(t *testing.T) {
	now := time.Unix(0, 0)
	s, r := newSender(200, 100, time.Second, now), newReceiver(200)
	s.path.best = 1e9
	for range 200 {
		seq, number, ask := s.push(100, now)
		if seq%2 == 1 {
			r.take(seq, number, ask, now)
		}
	}
	s.ack(r.tell(now, nil), now)
	if s.lost != 32 || s.many != 200-2*32 {
		t.Errorf("%d lost and %d under way, want the 32 that are told of, and all the others", s.lost, s.many)
	}
	for {
		seq, number, ok := s.repeat(now)
		if !ok {
			break
		}
		r.take(seq, number, true, now)
		if s.lost == 0 {
			s.ack(r.tell(now, nil), now)
		}
	}
	if r.expected != 200 || r.again != 0 {
		t.Errorf("%d frames came, %d twice", r.expected, r.again)
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
