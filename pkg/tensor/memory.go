package tensor

// Floats returns n zero floats on a cache line, mapped outside the heap where
// large. They live as long as the process: it is for what a worker keeps, such
// as moments and gradients. What is given up earlier has an owner with a Close:
// weights are their Params', activations their Tape's. The collector does not
// close them: it would do so while views, which are plain slices, are in use.
func Floats(n int) []float32 {
	s, _ := floats(n)
	return s
}
