// Package job is the job file: its types, defaults, strict reader and checks.
// One YAML file describes one training run; the resolved form, with every
// default written out, is what each worker is sent, what the run directory
// keeps and what a checkpoint records.
//
//	kinds := train.Kinds() // what this program knows
//	j, err := kinds.Load("examples/bridge.yaml", []string{"train.steps=50"})
//	var bad *job.Error
//	if errors.As(err, &bad) { … } // every mistake found, each with its line
//
// The sections model, data, loss and optimizer have kinds, of which this package
// knows none: Kinds hands them in, and each kind brings the keys of its section,
// their defaults and their checks (see Kind and Options). The keys are read here,
// with line and column, and so are the messages about keys that are unknown, of
// another kind or of a wrong type the same for all kinds.
//
// Where a value comes from, the later winning:
//
//	the kinds' defaults → model.preset → the file → --set key=value
//
// and what still is not given follows from what is (d_ff from d_model,
// max_workers from workers, …; docs/formats.md lists every key).
//
// Invariants: a *Job from Load or Parse is valid and complete; parsing its
// YAML() gives the same Job; nothing in this package reads anything but the
// one file. Paths in a job stay as written: relative ones are relative to the
// directory of the job file, and whoever opens them resolves them.
package job
