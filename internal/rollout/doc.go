// Package rollout closes the loop: a policy acts in the world that its data was made
// in, trial after trial, and what is measured is how often it does what it is told.
//
//	r, err := rollout.Run(ctx, checkpoint, rollout.Options{Episodes: 100, Seed: 1, Threads: 2})
//	fmt.Print(r.Text()) // success by task, with its 95 % interval
//
// A trial is a pure function of the seed, its number, the weights and the world. It has
// the same bits on any CPU, with any number of threads, alone or beside others: the
// report's trace is a hash of all of them.
package rollout
