package cli

import (
	"github.com/spf13/cobra"

	"github.com/vlaring/vlaring/internal/audit"
	"github.com/vlaring/vlaring/internal/machine"
	"github.com/vlaring/vlaring/pkg/train"
)

func newAudit() *cobra.Command {
	o := audit.Options{Kinds: train.Kinds(), Scans: scanDir()}
	var asJSON bool
	c := &cobra.Command{
		Use:   "audit RUN --step K",
		Short: "Compute steps of a run again, and compare them with its record",
		Long: `Compute step K of a run again on this machine, from the checkpoint before it (or
from the job's first weights), and compare every step from there on with
metrics.jsonl: checksum of the weights, loss, gradient norm and learning rate, to
the last bit; where step K has a checkpoint, the SHA-256 of its weights, too. The
run may have been another machine's: copy its directory, and have its data here.

Exit codes: 0 the record holds, 4 it does not (the first step that differs is
named), 1 it cannot be checked; the message says what would help.`,
		Example: "  coordinator audit runs/tabletop --step 2500\n  coordinator audit runs/bridge --from-step 101 --step 200 --data /data/bridge --json",
		Args:    exactArgs("RUN"),
		RunE: func(c *cobra.Command, args []string) error {
			o.Dir = args[0]
			r, err := audit.Run(c.Context(), o)
			if err != nil {
				return err
			}
			if err := answer(c, asJSON, r, words(r.Text)); err != nil {
				return err
			}
			return r.Err()
		},
	}
	fl := c.Flags()
	fl.Uint64Var(&o.Step, "step", 0, "the step to check, counted from 1")
	fl.Uint64Var(&o.From, "from-step", 0, "begin at the checkpoint before this step (default: --step)")
	fl.StringVar(&o.Data, "data", "", "where the data is here (default: as in the job)")
	threadsFlag(c, &o.Threads, machine.Threads(), "compute threads")
	fl.BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}
