//go:build unix

package measure

import (
	"time"

	"golang.org/x/sys/unix"
)

// CPUTime is what all threads of this process have used so far; 0 where the
// system does not tell.
func CPUTime() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
