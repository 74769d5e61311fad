// Package cli is both commands: flags become a configuration, the packages are
// wired together, errors become exit codes. It decides nothing about training.
package cli

import (
	"fmt"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// What the linker says of a release: tools/release.
var version, commit, date string

// Version is the program's version, as the build knows it.
func Version() string {
	if version != "" {
		return version
	}
	if b, ok := debug.ReadBuildInfo(); ok && b.Main.Version != "" {
		return b.Main.Version
	}
	return "(devel)"
}

// release is the version with what it was built of.
func release() string {
	if commit == "" {
		return Version()
	}
	return version + ", commit " + commit[:min(len(commit), 12)] + " of " + date
}

// NewCoordinator returns the coordinator command.
func NewCoordinator() *cobra.Command {
	c := &cobra.Command{
		Use:     "coordinator",
		Short:   "Train vision-language-action transformers on many processes",
		Long:    "Train vision-language-action transformers on many processes and machines: the same bits on any of them." + "\n" + exitHelp,
		Version: release(),
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				names := []string{}
				for _, sub := range c.Commands() {
					names = append(names, sub.Name())
				}
				return usagef("unknown command %q%s\nsee '%s --help'", args[0], didYouMean(args[0], names, ""), c.CommandPath())
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error { return c.Help() },
	}
	c.AddCommand(newTrain(), newEval(), newPredict(), newServe(), newStatus(), newStop(), newScale(), newChaos(), newChaosGuard(), newCheckpoint(), newPresets(), newWorker("worker", true),
		newShow(), newAttention(), newBench(), newCompare(), newData(), newUI(), newRollout())
	c.AddCommand(newAudit(), newRuns(), newKeys(), newVersion())
	c.InitDefaultHelpCmd()
	help, _, _ := c.Find([]string{"help"})
	help.Args = func(_ *cobra.Command, args []string) error { // cobra's own shows the whole program's help then, as if all were well
		if of, rest, _ := c.Find(args); of.HasSubCommands() && of.Args != nil {
			return of.Args(of, rest)
		}
		return nil
	}
	return c
}

// newVersion is --version as a word, which people type as often.
func newVersion() *cobra.Command {
	return &cobra.Command{Use: "version", Short: "Print the version, as --version does", Args: exactArgs(), RunE: func(c *cobra.Command, _ []string) error {
		_, err := fmt.Fprintf(c.OutOrStdout(), "%s version %s\n", c.Root().Name(), c.Root().Version)
		return err
	}}
}

// NewWorker returns the worker command.
func NewWorker() *cobra.Command {
	c := newWorker("worker", false)
	c.Version = release()
	c.AddCommand(newVersion())
	return c
}
