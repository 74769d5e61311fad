// Package cluster decides who takes part in a job, and keeps it going while
// workers and coordinators come and go. It moves no gradient, reads no data and
// writes no checkpoint: package allreduce sums, and the callers do the rest.
//
// # Shape
//
// Two pure state machines decide. Each takes events and a time, and returns
// actions; neither has a clock, a goroutine or I/O. Two thin drivers carry the
// actions out over a Bus.
//
//	coordinator's process                               worker's process
//
//	Hooks <── Coordinator (driver)      Bus      Driver ──> Work
//	              │   ▲            <─ messages ─>  │  ▲
//	        events▼   │actions                events▼  │actions
//	             machine                           Node
//	   roster ledger saves trust blame
//
// The owner of a job calls NewCoordinator and Run, and gives Hooks. A worker calls
// JoinJob, NewNode and NewDriver, and gives a Work. Agent and AskJob are for those
// who only talk. Every type of event, action and message is marked in sealed.go.
//
// # A worker is killed
//
// From the kill to the next commit, in the order in which it happens:
//
//  1. Somebody sees it. The owner of a local process has it from cmd.Wait, and
//     calls Coordinator.Tell(WorkerGone). The coordinator's prober finds that
//     nobody listens at the worker's place any more, and tells the same. Or
//     nothing was heard from it for Config.Deadline: machine.tick.
//  2. machine.lose strikes it off the roster. It had a place in the ring, so
//     machine.recall breaks the generation: steps that are reported are told
//     (flush), checkpoints that lack a part are given up (voidOffers), the
//     generation counts on, the job is Settling, and every member gets a Recall.
//  3. On a survivor Node.recall says Halt. Its Driver cancels the step loop, which
//     ends when it can, after a forward and backward pass at the latest. Meanwhile
//     heartbeats go on. Then HaltedNow: the node is at rest and says Standing, with
//     its newest committed step and the digest of its state. It keeps the
//     micro-gradients of the step in progress.
//  4. machine.standing hears that. When all stand, machine.form makes the next
//     generation. agree finds the newest step and, by majority, the state after it:
//     a survivor that had yet to commit a step which others committed is behind.
//     place gives each its micro-batches: what it has, and a share of the dead
//     one's. assignAll sends each an Assign. The job is Forming.
//  5. Node.assigned says Form: the ring is made. Then Listens, and the worker says
//     Formed. When all have, machine.run sends Go: the job is Running.
//  6. Node says Run: the step loop goes on in the middle of the step, and computes
//     only what nobody has. One that is behind first takes the state from a peer.
//     Its Report is the next commit: machine.report.
//
// Whoever starts the dead worker again sees it Join: the next round.
//
// # A worker joins
//
// One round of membership, without a loss:
//
//  1. Agent.Join asks. machine.join refuses it by name (refusal) or makes it a
//     member (welcome). Its Driver runs Prepare: it loads the job, and says Ready.
//  2. machine.proceed finds a member without a place (wantsReform) and raises
//     FlagReform. Every rank gets the flag with the last chunk of one and the same
//     step, commits that step, leaves its loop (LoopEnded) and says Standing.
//  3. The ring stands, so machine.form makes a generation as above. The newcomer
//     has no micro-batches in its first step, in which it takes the state from a
//     peer. No other member can commit that step before the newcomer has taken part
//     in its sum, so what it takes does not change under it.
//
// In Gathering the first workers take the state from the coordinator instead. A
// coordinator that starts after another one's death (Config.Takeover) knows no
// member: it asks every worker that it hears to Introduce itself, takes over those
// that come with a Seat, and recalls them.
//
// # A worker is told to go
//
// By its own machine: a signal. It may be the last that holds the job's newest state,
// as where all are told at once, so it asks first:
//
//  1. Driver.Retire has Node.retire say Retire, again and again. The step goes on.
//  2. machine.retire marks the member, and proceed raises FlagReform, with
//     FlagCheckpoint where all members are leaving. A step that takes longer than
//     partPatience is broken off (partLate).
//  3. When all stand, machine.part decides. Where a member that stays holds the newest
//     state, or the disk does, those who asked get an End (letGo), and the others
//     form. Else no step is begun: the job is Paused, and the state is stored as at a
//     job's end (store, storing, requestParts). saved brings the next decision.
//  4. If the disk does not take it: whoever is new takes the state from them in one
//     step more; with nobody new, each keeps it on its own disk (End.Keep).
//  5. A node that is not let go within NodeConfig.Grace keeps its state and leaves.
//
// # Invariants
//
//   - Every message carries its generation. What is older dies at the entrance:
//     machine.admit, Node.newer, and in the ring.
//   - The first coordinator to name a generation has it; a worker follows no other
//     one in it. So two coordinators cannot both lead.
//   - A message is sent again until its effect shows, and has its effect once. No
//     state hangs on a single message.
//   - What a worker says is checked against the job's own numbers before it is
//     believed, summed or allocated (check.go).
//   - Deadlines go by a clock that does not count the reader's own pauses.
//   - A step is told of once, a checkpoint is one state, and the disk never has a
//     step that the metrics lack.
//
// # Glossary
//
// Our words, and the field's:
//
//	generation           epoch, term, rendezvous round
//	recall               abort, quiesce
//	standing             status report, acknowledgement of the abort
//	assign, formed, go   configure, ready, start (a two-phase start)
//	seat, introduce      re-registration with a lease
//	takeover             failover
//	fence                fencing token, epoch barrier
//	rewind, rollback     rollback to a checkpoint
//	diverged, suspect    silent data corruption, quarantined
//	torn                 inconsistent: no quorum on the state
//	offer, part          shard of a distributed checkpoint
//	partial, fetching    a checkpoint being collected, being written
//	doubtful             in doubt (two-phase commit)
//	given up, abandoned  aborted, orphaned
//	owed                 a retry that is due
//	place, rank          rank
//	pace                 throughput
//	shed                 rebalance
//	spare                hot standby
//	nag                  retransmit
//	retire, let go       drain, graceful (controlled) shutdown, preemption notice
//	patience             timeout
//	Beat                 heartbeat acknowledgement
package cluster
