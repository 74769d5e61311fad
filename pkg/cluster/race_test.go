//go:build race

package cluster

// crowd is how many workers the largest simulation has, seeds how many smaller ones there
// are: each is one goroutine, in which the race detector finds nothing and takes ten
// times as long.
const crowd, seeds = 32, 20
