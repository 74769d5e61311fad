// Package compare measures what the reference text claims of architectures:
// RNN and LSTM against Transformer, CNN against Vision Transformer.
//
// A comparison trains and times small models of both sides in this process,
// with the very trainer, reduction (that of a world of one, allreduce.Solo) and
// data of a job, and yields a Report: for each claim a table of what was measured, a verdict that
// a pure function drew from it, and a plot.
//
//	rep, err := compare.RNN(ctx, compare.Options{Threads: 2})
//	fmt.Print(rep.Text())
//	err = rep.Draw(dir) // a PNG a claim
//
// Both sides have the same width and, as near as their layers allow, the same
// number of parameters; they see the same samples in the same order, for the
// same number of steps, with the same optimizer. What is learned is the same
// on every machine; what is timed is the machine's.
package compare
