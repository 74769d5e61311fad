package features

import (
	"fmt"
	"os"
	"syscall"
	"time"
)

// hold says that this process uses f, until f is closed, by a shared lock: where the
// file system has none, nobody knows. Whoever asks (held) has the file for a moment.
func hold(f *os.File) {
	for range 100 {
		if lock(f, syscall.LOCK_SH) != syscall.EWOULDBLOCK {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// ours says why a folder is not this user's, or is open to all; nil: neither holds.
func ours(dir string) error {
	i, err := os.Stat(dir)
	if err != nil {
		return err
	}
	switch s, ok := i.Sys().(*syscall.Stat_t); {
	case ok && int(s.Uid) != os.Geteuid():
		return fmt.Errorf("%s belongs to another user, who could change what is kept", dir)
	case i.Mode().Perm()&0o002 != 0:
		return fmt.Errorf("every user can write to %s, and could change what is kept: chmod o-w %s", dir, dir)
	}
	return nil
}

// held says whether a process holds the file at path.
func held(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	return lock(f, syscall.LOCK_EX) == syscall.EWOULDBLOCK
}

func lock(f *os.File, how int) error {
	for {
		if err := syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB); err != syscall.EINTR {
			return err
		}
	}
}
