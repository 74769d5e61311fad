package cli

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/vlaring/vlaring/internal/access"
	"github.com/vlaring/vlaring/internal/chaos"
	"github.com/vlaring/vlaring/pkg/train"
)

func newChaos() *cobra.Command {
	var f chaos.Options
	var threads int
	var set []string
	var asJSON bool
	c := &cobra.Command{
		Use:   "chaos JOB.yaml",
		Short: "Train a job while killing, freezing and adding its processes, and compare the result",
		Long: `Train JOB.yaml once undisturbed, then again and again while its processes are
killed, frozen, added and restarted at random, and compare the weights: they must
be the same to the last bit. Every run is of real processes over a NATS broker of
its own.

Faults: worker killed (SIGKILL), worker frozen (SIGSTOP) for up to twice the
deadline, coordinator killed and started again, broker restarted, worker joined,
worker released, coordinator and a worker killed at once, all workers told to
leave (SIGTERM). In the table those that hit a worker from elsewhere, which no
coordinator had started, have lines of their own, and so have those that hit the
only worker: with it goes all state, and the job goes back to its newest
checkpoint. Told to leave, it stores that first.

In --dir each run has its directory, RUN.log with what its coordinators said, and
RUN.faults.jsonl with a line for each fault. However it ends, by Ctrl-C, an
error or SIGKILL, no process of it is left.
` + exitHelp,
		Example: `  coordinator chaos examples/tabletop.yaml --set train.steps=300 --faults 30
  coordinator chaos examples/tabletop.yaml --for 1h --faults 1000 --pace 3s`,
		Args: exactArgs("JOB.yaml"),
		RunE: func(c *cobra.Command, args []string) error {
			var err error
			if f.Job, err = train.Load(args[0], set); err != nil {
				return err
			}
			if f.Commands, err = chaosCommands(args[0], f.Job.Name, set, f.Workers, threads); err != nil {
				return err
			}
			f.Say = func(format string, a ...any) {
				if !asJSON {
					fmt.Fprintf(c.OutOrStdout(), format+"\n", a...)
				}
			}
			ctx, cancel := signal.NotifyContext(c.Context(), endSignals()...)
			defer cancel()
			outlivePipes()
			r, err := chaos.Run(ctx, f)
			if r == nil {
				return err
			}
			if !asJSON {
				fmt.Fprint(c.OutOrStdout(), r.Text())
			} else if e := printJSON(c.OutOrStdout(), r); err == nil {
				err = e
			}
			return err
		},
	}
	fl := c.Flags()
	fl.IntVar(&f.Faults, "faults", 20, "faults in all; runs are repeated until so many have been done")
	fl.DurationVar(&f.Limit, "for", 10*time.Minute, "begin no run after so long")
	fl.DurationVar(&f.Pace, "pace", 2*time.Second, "mean time between two faults")
	fl.Uint64Var(&f.Seed, "seed", 1, "of the choice of faults")
	fl.IntVar(&f.Workers, "workers", 3, "workers to begin with")
	threadsFlag(c, &threads, 1, "compute threads a worker")
	fl.StringVar(&f.Dir, "dir", "", "where the runs are kept (default: a temporary directory, removed if all is well)")
	fl.StringSliceVar(&f.Kinds, "kinds", nil, "faults to choose from, by name as in the table (default: all)")
	fl.StringArrayVar(&set, "set", nil, "override a value of the job file: key=value")
	fl.BoolVar(&asJSON, "json", false, "print one JSON object at the end")
	return c
}

// chaosCommands are those of this program that train the job of path.
func chaosCommands(path, name string, set []string, workers, threads int) (k chaos.Commands, err error) {
	self, err := os.Executable()
	if err != nil {
		return k, err
	}
	command := func(env []string, args ...string) *exec.Cmd {
		cmd := exec.Command(self, args...)
		cmd.Env = append(access.Without(os.Environ(), tokenEnv, childEnv), env...)
		return cmd
	}
	k.Coordinator = func(dir, url, token string) *exec.Cmd {
		args := []string{"train", path, "--json", "--run-dir", dir, "--workers", strconv.Itoa(workers), "--threads", strconv.Itoa(threads)}
		for _, s := range set {
			args = append(args, "--set", s)
		}
		if url == "" {
			return command(nil, args...)
		}
		return command([]string{tokenEnv + "=" + token}, append(args, "--nats", url, "--set", "cluster.topology=broker")...) // one that can be restarted
	}
	k.Worker = func(url, token, id, rescueDir string) *exec.Cmd {
		return command([]string{tokenEnv + "=" + token, childEnv + "=" + childOfServer}, "worker", "--nats", url, "--job", name, "--id", id, "--threads", strconv.Itoa(threads), "--rescue-dir", rescueDir)
	}
	k.Guard = func(mark string) *exec.Cmd { return exec.Command(self, "chaos-guard", mark) }
	return k, nil
}

// newChaosGuard is the command of the process that ends all others of a chaos
// that is gone.
func newChaosGuard() *cobra.Command {
	return &cobra.Command{Use: "chaos-guard MARK", Hidden: true, Args: exactArgs("MARK"), RunE: func(c *cobra.Command, args []string) error {
		signal.Ignore(endSignals()...)
		chaos.Guard(c.InOrStdin(), args[0])
		return nil
	}}
}
