package cluster

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/vlaring/vlaring/internal/limits"
)

// ErrNoResponder is what Bus.Request returns where nobody subscribes to the subject.
var ErrNoResponder = errors.New("nobody listens")

var errTooManyOffers = errors.New("too many snapshots are waiting for the disk")

// RefusedError is a coordinator's refusal to take a worker, in its words.
type RefusedError struct{ Reason string }

func (e *RefusedError) Error() string { return "the coordinator refused this worker: " + e.Reason }

// ValidID says whether a worker id can stand in a subject and in the order of
// ranks: 1 to 64 letters, digits, '-' and '_'. The coordinator's own name is
// not for workers.
func ValidID(id string) error {
	if id == "coordinator" {
		return fmt.Errorf("worker id %q: it is the coordinator's: choose another", id)
	}
	if !limits.IsName(id) {
		return fmt.Errorf("worker id %.80q: want 1 to %d letters, digits, '-' or '_'", id, limits.Name)
	}
	return nil
}

// JobHash names what a job computes, by its text (job.Computation): workers of
// another one are not taken over.
func JobHash(yaml []byte) string {
	h := sha256.Sum256(yaml)
	return hex.EncodeToString(h[:8])
}
