package page

import (
	"encoding/json"
	"maps"
	"math"
	"slices"
	"strconv"
)

// maxBuckets is how many points a curve has at most. When there are more, two by two
// become one: a curve of a million steps takes the memory of one of a thousand.
const maxBuckets = 2048

// curve holds the numbers of steps: exactly while there are few, and then as mean,
// least and greatest of so many steps each.
type curve struct {
	width   uint64   // steps of a bucket, a power of two
	spans   []span   // in order
	columns []column // by number of a key
	keys    []string
	number  map[string]int
	lines   int
	elapsed float64 // seconds of all steps so far
	newest  uint64  // step
}

// span is what a bucket holds: steps first to last, whose lines begin at off.
type span struct {
	first, last uint64
	off         int64
}

type column []cell // as long as spans, or shorter where the key came late or no more

type cell struct {
	n              uint32
	sum, low, high float64
}

func newCurve() *curve { return &curve{width: 1, number: map[string]int{}} }

// elapsedKey is the time that all steps up to one have taken, a series like others.
const elapsedKey = "elapsed"

// add takes the numbers of a step, whose line begins at off. A step that does not come
// behind the others is none.
func (c *curve) add(step uint64, off int64, pairs []pair) {
	if step <= c.newest {
		return
	}
	c.newest = step
	c.lines++
	if n := len(c.spans); n == 0 || (c.spans[n-1].first-1)/c.width != (step-1)/c.width {
		if n == maxBuckets {
			c.halve()
			c.newest = step - 1
			c.lines--
			c.add(step, off, pairs)
			return
		}
		c.spans = append(c.spans, span{step, step, off})
	}
	at := len(c.spans) - 1
	c.spans[at].last = step
	for _, p := range pairs {
		c.put(at, p.key, p.value)
		if p.key == "time.step" {
			c.elapsed += p.value
		}
	}
	c.put(at, elapsedKey, c.elapsed)
}

func (c *curve) put(at int, key string, v float64) {
	k, known := c.number[key]
	if !known {
		k = len(c.keys)
		c.number[key] = k
		c.keys = append(c.keys, key)
		c.columns = append(c.columns, nil)
	}
	for len(c.columns[k]) <= at {
		c.columns[k] = append(c.columns[k], cell{})
	}
	x := &c.columns[k][at]
	if x.n == 0 {
		x.low, x.high = v, v
	}
	x.n, x.sum, x.low, x.high = x.n+1, x.sum+v, min(x.low, v), max(x.high, v)
}

// halve makes one bucket of two that lie in the same one of twice the width.
func (c *curve) halve() {
	c.width *= 2
	to := -1
	for i, s := range c.spans {
		if to >= 0 && (c.spans[to].first-1)/c.width == (s.first-1)/c.width {
			c.spans[to].last = s.last
		} else {
			to++
			c.spans[to] = s
			for k := range c.columns {
				if to < len(c.columns[k]) && to != i {
					c.columns[k][to] = cell{}
				}
			}
		}
		if to == i {
			continue
		}
		for k, col := range c.columns {
			if i < len(col) {
				col[to].merge(col[i])
				c.columns[k] = col
			}
		}
	}
	c.spans = c.spans[:to+1]
	for k := range c.columns {
		c.columns[k] = c.columns[k][:min(len(c.columns[k]), to+1)]
	}
}

func (x *cell) merge(y cell) {
	switch {
	case y.n == 0:
	case x.n == 0:
		*x = y
	default:
		x.n, x.sum, x.low, x.high = x.n+y.n, x.sum+y.sum, min(x.low, y.low), max(x.high, y.high)
	}
}

// bytesOf is where in the file the lines of steps from to to lie.
func (c *curve) bytesOf(from, to uint64, end int64) (begin, stop int64) {
	stop = end
	i, _ := slices.BinarySearchFunc(c.spans, from, func(s span, step uint64) int {
		if s.last < step {
			return -1
		}
		return 1
	})
	if i == len(c.spans) {
		return end, end
	}
	for _, s := range c.spans[i:] {
		if s.first > to {
			stop = s.off
			break
		}
	}
	return c.spans[i].off, stop
}

// series is a curve for the page: a list of each of steps and values.
type series struct {
	Width uint64            `json:"width"`
	First []uint64          `json:"first"` // steps of each bucket, the first and the last
	Last  []uint64          `json:"last"`
	Keys  map[string]values `json:"keys"`
}

type values struct {
	Mean []number `json:"mean"`
	Low  []number `json:"low,omitempty"` // where a bucket holds several steps
	High []number `json:"high,omitempty"`
}

// number is a float that JSON has with seven digits, which is more than a screen
// shows, and null where it is none.
type number float64

func (n number) MarshalJSON() ([]byte, error) {
	f := float64(n)
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return []byte("null"), nil
	}
	return strconv.AppendFloat(nil, f, 'g', 7, 64), nil
}

var _ json.Marshaler = number(0)

// series are the buckets behind those up to step since, of the keys wanted, or of all.
func (c *curve) series(since uint64, wanted map[string]bool) series {
	from := 0
	for from < len(c.spans) && since > 0 && c.spans[from].last < since {
		from++
	}
	s := series{Width: c.width, First: []uint64{}, Last: []uint64{}, Keys: map[string]values{}}
	for _, x := range c.spans[from:] {
		s.First, s.Last = append(s.First, x.first), append(s.Last, x.last)
	}
	for k, key := range c.keys {
		if wanted != nil && !wanted[key] {
			continue
		}
		v := values{Mean: []number{}}
		for i := from; i < len(c.spans); i++ {
			mean, low, high := math.NaN(), math.NaN(), math.NaN()
			if i < len(c.columns[k]) && c.columns[k][i].n > 0 {
				x := c.columns[k][i]
				mean, low, high = x.sum/float64(x.n), x.low, x.high
			}
			v.Mean = append(v.Mean, number(mean))
			if c.width > 1 {
				v.Low, v.High = append(v.Low, number(low)), append(v.High, number(high))
			}
		}
		s.Keys[key] = v
	}
	return s
}

// names are the keys of a curve, sorted.
func (c *curve) names() []string { return slices.Sorted(maps.Keys(c.number)) }

// total is the sum of all that key has.
func (c *curve) total(key string) (sum float64) {
	if k, known := c.number[key]; known {
		for _, x := range c.columns[k] {
			sum += x.sum
		}
	}
	return sum
}
