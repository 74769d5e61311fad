package cli

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/vlaring/vlaring/internal/access"
)

func newKeys() *cobra.Command {
	k := access.Keys{Now: time.Now()}
	c := &cobra.Command{
		Use:   "keys JOB ROLE:NAME …",
		Short: "Make a key for each worker, watcher and operator of a job, in place of one token for all",
		Long: `Make keys for the job of that name, and say what to put where.

A worker's key is for that one worker: with it nobody can act as the coordinator, as
another worker or in another job. A watcher's can ask how the job stands, an operator's
can stop and scale it as well. They follow from the token in DIR, which is made where
there is none; the coordinator is given that and needs no list of keys.`,
		Example: `  coordinator keys bridge worker:w0..w7 watcher:grafana operator:ops --for 720h
  coordinator keys bridge worker:w3 --revoke
  coordinator keys bridge worker:w0..w7 --server      # for a NATS server of your own`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("%s wants the name of the job\nusage: %s", c.CommandPath(), c.UseLine())
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			if c.Flags().Changed("for") && k.For == 0 { // 0 is for ever, which nobody means who says how long
				return usagef("--for 0: want how long the keys are good, as in 720h; leave it out for keys that end when they are revoked")
			}
			k.Job, k.Who = args[0], args[1:]
			text, err := access.Make(k)
			if err == nil {
				fmt.Fprintln(c.OutOrStdout(), text)
			}
			return err
		},
	}
	c.Flags().StringVar(&k.Dir, "dir", "keys", "folder of the token and the keys")
	c.Flags().DurationVar(&k.For, "for", 0, "how long the keys are good, e.g. 720h (default: until they are revoked)")
	c.Flags().BoolVar(&k.Server, "server", false, "for a NATS server of your own: also write what its configuration has to say")
	c.Flags().BoolVar(&k.Revoke, "revoke", false, "end the keys that those named have now")
	return c
}
