// Package inspect looks at a data set, of a job or by itself: Check reads and
// decodes all of it and lists what is wrong, Info sums it up, Stats has its numbers,
// and each can draw a page of samples.
//
//	err := inspect.Check(ctx, inspect.Options{Arg: "/data/bridge", Threads: 2, Out: os.Stdout, Progress: os.Stderr})
//
// Faults are told as they are found, in order of the samples. People are shown
// the first of them, and how to go on; a file, and scripts, get all.
package inspect
