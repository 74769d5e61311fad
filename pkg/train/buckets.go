package train

import (
	"github.com/vlaring/vlaring/pkg/allreduce"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// The bounds of a bucket whose size the job leaves open, in bytes: below, the
// cost of each bucket's start outweighs what begins earlier; above, the last
// one keeps the ring going after backward has ended.
const (
	leastBucket = 256 << 10
	mostBucket  = 8 << 20
)

// BucketBytes is the size of a bucket, where the job leaves it open, for a
// gradient of n floats: a sixteenth of it, within bounds.
func BucketBytes(n int) int { return min(max(4*n/16, leastBucket), mostBucket) }

// cutBuckets cuts the flat gradient into contiguous runs of whole parameters, each
// of at least bytes (but for the last) and closed as soon as it reaches that.
// The slab is in reverse order of use, so backward completes bucket 0 first.
// Frozen parameters are in none: their gradient stays where it is.
// Where bytes is 0 the size follows from the gradient's. The second result is
// the bucket of each parameter in ps.List() order.
func cutBuckets(ps *tensor.Params, bytes int) ([]allreduce.Range, map[*tensor.Param]int) {
	if bytes == 0 {
		bytes = BucketBytes(ps.Len())
	}
	of := map[*tensor.Param]int{}
	var out []allreduce.Range
	list := ps.List()
	lo := 0
	for i := len(list) - 1; i >= 0; i-- {
		p := list[i]
		end := ps.Len() // of the parameter with its padding: where the next one starts
		if i > 0 {
			end = list[i-1].Offset
		}
		if p.Frozen {
			if at := p.Offset; lo < at { // the run ends before it
				out = append(out, allreduce.Range{Lo: lo, Hi: at})
			}
			lo = end
			continue
		}
		of[p] = len(out)
		if 4*(end-lo) >= bytes || i == 0 {
			out = append(out, allreduce.Range{Lo: lo, Hi: end})
			lo = end
		}
	}
	return out, of
}
