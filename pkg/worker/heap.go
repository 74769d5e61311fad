package worker

import "runtime"

// heapFloor is memory that the collector counts as live, of which no page is
// touched. A worker's tensors lie outside Go's heap, so that what lives there is
// a few MB: the collector would run every few steps, for the samples of a hundred
// KB each, and take its share of a core each time. With a floor it runs once so
// many bytes of garbage have gathered, which is what the worker pays in memory,
// however large its heap is.
const heapFloor = 16 << 20

// holdHeap keeps the floor under the heap until release is called.
func holdHeap() (release func()) {
	floor := make([]byte, heapFloor)
	return func() { runtime.KeepAlive(floor) }
}
