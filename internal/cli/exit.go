package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/vlaring/vlaring/internal/audit"
	"github.com/vlaring/vlaring/internal/machine"
	"github.com/vlaring/vlaring/internal/plain"
	"github.com/vlaring/vlaring/internal/process"
	"github.com/vlaring/vlaring/internal/usage"
	"github.com/vlaring/vlaring/internal/view"
	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/run"
)

// Exit codes, the same for both commands.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
	exitResume = 3
	exitDiffer = 4
	exitCrash  = 134 // of Go's own, on Unix, as containers count it: 128 and SIGABRT. Its default, 2, is a mistake in the command here, which is not tried again
)

const exitHelp = `
Exit codes:
  0  done
  1  failed; the message says why
  2  wrong usage, or a mistake in the job file
  3  left before the last step: stopped, or released; a checkpoint to resume from is stored
  4  audit: the record does not hold
A crash of the program itself ends by SIGABRT (134), never with 2.`

func usagef(f string, args ...any) error { return usage.Errorf(f, args...) }

// exitCode is the one table from kinds of error to codes.
func exitCode(err error) int {
	var misuse usage.Error
	var bad *job.Error
	var key *data.KeyError
	var resume run.ResumableError
	var differs *audit.Difference
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &misuse), errors.As(err, &bad), errors.As(err, &key):
		return exitUsage
	case errors.As(err, &resume):
		return exitResume
	case errors.As(err, &differs):
		return exitDiffer
	}
	return exitFailed
}

// Main runs cmd and returns the process's exit code. Errors go to stderr once.
func Main(ctx context.Context, cmd *cobra.Command, args []string, stdout, stderr io.Writer) (code int) {
	process.CrashByAbort()
	machine.BoundHeap(0)
	defer func() {
		if p := recover(); p != nil {
			fmt.Fprintf(stderr, "%s: a fault in this program, which should be reported: %v\n%s", cmd.Name(), p, debug.Stack())
			code = exitFailed
		}
	}()
	cmd.SetArgs(args)
	out := &view.Told{W: stdout}
	cmd.SetOut(out)
	cmd.SetErr(stderr)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		if bad := (*pflag.InvalidValueError)(nil); errors.As(err, &bad) {
			err = usage.Unread(bad.GetFlag().Name, bad.GetValue(), bad.GetFlag().Value, bad.GetFlag().Value.Type(), bad.Unwrap())
		}
		return usagef("%w%s\nsee '%s --help'", err, meant(err, c), c.CommandPath())
	})
	err := cmd.ExecuteContext(ctx)
	if e := out.Err(); err == nil && e != nil {
		err = fmt.Errorf("not all of the output could be written: %w", e)
	}
	if err != nil {
		fmt.Fprintf(stderr, "%s: %s\n", cmd.Name(), plain.Text(err.Error())) // others named the files and members in it
	}
	return exitCode(err)
}

// meant ends the message about a flag that there is not: the one that is nearest, if it is near.
func meant(err error, c *cobra.Command) string {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) || len(unknown.GetSpecifiedName()) < 2 {
		return ""
	}
	var names []string
	add := func(f *pflag.Flag) { names = append(names, f.Name) }
	c.LocalFlags().VisitAll(add)
	c.InheritedFlags().VisitAll(add)
	return didYouMean(unknown.GetSpecifiedName(), names, "--")
}

func didYouMean(word string, known []string, dashes string) string {
	if near, ok := job.Nearest(word, known); ok {
		return ": did you mean " + dashes + near + "?"
	}
	return ""
}

// exactArgs is cobra.ExactArgs with our exit code and a message that says what is wanted.
func exactArgs(names ...string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(names) == 0 && len(args) > 0 { // often what is left of an option without its value
			return usagef("%s takes no arguments, and got %q\nusage: %s", c.CommandPath(), args, c.UseLine())
		}
		if len(args) != len(names) {
			return usagef("%s wants %d argument(s) %v, and got %d\nusage: %s", c.CommandPath(), len(names), names, len(args), c.UseLine())
		}
		return nil
	}
}
