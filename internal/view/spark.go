package view

import (
	"math"
	"strings"
)

// sparkWidth is how many columns a curve takes at most.
const sparkWidth = 40

// curve keeps a long row of values in few points: each is the mean of per of
// them, and when there are too many points they merge in pairs.
type curve struct {
	points []float64
	per    int // values a point; 0: one
	sum    float64
	n      int // values in sum
}

func (c *curve) add(x float64) {
	c.per = max(c.per, 1)
	c.sum, c.n = c.sum+x, c.n+1
	if c.n < c.per {
		return
	}
	c.points = append(c.points, c.sum/float64(c.n))
	c.sum, c.n = 0, 0
	if len(c.points) == 2*sparkWidth {
		for i := range sparkWidth {
			c.points[i] = (c.points[2*i] + c.points[2*i+1]) / 2
		}
		c.points, c.per = c.points[:sparkWidth], 2*c.per
	}
}

// spark draws the last values as a line of blocks between their least and largest.
func spark(l []float64) string {
	if len(l) > sparkWidth {
		l = l[len(l)-sparkWidth:]
	}
	lo, hi := math.Inf(1), math.Inf(-1)
	for _, x := range l {
		lo, hi = min(lo, x), max(hi, x)
	}
	var b strings.Builder
	for _, x := range l {
		i := 0
		if hi > lo {
			i = int((x - lo) / (hi - lo) * 7.999)
		}
		b.WriteRune([]rune("▁▂▃▄▅▆▇█")[i])
	}
	return b.String()
}
