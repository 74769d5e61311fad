// Package train takes a model through optimizer steps. Whatever the number of
// ranks and threads, a Trainer holds the same bits after step s: everything that
// adds numbers here adds them in the order that the job gives.
//
// # A step, function by function
//
// Build makes the model and the Options of a job, NewTrainer puts them together,
// and Trainer.Step (step.go) takes one optimizer step as one rank of a ring:
//
//	Step
//	 ├ slabs.fit            drop the gradients that another rank has now; find out which groups are missing
//	 ├ compute              one missing group of micro-batches
//	 │  └ micro             one micro-batch: Batches.Next, forward, losses into the tail, backward
//	 │     ├ gradReady      backward has written one parameter …
//	 │     └ written        … and with it a whole bucket: fold it, and tell the ring (Reduction.Ready)
//	 ├ Reduction.Wait       the sum of all ranks, folded in the order of the micro-batches
//	 └ commit               (commit.go)
//	    ├ settle            divide each gradient once by what it is the mean over; look for what is not finite
//	    ├ pass              a step that nothing can be learned from changes no weight
//	    ├ optimize          clip, and the optimizer's step on every run of parameters (optimizer.go)
//	    └ update, gather    the same where the ranks share the moments out: each its shard, then everybody's (shards.go)
//
// The reduction begins with the last micro-batch that is missing: its buckets
// travel while backward is still writing the later ones. Until commit nothing has
// changed but gradients, so a step may be broken off anywhere, and begun again
// with other ranks: the gradients that are held count (slabs.go draws how).
//
// Where the ring's Reducer is a Solo there is no ring, and a step is the same
// functions: there is one step in this package, for one rank and for many.
//
// # State
//
// The state of a rank is its weights, its optimizer's slots (moments) and the number of committed
// steps. Trainer.Restore and Trainer.Reset set it, Trainer.Part copies a share of
// it for a checkpoint, Trainer.Digest names it. A lock keeps commits apart from
// those that read: t.mu is written by commits alone, and read for as long as a
// copy, a digest or a peer's fetch takes. Where the moments are shared out, a rank
// has those of its shard and of the next one's, and Holding says so to others.
//
// # Words
//
//	ours            the field's
//	micro-batch     micro-batch: what is run forward and backward at once
//	group           gradient accumulation: micro-batches whose sum is folded before the ring
//	fold            sum, in a fixed order, from the left
//	slab            flat gradient buffer of one group (and its tail)
//	tail            loss sums and counts that travel behind the gradient, in the same sum
//	run             consecutive groups in one slab
//	bucket          gradient bucket: what is reduced as one, while backward goes on
//	held            accumulated gradients that survive a broken step
//	torn            a slab with half a fold in it; of no use
//	void            there is no valid state: an update or a restore was cut short
//	pass over       skip the step (as a loss scaler does on overflow)
//	refused         not finite, or without a target: why a step was passed over
//	commit          optimizer step
//	digest          checksum of the state
//	shard, buddy    a rank's share of the moments (ZeRO stage 1), and the copy of the next rank's
//	witness         a rank that vouches by checksum for a part that another one hands out
package train
