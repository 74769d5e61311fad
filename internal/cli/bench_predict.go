package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
)

// modelRow is what the model says of one cluster and gradient, in seconds.
type modelRow struct {
	Bytes    float64 `json:"bytes"`
	Gbps     float64 `json:"gbit_s"`
	Hosts    int     `json:"hosts"`
	Floor    float64 `json:"floor_s"` // 2(N-1)/N·bytes over the link: no all-reduce is faster
	Ring     float64 `json:"ring_s"`  // in a mesh
	Bound    string  `json:"ring_bound"`
	Until    int     `json:"ring_until_hosts"` // up to which latency is at most half of the ring's time
	Broker   float64 `json:"broker_s"`
	Tree     float64 `json:"tree_s"`
	Exchange float64 `json:"exchange_s"`
	Levels   float64 `json:"two_levels_s"`
}

type modelReport struct {
	hostNote
	Broker roadCost     `json:"broker"`                    // what a message costs through one broker
	Mesh   roadCost     `json:"mesh"`                      // and between those of a mesh
	Memory float64      `json:"shm_bytes_per_s,omitempty"` // within a host, of the slowest that was measured
	Wire   float64      `json:"wire_rtt_s"`
	Cores  int          `json:"cores_of_a_host"`
	Rows   []modelRow   `json:"rows,omitempty"`
	Check  []modelCheck `json:"check,omitempty"`
}

// modelCheck is a measurement beside what the model says of it.
type modelCheck struct {
	ringRow
	Gbps  float64 `json:"gbit_s"` // 0: no limit
	Model float64 `json:"model_ms"`
	Link  float64 `json:"link_ms,omitempty"` // what the busiest link needs for the bytes
	Bound string  `json:"bound"`
}

type modelFlags struct {
	ring, check string
	hosts       []int
	gbps        []float64
	sizes       []string
	rtt         time.Duration
	cores       int
	asJSON      bool
}

// mostHosts bounds the search for the size at which the ring stops being right.
const mostHosts = 1 << 16

