package cluster

// Bounds splits micro-batches 0..micro-1 over world ranks in contiguous runs
// whose lengths differ by at most one, the longer ones first: rank r owns
// [b[r], b[r+1]). A rank owns none where there are more ranks than
// micro-batches. Contiguity is what lets the ring fold them in the job's order.
func Bounds(micro, world int) []int {
	b := make([]int, world+1)
	for r := 1; r <= world; r++ {
		b[r] = b[r-1] + micro/world
		if r <= micro%world {
			b[r]++
		}
	}
	return b
}
