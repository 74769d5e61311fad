//go:build amd64 && !noasm

package kernel

import (
	"fmt"
	"sync"
	"syscall"
)

// tilesAllowed asks the kernel, once, for the use of AMX's tiles: their 8 KiB of state are not saved for a process that did not ask.
// The permission holds for all threads and for children until they execute another program.
var tilesAllowed = sync.OnceValue(func() bool {
	const requestPermission, tileData = 0x1023, 18
	_, _, tilesRefused = syscall.RawSyscall(syscall.SYS_ARCH_PRCTL, requestPermission, tileData, 0)
	return tilesRefused == 0
})

// tilesRefused is the kernel's answer to tilesAllowed.
var tilesRefused syscall.Errno

// Refused is the error of a system that refuses tiles (AMX) which the CPU has; nil: there are none, or they may be used.
func Refused() error {
	if tilesRefused == 0 {
		return nil
	}
	return fmt.Errorf("the system refuses the use of AMX's tiles: %w", tilesRefused)
}
