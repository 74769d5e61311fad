//go:build !race

package allreduce_test

// raced says that the race detector watches.
const raced = false
