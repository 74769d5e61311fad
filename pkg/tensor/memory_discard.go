package tensor

// Discard sets x, which nobody uses meanwhile, to zero, and gives the memory of
// what Floats has mapped back to the system where that can be done: its pages
// come back as zeros when they are used again.
func Discard(x []float32) {
	lo, hi := discardPages(x)
	clear(x[:lo])
	clear(x[hi:])
}
