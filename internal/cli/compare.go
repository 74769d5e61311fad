package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/vlaring/vlaring/internal/compare"
	"github.com/vlaring/vlaring/internal/machine"
)

func newCompare() *cobra.Command {
	return group(&cobra.Command{Use: "compare", Short: "Measure what is claimed of architectures: RNN and CNN against transformers"},
		newComparison("rnn", "Compare an LSTM with a transformer: processing, long-range dependency, training speed, memory", `Train and time an LSTM and a transformer of the same width and nearly the same
number of parameters, and confirm or correct four claims: parallel speed-up
against the number of tokens; accuracy of recalling a token over a growing
distance; training speed; memory. A few minutes on two cores.`, compare.RNN),
		newComparison("cnn", "Compare a CNN with a vision transformer: inductive bias, receptive field, data hunger", `Train and probe a convolutional vision encoder and a vision transformer, and
confirm or correct three claims: inductive bias, by shapes moved from where
they stood in training; receptive field, by the footprint of the gradient;
data hunger, by the held-out error on the tabletop against the number of
training episodes. A few minutes on two cores.`, compare.CNN))
}

func newComparison(name, short, long string, run func(context.Context, compare.Options) (*compare.Report, error)) *cobra.Command {
	var threads int
	var quick, asJSON bool
	var out string
	c := &cobra.Command{
		Use:     name,
		Short:   short,
		Long:    long,
		Example: fmt.Sprintf("  coordinator compare %s\n  coordinator compare %s --out plots --json", name, name),
		Args:    exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			r, err := run(c.Context(), compare.Options{Threads: threads, Quick: quick, Log: func(what string) { fmt.Fprintln(c.ErrOrStderr(), what) }})
			if err != nil {
				return err
			}
			if out != "" {
				paths, err := r.Draw(out)
				if err != nil {
					return err
				}
				for _, p := range paths {
					fmt.Fprintln(c.ErrOrStderr(), "wrote", p)
				}
			}
			return answer(c, asJSON, r, words(r.Text))
		},
	}
	fl := c.Flags()
	threadsFlag(c, &threads, machine.Threads(), "compute threads")
	fl.BoolVar(&quick, "quick", false, "tiny sizes that only show that it runs")
	fl.StringVar(&out, "out", "", "directory for a PNG a claim")
	fl.BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}
