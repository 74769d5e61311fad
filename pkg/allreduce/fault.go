package allreduce

import "fmt"

// FaultKind classes what can go wrong on a link.
type FaultKind int

const (
	FaultLost      FaultKind = iota // a gap in the sequence, lost or late; or the network refused a frame
	FaultDuplicate                  // a frame that was there already; dropped
	FaultCorrupt                    // a frame with a wrong checksum; dropped and sent again
	FaultStale                      // a frame of another generation; dropped
	FaultTimeout                    // a frame that did not come in time
	FaultProtocol                   // a frame that does not belong where it came
	faultKinds
)

func (k FaultKind) String() string {
	return [...]string{"lost", "duplicate", "corrupt", "stale", "timeout", "protocol"}[k]
}

// FaultError names a fault and where it was seen. The first four kinds are
// mended by the link and only reported to Options.Event; the last two end the
// operation.
type FaultError struct {
	Kind       FaultKind
	Peer       string // the member on the other side; empty if that is not known
	Rank       int    // its rank, or -1
	Generation uint64
	Step       uint64 // from 0
	Bucket     int
	Pass       Pass
	Chunk      int
	Detail     string
}

func (e *FaultError) Error() string {
	peer := fmt.Sprintf("rank %d (%s)", e.Rank, e.Peer)
	if e.Rank < 0 {
		peer = "an unknown rank"
	}
	return fmt.Sprintf("%s: %s: step %d, bucket %d, %s chunk %d, generation %d: %s", e.Kind, peer, e.Step+1, e.Bucket, e.Pass, e.Chunk, e.Generation, e.Detail)
}

// Stats counts what a ring did since it was made.
type Stats struct {
	BytesSent   uint64             // payload, without what was sent again
	Frames      uint64             // data frames sent, without repetitions
	Retransmits uint64             // data frames sent again
	Spurious    uint64             // data frames that came in two transmissions: one of them for nothing
	ByKind      [faultKinds]uint64 // faults seen
}

// Faults is the number of faults that links mended.
func (s Stats) Faults() uint64 {
	return s.ByKind[FaultLost] + s.ByKind[FaultDuplicate] + s.ByKind[FaultCorrupt] + s.ByKind[FaultStale]
}
