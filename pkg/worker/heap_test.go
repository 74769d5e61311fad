package worker

import (
	"runtime"
	"runtime/metrics"
	"testing"
)

// The collector waits for the floor's worth of garbage, and the floor is none itself.
func TestHeapFloor(t *testing.T) {
	goal := func() uint64 {
		runtime.GC()
		s := []metrics.Sample{{Name: "/gc/heap/goal:bytes"}}
		metrics.Read(s)
		return s[0].Value.Uint64()
	}
	release := holdHeap()
	held := goal()
	release()
	if free := goal(); held < free+heapFloor {
		t.Errorf("the collector aims at %d bytes with the floor, and %d without", held, free)
	}
	if held < 2*heapFloor {
		t.Errorf("the collector aims at %d bytes: want the floor and as much again", held)
	}
}
