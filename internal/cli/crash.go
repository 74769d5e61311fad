package cli

import (
	"fmt"
	"io"
	"os"
	"runtime/debug"
)

// exitCrash is how a crash of Go's own ends, on Unix, as containers count it:
// 128 and SIGABRT. Go's default is 2, which here means a mistake in the command or
// the job file; whoever starts processes anew gives up on that one.
const exitCrash = 134

// crashByAbort has panics on any goroutine, and the runtime's fatal errors, such
// as memory that is not to be had, end the process by SIGABRT after the trace.
// Nobody who has not asked for them, by GOTRACEBACK, gets core dumps from it.
func crashByAbort() {
	if os.Getenv("GOTRACEBACK") != "" {
		return
	}
	noCoreDump()
	debug.SetTraceback("crash")
}

// crashed tells of a panic in the command itself, which ends it like any other failure.
func crashed(stderr io.Writer, name string, p any) int {
	fmt.Fprintf(stderr, "%s: a fault in this program, which should be reported: %v\n%s", name, p, debug.Stack())
	return exitFailed
}
