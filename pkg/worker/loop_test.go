package worker

import (
	"context"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/vlaring/vlaring/pkg/allreduce"
	"github.com/vlaring/vlaring/pkg/bulk"
	"github.com/vlaring/vlaring/pkg/cluster"
)

// A worker that is recalled while it forms leaves no ring behind: one would go on
// reading the network, and take frames from the rings after it.
func TestRecalledWhileForming(t *testing.T) {
	s, hub := newSquad(t), bulk.NewMemory()
	w, r := sharer(t, s, hub, "a")
	peer := s.net.Join("b")
	defer peer.Close()
	w.roads = roads{net: r.net, log: zap.NewNop()}
	ctx, recall := context.WithCancel(t.Context())
	recall()
	a := &cluster.Assign{Digest: w.trainer.Digest(), Group: allreduce.Group{Generation: 1, Members: []string{"a", "b"}, Micro: []int{0, 4, 8}}}
	if ev := w.form(ctx, a); ev != nil {
		t.Fatalf("recalled, it says %+v", ev)
	}
	for i := range 3 {
		if err := peer.Send(t.Context(), "a", []byte("for the next ring")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond) // in which a ring that is left would take it
		select {
		case <-r.net.Frames():
		case <-time.After(2 * time.Second):
			t.Fatalf("frame %d was taken by the ring that was given up", i)
		}
	}
}
