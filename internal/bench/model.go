package bench

import (
	"fmt"
	"math"

	"github.com/vlaring/vlaring/internal/plain"
)

// RoadCost is what the road between hosts costs, by the α-β model: a message
// costs its latency and, on each link, its bytes by the link's rate; and every
// byte costs processor time. All but Chunk comes out of bench ring.
//
//	time of a ring = 2(N-1)·(α + wire + chunk/rate)  +  max(bytes of the busiest link/rate, processor time/cores)
//	                 └ until the pipeline is full       └ what flows through it from then on
type RoadCost struct {
	Alpha   float64 `json:"alpha_s"`                         // of a message between two ranks of one host, in seconds
	Message float64 `json:"cpu_s_per_message"`               // processor time of a small message: sender, brokers and receiver
	Byte    float64 `json:"cpu_s_per_byte"`                  // and of a byte of a large one
	Broker  float64 `json:"broker_cpu_s_per_byte,omitempty"` // the part of it that falls on the one broker
	Chunk   float64 `json:"chunk_bytes"`                     // the unit in which bytes are passed on
}

// links is a cluster and what lies between its hosts.
type links struct {
	Hosts int
	Rate  float64 // bytes a second of a host's link, each way; +Inf: no limit
	Wire  float64 // seconds from one host to another and back, on top of α
	Cores float64 // of each host, that the road may use
	One   bool    // all hosts are name spaces of one machine, and share its cores
}

// estimate is a time and what it is made of, in seconds.
type estimate struct {
	Latency float64 // until the pipeline is full, or of messages that cannot overlap
	Link    float64 // bytes of the busiest link
	CPU     float64 // processor time of the busiest host
}

func (e estimate) total() float64 { return e.Latency + max(e.Link, e.CPU) }

// bound names what an estimate is mostly.
func (e estimate) bound() string {
	switch {
	case e.Latency >= max(e.Link, e.CPU):
		return "latency"
	case e.CPU > e.Link:
		return "cpu"
	}
	return "link"
}

// hop is the time of one chunk from host to host, through so many links.
func (c RoadCost) hop(l links, chunk, links float64) float64 {
	return c.Alpha + links*(l.Wire/2+chunk/l.Rate) + chunk*c.Byte/l.Cores
}

// share is the processor time of the busiest host, which has spent own, where
// all together spend all.
func (l links) share(own, all float64) float64 {
	if l.One {
		return all / l.Cores
	}
	return own / l.Cores
}

// ring is our chain of left folds from host to host, and the total's way round:
// every link carries the gradient twice, but that two hosts need it once.
func (c RoadCost) ring(l links, bytes float64) estimate {
	n := float64(l.Hosts)
	chunk, out := min(c.Chunk, bytes), 2*bytes
	if l.Hosts == 2 {
		out = bytes
	}
	return estimate{2 * (n - 1) * c.hop(l, chunk, 1), out / l.Rate, l.share(out*c.Byte, 2*(n-1)*bytes*c.Byte)}
}

// broker is the same ring through one server, whose link carries all of it.
func (c RoadCost) broker(l links, bytes float64) estimate {
	n := float64(l.Hosts)
	chunk, all := min(c.Chunk, bytes), 2*(n-1)*bytes
	return estimate{2 * (n - 1) * c.hop(l, chunk, 2), all / l.Rate, l.share(max(all*c.Broker, 2*bytes*(c.Byte-c.Broker)), all*c.Byte)}
}

// tree reduces up a binary tree and sends the total down it: log₂ steps, and an
// inner host's link carries the gradient three times.
func (c RoadCost) tree(l links, bytes float64) estimate {
	n := float64(l.Hosts)
	depth := math.Ceil(math.Log2(n))
	out := min(3, n-1) * bytes
	return estimate{2 * depth * c.hop(l, min(c.Chunk, bytes), 1), out / l.Rate, l.share(out*c.Byte, 2*(n-1)*bytes*c.Byte)}
}

// exchange is reduce-scatter and all-gather between all pairs: each host sums
// its N-th of the gradient, which it gets from all, and sends it to all. Two
// steps, the fewest bytes, and 2(N-1) messages out of each host at the least.
func (c RoadCost) exchange(l links, bytes float64) estimate {
	n := float64(l.Hosts)
	part := bytes / n
	out := 2 * (n - 1) * part
	messages := 2 * (n - 1) * math.Ceil(part/c.Chunk)
	own := out*c.Byte + messages*c.Message
	return estimate{2 * c.hop(l, min(c.Chunk, part), 1), out / l.Rate, l.share(own, n*own)}
}

