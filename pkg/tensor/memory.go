package tensor

// Floats returns n zero floats on a cache line, mapped outside the heap where
// large. They live as long as the process: it is for what a worker keeps, such
// as weights, moments and gradients.
func Floats(n int) []float32 {
	s, _ := floats(n)
	return s
}
