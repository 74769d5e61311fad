package features

import (
	"os"
	"syscall"
)

// hold says that this process uses f, until f is closed, by a shared lock: where the
// file system has none, nobody knows.
func hold(f *os.File) { lock(f, syscall.LOCK_SH) }

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
