package run

import "syscall"

// lowPriority gives this thread what the others leave. Linux has priorities by
// thread; that of a process that may not is unchanged, which is no harm.
func lowPriority() { _ = syscall.Setpriority(syscall.PRIO_PROCESS, 0, 19) }
