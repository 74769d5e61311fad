package allreduce

import (
	"errors"
	"testing"
	"time"
)

// A peer that breaks the protocol with good checksums.
func TestMisbehavingPeer(t *testing.T) {
	frame := func(h header, elements int) []byte {
		h.length = uint32(4 * elements)
		b := make([]byte, headerBytes+4*elements)
		h.put(b)
		return b
	}
	for _, c := range []struct {
		name   string
		frames [][]byte
		kind   FaultKind
		ends   bool
	}{
		{"data from a stranger", [][]byte{frame(header{kind: kindData, generation: 1, pass: Broadcast, from: 0}, 1)}, FaultStale, false},
		{"data of a pass that this rank does not take", [][]byte{frame(header{kind: kindData, generation: 1, pass: Reduce, from: 1}, 1)}, FaultStale, false},
		{"acknowledgement from a stranger", [][]byte{frame(header{kind: kindAck, generation: 1, pass: Reduce, from: 7}, 0)}, FaultStale, false},
		{"another generation", [][]byte{frame(header{kind: kindProbe, generation: 2, pass: Broadcast, from: 1}, 0)}, FaultStale, false},
		{"not a frame", [][]byte{[]byte("hello")}, FaultCorrupt, false},
		{"more than the window", [][]byte{
			frame(header{kind: kindData, generation: 1, pass: Broadcast, from: 1, seq: 0}, 1),
			frame(header{kind: kindData, generation: 1, pass: Broadcast, from: 1, seq: 1}, 1),
			frame(header{kind: kindData, generation: 1, pass: Broadcast, from: 1, seq: 2}, 1)}, FaultProtocol, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			var told []*FaultError
			ring, err := NewCore(Group{Generation: 1, Rank: 0, Members: []string{"a", "b"}, Micro: []int{0, 1, 2}},
				Options{ChunkBytes: 4, WindowBytes: 8, Patience: time.Hour, Event: func(e *FaultError) { told = append(told, e) }}, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range c.frames {
				ring.Frame(time.Now(), f)
			}
			if n := ring.Stats().ByKind[c.kind]; n != 1 {
				t.Errorf("%d faults %q were counted, want 1: %+v", n, c.kind, ring.Stats())
			}
			_, _, cause := ring.Done()
			var f *FaultError
			if c.ends && (!errors.As(cause, &f) || f.Kind != c.kind || f.Peer != "b") {
				t.Errorf("the ring ended with %v", cause)
			}
			if !c.ends && (cause != nil || len(told) != 1 || told[0].Kind != c.kind) {
				t.Errorf("events %v, ring %v: want one event and a ring that lives", told, cause)
			}
		})
	}
}

// A total that comes before this rank's part has gone cannot be the total.
func TestTotalTooEarly(t *testing.T) {
	now := time.Now()
	c, err := NewCore(Group{Generation: 1, Rank: 0, Members: []string{"a", "b"}, Micro: []int{0, 1, 2}}, Options{}, now)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, headerBytes+4)
	h := header{kind: kindData, generation: 1, pass: Broadcast, from: 1, length: 4}
	h.put(b)
	c.Frame(now, b)
	c.Begin(now, 0, []Range{{0, 1}}, [][]float32{{1}}, make([]float32, 1), nil)
	for c.Work(now) {
	}
	_, _, err = c.Done()
	var f *FaultError
	if !errors.As(err, &f) || f.Kind != FaultProtocol || f.Pass != Broadcast {
		t.Errorf("got %v, want a protocol fault of the broadcast", err)
	}
}
