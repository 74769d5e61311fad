package convert

import (
	"bytes"
	"image"
	"math"
	"slices"
	"strconv"
)

// pictureStride is how many frames of an episode lie between two whose pictures
// enter the statistics; the first does.
const pictureStride = 10

// statistics are what LeRobot keeps of a feature. Quantiles are of all values, and
// so for numbers those of the data itself.
type statistics struct {
	columns [][]float64     // of numbers, a list a dimension
	counts  *[3][256]uint64 // of pictures, values of each channel
	looked  int             // pictures
}

func (s *statistics) numbers(n numbers) {
	if s.columns == nil {
		s.columns = make([][]float64, n.len())
	}
	for i := range s.columns {
		v := 0.0
		if n.whole != nil {
			v = float64(n.whole[i])
		} else {
			v = float64(n.floats[i])
		}
		s.columns[i] = append(s.columns[i], v)
	}
}

func (s *statistics) picture(p photo) error {
	m := p.decoded
	if m == nil {
		var err error
		if m, _, err = image.Decode(bytes.NewReader(p.file)); err != nil {
			return err
		}
	}
	if s.counts == nil {
		s.counts = new([3][256]uint64)
	}
	s.looked++
	for y := m.Bounds().Min.Y; y < m.Bounds().Max.Y; y++ {
		for x := m.Bounds().Min.X; x < m.Bounds().Max.X; x++ {
			r, g, b, _ := m.At(x, y).RGBA()
			s.counts[0][r>>8]++
			s.counts[1][g>>8]++
			s.counts[2][b>>8]++
		}
	}
	return nil
}

// json is the statistics as meta/stats.json has them: a list a number, and
// [channels, 1, 1] of values from 0 to 1 for pictures.
func (s *statistics) json() map[string]any {
	out := map[string]any{}
	put := func(name string, of func(c int) float64) {
		if s.counts != nil {
			var l [3][1][1]float64
			for c := range l {
				l[c][0][0] = of(c) / 255
			}
			out[name] = l
			return
		}
		l := make([]float64, len(s.columns))
		for c := range l {
			l[c] = of(c)
		}
		out[name] = l
	}
	if s.counts != nil {
		s.channels(put)
		out["count"] = []int{s.looked}
		return out
	}
	for _, c := range s.columns {
		slices.Sort(c)
	}
	put("min", func(c int) float64 { return s.columns[c][0] })
	put("max", func(c int) float64 { return s.columns[c][len(s.columns[c])-1] })
	mean := func(c int) (sum float64) {
		for _, v := range s.columns[c] {
			sum += v
		}
		return sum / float64(len(s.columns[c]))
	}
	put("mean", mean)
	put("std", func(c int) (sum float64) {
		m := mean(c)
		for _, v := range s.columns[c] {
			sum += (v - m) * (v - m)
		}
		return math.Sqrt(sum / float64(len(s.columns[c])))
	})
	for name, q := range quantiles {
		put(name, func(c int) float64 {
			l := s.columns[c]
			at := q * float64(len(l)-1)
			i := int(at)
			j := min(i+1, len(l)-1)
			return l[i] + (at-float64(i))*(l[j]-l[i])
		})
	}
	out["count"] = []int{len(s.columns[0])}
	return out
}

var quantiles = map[string]float64{"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}

// channels are a picture's statistics, of bytes.
func (s *statistics) channels(put func(name string, of func(c int) float64)) {
	total := func(c int) (n uint64) {
		for _, k := range s.counts[c] {
			n += k
		}
		return n
	}
	moment := func(c int, of func(v float64) float64) (sum float64) {
		for v, k := range s.counts[c] {
			sum += float64(k) * of(float64(v))
		}
		return sum / float64(total(c))
	}
	below := func(c int, share float64) float64 { // the least value up to which the share goes
		var n uint64
		for v, k := range s.counts[c] {
			if n += k; n > 0 && float64(n) >= share*float64(total(c)) {
				return float64(v)
			}
		}
		return 255
	}
	mean := func(c int) float64 { return moment(c, func(v float64) float64 { return v }) }
	put("min", func(c int) float64 { return below(c, 0) })
	put("max", func(c int) float64 { return below(c, 1) })
	put("mean", mean)
	put("std", func(c int) float64 {
		m := mean(c)
		return math.Sqrt(moment(c, func(v float64) float64 { return (v - m) * (v - m) }))
	})
	for name, q := range quantiles {
		put(name, func(c int) float64 { return below(c, q) })
	}
}

func itoa(n int) string { return strconv.Itoa(n) }

// ext is the ending of a file of the picture's form.
func (p photo) ext() string {
	if bytes.HasPrefix(p.file, []byte("\xff\xd8")) {
		return ".jpg"
	}
	return ".png"
}
