// Package bench measures what this machine does: kernels and operations, whole
// training steps, attention over the number of tokens, the all-reduce over each
// road, and whole jobs on several workers. Each measurement has options, which it
// checks itself, and a report, which is what the bench commands print as JSON:
//
//	r, err := bench.Ring(ctx, bench.RingOptions{Roads: []string{"shm"}, Ranks: []int{2}, …})
//	for _, row := range r.Rows {
//		fmt.Println(row.Road, row.Ranks, row.Bytes, row.MS)
//	}
//
// Some start processes of their own program: Threads and Workers run the commands
// bench step and train of it, and Ring runs bench ring --as-rank, which is
// ServeRank. Whatever runs on the machine besides moves a figure, so every report
// has the ceiling beside it that was measured in the same run, or says how much
// load there was.
package bench
