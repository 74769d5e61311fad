// Package process sets up a command as a process of its own: how it ends when Go
// itself gives up, and how punctual its threads are.
package process

import (
	"os"
	"runtime/debug"
)

// CrashByAbort has panics on any goroutine, and the runtime's fatal errors, such
// as memory that is not to be had, end the process by SIGABRT after the trace.
// Nobody who has not asked for them, by GOTRACEBACK, gets core dumps from it.
func CrashByAbort() {
	if os.Getenv("GOTRACEBACK") != "" {
		return
	}
	noCoreDump()
	debug.SetTraceback("crash")
}
