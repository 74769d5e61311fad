package cli

import (
	"context"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/vlaring/vlaring/pkg/allreduce"
	"github.com/vlaring/vlaring/pkg/job"
)

// ringRow is the all-reduce of one size over one road.
type ringRow struct {
	Road     string  `json:"road"`               // shm, nats, memory
	Topology string  `json:"topology,omitempty"` // of nats: broker, mesh
	Ranks    int     `json:"ranks"`
	Bytes    int     `json:"bytes"`
	Chunk    int     `json:"chunk_bytes"`
	Runs     int     `json:"runs"`
	MS       float64 `json:"ms"`                     // median over the rounds, of the slowest rank
	Rate     float64 `json:"alg_gb_s"`               // bytes by the time
	CPU      float64 `json:"cpu_s"`                  // of one all-reduce, all ranks and the broker; 0: it cannot be told
	Broker   float64 `json:"broker_cpu_s,omitempty"` // the part of that of the one broker, or of the mesh's that no rank has
	PerGB    float64 `json:"cpu_s_per_gb,omitempty"`
	PerSent  float64 `json:"cpu_s_per_gb_sent,omitempty"` // of the 2(N-1)·bytes that a ring sends
	Repeats  uint64  `json:"repeated_frames"`
}

type ringReport struct {
	hostNote
	Rows []ringRow `json:"rows"`
}

// largeRing is the size from which CPU time is of the bytes and not of the messages.
const largeRing = 1 << 20

// ringFlags choose what bench ring measures.
type ringFlags struct {
	roads, topologies []string
	ranks, chunks     []int
	sizes             []string
	window, bucket    int
	budget            time.Duration
	through, listen   string
	asJSON            bool

	bytes []int // sizes, in bytes
}

func newBenchRing() *cobra.Command {
	var f ringFlags
	var asRank bool
	d := job.Default("vla", "tensors").Cluster
	c := &cobra.Command{
		Use:   "ring",
		Short: "Time the all-reduce of a gradient between processes, over each road",
		Long: `Time the all-reduce of one gradient between ranks that are processes of their own,
as workers are, over each road:

  shm      memory that the ranks share, as workers of one host do
  nats     a NATS broker in this process (--topology broker), or one more in each
           rank (mesh)
  memory   goroutines of one process and no network: what the ring costs by itself

Every rank has one micro-gradient. Its numbers differ from round to round, and each
rank compares every number of the sum: a wrong one ends the command. Figures are
medians over rounds after a warm-up.

--through starts each rank by another command, {} being its number: with --listen it
measures between hosts, on which this program must lie at the same path.`,
		Example: "  coordinator bench ring\n  coordinator bench ring --road nats --topology broker,mesh --ranks 4 --bytes 64MiB\n" +
			"  coordinator bench ring --road nats --topology mesh --listen 10.0.0.1 --through 'ssh node{}'",
		Args: exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			if asRank {
				return serveRank(c.Context(), c.InOrStdin(), c.OutOrStdout(), nil)
			}
			if err := f.check(); err != nil {
				return err
			}
			r, err := f.measure(c.Context())
			if err != nil {
				return err
			}
			if f.asJSON {
				return printJSON(c.OutOrStdout(), r)
			}
			return r.print(c.OutOrStdout(), f.window)
		},
	}
	fl := c.Flags()
	fl.StringSliceVar(&f.roads, "road", []string{"shm", "nats"}, "shm, nats, memory")
	fl.StringSliceVar(&f.topologies, "topology", []string{"broker"}, "of nats: broker, mesh")
	fl.IntSliceVar(&f.ranks, "ranks", []int{2, 4}, "numbers of ranks")
	fl.StringSliceVar(&f.sizes, "bytes", []string{"128MiB", "4KiB"}, "sizes of the gradient: a number, or one with KiB, MiB or GiB")
	fl.IntSliceVar(&f.chunks, "chunk-bytes", []int{d.ChunkBytes}, "payload of a message, as cluster.chunk_bytes")
	fl.IntVar(&f.window, "window-bytes", d.WindowBytes, "bytes in flight on a link, as cluster.window_bytes")
	fl.IntVar(&f.bucket, "bucket-bytes", d.BucketBytes, "part of the gradient that is reduced at a time, as cluster.bucket_bytes; 0: as fits the gradient")
	fl.DurationVar(&f.budget, "budget", 3*time.Second, "time for each row, at least five rounds")
	fl.StringVar(&f.through, "through", "", "command that runs a rank, {} being its number: 'ssh node{}'")
	fl.StringVar(&f.listen, "listen", "", "address on which the broker is reached by ranks elsewhere (default 127.0.0.1)")
	fl.BoolVar(&f.asJSON, "json", false, "print one JSON object")
	fl.BoolVar(&asRank, "as-rank", false, "be a rank: told what to do on standard input")
	fl.MarkHidden("as-rank")
	return c
}

