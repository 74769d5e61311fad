package natsbus

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/vlaring/vlaring/internal/regular"
)

// revocations are the keys that do not count any more: a file of lines
//
//	worker w0 2026-12-24T18:00:00Z
//
// each of which ends all keys of a role and name that were made up to a time. It
// is read again where it has changed.
type revocations struct {
	path string // empty: there are none

	mu    sync.Mutex
	read  time.Time // its modification time
	until map[[2]string]time.Time
	err   error
}

// Revocation is the line that ends all keys of a role and name made up to a time.
func Revocation(role Role, id string, until time.Time) string {
	return fmt.Sprintf("%s %s %s\n", role, id, until.UTC().Format(time.RFC3339))
}

// has says whether a key was revoked. A file that cannot be read revokes none
// that it did not revoke before; its error is err's.
func (r *revocations) has(k Key) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.load()
	until, ok := r.until[[2]string{string(k.Role), k.ID}]
	return ok && !k.Made.After(until)
}

// problem is why the file cannot be read.
func (r *revocations) problem() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.load()
	return r.err
}

func (r *revocations) load() {
	if r.path == "" {
		return
	}
	i, err := os.Stat(r.path)
	if errors.Is(err, fs.ErrNotExist) {
		r.until, r.read, r.err = nil, time.Time{}, nil
		return
	}
	if err == nil && i.ModTime().Equal(r.read) {
		return
	}
	b, err := regular.Read(r.path, 16<<20)
	if err != nil {
		r.err = err
		return
	}
	until := map[[2]string]time.Time{}
	for n, line := range strings.Split(string(b), "\n") {
		w := strings.Fields(line)
		if len(w) == 0 || strings.HasPrefix(w[0], "#") {
			continue
		}
		var at time.Time
		if len(w) == 3 {
			at, err = time.Parse(time.RFC3339, w[2])
		}
		if len(w) != 3 || err != nil {
			r.err = fmt.Errorf("%s, line %d: want ROLE NAME TIME, as in \"worker w0 2026-12-24T18:00:00Z\"", r.path, n+1)
			return
		}
		if who := [2]string{w[0], w[1]}; at.After(until[who]) {
			until[who] = at
		}
	}
	r.until, r.read, r.err = until, i.ModTime(), nil
}
