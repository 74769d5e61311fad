package cli

import (
	"github.com/spf13/cobra"

	"github.com/vlaring/vlaring/internal/view"
)

// logFlags registers the flags of every command that logs.
func logFlags(c *cobra.Command, l *view.Log) {
	c.Flags().StringVar(&l.Format, "log-format", "text", "text or json, on standard error")
	c.Flags().BoolVarP(&l.Verbose, "verbose", "v", false, "log decisions and timings too")
}