// levels is an exchange within groups of g hosts, and of each one's part between
// the groups: the bytes of an exchange, and g+N/g messages instead of N.
func (c RoadCost) levels(l links, bytes float64, g int) estimate {
	in, between := l, l
	in.Hosts, between.Hosts = g, l.Hosts/g
	a, b := c.exchange(in, bytes), c.exchange(between, bytes/float64(g))
	if l.One { // all groups at once on the same cores
		a.CPU *= float64(l.Hosts) / float64(in.Hosts)
		b.CPU *= float64(l.Hosts) / float64(between.Hosts)
	}
	return estimate{a.Latency + b.Latency, a.Link + b.Link, a.CPU + b.CPU}
}

// group is the divisor of hosts nearest to their square root.
func group(hosts int) int {
	g := int(math.Sqrt(float64(hosts)))
	for hosts%g != 0 {
		g--
	}
	return g
}

// until is the largest number of hosts up to most at which the ring is mostly
// bytes: at which latency is at most half of its time.
func (c RoadCost) until(l links, bytes float64, most int) int {
	for l.Hosts = most; l.Hosts > 2; l.Hosts-- {
		if e := c.ring(l, bytes); e.Latency <= max(e.Link, e.CPU) {
			break
		}
	}
	return l.Hosts
}

// way is how a row's bytes go between hosts, as the model knows it: broker, mesh,
// direct. It is empty where none do, and where they are not those of a plain
// ring: one gradient of each rank, in float32.
func (b *RingRow) way() string {
	switch {
	case b.Ranks < 2 || b.Micros > 1 || b.Reduce == "fast" || b.Wire == "bf16":
		return ""
	case b.Road == "direct":
		return b.Road
	case b.Road == "nats":
		return b.Topology
	}
	return ""
}

// fit takes the costs of a way between hosts out of what bench ring has measured:
// small messages for latency, large ones for bytes. It wants both sizes.
func fit(r *RingReport, way string) (c RoadCost, err error) {
	small, large := -1, -1 // of two ranks where there are such: less is shared by chance
	better := func(i, j int) bool { return j < 0 || r.Rows[i].Ranks < r.Rows[j].Ranks }
	for i, b := range r.Rows {
		switch {
		case b.way() != way:
		case b.Bytes >= LargeRing && (better(i, large) || b.Ranks == r.Rows[large].Ranks && b.Bytes > r.Rows[large].Bytes):
			large = i
		case b.Bytes <= 64<<10 && (better(i, small) || b.Ranks == r.Rows[small].Ranks && b.Bytes < r.Rows[small].Bytes):
			small = i
		}
	}
	if small < 0 || large < 0 {
		return c, fmt.Errorf("the model wants rows of --road nats --topology broker,mesh, of 1MiB or more and of 64KiB or less: of %s there are not both", way)
	}
	s, b := r.Rows[small], r.Rows[large]
	hops := func(b RingRow) float64 { return 2 * float64(b.Ranks-1) }
	c.Alpha, c.Message = s.MS/1e3/hops(s), s.CPU/hops(s)
	sent := hops(b) * float64(b.Bytes)
	c.Byte, c.Chunk = b.CPU/sent, float64(b.Chunk)
	if way == "broker" {
		c.Broker = b.Broker / sent
	}
	if !(c.Alpha > 0 && c.Byte > 0) {
		return c, fmt.Errorf("a ring of %s that takes %v ms and %v s of processor time is no measurement", plain.Bytes(int64(b.Bytes)), b.MS, b.CPU)
	}
	return c, nil
}

// memoryRate is the slowest bytes a second of ranks that share memory; 0 if
// none were measured.
func memoryRate(r *RingReport) (slowest float64) {
	for _, b := range r.Rows {
		if b.Road == "shm" && b.Bytes >= LargeRing && b.Ranks > 1 && (slowest == 0 || b.Rate < slowest) {
			slowest = b.Rate
		}
	}
	return 1e9 * slowest
}
