package checkpoint

import (
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/vlaring/vlaring/internal/room"
)

// Space is the room on a disk.
type Space room.Space

// FreeSpace is the room on the disk that dir is on.
func FreeSpace(dir string) (Space, error) {
	s, err := room.Free(dir)
	return Space(s), err
}

// inodesOf a checkpoint in the making: two files, the manifest, the directory, latest.
const inodesOf = 5

// Takes says whether a checkpoint of so many bytes fits, as far as is known.
func (s Space) Takes(bytes int64) bool {
	return !s.Known || s.Bytes >= bytes && (!s.Counts || s.Inodes >= inodesOf)
}

// DiskError says that a checkpoint could not be put on the disk, and what to do
// about it. It wraps the system's error.
type DiskError struct {
	Step  uint64
	Dir   string
	Need  int64 // bytes of the whole checkpoint; 0: not known yet
	Space Space // of Dir's disk, when it was looked at
	Err   error
}

// kind is what is the matter with the disk, in words without numbers, and what
// helps; empty where it is none of the usual.
func (e *DiskError) kind() (what, help string) {
	need, free := sizeText(e.Need), sizeText(e.Space.Bytes)
	switch {
	case errors.Is(e.Err, syscall.ENOSPC) && e.Space.Known && e.Space.Counts && e.Space.Inodes < inodesOf:
		return "has no inodes left", fmt.Sprintf("%d of them are free, and %s (df -i shows it): remove files, however small", e.Space.Inodes, free)
	case errors.Is(e.Err, syscall.EDQUOT):
		return "is full: the quota of this user is used up", fmt.Sprintf("%s are needed: remove files of this user, or have the quota raised", need)
	case errors.Is(e.Err, syscall.ENOSPC) && !e.Space.Known:
		return "is full", fmt.Sprintf("%s are needed: make room", need)
	case errors.Is(e.Err, syscall.ENOSPC):
		return "is full", fmt.Sprintf("%s are needed and %s are free: make room for %s", need, free, sizeText(max(e.Need-e.Space.Bytes, 1)))
	case errors.Is(e.Err, syscall.EROFS):
		return "is read-only", "have it mounted for writing again"
	}
	return "", ""
}

func (e *DiskError) Error() string {
	what, help := e.kind()
	text := strings.ReplaceAll(fmt.Sprint(e.Err), "\n", "; ") // several may be joined
	if what == "" {
		return fmt.Sprintf("checkpoint of step %d: %s", e.Step, text)
	}
	return fmt.Sprintf("checkpoint of step %d: the disk %s: %s (%s); the checkpoints before it are untouched: %s", e.Step, what, help, e.Dir, text)
}

// Unwrap gives the system's error.
func (e *DiskError) Unwrap() error { return e.Err }

// Lasting is the same for errors of one lasting state, however often and at
// whichever step it shows; empty where nothing says that it lasts.
func (e *DiskError) Lasting() string {
	what, _ := e.kind()
	if what == "" {
		return ""
	}
	return "the disk of " + e.Dir + " " + what
}

// sizeText is a number of bytes for people.
func sizeText(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	x, i := float64(n)/unit, 0
	for ; x >= unit && i < 4; i++ {
		x /= unit
	}
	return fmt.Sprintf("%.1f %ciB", x, "KMGTP"[i])
}

// Room is a *DiskError where a checkpoint of so many bytes cannot fit: asked
// before it is fetched from anywhere.
func (d *Disk) Room(step uint64, bytes int64) error {
	d.need.Store(bytes)
	s, err := d.fs.Space(d.dir)
	if err != nil || s.Takes(bytes) { // where the system says nothing, writing will
		return nil
	}
	return &DiskError{step, d.dir, bytes, s, syscall.ENOSPC}
}
