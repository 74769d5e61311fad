// Package worker is the worker's side of a job: it joins, has what its place
// needs, takes part in steps, and hands out what it holds.
//
// A cluster.Node decides what a worker does next, and a cluster.Driver asks it and
// never waits. What takes time is a task: the Worker does one after the other,
// beside the driver, which goes on saying that this worker lives.
//
//	coordinator ── messages ──> Driver ── Node: what now? ──┐
//	     ▲                        │ ▲                       │
//	     └─── heartbeats, ────────┘ └── events ── Worker.Do <┘  one task at a time:
//	          reports, offers                                   Prepare   model, data, teacher    prepare
//	                                                            Load      state of the disk       load
//	                                              Worker.Act    Form      a ring, on some road    form
//	                                              what is done  Run       steps                   loop
//	                                              at once       Halt      leave the ring          leaveRing
//
// # A worker's life, function by function
//
// Run joins (cluster.JoinJob), reads the job (describe: what is too large for the
// answer is fetched), and hands itself to the driver. prepare opens the data where
// it is (data.go: here, or delivered by the coordinator) and builds the trainer. form
// listens on the ring that roads.ring chooses: alone, shared memory, direct
// connections or the job's network. loop takes steps (train.Trainer.Step) until the
// generation is over, and reports each commit. A newcomer first takes the state from
// those that have it, while they compute (catchUp; with shared-out moments also
// stock, moments.go). At a checkpoint makeOffer copies this worker's part of the
// state beside the next step, and puts it on offer; the coordinator fetches it.
//
// If no coordinator comes back, rescue keeps the state on this machine's disk.
//
// # Words
//
//	ours            the field's
//	generation      rendezvous round, epoch of membership
//	form            configure the process group
//	recall, halt    abort the step, quiesce
//	catch up        state transfer to a joining replica
//	offer           a snapshot's part that others may pull
//	knobs           settings that a new coordinator may change: they change no bit
//	road            transport of gradients between two ranks
//	rescue          an orphan's checkpoint
//	linger          drain before exit
package worker
