// Package tensorboard writes TensorBoard's event files and keeps a folder of them
// without doubled points.
//
//	l, err := tensorboard.Open(dir, 120, time.Now()) // what is of steps beyond 120 is taken out
//	l.Add(time.Now(), 121, tensorboard.Scalar("train/loss", 0.5))
//	err = l.Flush()                                  // all that was added, or none of it
//	err = l.Close()
//
// A file is a run of records, each an event of a step with any number of values:
//
//	record   │ length u64 │ masked CRC-32C of it u32 │ event │ masked CRC-32C of the event u32 │
//	first    the version of the format
//	second   of a folder that goes on: the session begins with step K+1
//	others   wall time, step, values by tag
//
// Whoever goes on from step K takes what is of later steps out of the files that are
// there, and goes on in a new one: so any reader finds each point once. The mark of
// the session's beginning is for a TensorBoard that runs meanwhile, has read the
// points that are gone, and forgets them at the mark.
//
// The protobuf messages are written by hand: a dozen fields of
// tensorflow/core/{util/event,framework/summary}.proto that have not changed in years.
// testdata holds files that TensorBoard's own reader has read, value by value
// (tools/tensorboard_compare.py).
package tensorboard
