// Package board has what a run's records go to beside its own files: TensorBoard's
// event files (internal/tensorboard has their bytes), and the trackers trackio and
// MLflow, by HTTP. Each is a run.Sink: it follows what the run has written, so a run
// waits for none, and each is told of a record once, whatever is killed or resumed.
package board
