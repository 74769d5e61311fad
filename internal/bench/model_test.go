package bench

import (
	"math"
	"testing"
)

// sameFigure compares to one part in a million: sums of a few terms.
func sameFigure(t *testing.T, what string, got, want float64) {
	t.Helper()
	if !(math.Abs(got-want) <= 1e-6*math.Abs(want)) {
		t.Errorf("%s is %.9g, want %.9g", what, got, want)
	}
}

// ideal costs nothing but bytes on links.
var ideal = RoadCost{Chunk: 1}

// The bytes of the busiest link, counted by hand from what each host sends.
func TestModelBytes(t *testing.T) {
	for _, c := range []struct {
		hosts                                  int
		ring, broker, tree, exchange, twoLevel float64 // in gradients
	}{
		{2, 1, 2, 1, 1, 1},
		{4, 2, 6, 3, 1.5, 1.5}, // 2 levels of 2: 1 + 1/2
		{64, 2, 126, 3, 63. / 32, 63. / 32},
	} {
		l := links{Hosts: c.hosts, Rate: 1e9, Cores: 1}
		g := 1e9
		sameFigure(t, "ring", ideal.ring(l, g).Link, c.ring)
		sameFigure(t, "broker", ideal.broker(l, g).Link, c.broker)
		sameFigure(t, "tree", ideal.tree(l, g).Link, c.tree)
		sameFigure(t, "exchange", ideal.exchange(l, g).Link, c.exchange)
		sameFigure(t, "two levels", ideal.levels(l, g, group(c.hosts)).Link, c.twoLevel)
	}
}

// Two hosts at 1 Gbit/s with 104 MB: what the links allow, beside which docs/performance.md has measurements.
func TestModelLimits(t *testing.T) {
	gbit := 1e9 / 8
	sameFigure(t, "mesh of two", ideal.ring(links{Hosts: 2, Rate: gbit, Cores: 1}, 104e6).Link, 0.832)
	sameFigure(t, "broker, two", ideal.broker(links{Hosts: 2, Rate: gbit, Cores: 1}, 104e6).Link, 1.664)
	sameFigure(t, "mesh of four", ideal.ring(links{Hosts: 4, Rate: gbit, Cores: 1}, 104e6).Link, 1.664)
}

func TestModelTerms(t *testing.T) {
	c := RoadCost{Alpha: 1e-3, Message: 1e-4, Byte: 1e-9, Broker: 4e-10, Chunk: 1e6}
	l := links{Hosts: 5, Rate: 1e8, Wire: 2e-4, Cores: 2}
	// 8 hops, of latency, half a round trip, 10 ms on the link and 0.5 ms of two cores
	sameFigure(t, "latency", c.ring(l, 1e9).Latency, 8*(1e-3+1e-4+10e-3+0.5e-3))
	sameFigure(t, "the same through a broker: two links a hop", c.broker(l, 1e9).Latency, 8*(1e-3+2e-4+20e-3+0.5e-3))
	sameFigure(t, "processor time of a host", c.ring(l, 1e9).CPU, 1)
	sameFigure(t, "and of a broker", c.broker(l, 1e9).CPU, 1.6) // 8 GB of 0.4 s on two cores
	l.One = true
	sameFigure(t, "of all hosts on one machine", c.ring(l, 1e9).CPU, 4)
	l.One = false
	sameFigure(t, "one small gradient: its own bytes, no chunk", c.ring(l, 1000).Latency, 8*(1e-3+1e-4+1e-5+5e-7))
	sameFigure(t, "messages of an exchange", c.exchange(l, 1e6).CPU, (1.6e6*1e-9+8*1e-4)/2)

	if e := (estimate{1, 2, 3}); e.total() != 4 || e.bound() != "cpu" || (estimate{1, 2, 0}).bound() != "link" || (estimate{2, 1, 2}).bound() != "latency" {
		t.Errorf("total %v, bound %s", e.total(), e.bound())
	}
	for hosts, want := range map[int]int{2: 1, 8: 2, 64: 8, 512: 16, 7: 1} {
		if got := group(hosts); got != want {
			t.Errorf("groups of %d hosts are of %d, want %d", hosts, got, want)
		}
	}
	// at the last size that is mostly bytes latency is at most half, at the next more
	last := c.until(l, 1e9, 1<<20)
	half := func(n int) bool {
		e := c.ring(links{n, l.Rate, l.Wire, l.Cores, false}, 1e9)
		return e.Latency <= e.total()/2
	}
	if !half(last) || half(last+1) || last < 100 {
		t.Errorf("until %d hosts", last)
	}
}
