package cli

import (
	"fmt"
	"os/signal"

	"github.com/spf13/cobra"

	"github.com/vlaring/vlaring/internal/page"
	"github.com/vlaring/vlaring/pkg/train"
)

func newUI() *cobra.Command {
	o := page.Options{Kinds: train.Kinds(), Scans: scanDir()}
	c := &cobra.Command{
		Use:   "ui DIR…",
		Short: "Show runs in a browser: curves, workers, checkpoints, held-out measures",
		Long: `Show the runs of run directories, or of folders of them, on a page of this machine:
curves, who took part when, where the time goes, held-out measures, checkpoints,
samples, and several runs beside each other. It reads files alone, and so shows
runs that go on, that have ended and that were copied from elsewhere.

The page is on this machine's own address. Under another one, as --listen
0.0.0.0:7007, whoever asks must show the key in the URL that is printed, and
what is sent is not encrypted: prefer ssh -L 7007:127.0.0.1:7007.`,
		Example: "  coordinator ui runs/\n  coordinator ui runs/tabletop /mnt/old/runs --listen 127.0.0.1:0",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("%s wants run directories, or folders of them: %s runs/", c.CommandPath(), c.CommandPath())
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			o.Dirs = args
			p, err := page.New(o)
			if err != nil {
				return err
			}
			ctx, cancel := signal.NotifyContext(c.Context(), endSignals()...)
			defer cancel()
			fmt.Fprintln(c.OutOrStdout(), p.URL())
			return p.Run(ctx)
		},
	}
	c.Flags().StringVar(&o.Listen, "listen", page.DefaultListen, "host:port of the page; port 0 is a free one")
	return c
}
