package natsbus

import (
	"testing"
	"time"

	"github.com/vlaring/vlaring/pkg/allreduce"
)

// A frame in another rank's name is dropped at the door, by name and once; the
// sender's own, and stale ones, pass.
func TestFramesInAnotherName(t *testing.T) {
	broker := startBroker(t, BrokerOptions{Token: "secret", Job: "j"})
	told := newEvents()
	w0 := connectWith(t, broker, ConnOptions{Job: "j", Member: "w0", Trouble: told.tell})
	n0, err := w0.Network()
	if err != nil {
		t.Fatal(err)
	}
	n0.(allreduce.Doorkeeper).Only(allreduce.Group{Generation: 1, Members: []string{"w0", "w1", "w2"}})
	n2, err := connect(t, broker, "j", "w2").Network()
	if err != nil {
		t.Fatal(err)
	}
	frame := func(generation, rank byte) []byte {
		f := make([]byte, 64)
		f[8], f[46] = generation, rank
		return f
	}
	eventually(t, "w0 listens", func() bool { return broker.server.GlobalAccount().SubscriptionInterest("vlaring.j.ring.w0.w2") })
	for _, f := range [][]byte{frame(1, 1), frame(1, 1), frame(1, 9), frame(2, 1), frame(1, 2)} {
		if err := n2.Send(within(t), "w0", f); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range [][2]byte{{2, 1}, {1, 2}} {
		select {
		case f := <-n0.Frames():
			if [2]byte{f[8], f[46]} != want {
				t.Errorf("got a frame of generation %d from rank %d, want %v", f[8], f[46], want)
			}
		case <-time.After(patience):
			t.Fatal("no frame")
		}
	}
	told.await(t, "worker w2 sends frames of the ring in another one's name")
}
