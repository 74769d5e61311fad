package allreduce

import (
	"fmt"
	"runtime"
	"time"
)

// Options tune a ring. None of them but Coding changes a bit of any sum.
type Options struct {
	ChunkBytes  int                                   // payload of a message; a multiple of 4, at most MaxPayload; default 512 KiB
	WindowBytes int                                   // most in flight on a link and pass; default 8 MiB, at least two chunks
	Patience    time.Duration                         // silence after which a peer is asked, before round trips are measured; default 250 ms
	Deadline    time.Duration                         // longest wait for one chunk or for credit; default 5 min
	Fold        func(dst, src []float32)              // dst += src; default plain Go
	Add         func(dst, x, y []float32)             // dst = x + y, the same sum as Fold's; default by Fold
	Coding      Coding                                // the same on all ranks
	Threads     int                                   // that each rank computes with: whether a host of ranks has cores to spare; default 1
	Cores       int                                   // that this rank and those of its host may run on together; default those of the machine
	Event       func(*FaultError)                     // told of each fault that a link mends; must not block
	Marked      func(step uint64, bucket int, m Mark) // told how far a reduction's buckets have come here, from whichever goroutine; must not block
}

// Mark is how far a bucket has come at this rank. Each comes once a bucket, in this order;
// a Solo has none, a Ring no Together, a HostRing no Total but the end of all.
type Mark int

const (
	Together Mark = iota // all ranks of this host have written it
	Folded               // this rank has folded what it folds of it, and handed it on
	Total                // its sum has come
)

func (o *Options) mark(step uint64, bucket int, m Mark) {
	if o.Marked != nil {
		o.Marked(step, bucket, m)
	}
}

func (o *Options) defaults() error {
	set := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	set(&o.ChunkBytes, 512<<10)
	set(&o.WindowBytes, 8<<20)
	set(&o.Threads, 1)
	set(&o.Cores, runtime.NumCPU())
	if o.ChunkBytes < 4 || o.ChunkBytes > MaxPayload || o.ChunkBytes%4 != 0 {
		return fmt.Errorf("chunk of %d bytes: want a multiple of 4, at most %d", o.ChunkBytes, MaxPayload)
	}
	if err := o.Coding.check(); err != nil {
		return err
	}
	if o.Patience == 0 {
		o.Patience = 250 * time.Millisecond
	}
	if o.Deadline == 0 {
		o.Deadline = 5 * time.Minute
	}
	if o.Fold == nil {
		o.Fold = func(dst, src []float32) {
			src = src[:len(dst)]
			for i := range dst {
				dst[i] += src[i]
			}
		}
	}
	if o.Add == nil {
		fold := o.Fold
		o.Add = func(dst, x, y []float32) {
			copy(dst, x)
			fold(dst, y)
		}
	}
	return nil
}
