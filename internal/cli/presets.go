package cli

import (
	"github.com/spf13/cobra"

	"github.com/vlaring/vlaring/internal/bench"
)

func newPresets() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "presets",
		Short: "List the model presets, with parameters, arithmetic and memory",
		Args:  exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			rows, err := bench.Presets()
			if err != nil {
				return err
			}
			return answer(c, asJSON, rows, words(rows.Text))
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON array")
	return c
}
