package cli

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/vlaring/vlaring/internal/stored"
	"github.com/vlaring/vlaring/pkg/checkpoint"
)

func newCheckpoint() *cobra.Command {
	return group(&cobra.Command{Use: "checkpoint", Short: "List, show, verify, prune, upload and export checkpoints",
		Long: `List, show, verify, prune, upload and export checkpoints. A DIR may be an address
in an S3-compatible store, s3://BUCKET/PREFIX (docs/operations.md, Object stores).`},
		newCheckpointLs(), newCheckpointShow(), newCheckpointVerify(), newCheckpointPrune(), newCheckpointUpload(), newCheckpointExport())
}

func newCheckpointLs() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "ls RUN-DIR", Short: "List a run's checkpoints, oldest first", Args: exactArgs("RUN-DIR"),
		RunE: func(c *cobra.Command, args []string) error {
			list, err := stored.List(c.Context(), args[0])
			if err != nil {
				return err
			}
			return answer(c, asJSON, list, words(list.Text))
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON array")
	return c
}

func newCheckpointShow() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "show DIR", Short: "Show what a checkpoint holds", Args: exactArgs("DIR"),
		RunE: func(c *cobra.Command, args []string) error {
			shown, err := stored.Show(c.Context(), args[0], func(p checkpoint.Passed) { fmt.Fprintln(c.ErrOrStderr(), p) })
			if err != nil {
				return err
			}
			return answer(c, asJSON, shown.Manifest, shown.Text)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print the manifest as JSON")
	return c
}

func newCheckpointVerify() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "verify DIR", Short: "Read every byte of a checkpoint, or of all of a run, and say what is wrong", Args: exactArgs("DIR"),
		RunE: func(c *cobra.Command, args []string) error {
			return stored.Verify(c.Context(), args[0], func(rep checkpoint.Report) error {
				if asJSON {
					return json.NewEncoder(c.OutOrStdout()).Encode(rep)
				}
				fmt.Fprint(c.OutOrStdout(), stored.VerifyText(rep))
				return nil
			})
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a checkpoint")
	return c
}
