// Package shm gives the ranks of one host memory that all of them see, so that
// the fold reads a micro-gradient where backward wrote it: no byte of it is
// copied, and no broker carries it.
//
// Each process has a Segment: words that say how far it is, and slabs for
// gradients. The ranks of a generation on one host make a Team of their
// segments and of one more slab, the sum.
//
//	segment of rank 0   │ head │ words │ slab 0 │ slab 1 │ …      written by rank 0 alone, mapped by all
//	segment of rank 1   │ head │ words │ slab 0 │ …
//	sum                 │ one slab │                              written by the rank whose lane it is (allreduce.TeamRing)
//
// A segment is an anonymous file (memfd). It has no name that a crash could
// leave behind, and the size of /dev/shm, 64 MB in most containers, does not
// bound it: its pages count as memory of the process that wrote them. Peers get
// the file through a Unix socket in the abstract name space, whose name travels
// in Join and Assign messages over NATS. The kernel says who asks: another user
// is turned away. Two processes that cannot reach each other's socket, in
// containers with networks of their own or on another machine whatever its name
// says, find out there and then, and go over NATS.
//
// A file that has been handed out cannot shrink: it is sealed, so that no peer
// can be killed by a page that is gone. A rank that dies leaves its memory to
// those that map it. One that was taken for dead and comes back, after a
// freeze, writes into the sum of a generation that is over: each has its own.
package shm