func (f *ringFlags) check() error {
	oneOf := func(flag string, l []string, of ...string) error {
		for _, v := range l {
			if !strings.Contains(" "+strings.Join(of, " ")+" ", " "+v+" ") || v == "" {
				return usagef("--%s %q: want %s", flag, v, strings.Join(of, ", "))
			}
		}
		if len(l) == 0 {
			return usagef("--%s: want %s", flag, strings.Join(of, ", "))
		}
		return nil
	}
	if err := oneOf("road", f.roads, "shm", "nats", "memory"); err != nil {
		return err
	}
	if err := oneOf("topology", f.topologies, "broker", "mesh"); err != nil {
		return err
	}
	for _, n := range f.ranks {
		if err := within("ranks", n, 1, 1024); err != nil {
			return err
		}
	}
	f.bytes = nil
	for _, s := range f.sizes {
		n, err := parseBytes(s)
		if err != nil || n < 4 || n > 4<<30 || n%4 != 0 {
			return usagef("--bytes %s: want a multiple of 4, up to 4GiB, as 4KiB, 128MiB or a plain number of bytes", s)
		}
		f.bytes = append(f.bytes, n)
	}
	if len(f.ranks) == 0 || len(f.bytes) == 0 || len(f.chunks) == 0 {
		return usagef("nothing to measure: --ranks, --bytes and --chunk-bytes want a value each")
	}
	for _, n := range f.chunks {
		if err := within("chunk-bytes", n, 4, allreduce.MaxPayload); err != nil {
			return err
		}
		if n%4 != 0 {
			return usagef("--chunk-bytes %d: want a multiple of 4", n)
		}
		if err := within("window-bytes", f.window, 2*n, 1<<30); err != nil {
			return err
		}
	}
	if err := within("bucket-bytes", f.bucket, 0, 4<<30); err != nil {
		return err
	}
	if f.bucket%4 != 0 {
		return usagef("--bucket-bytes %d: want a multiple of 4", f.bucket)
	}
	if f.budget < 0 {
		return usagef("--budget %v: want a duration of at least 0s", f.budget)
	}
	if f.through != "" && !strings.Contains(f.through, "{}") {
		return usagef("--through %q: want {} in it, which stands for the rank's number", f.through)
	}
	return nil
}

// parseBytes reads 4096, 4KiB, 128MiB or 1GiB.
func parseBytes(s string) (int, error) {
	number, shift := s, 0
	for i, unit := range []string{"KiB", "MiB", "GiB"} {
		if n, ok := strings.CutSuffix(s, unit); ok {
			number, shift = n, 10*(i+1)
		}
	}
	n, err := strconv.ParseUint(strings.TrimSpace(number), 10, 40)
	if err != nil || n > math.MaxInt>>shift {
		return 0, fmt.Errorf("%q is no size", s)
	}
	return int(n) << shift, nil
}

// measure takes every row, the ranks of each road being started anew.
func (f *ringFlags) measure(ctx context.Context) (*ringReport, error) {
	r := &ringReport{hostNote: newHostNote()}
	for _, road := range f.roads {
		topologies := []string{""}
		if road == "nats" {
			topologies = f.topologies
		}
		for _, topology := range topologies {
			for _, ranks := range f.ranks {
				for _, chunk := range f.chunks {
					rows, err := f.rows(ctx, ringRow{Road: road, Topology: topology, Ranks: ranks, Chunk: chunk})
					if err != nil {
						return nil, fmt.Errorf("%s, %d ranks: %w", strings.TrimSpace(road+" "+topology), ranks, err)
					}
					r.Rows = append(r.Rows, rows...)
				}
			}
		}
	}
	r.note()
	return r, nil
}

// rows measures all sizes with one set of ranks.
func (f *ringFlags) rows(ctx context.Context, what ringRow) (rows []ringRow, err error) {
	spec := rankSpec{Road: what.Road, World: what.Ranks, Sizes: f.bytes, Chunk: what.Chunk, Window: f.window, Bucket: f.bucket}
	l, err := startRanks(ctx, spec, what.Topology == topologyMesh, f.listen, f.through)
	if err != nil {
		return nil, err
	}
	defer l.stop()
	for _, n := range f.bytes {
		row := what
		row.Bytes = n
		if err := row.measure(l, f.budget); err != nil {
			return nil, fmt.Errorf("%s: %w", bytesText(int64(n)), err)
		}
		rows = append(rows, row)
	}
	return rows, nil
}

func (r *ringReport) print(out io.Writer, window int) error {
	fmt.Fprintf(out, "%s; window %s\n\n", &r.hostNote, bytesText(int64(window)))
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "ROAD\tRANKS\tBYTES\tCHUNK\tMS\tGB/s\tCPU s/GB\tOF SENT\tREPEATED\t\n")
	for _, b := range r.Rows {
		rate, perGB, perSent := "-", "-", "-"
		if b.Bytes >= largeRing {
			rate = fmt.Sprintf("%.2f", b.Rate)
			if b.CPU > 0 {
				perGB = fmt.Sprintf("%.2f", b.PerGB)
			}
			if b.PerSent > 0 {
				perSent = fmt.Sprintf("%.2f", b.PerSent)
			}
		}
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%.3f\t%s\t%s\t%s\t%d\t\n", strings.TrimSpace(b.Road+" "+b.Topology), b.Ranks, bytesText(int64(b.Bytes)), bytesText(int64(b.Chunk)), b.MS, rate, perGB, perSent, b.Repeats)
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
`)
	return err
}
