package cli

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/vlaring/vlaring/internal/bench"
	"github.com/vlaring/vlaring/internal/plain"
	"github.com/vlaring/vlaring/pkg/train"
)

func newBenchRing() *cobra.Command {
	var f bench.RingOptions
	var asRank, asJSON bool
	d := train.Kinds().Default("vla", "tensors").Cluster
	c := &cobra.Command{
		Use:   "ring",
		Short: "Time the all-reduce of a gradient between processes, over each road",
		Long: `Time the all-reduce of one gradient between ranks that are processes of their own,
as workers are, over each road:

  shm      memory that the ranks share, as workers of one host do
  nats     a NATS broker in this process (--topology broker), or one more in each
           rank (mesh)
  direct   connections from rank to rank, without a broker between
  memory   goroutines of one process and no network: what the ring costs by itself

Every rank has one micro-gradient, or --micro-gradients of them: with --reduce exact the
ring folds each, with fast a rank folds its own before, which is not timed, as in a job
it goes on behind backward. --wire bf16 halves the bytes that are sent, with fast alone.

Numbers differ from round to round, and each rank compares every number of the sum: a
wrong one ends the command. Figures are medians over rounds after a warm-up.

--through starts each rank by another command, {} being its number: with --listen it
measures between hosts, on which this program must lie at the same path. What goes
between hosts is encrypted, as in a job; within one, without --listen, it is not.`,
		Example: "  coordinator bench ring\n  coordinator bench ring --road nats --topology broker,mesh --ranks 4 --bytes 64MiB\n" +
			"  coordinator bench ring --road nats,direct --reduce fast --wire float32,bf16 --micro-gradients 4\n" +
			"  coordinator bench ring --road nats,direct --topology mesh --listen 10.0.0.1 --through 'ssh node{}'",
		Args: exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			if asRank {
				return bench.ServeRank(c.Context(), c.InOrStdin(), c.OutOrStdout(), nil)
			}
			r, err := bench.Ring(c.Context(), f)
			if err != nil {
				return err
			}
			return answer(c, asJSON, r, func(out io.Writer) error { return printRing(out, r, f.Window) })
		},
	}
	fl := c.Flags()
	fl.StringSliceVar(&f.Roads, "road", []string{"shm", "nats"}, "shm, nats, direct, memory")
	fl.StringSliceVar(&f.Topologies, "topology", []string{"broker"}, "of nats: broker, mesh")
	fl.StringSliceVar(&f.Reduces, "reduce", []string{"exact"}, "exact, fast: as cluster.reduce")
	fl.StringSliceVar(&f.Wires, "wire", []string{"float32"}, "float32, bf16: as cluster.wire")
	fl.IntVar(&f.Micros, "micro-gradients", 1, "gradients of each rank that are summed")
	fl.IntSliceVar(&f.Ranks, "ranks", []int{2, 4}, "numbers of ranks")
	fl.StringSliceVar(&f.Sizes, "bytes", []string{"128MiB", "4KiB"}, "sizes of the gradient: a number, or one with KiB, MiB or GiB")
	fl.IntSliceVar(&f.Chunks, "chunk-bytes", []int{d.ChunkBytes}, "payload of a message, as cluster.chunk_bytes")
	fl.IntVar(&f.Window, "window-bytes", d.WindowBytes, "bytes in flight on a link, as cluster.window_bytes")
	fl.IntVar(&f.Bucket, "bucket-bytes", d.BucketBytes, "part of the gradient that is reduced at a time, as cluster.bucket_bytes; 0: as fits the gradient")
	fl.DurationVar(&f.Budget, "budget", 3*time.Second, "time for each row, at least five rounds")
	fl.StringVar(&f.Through, "through", "", "command that runs a rank, {} being its number: 'ssh node{}'")
	fl.StringVar(&f.Listen, "listen", "", "address on which the broker is reached by ranks elsewhere (default 127.0.0.1)")
	fl.BoolVar(&asJSON, "json", false, "print one JSON object")
	fl.BoolVar(&asRank, "as-rank", false, "be a rank: told what to do on standard input")
	fl.MarkHidden("as-rank")
	return c
}

func printRing(out io.Writer, r *bench.RingReport, window int) error {
	fmt.Fprintf(out, "%s; window %s\n\n", &r.Host, plain.Bytes(int64(window)))
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "ROAD\tRANKS\tBYTES\tCHUNK\tMS\tGB/s\tCPU s/GB\tOF SENT\tREPEATED\tSPURIOUS\t\n")
	for _, b := range r.Rows {
		rate, perGB, perSent := "-", "-", "-"
		if b.Bytes >= bench.LargeRing {
			rate = fmt.Sprintf("%.2f", b.Rate)
			if b.CPU > 0 {
				perGB = fmt.Sprintf("%.2f", b.PerGB)
			}
			if b.PerSent > 0 {
				perSent = fmt.Sprintf("%.2f", b.PerSent)
			}
		}
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%.3f\t%s\t%s\t%s\t%d\t%d\t\n", b.Way(), b.Ranks, plain.Bytes(int64(b.Bytes)), plain.Bytes(int64(b.Chunk)), b.MS, rate, perGB, perSent, b.Repeats, b.Vain)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprint(out, `
MS        median time of an all-reduce, until the last rank has the sum; of a few KiB: the latency
GB/s      algorithm bandwidth: bytes by that time
CPU s/GB  user and system seconds of all ranks and the broker for each GB (10⁹ bytes) of gradient
OF SENT   the same for each GB that a ring sends over its links, 2(N-1) times the gradient; over shm nothing is sent
REPEATED  frames that were sent again in the rounds that count
SPURIOUS  frames that came in two transmissions: one of them was sent for nothing
`)
	return err
}
