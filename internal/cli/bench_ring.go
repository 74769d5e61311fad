package cli

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/vlaring/vlaring/pkg/allreduce"
	"github.com/vlaring/vlaring/pkg/natsbus"
	"github.com/vlaring/vlaring/pkg/tensor"
	"github.com/vlaring/vlaring/pkg/tensor/measure"
)

// ringBench is the all-reduce of one gradient over one network.
type ringBench struct {
	Network string  `json:"network"` // memory, nats
	World   int     `json:"world"`
	Chunk   int     `json:"chunk_bytes"`
	Runs    int     `json:"runs"`
	MS      float64 `json:"ms"`       // median
	Bus     float64 `json:"bus_gb_s"` // bytes·2(N-1)/N by the time
	Repeats uint64  `json:"repeated_frames"`
}

type ringReport struct {
	Cores int         `json:"cores"`
	Bytes int         `json:"bytes"`
	Rows  []ringBench `json:"rows"`
}

func newBenchRing() *cobra.Command {
	var networks []string
	var worlds, chunks []int
	var bytes, window int
	var budget time.Duration
	var asJSON bool
	c := &cobra.Command{
		Use:   "ring",
		Short: "Time the all-reduce over the in-memory network and over NATS on the loopback",
		Long: `Time the all-reduce of one gradient by world size and chunk size, over the
in-memory network and over an embedded NATS broker on the loopback. All ranks, and the
broker, are goroutines of this process and share its cores. Bus bandwidth is
bytes·2(N-1)/N by the time, as NCCL's and gloo's benchmarks count it.`,
		Example: "  coordinator bench ring\n  coordinator bench ring --networks nats --world 2 --bytes 138584092 --chunk-bytes 524288",
		Args:    exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			for _, n := range worlds {
				if err := within("world", n, 1, 64); err != nil {
					return err
				}
			}
			for _, n := range chunks {
				if err := within("chunk-bytes", n, 4, allreduce.MaxPayload); err != nil {
					return err
				}
				if n%4 != 0 {
					return usagef("--chunk-bytes %d: want a multiple of 4", n)
				}
				if err := within("window-bytes", window, 2*n, 1<<30); err != nil {
					return err
				}
			}
			if err := within("bytes", bytes, 4, 1<<30); err != nil {
				return err
			}
			for _, n := range networks {
				if n != "memory" && n != "nats" {
					return usagef("--networks %q: want memory or nats", n)
				}
			}
			if budget < 0 {
				return usagef("--budget %v: want a duration of at least 0s", budget)
			}
			r := ringReport{Cores: runtime.NumCPU(), Bytes: bytes / 4 * 4}
			for _, network := range networks {
				for _, world := range worlds {
					for _, chunk := range chunks {
						b := ringBench{Network: network, World: world, Chunk: chunk}
						if err := b.run(c.Context(), bytes/4, window, budget); err != nil {
							return fmt.Errorf("%s, %d ranks, chunks of %d bytes: %w", network, world, chunk, err)
						}
						r.Rows = append(r.Rows, b)
					}
				}
			}
			if asJSON {
				return printJSON(c.OutOrStdout(), r)
			}
			fmt.Fprintf(c.OutOrStdout(), "all-reduce of %s, %d core(s)\n\n", bytesText(int64(r.Bytes)), r.Cores)
			w := tabwriter.NewWriter(c.OutOrStdout(), 0, 4, 2, ' ', tabwriter.AlignRight)
			fmt.Fprintf(w, "NETWORK\tRANKS\tCHUNK\tMS\tBUS GB/s\tREPEATED FRAMES\t\n")
			for _, b := range r.Rows {
				fmt.Fprintf(w, "%s\t%d\t%s\t%.1f\t%.2f\t%d\t\n", b.Network, b.World, bytesText(int64(b.Chunk)), b.MS, b.Bus, b.Repeats)
			}
			return w.Flush()
		},
	}
	fl := c.Flags()
	fl.StringSliceVar(&networks, "networks", []string{"memory", "nats"}, "memory, nats")
	fl.IntSliceVar(&worlds, "world", []int{2, 4}, "ranks")
	fl.IntSliceVar(&chunks, "chunk-bytes", []int{256 << 10, 512 << 10, 1 << 20}, "payload of a message")
	fl.IntVar(&window, "window-bytes", 8<<20, "bytes in flight on a link")
	fl.IntVar(&bytes, "bytes", 64<<20, "size of the gradient")
	fl.DurationVar(&budget, "budget", 2*time.Second, "time for each row, at least three operations")
	fl.BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}

