package allreduce

// Pass is one of the two trips of a chunk.
type Pass uint8

const (
	Reduce    Pass = iota // partial sums, rank 0 to N-1
	Broadcast             // the total, N-1 to 0 to … to N-2
	passes
)

func (p Pass) String() string {
	switch p {
	case Reduce:
		return "reduce"
	case Broadcast:
		return "broadcast"
	}
	return "unknown pass"
}

// Move is what a rank does with one chunk in one pass: take it from a rank,
// work on elements [Lo, Hi), pass it to a rank. A rank of -1 is nobody.
type Move struct {
	Pass     Pass
	Chunk    int
	Lo, Hi   int
	From, To int
}

// Schedule returns the moves of one rank for a bucket of elements cut into
// chunks of at most chunk: those of each pass in order. It is pure; executing
// it on all ranks computes the left fold (see the tests).
func Schedule(rank, world, elements, chunk int) (reduce, broadcast []Move) {
	for c, lo := 0, 0; lo < elements; c, lo = c+1, lo+chunk {
		hi := min(lo+chunk, elements)
		m := Move{Pass: Reduce, Chunk: c, Lo: lo, Hi: hi, From: rank - 1, To: -1}
		if rank < world-1 {
			m.To = rank + 1
		}
		reduce = append(reduce, m)
		if world == 1 {
			continue
		}
		b := Move{Pass: Broadcast, Chunk: c, Lo: lo, Hi: hi, From: rank - 1, To: -1}
		switch {
		case rank == world-1:
			b.From = -1 // the total is made here
			b.To = 0
		case rank == 0:
			b.From = world - 1
		}
		if rank < world-2 {
			b.To = rank + 1
		}
		broadcast = append(broadcast, b)
	}
	return reduce, broadcast
}

// cut leaves of the moves of one rank those that a bucket takes which only root
// has: from it on to the last rank, and from there round to the one before it.
func cut(reduce, broadcast []Move, rank, root int) ([]Move, []Move) {
	for i := range reduce {
		if rank == root {
			reduce[i].From = -1
		}
	}
	for i := range broadcast {
		if broadcast[i].To == root {
			broadcast[i].To = -1
		}
	}
	switch {
	case rank < root:
		return nil, broadcast
	case root == 0 || len(broadcast) > 0 && broadcast[0].From >= 0: // nobody is left who has not got it, or it came the other way
		return reduce, nil
	}
	return reduce, broadcast // the last rank's
}
