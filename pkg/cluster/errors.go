package cluster

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/vlaring/vlaring/internal/limits"
)

// ErrNoResponder is in the error of Bus.Request where the subject has no subscriber.
var ErrNoResponder = errors.New("nobody listens")

// ErrRefused is in the error of a connection whose server does not take the credentials:
// at once when it is first made, and later on once they have been refused for a while.
var ErrRefused = errors.New("the server refuses these credentials")

// errTooManyOffers is why a checkpoint is given up whose fetch would have to wait
// for many others.
var errTooManyOffers = errors.New("too many snapshots are waiting for the disk")

// RefusedError is a coordinator's refusal to take a worker, in its words. To ask
// again is of no use, unless it Passes.
type RefusedError struct {
	Reason string
	Passes bool // there is no place for it now
}

func (e *RefusedError) Error() string { return "the coordinator refused this worker: " + e.Reason }

// ValidName says whether s can be a token of a subject: 1 to limits.Name letters,
// digits, '-' and '_'. what says in the error what s names.
func ValidName(what, s string) error {
	if !limits.IsName(s) {
		return fmt.Errorf("%s %.80q: want 1 to %d letters, digits, '-' or '_'", what, s, limits.Name)
	}
	return nil
}

// CoordinatorName is what the coordinator is called among the members of its job,
// on every transport. No worker has that id.
const CoordinatorName = "coordinator"

// ValidID says whether a worker can have an id, by which ranks are ordered: any
// valid name but the coordinator's own.
func ValidID(id string) error {
	if id == CoordinatorName {
		return fmt.Errorf("worker id %q: it is the coordinator's: choose another", id)
	}
	return ValidName("worker id", id)
}

// JobHash names what a job computes, by its text (job.Computation): workers of
// another one are not taken over.
func JobHash(yaml []byte) string {
	h := sha256.Sum256(yaml)
	return hex.EncodeToString(h[:8])
}

// UniqueID names a worker after its host, so that logs can be read, and at random.
func UniqueID(host string, pid int) string {
	clean := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' {
			return r
		}
		return '-'
	}, host)
	var b [4]byte
	rand.Read(b[:])
	return fmt.Sprintf("%.40s-%d-%s", clean, pid, hex.EncodeToString(b[:]))
}
