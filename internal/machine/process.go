package machine

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"syscall"
)

// Running says whether a process of this machine runs: not one that has ended
// and waits for its parent to ask, which may be long for an orphan.
func Running(pid int) bool {
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)) // PID (COMMAND) STATE …
	i := bytes.LastIndexByte(stat, ')')
	if err != nil || i < 0 || i+2 >= len(stat) {
		return true // a system without this file
	}
	return stat[i+2] != 'Z' && stat[i+2] != 'X'
}
