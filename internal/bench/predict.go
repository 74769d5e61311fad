package bench

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"time"

	"github.com/vlaring/vlaring/internal/usage"
)

// ModelRow is what the model says of one cluster and gradient, in seconds.
type ModelRow struct {
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

type ModelReport struct {
	Host
	Broker RoadCost     `json:"broker"`                    // what a message costs through one broker
	Mesh   RoadCost     `json:"mesh"`                      // and between those of a mesh
	Direct *RoadCost    `json:"direct,omitempty"`          // over direct connections, where that was measured
	Memory float64      `json:"shm_bytes_per_s,omitempty"` // within a host, of the slowest that was measured
	Wire   float64      `json:"wire_rtt_s"`
	Cores  int          `json:"cores_of_a_host"`
	Rows   []ModelRow   `json:"rows,omitempty"`
	Check  []ModelCheck `json:"check,omitempty"`
}

// ModelCheck is a measurement beside what the model says of it.
type ModelCheck struct {
	RingRow
	Gbps  float64 `json:"gbit_s"` // 0: no limit
	Model float64 `json:"model_ms"`
	Link  float64 `json:"link_ms,omitempty"` // what the busiest link needs for the bytes
	Bound string  `json:"bound"`
}

// ModelOptions say what is to be predicted, and from which measurement.
type ModelOptions struct {
	Ring  string        // file with a RingReport
	Check string        // another one, to be compared with the model instead of a prediction; empty: none
	Hosts []int         // numbers of hosts
	Gbps  []float64     // 10⁹ bits a second of a host's link, each way
	Sizes []string      // of the gradient, as parseBytes reads them
	RTT   time.Duration // of the wire between two hosts
	Cores int           // of a host that the road may use
}

// MostHosts bounds the search for the size at which the ring stops being right.
const MostHosts = 1 << 16

// Model reads what bench ring has measured and says what it means for larger
// clusters. What it refuses of its options is a usage.Error.
func Model(f ModelOptions) (*ModelReport, error) {
	if f.Ring == "" {
		return nil, usage.Errorf("--ring FILE is missing: write one with 'coordinator bench ring --topology broker,mesh --json > FILE'")
	}
	for _, n := range f.Hosts {
		if err := usage.Within("hosts", n, 2, MostHosts); err != nil {
			return nil, err
		}
	}
	for _, g := range f.Gbps {
		if !(g > 0 && g <= 1e6) && !(g == 0 && f.Check != "") {
			return nil, usage.Errorf("--gbps %v: want more than 0, up to 1000000", g)
		}
	}
	if f.Check != "" && len(f.Gbps) != 1 {
		return nil, usage.Errorf("--check wants one --gbps, the limit of the links, or 0 for none")
	}
	if f.RTT < 0 {
		return nil, usage.Errorf("--rtt %v: want a duration of at least 0s", f.RTT)
	}
	if err := usage.Within("cores", f.Cores, 1, 1<<12); err != nil {
		return nil, err
	}
	var sizes []float64
	for _, s := range f.Sizes {
		n, err := parseBytes(s)
		if err != nil || n < 4 {
			return nil, usage.Errorf("--bytes %s: want a size, as 128MiB or a plain number of bytes", s)
		}
		sizes = append(sizes, float64(n))
	}
	ring, err := readRing(f.Ring)
	if err != nil {
		return nil, err
	}
	r := &ModelReport{Host: ring.Host, Wire: f.RTT.Seconds(), Cores: f.Cores}
	r.Memory = memoryRate(ring)
	if r.Broker, err = fit(ring, "broker"); err == nil {
		r.Mesh, err = fit(ring, "mesh")
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Ring, err)
	}
	if c, err := fit(ring, "direct"); err == nil {
		r.Direct = &c
	}
	if f.Check != "" {
		check, err := readRing(f.Check)
		if err != nil {
			return nil, err
		}
		r.Check = compareRing(r, check, f.Gbps[0])
		if len(r.Check) == 0 {
			return nil, fmt.Errorf("%s: it has no row between two or more ranks, over nats or another way that --ring has", f.Check)
		}
		return r, nil
	}
	for _, bytes := range sizes {
		for _, g := range f.Gbps {
			for _, n := range f.Hosts {
				r.Rows = append(r.Rows, r.predict(links{Hosts: n, Rate: g * 1e9 / 8, Wire: r.Wire, Cores: float64(f.Cores)}, bytes))
			}
		}
	}
	return r, nil
}

func readRing(path string) (*RingReport, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var r RingReport
	if err := json.Unmarshal(b, &r); err != nil || len(r.Rows) == 0 {
		return nil, fmt.Errorf("%s is no report of 'coordinator bench ring --json'", path)
	}
	return &r, nil
}

func (r *ModelReport) predict(l links, bytes float64) ModelRow {
	n := float64(l.Hosts)
	c := r.Mesh
	ring := c.ring(l, bytes)
	return ModelRow{Bytes: bytes, Gbps: l.Rate * 8 / 1e9, Hosts: l.Hosts, Floor: 2 * (n - 1) / n * bytes / l.Rate,
		Ring: ring.total(), Bound: ring.bound(), Until: c.until(l, bytes, MostHosts), Broker: r.Broker.broker(l, bytes).total(),
		Tree: c.tree(l, bytes).total(), Exchange: c.exchange(l, bytes).total(), Levels: c.levels(l, bytes, group(l.Hosts)).total()}
}

// compareRing puts each measured row between hosts beside the model. Rate limits of
// name spaces add no wire; all share the machine's cores.
func compareRing(model *ModelReport, r *RingReport, gbps float64) (l []ModelCheck) {
	rate := gbps * 1e9 / 8
	if gbps == 0 {
		rate = math.Inf(1)
	}
	for _, b := range r.Rows {
		way := b.way()
		if way == "" || way == "direct" && model.Direct == nil {
			continue
		}
		at := links{Hosts: b.Ranks, Rate: rate, Cores: float64(r.Cores), One: true}
		var e estimate
		switch way {
		case "broker":
			e = model.Broker.broker(at, float64(b.Bytes))
		case "mesh":
			e = model.Mesh.ring(at, float64(b.Bytes))
		default:
			e = model.Direct.ring(at, float64(b.Bytes))
		}
		l = append(l, ModelCheck{b, gbps, 1e3 * e.total(), 1e3 * e.Link, e.bound()})
	}
	return l
}
