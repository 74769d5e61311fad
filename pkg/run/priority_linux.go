package run

import "syscall"

// LowPriority gives this thread about a tenth of what others want. Linux has
// priorities by thread; that of a process that may not is unchanged, which is no
// harm. Least of all, 19, would be too low: the garbage collector waits for every
// thread to be given a moment, and with it the coordinator, which on a machine with
// ten processes a core was held up for seconds.
func LowPriority() { _ = syscall.Setpriority(syscall.PRIO_PROCESS, 0, 10) }
