//go:build unix

package process

import "golang.org/x/sys/unix"

func noCoreDump() {
	var l unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_CORE, &l) == nil {
		l.Cur = 0
		unix.Setrlimit(unix.RLIMIT_CORE, &l)
	}
}
