package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vlaring/vlaring/internal/limits"
	"github.com/vlaring/vlaring/internal/plain"
	"github.com/vlaring/vlaring/pkg/checkpoint"
	"github.com/vlaring/vlaring/pkg/cluster"
	"github.com/vlaring/vlaring/pkg/run"
	"github.com/vlaring/vlaring/pkg/transport"
)

// controlFlags say which running job is meant: by its run directory, or by
// server and name.
type controlFlags struct {
	conn    connFlags
	job     string
	timeout time.Duration
	asJSON  bool
}

func (f *controlFlags) register(c *cobra.Command) {
	fl := c.Flags()
	fl.StringVar(&f.job, "job", "", "name of the job, with --nats")
	fl.DurationVar(&f.timeout, "timeout", 5*time.Second, "how long to wait for the coordinator")
	fl.BoolVar(&f.asJSON, "json", false, "print one JSON object")
	f.conn.register(c)
}

// ask puts q to the job of the run directory dir, or of the flags.
func (f *controlFlags) ask(c *cobra.Command, dir string, q cluster.Ask) error {
	creds, err := f.conn.credentials(func(text string) { fmt.Fprintln(c.ErrOrStderr(), text) })
	if err != nil {
		return err
	}
	url, job := f.conn.url, f.job
	switch {
	case dir != "":
		if ended, err := f.ended(c, dir, q); ended || err != nil {
			return err
		}
		a, err := run.ReadAddress(dir)
		switch {
		case errors.Is(err, os.ErrNotExist):
			return usagef("%s is not the directory of a run that goes on: it has no %s\ngive the directory that train was given by --run-dir, or --nats URL and --job NAME", dir, run.AddressFile)
		case err != nil:
			return err
		}
		url, job = a.URL, a.Job
		if a.Token != "" {
			creds.Token, creds.Key = a.Token, nil
			if creds.TLS.Name == "" && strings.HasPrefix(a.URL, "tls://") {
				creds.TLS.Name = a.Name
			}
		}
	case url == "" || job == "":
		return usagef("which job? give its run directory, or --nats URL and --job NAME")
	}
	ctx, cancel := context.WithTimeout(c.Context(), f.timeout)
	defer cancel()
	conn, err := transport.Of(url).Dial(ctx, url, creds, transport.Options{Job: job, Member: transport.AskMember})
	if err != nil {
		return died(dir, err)
	}
	defer conn.Close()
	b, err := cluster.AskJob(ctx, conn.Bus(), job, q)
	switch {
	case errors.Is(err, context.DeadlineExceeded) && c.Context().Err() == nil:
		return died(dir, fmt.Errorf("no coordinator of job %q answered within %v at %s: is the name right, and does the job run?", job, f.timeout, url))
	case err != nil:
		return err
	}
	if f.asJSON {
		fmt.Fprintf(c.OutOrStdout(), "%s\n", b)
		return nil
	}
	var s run.Status
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("the coordinator's status: %w", err)
	}
	_, err = fmt.Fprint(c.OutOrStdout(), s.Text())
	return err
}

// ended answers for the run of a directory that has come to its end, which
// nobody else does any more; it is false for one that goes on.
func (f *controlFlags) ended(c *cobra.Command, dir string, q cluster.Ask) (bool, error) {
	o, err := run.ReadOrigin(dir)
	if errors.Is(err, os.ErrNotExist) || err == nil && o.State == run.StateRunning {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	name := filepath.Base(dir)
	if a, err := run.ReadAddress(dir); err == nil {
		name = a.Job
	}
	text := fmt.Sprintf("the run in %s has ended: %s at step %d", dir, o.State, o.Step)
	if q.What == "scale" {
		return false, fmt.Errorf("%s: there is nothing to scale", text)
	}
	if f.asJSON {
		return true, printJSON(c.OutOrStdout(), map[string]any{"job": name, "phase": cluster.Ended.String(), "outcome": o.State, "step": o.Step, "workers": []run.WorkerStatus{}})
	}
	_, err = fmt.Fprintln(c.OutOrStdout(), text)
	return true, err
}

// died makes of a coordinator that cannot be reached one that has died, where
// nobody holds the lock of its run directory.
func died(dir string, err error) error {
	if dir == "" {
		return err
	}
	lock, lerr := checkpoint.LockRunDir(dir)
	if lerr != nil {
		return err
	}
	lock.Unlock()
	return fmt.Errorf("the coordinator of the run in %s has died, and its workers may live on: start it again with the command that it was started with (%w)", dir, err)
}

// runDirArg is argument i, if it is there.
func runDirArg(args []string, i int) string {
	if i < len(args) {
		return args[i]
	}
	return ""
}

func newStatus() *cobra.Command {
	var f controlFlags
	c := &cobra.Command{
		Use:     "status [RUN-DIR]",
		Short:   "Say where a running job stands",
		Example: "  coordinator status runs/tabletop\n  coordinator status --nats nats://head:4222 --job bridge --token-file token",
		Args:    upTo(1, "RUN-DIR"),
		RunE: func(c *cobra.Command, args []string) error {
			return f.ask(c, runDirArg(args, 0), cluster.Ask{What: "status"})
		},
	}
	f.register(c)
	return c
}

func newStop() *cobra.Command {
	var f controlFlags
	c := &cobra.Command{
		Use:   "stop [RUN-DIR]",
		Short: "Have a running job finish its step, store a checkpoint and end",
		Args:  upTo(1, "RUN-DIR"),
		RunE: func(c *cobra.Command, args []string) error {
			return f.ask(c, runDirArg(args, 0), cluster.Ask{What: "stop"})
		},
	}
	f.register(c)
	return c
}

func newScale() *cobra.Command {
	var f controlFlags
	c := &cobra.Command{
		Use:   "scale WORKERS [RUN-DIR]",
		Short: "Set how many workers a running job has",
		Long: `Set how many workers a running job has. Those beyond the number leave after the
step in progress, the highest ranks first; on the coordinator's machine missing
ones are started. The result of the job stays the same to the last bit. Workers
beyond the micro-batches of a step compute nothing, and the answer says so.`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) < 1 || len(args) > 2 {
				return usagef("%s wants WORKERS and perhaps RUN-DIR, and got %d argument(s)\nusage: %s", c.CommandPath(), len(args), c.UseLine())
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			n, err := strconv.Atoi(args[0])
			if len(args) == 2 && err != nil {
				if n, swapped := strconv.Atoi(args[1]); swapped == nil {
					return usagef("scale wants the number of workers first: coordinator scale %d %s", n, plain.ShellWord(args[0]))
				}
			}
			if err != nil || n < 1 || n > limits.Workers {
				return usagef("scale %q: want a number of workers, 1 to %d", args[0], limits.Workers)
			}
			return f.ask(c, runDirArg(args, 1), cluster.Ask{What: "scale", Workers: n})
		},
	}
	f.register(c)
	return c
}

// upTo allows at most n arguments.
func upTo(n int, name string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) > n {
			return usagef("%s wants at most one argument %s, and got %d\nusage: %s", c.CommandPath(), name, len(args), c.UseLine())
		}
		return nil
	}
}
