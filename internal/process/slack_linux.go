package process

import (
	"os"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// slack is by how much the system may be late to wake a thread that sleeps for a
// time. No timer of a coordinator or a worker has to be exact to a millisecond; what
// comes over a wire or by a bell wakes at once.
const slack = time.Millisecond

// relaxedEnv tells a program that it has been started anew.
const relaxedEnv = "VLARING_RELAXED"

// RelaxTimers has all threads of this process, and of those that it starts, sleep
// with slack. Commands call it first, for it starts the program anew, with the same
// process id.
//
// Go's runtime has a thread (sysmon) that looks every 20 µs whether something has
// blocked, and Linux adds 50 by itself. Two workers on two cores leave none idle, so
// that each look takes the core from a kernel: dozens of times in a step of 8 ms,
// for more than a tenth of the processor time. Slack is a thread's own, and is
// passed on to the threads that it starts and through an exec. The thread of the runtime
// is there before main, so nothing but an exec reaches it.
//
// Where the system refuses either, all goes on as it was.
func RelaxTimers() {
	if _, is := os.LookupEnv(relaxedEnv); is { // started anew, or by one that was. Empty counts: what is behind an empty one is not read
		return
	}
	program, err := os.Executable()
	if err != nil {
		return
	}
	runtime.LockOSThread() // it is this thread that goes through the exec
	defer runtime.UnlockOSThread()
	if unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(slack), 0, 0, 0) == nil {
		_ = syscall.Exec(program, os.Args, append(os.Environ(), relaxedEnv+"=1"))
	}
}
