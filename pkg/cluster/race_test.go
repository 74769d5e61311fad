//go:build race

package cluster

// crowd is how many workers the largest simulation has: it is one goroutine, in
// which the race detector finds nothing and takes ten times as long.
const crowd = 64
