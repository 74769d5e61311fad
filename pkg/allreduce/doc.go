// Package allreduce sums micro-gradients over the ranks of a ring so that the
// sum has the same bits for any number of ranks.
//
// Rank r of N owns a contiguous range of micro-batches. For every chunk of the
// flat gradient:
//
//	reduce     r0 ──> r1 ──> r2 ──> r3     each folds its own micro-gradients, one by one, onto what came in
//	broadcast  r3 ──> r0 ──> r1 ──> r2     the last rank holds the total and sends it round
//
// The fold is ((g₀+g₁)+g₂)+…  over the job's micro-batches, whatever N is.
// Chunks are pipelined, so both passes are under way on all links at once, and
// buckets are sent as soon as backward has written them.
//
//	ring, err := allreduce.NewRing(net, group, allreduce.Options{})
//	op := ring.Begin(step, buckets, micro, out, flags)
//	op.Ready(0); op.Ready(1); …        // from backward, as gradients are written
//	flags, err := op.Wait(ctx)          // out holds the fold over all micro-batches
//
// Where each rank owns a part of what is made of the sum (an optimizer in shards),
// Gather sends the parts round, each once over each link, as they are:
//
//	op = ring.Gather(step, shards, own, out); op.Wait(ctx)     // out holds all shards
//
// The layers, each ignorant of those above:
//
//	Ring      driver: a goroutine between a Core and a Network
//	Core      pure: what to fold, when to send what
//	Schedule  pure: which chunks a rank receives from whom and sends to whom
//	link      pure: exactly once, in order, with credit, over
//	Network   datagrams: lossy, may duplicate, delay, reorder, corrupt
//
// A receiver keeps what comes out of order and tells what it has: four times a
// window, at once where something is missing, and of the tail at a tick. Only
// what is missing is sent again, and only once something that was sent later has
// come; a sender that hears nothing for a measured time asks, and repeats nothing.
// What is under way is bounded by rate times round trip, so that a slow or shared
// way holds no long queue. A frame that a Network refuses is a lost frame: a
// reconnecting client costs time only.
//
// Ranks that share a host's memory need no network between them. A TeamRing has
// each of them fold its share of every bucket, from where all have written their
// micro-gradients; between hosts, the n-th ranks of all hosts make a ring of
// their own. The order of the fold is the same, and so are the bits:
//
//	Reducer   what both are to the step loop
//	HostRing  driver of a rank whose Team is all ranks: no Ring and no goroutine hops
//	TeamRing  driver of a rank that has a Team; its lane is a Ring
//	Team      memory that the ranks of a host share; package shm has it
//
// Package stream is a Network of direct connections, with another to fall back on.
//
// MemNetwork joins members in one process and can lie in every way that links
// mend; package nettest is what every Network must pass.
//
// # The caller's duties
//
// One ring at a time reads a Network. All members of a generation have made
// their ring before any of them begins an operation. Operations of a ring are
// begun in step order, one after the other, with the same buckets on all
// ranks, and a ring is closed when all members are done with it or its
// generation has failed: a neighbour may need a frame again until then. An
// operation that fails or is aborted ends its ring. The micro-gradients stay
// the caller's: after a ring has failed they are as they were, and another
// generation can fold them again.
package allreduce
