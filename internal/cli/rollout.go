package cli

import (
	"os/signal"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vlaring/vlaring/internal/machine"
	"github.com/vlaring/vlaring/internal/rollout"
	"github.com/vlaring/vlaring/internal/view"
	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/run"
)

func newRollout() *cobra.Command {
	var dir, weights, set string
	var asJSON bool
	var o rollout.Options
	c := &cobra.Command{
		Use:   "rollout --checkpoint DIR",
		Short: "Let a checkpoint act in the tabletop world, and count its successes",
		Long: `Close the loop: a checkpoint that was trained on data.kind tabletop acts in that
world, on tables that no training sees, and the share of episodes in which it does
what it is told is printed with its 95 % interval (Wilson), by task and in all.
docs/serving.md says what the world does and what success is.

The same checkpoint and seed give the same episodes to the last bit, on any CPU,
with any number of threads: the trace is their hash.

--policy expert is what the data's expert reaches, still and mean (the training
mean of the actions) are the floor.`,
		Example: "  coordinator rollout --checkpoint runs/tabletop --episodes 9 --out acts.gif\n  coordinator rollout --checkpoint runs/tabletop --policy expert --json",
		Args:    exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			m, err := loadWeights(dir, weights, set)
			if err != nil {
				return err
			}
			defer m.Close()
			ctx, cancel := signal.NotifyContext(c.Context(), endSignals()...)
			defer cancel()
			v := view.NewScan(c.ErrOrStderr(), "rolling out")
			o.Progress = func(done, all int) {
				v.Progress(data.Progress{Done: int64(done), Total: int64(all), Unit: "episodes"})
			}
			r, err := rollout.Run(ctx, m.Checkpoint, o)
			v.End()
			if ctx.Err() != nil {
				return run.ResumableError{Text: "stopped by Ctrl-C; the episodes so far are not counted"}
			}
			if err != nil {
				return err
			}
			sayWeights(c.ErrOrStderr(), m.Said())
			return answer(c, asJSON, r, words(r.Text))
		},
	}
	fl := c.Flags()
	fl.StringVar(&dir, "checkpoint", "", "checkpoint directory, or run directory")
	weightsFlag(c, &weights)
	fl.StringVar(&set, "data-set", "", "of a mixture: the set in whose world it acts")
	fl.IntVar(&o.Episodes, "episodes", 100, "episodes")
	fl.IntVar(&o.Execute, "execute", 0, "actions of an answer that are done before the next question; 0: half of a chunk")
	fl.Uint64Var(&o.Seed, "seed", 1, "of the episodes; none is one of training's, whatever the seeds")
	fl.StringVar(&o.Policy, "policy", rollout.Policies[0], "who acts: "+strings.Join(rollout.Policies, ", "))
	fl.StringVar(&o.Out, "out", "", "animated picture to draw the first nine episodes to (.png, .gif), or folder for one of each")
	threadsFlag(c, &o.Threads, machine.Threads(), "compute threads")
	fl.BoolVar(&asJSON, "json", false, "print one JSON object, with every episode")
	return c
}
