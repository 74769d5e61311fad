package cli

import (
	"encoding/json"
	"io"

	"github.com/spf13/cobra"
)

// answer prints what a command has found out: one JSON object for scripts, which
// ask for it by --json, or text for people.
func answer(c *cobra.Command, asJSON bool, v any, text func(out io.Writer) error) error {
	if asJSON {
		return printJSON(c.OutOrStdout(), v)
	}
	return text(c.OutOrStdout())
}

// words prints a text that is made all at once.
func words(text func() string) func(out io.Writer) error {
	return func(out io.Writer) error {
		_, err := io.WriteString(out, text())
		return err
	}
}

func printJSON(out io.Writer, v any) error { return json.NewEncoder(out).Encode(v) }