func newBenchModel() *cobra.Command {
	f := modelFlags{}
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

--check compares another report, of name spaces of this machine (test/hosts/ring.sh),
with what the model says of it; --gbps is then the limit of their links, 0 for none.`,
		Example: "  coordinator bench ring --topology broker,mesh --json > ring.json\n  coordinator bench model --ring ring.json --hosts 8,64,512 --gbps 10",
		Args:    exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			r, err := f.run()
			if err != nil {
				return err
			}
			if f.asJSON {
				return printJSON(c.OutOrStdout(), r)
			}
			return r.print(c.OutOrStdout())
		},
	}
	fl := c.Flags()
	fl.StringVar(&f.ring, "ring", "", "report of 'coordinator bench ring --json'")
	fl.StringVar(&f.check, "check", "", "another one, to be compared with the model")
	fl.IntSliceVar(&f.hosts, "hosts", []int{8, 64, 512}, "numbers of hosts")
	fl.Float64SliceVar(&f.gbps, "gbps", []float64{1, 10, 100}, "10⁹ bits a second of a host's link, each way")
	fl.StringSliceVar(&f.sizes, "bytes", []string{"138584092", "4000000000"}, "sizes of the gradient (default: the reference's model, and 10⁹ parameters)")
	fl.DurationVar(&f.rtt, "rtt", 100*time.Microsecond, "round trip of the wire between two hosts")
	fl.IntVar(&f.cores, "cores", 2, "cores of a host that the road may use")
	fl.BoolVar(&f.asJSON, "json", false, "print one JSON object")
	return c
}

func (f *modelFlags) run() (*modelReport, error) {
	if f.ring == "" {
		return nil, usagef("--ring FILE is missing: write one with 'coordinator bench ring --topology broker,mesh --json > FILE'")
	}
	for _, n := range f.hosts {
		if err := within("hosts", n, 2, mostHosts); err != nil {
			return nil, err
		}
	}
	for _, g := range f.gbps {
		if !(g > 0 && g <= 1e6) && !(g == 0 && f.check != "") {
			return nil, usagef("--gbps %v: want more than 0, up to 1000000", g)
		}
	}
	if f.check != "" && len(f.gbps) != 1 {
		return nil, usagef("--check wants one --gbps, the limit of the links, or 0 for none")
	}
	if f.rtt < 0 {
		return nil, usagef("--rtt %v: want a duration of at least 0s", f.rtt)
	}
	if err := within("cores", f.cores, 1, 1<<12); err != nil {
		return nil, err
	}
	var sizes []float64
	for _, s := range f.sizes {
		n, err := parseBytes(s)
		if err != nil || n < 4 {
			return nil, usagef("--bytes %s: want a size, as 128MiB or a plain number of bytes", s)
		}
		sizes = append(sizes, float64(n))
	}
	ring, err := readRing(f.ring)
	if err != nil {
		return nil, err
	}
	r := &modelReport{hostNote: ring.hostNote, Wire: f.rtt.Seconds(), Cores: f.cores}
	r.Memory = memoryRate(ring)
	if r.Broker, err = fit(ring, "broker"); err == nil {
		r.Mesh, err = fit(ring, topologyMesh)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.ring, err)
	}
	if f.check != "" {
		check, err := readRing(f.check)
		if err != nil {
			return nil, err
		}
		r.Check = compareRing(r, check, f.gbps[0])
		if len(r.Check) == 0 {
			return nil, fmt.Errorf("%s: it has no row over nats of two or more ranks", f.check)
		}
		return r, nil
	}
	for _, bytes := range sizes {
		for _, g := range f.gbps {
			for _, n := range f.hosts {
				r.Rows = append(r.Rows, r.predict(links{Hosts: n, Rate: g * 1e9 / 8, Wire: r.Wire, Cores: float64(f.cores)}, bytes))
			}
		}
	}
	return r, nil
}

func readRing(path string) (*ringReport, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var r ringReport
	if err := json.Unmarshal(b, &r); err != nil || len(r.Rows) == 0 {
		return nil, fmt.Errorf("%s is no report of 'coordinator bench ring --json'", path)
	}
	return &r, nil
}

func (r *modelReport) predict(l links, bytes float64) modelRow {
	n := float64(l.Hosts)
	c := r.Mesh
	ring := c.ring(l, bytes)
	return modelRow{Bytes: bytes, Gbps: l.Rate * 8 / 1e9, Hosts: l.Hosts, Floor: 2 * (n - 1) / n * bytes / l.Rate,
		Ring: ring.total(), Bound: ring.bound(), Until: c.until(l, bytes, mostHosts), Broker: r.Broker.broker(l, bytes).total(),
		Tree: c.tree(l, bytes).total(), Exchange: c.exchange(l, bytes).total(), Levels: c.levels(l, bytes, group(l.Hosts)).total()}
}

// compareRing puts each measured row over nats beside the model. Rate limits of
// name spaces add no wire; all share the machine's cores.
func compareRing(model *modelReport, r *ringReport, gbps float64) (l []modelCheck) {
	rate := gbps * 1e9 / 8
	if gbps == 0 {
		rate = math.Inf(1)
	}
	for _, b := range r.Rows {
		if b.Road != "nats" || b.Ranks < 2 {
			continue
		}
		at := links{Hosts: b.Ranks, Rate: rate, Cores: float64(r.Cores), One: true}
		var e estimate
		if b.Topology == "broker" {
			e = model.Broker.broker(at, float64(b.Bytes))
		} else {
			e = model.Mesh.ring(at, float64(b.Bytes))
		}
		l = append(l, modelCheck{b, gbps, 1e3 * e.total(), 1e3 * e.Link, e.bound()})
	}
	return l
}

func (r *modelReport) print(out io.Writer) error {
	fmt.Fprintf(out, "%s\n", &r.hostNote)
	for _, t := range []struct {
		name string
		cost roadCost
	}{{"broker", r.Broker}, {"mesh", r.Mesh}} {
		c := t.cost
		fmt.Fprintf(out, "%-6s  %.0f µs a message, %.0f µs of processor time; %.2f CPU-seconds a GB sent; chunks of %s\n", t.name, 1e6*c.Alpha, 1e6*c.Message, 1e9*c.Byte, bytesText(int64(c.Chunk)))
	}
	if r.Memory > 0 {
		fmt.Fprintf(out, "shm     %.2f GB/s within a host, of the slowest measured\n", r.Memory/1e9)
	}
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', tabwriter.AlignRight)
	if len(r.Check) > 0 {
		fmt.Fprintf(w, "\nTOPOLOGY\tHOSTS\tBYTES\tGBIT/s\tMEASURED MS\tMODEL MS\t/ MODEL\t/ LINK\tBOUND\tREPEATED\t\n")
		for _, b := range r.Check {
			limit, link := fmt.Sprintf("%g", b.Gbps), fmt.Sprintf("%.2f", b.MS/b.Link)
			if b.Gbps == 0 {
				limit, link = "-", "-"
			}
			fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%.2f\t%.2f\t%.2f\t%s\t%s\t%d\t\n", b.Topology, b.Ranks, bytesText(int64(b.Bytes)), limit, b.MS, b.Model, b.MS/b.Model, link, b.Bound, b.Repeats)
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
		if b.Until == mostHosts {
			until = fmt.Sprintf(">%d", b.Until)
		}
		fmt.Fprintf(w, "%s\t%g\t%d\t%.3f\t%.3f\t%s\t%s\t%.3f\t%.3f\t%.3f\t%.3f\t\n", bytesText(int64(b.Bytes)), b.Gbps, b.Hosts, b.Floor, b.Ring, b.Bound, until, b.Broker, b.Tree, b.Exchange, b.Levels)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprint(out, "\nBOUND        what most of RING's time is: link, cpu, or latency\nUNTIL HOSTS  up to which latency is at most half of RING\n")
	return err
}
