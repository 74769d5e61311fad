// Package run is the coordinator's side of one run of a job, from a run directory
// that is empty, resumed or taken over to the final checkpoint in it. A command
// makes Options of its flags and calls New and Train; Stop, from a signal, has the
// run finish its step and store it. What is right to do in a cluster is decided by
// pkg/cluster's machine; this package does it.
//
// # A run, function by function
//
//	Train
//	 ├ open                  make and lock the run directory; who has it already, or holds another run, is refused
//	 ├ begin                 find out what the run begins with; refuse what is wrong before any worker starts
//	 │  ├ findTeacher        the model to distil from, where there is one
//	 │  ├ resumeFrom         the newest checkpoint of all stores that verifies (newestGood), and whether it is of this job (planOf, sameRun)
//	 │  ├ openData           scan the data, sum it up, and compare it with the checkpoint's
//	 │  ├ fits               the model, and the local workers together, against the memory of this machine
//	 │  └ checkModel         build the model once: its layout, its first weights (findWeights)
//	 ├ openSession           set aside what another computation left (clearHistory); open the screen, the recorder, the evaluator
//	 ├ connect               start the server, or reach the one that runs elsewhere
//	 ├ lead                  lead the job until it ends: a cluster.Coordinator calls what follows
//	 │  ├ takeLead           once, when the job is this coordinator's
//	 │  │  ├ serve           offer what workers fetch: the first state, the teacher, the description, scans, samples
//	 │  │  ├ announce        from here on the run directory says that the run goes on
//	 │  │  └ newSupervisor   start the local workers, or wait for those that live on after a takeover
//	 │  ├ welcome            a worker joins: the job, and the state to begin with
//	 │  ├ members            somebody came or went: screen, supervisor and offers are told
//	 │  ├ stepDone           a step is committed: a line of metrics, the screen
//	 │  ├ save               a checkpoint is due: fetch its parts (assemble, fetch), see whether they are the state
//	 │  │                    that the workers hold (checkState), commit; then stored has it measured, retain removes old ones
//	 │  ├ rewind             no state in memory counts: put the newest on the disk on offer
//	 │  └ dismiss            the job has ended: local workers leave, are killed, or live on for another coordinator
//	 ├ conclude              the run directory says how it ended
//	 └ finish                say so; measure the final checkpoint on the held-out split (last)
//
// # Who waits for what
//
// The coordinator's loop keeps workers alive by answering them, so what it calls
// waits for no disk, no process and no reader:
//
//	loop ─ stepDone ──> clerk (desk)  ──> metrics.jsonl       a full disk holds lines back, never steps
//	     ├ members ───> clerk (aside) ──> supervisor          starts processes
//	     ├ Screen ────> its own writer ─> terminal, pipe      of a UI
//	     │                └ written ─> followers            each reads the file, and tells its Sink
//	     └ save ······> a goroutine of the Coordinator's      fetches, for as long as the network takes
//	                      └ stored ──> evaluator              one thread of the lowest priority
//
// Two more goroutines belong to a session: watchDir looks whether the run directory
// is where it was, and one passes requests to stop on. Both end with the job.
//
// # The parts
//
//	directory    dir.go, rundir.go        the run directory, its lock, its stores, the files that say what it is
//	beginning    beginning.go, plan.go    what the run begins with; data.go, init.go, teacher.go find it
//	session      session.go, status.go    a run that has a screen; what a Coordinator calls
//	recorder     recorder.go, lines.go    metrics, and what is made of them
//	saver        saver.go, assemble.go    checkpoints: parts become one, old ones go
//	offers       offers.go                the state that workers without peers begin with
//	evaluator    evaluator.go             measurements of stored checkpoints
//	tracer       trace.go                 a timeline of all ranks, where one is wanted
//	sinks        sink.go                  where else records go: each follows the files on a goroutine of its own
//	supervisor   supervisor.go            local workers; its decisions are places (places.go), its processes process.go
//
// # Words
//
//	ours          the field's
//	run           one training run: a run directory, and whoever leads it in turn
//	takeover      failover to a new coordinator; the workers live through it
//	lead          leadership: the coordinator that has the job's name on its server
//	handover      planned failover: this coordinator leaves, its workers wait
//	part, piece   shard of a checkpoint, as one worker offers it
//	offer         what is served for others to pull
//	rescue        an emergency checkpoint of a worker without a coordinator
//	spare         the fallback store, where the run directory's disk takes nothing
//	first state   initial state: a checkpoint's files, an init file, or the seed
package run
