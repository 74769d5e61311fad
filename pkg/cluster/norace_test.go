//go:build !race

package cluster

// crowd is how many workers the largest simulation has.
const crowd = 512
