//go:build race

package allreduce_test

// raced says that the race detector watches, ten times as slowly: who works beside
// whom does not depend on how long chunks are, nor on every size of a world.
const raced = true
