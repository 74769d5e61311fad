//go:build linux || darwin

package room

import (
	"os"
	"syscall"
)

// Free is the room on the disk that dir is on.
func Free(dir string) (Space, error) {
	var st syscall.Statfs_t
	for {
		if err := syscall.Statfs(dir, &st); err == nil {
			break
		} else if err != syscall.EINTR {
			return Space{}, &os.PathError{Op: "statfs", Path: dir, Err: err}
		}
	}
	if st.Blocks == 0 { // a file system that does not count
		return Space{}, nil
	}
	blocks := uint64(st.Bavail)
	if os.Geteuid() == 0 { // what is kept for root is its own
		blocks = uint64(st.Bfree)
	}
	return Space{Bytes: int64(blocks * uint64(st.Bsize)), Inodes: uint64(st.Ffree), Known: true, Counts: st.Files > 0}, nil
}
