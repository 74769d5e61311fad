package checkpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/vlaring/vlaring/internal/regular"
)

// lockFile is the file in the run directory that its user holds.
const lockFile = "lock"

// Lock is the right to write to a run directory.
type Lock struct {
	f   *os.File
	dir string
	was os.FileInfo // of dir
	fd  string      // where Linux names the open lock file
}

// holder is what a lock file says of the process that has it.
type holder struct {
	PID   int       `json:"pid"`
	Host  string    `json:"host"`
	Since time.Time `json:"since"`
}

// LockedError says who is using a run directory.
type LockedError struct {
	Dir   string
	PID   int // 0: unknown
	Host  string
	Since time.Time
}

func (e *LockedError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("run directory %s is in use by another process: wait for it, or choose another directory", e.Dir)
	}
	return fmt.Sprintf("run directory %s is in use by process %d on %s since %s: wait for it, stop it, or choose another directory",
		e.Dir, e.PID, e.Host, e.Since.Local().Format("2006-01-02 15:04:05"))
}

// errHeld is the platform's answer that someone else has the lock.
var errHeld = errors.New("held")

// LockRunDir takes the run directory dir for this process, without waiting; a
// *LockedError says who has it. The operating system drops the lock with the
// process, however that dies, so a stale one never blocks. Processes started
// meanwhile do not inherit it.
func LockRunDir(dir string) (*Lock, error) {
	path := filepath.Join(dir, lockFile)
	f, err := acquire(path)
	if errors.Is(err, errHeld) {
		e := &LockedError{Dir: dir}
		var h holder
		if b, err := readLock(path); err == nil && json.Unmarshal(b, &h) == nil {
			e.PID, e.Host, e.Since = h.PID, h.Host, h.Since
		}
		return nil, e
	}
	if err != nil {
		return nil, fmt.Errorf("locking run directory %s: %w", dir, err)
	}
	h := holder{PID: os.Getpid(), Since: time.Now().UTC().Truncate(time.Second)}
	h.Host, _ = os.Hostname() // for people; without it the line is still useful
	b, err := json.Marshal(h)
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = f.WriteAt(append(b, '\n'), 0)
	}
	if err != nil {
		release(f)
		return nil, fmt.Errorf("locking run directory %s: %w", dir, err)
	}
	was, err := os.Stat(dir)
	if err != nil {
		release(f)
		return nil, fmt.Errorf("locking run directory %s: %w", dir, err)
	}
	return &Lock{f, dir, was, fmt.Sprintf("/proc/self/fd/%d", f.Fd())}, nil
}

// MovedError says that the path of a run directory names another directory than
// the one that was locked, or none.
type MovedError struct {
	Dir string
	To  string // where the directory is now; empty: unknown
	Err error  // of looking at Dir; nil: there is another directory
}

func (e *MovedError) Error() string {
	what := "was moved, and another directory has its name"
	if e.Err != nil {
		what = "was moved or removed"
	}
	if e.To != "" {
		return fmt.Sprintf("the run directory %s %s while the run goes on; it is now %s: move it back", e.Dir, what, e.To)
	}
	return fmt.Sprintf("the run directory %s %s while the run goes on: move it back", e.Dir, what)
}

func (e *MovedError) Unwrap() error { return e.Err }

// Lasting is the same for one lasting state.
func (e *MovedError) Lasting() string { return e.Error() }

// Check is a *MovedError where the path of the directory does not name the one
// that was locked any more: what is written there would not be this run's.
func (l *Lock) Check() error {
	is, err := os.Stat(l.dir)
	if err == nil && os.SameFile(l.was, is) {
		return nil
	}
	e := &MovedError{Dir: l.dir, Err: err}
	if to, err := os.Readlink(l.fd); err == nil && !strings.HasSuffix(to, " (deleted)") {
		e.To = filepath.Dir(to)
	}
	return e
}

// Unlock gives the directory back. A second call does nothing.
func (l *Lock) Unlock() error {
	if l.f == nil {
		return nil
	}
	f := l.f
	l.f = nil
	f.Truncate(0) // who had it is nobody's business now; the lock itself is what counts
	return release(f)
}

func readLock(path string) ([]byte, error) {
	f, _, err := regular.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, 4096))
}
