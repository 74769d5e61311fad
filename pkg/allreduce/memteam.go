package allreduce

import (
	"context"
	"fmt"
	"sync/atomic"
)

// memHost is what the teams of MemTeams share.
type memHost struct {
	words [][]atomic.Uint64
	slabs [][][]float32
	sum   []float32
	bells []chan struct{}
}

// MemTeam is a Team within one process, for tests.
type MemTeam struct {
	host *memHost
	self int
}

// MemTeams returns the n teams of one host, with slabs of floats elements each.
func MemTeams(n, words, slabs, floats int) []*MemTeam {
	h := &memHost{sum: make([]float32, floats)}
	var l []*MemTeam
	for i := range n {
		h.words = append(h.words, make([]atomic.Uint64, words))
		h.bells = append(h.bells, make(chan struct{}, 1))
		var own [][]float32
		for range slabs {
			own = append(own, make([]float32, floats))
		}
		h.slabs = append(h.slabs, own)
		l = append(l, &MemTeam{h, i})
	}
	return l
}

var _ Team = (*MemTeam)(nil)

func (t *MemTeam) Len() int                   { return len(t.host.words) }
func (t *MemTeam) Self() int                  { return t.self }
func (t *MemTeam) Words() int                 { return len(t.host.words[t.self]) }
func (t *MemTeam) Store(word int, v uint64)   { t.host.words[t.self][word].Store(v) }
func (t *MemTeam) Load(rank, word int) uint64 { return t.host.words[rank][word].Load() }
func (t *MemTeam) Sum() []float32             { return t.host.sum }
func (t *MemTeam) Close() error               { return nil }

// Own is one of this rank's slabs.
func (t *MemTeam) Own(i int) []float32 { return t.host.slabs[t.self][i] }

func (t *MemTeam) Index(slab []float32) (uint64, bool) {
	for i, s := range t.host.slabs[t.self] {
		if len(s) > 0 && len(slab) > 0 && &s[0] == &slab[0] {
			return uint64(i), true
		}
	}
	return 0, false
}

func (t *MemTeam) Slab(rank int, i uint64) ([]float32, error) {
	if l := t.host.slabs[rank]; i < uint64(len(l)) {
		return l[i], nil
	}
	return nil, fmt.Errorf("slab %d of %d", i, len(t.host.slabs[rank]))
}

func (t *MemTeam) Bell(rank int) {
	select {
	case t.host.bells[rank] <- struct{}{}:
	default:
	}
}

func (t *MemTeam) Wait(ctx context.Context) error {
	select {
	case <-t.host.bells[t.self]:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
