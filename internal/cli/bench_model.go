package cli

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/vlaring/vlaring/internal/bench"
	"github.com/vlaring/vlaring/internal/plain"
)

func newBenchModel() *cobra.Command {
	var f bench.ModelOptions
	var asJSON bool
	c := &cobra.Command{
		Use:   "model --ring FILE",
		Short: "Predict the all-reduce between many hosts from what bench ring has measured",
		Long: `Predict the time of an all-reduce between many hosts: of our ring in a mesh and
through one broker, and of what could replace it. Latency, processor time and bytes
of a message come from a report of 'coordinator bench ring --json'; the links are given.

  RING      the ring of a mesh: 2(N-1) hops, each link carries the gradient twice
  BROKER    the same through one server, whose link carries all of it
  TREE      a binary tree up and down: log₂ N hops, a link carries it three times
  EXCHANGE  each host sums a part and sends it to all: two hops, N² streams
  2 LEVELS  an exchange within groups of about √N hosts, then between them
  FLOOR     2(N-1)/N of the gradient over a link: no all-reduce is faster

--check compares another report, of name spaces of this machine (test/hosts/model.sh),
with what the model says of it; --gbps is then the limit of their links, 0 for none.`,
		Example: "  coordinator bench ring --topology broker,mesh --json > ring.json\n  coordinator bench model --ring ring.json --hosts 8,64,512 --gbps 10",
		Args:    exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			r, err := bench.Model(f)
			if err != nil {
				return err
			}
			return answer(c, asJSON, r, func(out io.Writer) error { return printModel(out, r) })
		},
	}
	fl := c.Flags()
	fl.StringVar(&f.Ring, "ring", "", "report of 'coordinator bench ring --json'")
	fl.StringVar(&f.Check, "check", "", "another one, to be compared with the model")
	fl.IntSliceVar(&f.Hosts, "hosts", []int{8, 64, 512}, "numbers of hosts")
	fl.Float64SliceVar(&f.Gbps, "gbps", []float64{1, 10, 100}, "10⁹ bits a second of a host's link, each way")
	fl.StringSliceVar(&f.Sizes, "bytes", []string{"138584092", "4000000000"}, "sizes of the gradient in bytes: of the reference's model, and of 10⁹ parameters")
	fl.DurationVar(&f.RTT, "rtt", 100*time.Microsecond, "round trip of the wire between two hosts")
	fl.IntVar(&f.Cores, "cores", 2, "cores of a host that the road may use")
	fl.BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}

func printModel(out io.Writer, r *bench.ModelReport) error {
	fmt.Fprintf(out, "%s\n", &r.Host)
	for _, t := range []struct {
		name string
		cost *bench.RoadCost
	}{{"broker", &r.Broker}, {"mesh", &r.Mesh}, {"direct", r.Direct}} {
		c := t.cost
		if c == nil {
			continue
		}
		fmt.Fprintf(out, "%-6s  %.0f µs a message, %.0f µs of processor time; %.2f CPU-seconds a GB sent; chunks of %s\n", t.name, 1e6*c.Alpha, 1e6*c.Message, 1e9*c.Byte, plain.Bytes(int64(c.Chunk)))
	}
	if r.Memory > 0 {
		fmt.Fprintf(out, "shm     %.2f GB/s within a host, of the slowest measured\n", r.Memory/1e9)
	}
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', tabwriter.AlignRight)
	if len(r.Check) > 0 {
		fmt.Fprintf(w, "\nROAD\tHOSTS\tBYTES\tGBIT/s\tMEASURED MS\tMODEL MS\t/ MODEL\t/ LINK\tBOUND\tREPEATED\tSPURIOUS\t\n")
		for _, b := range r.Check {
			limit, link := fmt.Sprintf("%g", b.Gbps), fmt.Sprintf("%.2f", b.MS/b.Link)
			if b.Gbps == 0 {
				limit, link = "-", "-"
			}
			fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%.2f\t%.2f\t%.2f\t%s\t%s\t%d\t%d\t\n", b.Way(), b.Ranks, plain.Bytes(int64(b.Bytes)), limit, b.MS, b.Model, b.MS/b.Model, link, b.Bound, b.Repeats, b.Vain)
		}
		if err := w.Flush(); err != nil {
			return err
		}
		_, err := fmt.Fprint(out, "\n/ MODEL  measured by the model's time\n/ LINK   measured by the time that the busiest link needs for the bytes alone\n")
		return err
	}
	fmt.Fprintf(out, "wire: round trip of %v; %d core(s) of a host for the road; times in seconds\n", time.Duration(r.Wire*1e9), r.Cores)
	fmt.Fprintf(w, "\nBYTES\tGBIT/s\tHOSTS\tFLOOR\tRING\tBOUND\tUNTIL HOSTS\tBROKER\tTREE\tEXCHANGE\t2 LEVELS\t\n")
	for _, b := range r.Rows {
		until := fmt.Sprint(b.Until)
		if b.Until == bench.MostHosts {
			until = fmt.Sprintf(">%d", b.Until)
		}
		fmt.Fprintf(w, "%s\t%g\t%d\t%.3f\t%.3f\t%s\t%s\t%.3f\t%.3f\t%.3f\t%.3f\t\n", plain.Bytes(int64(b.Bytes)), b.Gbps, b.Hosts, b.Floor, b.Ring, b.Bound, until, b.Broker, b.Tree, b.Exchange, b.Levels)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprint(out, "\nBOUND        what most of RING's time is: link, cpu, or latency\nUNTIL HOSTS  up to which latency is at most half of RING\n")
	return err
}
