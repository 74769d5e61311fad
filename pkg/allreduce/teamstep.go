package allreduce

import "fmt"

// teamStep is one step as the ranks of a host see each other take it.
type teamStep struct {
	team    Team
	group   Group
	first   int // rank of the team's first
	lanes   int // ranks of the team that fold, the first ones
	step    uint64
	buckets []Range
	shards  []Shard // of a Gather, which buckets are the ranges of: each rank writes its own, all at once
}

// turn is a number for each reduction and each gathering, from 1.
func (s *teamStep) turn() uint64 {
	if s.shards != nil {
		return 2*s.step + 2
	}
	return 2*s.step + 1
}

// table is the first of the words that say where a rank's slabs are: behind one
// for each bucket that is written.
func (s *teamStep) table() int {
	if s.shards != nil {
		return wordReady + 1
	}
	return wordReady + len(s.buckets)
}

// publish says where this rank's micro-gradients are.
func (s *teamStep) publish(micro [][]float32) {
	if need := s.table() + len(micro); s.team.Words() < need {
		panic(fmt.Sprintf("allreduce: %d buckets and %d micro-gradients need %d words, the team has %d", len(s.buckets), len(micro), need, s.team.Words()))
	}
	for i, g := range micro {
		k, ok := s.team.Index(g)
		if !ok {
			panic(fmt.Sprintf("allreduce: micro-gradient %d is no slab of the team", i))
		}
		s.team.Store(s.table()+i, k)
	}
	s.team.Store(wordSlabs, uint64(len(micro)))
}

// barrier is something that every rank of a host has to do in a step. The last
// one to do it rings the bells: nobody can go on before, and a bell for each rank
// and each bucket would be the square of the ranks' number. It rings for those
// alone that wait for it, all for the sum and the lanes for a bucket, and of
// them for those that sleep: a rank says so before it looks for the last time
// whether it has to.
type barrier struct {
	s      *teamStep
	word   int // that has the turn in which a rank has done it
	bucket int
	what   string // that a rank did not do
}

func (s *teamStep) begun() barrier { return barrier{s, wordBegun, 0, "did not begin the step"} }

func (s *teamStep) written(bucket int) barrier {
	if s.shards != nil {
		return barrier{s, wordReady, 0, "did not write its shard"}
	}
	return barrier{s, wordReady + bucket, bucket, "did not write its gradient"}
}

func (s *teamStep) folded() barrier {
	return barrier{s, wordDone, len(s.buckets) - 1, "did not fold its part"}
}

// missing is the first rank that has yet to do it, or -1.
func (b barrier) missing() int {
	ranks := b.s.team.Len()
	if b.word == wordDone { // lanes alone
		ranks = b.s.lanes
	}
	for rank := range ranks {
		if b.s.team.Load(rank, b.word) < b.s.turn() {
			return rank
		}
	}
	return -1
}

// fault blames a rank for not having done it, if it is another than this one.
func (b barrier) fault(detail string) *FaultError {
	rank := b.missing()
	if rank < 0 || rank == b.s.team.Self() {
		return nil
	}
	return b.s.fault(FaultTimeout, rank, b.bucket, "it "+b.what+detail)
}

// reach says that this rank has done its part of b.
func (s *teamStep) reach(b barrier) {
	s.team.Store(b.word, s.turn())
	if b.missing() < 0 {
		n := s.lanes
		if b.word == wordDone {
			n = s.team.Len()
		}
		for rank := range n {
			if s.team.Load(rank, wordAsleep) != 0 { // perhaps this one's own, which another of its goroutines let sleep
				s.team.Bell(rank)
			}
		}
	}
}

// slabs are the micro-gradients of all ranks of the host, in the job's order.
func (s *teamStep) slabs() (all [][]float32, err error) {
	t := s.team
	for rank := range t.Len() {
		n := t.Load(rank, wordSlabs)
		if at := uint64(s.table()); n > uint64(t.Words())-at {
			return nil, s.fault(FaultProtocol, rank, 0, fmt.Sprintf("it says it has %d micro-gradients", n))
		}
		for i := range int(n) {
			g, err := t.Slab(rank, t.Load(rank, s.table()+i))
			if err != nil {
				return nil, s.fault(FaultProtocol, rank, 0, "its gradient cannot be read: "+err.Error())
			}
			all = append(all, g)
		}
	}
	if s.shards != nil && len(all) != t.Len() {
		return nil, s.fault(FaultProtocol, 0, 0, fmt.Sprintf("%d shards of %d ranks", len(all), t.Len()))
	}
	return all, nil
}

// raise publishes this rank's flags; seen by whoever sees that all buckets are
// written, if it comes before the last of these.
func (s *teamStep) raise(flags func() Flags) {
	var f Flags
	if flags != nil {
		f = flags()
	}
	s.team.Store(wordFlags, uint64(f))
}

// raised are the flags that any rank of the host raised.
func (s *teamStep) raised() (f Flags) {
	for rank := range s.team.Len() {
		f |= Flags(s.team.Load(rank, wordFlags))
	}
	return f
}

func (s *teamStep) fault(kind FaultKind, local, bucket int, detail string) *FaultError {
	rank := s.first + local
	return &FaultError{Kind: kind, Peer: s.group.Members[rank], Rank: rank, Generation: s.group.Generation, Step: s.step, Bucket: bucket, Pass: Reduce, Detail: detail}
}

// checklist notes which buckets a rank has said to be ready.
type checklist struct {
	ready []bool
	left  int
}

func newChecklist(n int) checklist { return checklist{make([]bool, n), n} }

// tick notes one, and says whether it is news, and the last.
func (c *checklist) tick(bucket int) (news, last bool) {
	if c.ready[bucket] {
		return false, false
	}
	c.ready[bucket] = true
	c.left--
	return true, c.left == 0
}