// run all-reduces over and over for the budget.
func (b *ringBench) run(ctx context.Context, elements, window int, budget time.Duration) (err error) {
	names := make([]string, b.World)
	bounds := make([]int, b.World+1)
	for r := range names {
		names[r], bounds[r+1] = fmt.Sprintf("w%d", r), r+1
	}
	nets, shut, err := b.open(ctx, names)
	defer shut()
	if err != nil {
		return err
	}
	rings := make([]*allreduce.Ring, b.World)
	micro, out := make([][]float32, b.World), make([][]float32, b.World)
	for r := range rings {
		rings[r], err = allreduce.NewRing(nets[r], allreduce.Group{Generation: 1, Rank: r, Members: names, Micro: bounds},
			allreduce.Options{ChunkBytes: b.Chunk, WindowBytes: window, Fold: tensor.Fold})
		if err != nil {
			return err
		}
		defer rings[r].Close()
		micro[r], out[r] = make([]float32, elements), make([]float32, elements)
		for i := range micro[r] {
			micro[r][i] = float32(r + 1)
		}
	}
	var took []float64
	begin := time.Now()
	for step := uint64(0); len(took) < 4 || time.Since(begin) < budget; step++ {
		at := time.Now()
		var wg sync.WaitGroup
		errs := make([]error, b.World)
		for r, ring := range rings {
			wg.Go(func() {
				op := ring.Begin(step, []allreduce.Range{{Lo: 0, Hi: elements}}, [][]float32{micro[r]}, out[r], nil)
				op.Ready(0)
				_, errs[r] = op.Wait(ctx)
			})
		}
		wg.Wait()
		took = append(took, time.Since(at).Seconds())
		for _, err := range errs {
			if err != nil {
				return err
			}
		}
	}
	want := float32(b.World * (b.World + 1) / 2)
	for r := range out {
		for _, i := range []int{0, elements / 2, elements - 1} {
			if out[r][i] != want {
				return fmt.Errorf("rank %d has %v for element %d; want %v", r, out[r][i], i, want)
			}
		}
		b.Repeats += rings[r].Stats().Retransmits
	}
	median := measure.Median(took[1:]) // the first touches the memory
	b.Runs, b.MS = len(took)-1, 1e3*median
	b.Bus = 4 * float64(elements) * 2 * float64(b.World-1) / float64(b.World) / median / 1e9
	return nil
}

// open joins the ranks by the network. shut must be called whatever comes back.
func (b *ringBench) open(ctx context.Context, names []string) (nets []allreduce.Network, shut func(), err error) {
	var closers []func()
	shut = func() {
		for i := len(closers) - 1; i >= 0; i-- {
			closers[i]()
		}
	}
	if b.Network == "memory" {
		hub := allreduce.NewMemNetwork(allreduce.Faults{})
		for _, n := range names {
			nets = append(nets, hub.Join(n))
		}
		return nets, shut, nil
	}
	broker, err := natsbus.StartBroker(natsbus.BrokerOptions{})
	if err != nil {
		return nil, shut, err
	}
	closers = append(closers, broker.Shutdown)
	for _, n := range names {
		conn, err := natsbus.Connect(ctx, broker.URL(), natsbus.Credentials{Token: broker.Token()}, natsbus.ConnOptions{Job: "bench", Member: n})
		if err != nil {
			return nil, shut, err
		}
		closers = append(closers, func() { conn.Close() })
		net, err := conn.Network()
		if err != nil {
			return nil, shut, err
		}
		nets = append(nets, net)
	}
	return nets, shut, nil
}
