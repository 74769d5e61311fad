package train

import (
	"fmt"
	"testing"

	"github.com/vlaring/vlaring/pkg/tensor"
)

// However large, buckets cover every trained parameter once, in order.
func TestBucketsCover(t *testing.T) {
	for _, bytes := range []int{0, 64, 1000, 4096, 1 << 30} {
		for _, frozen := range []map[int]bool{nil, {0: true}, {3: true, 4: true}, {9: true}} {
			ps := tensor.NewParams()
			for i := range 10 {
				ps.Add(fmt.Sprint("p", i), 100*(i+1)).Frozen = frozen[i]
			}
			ps.Seal()
			buckets, of := cutBuckets(ps, bytes)
			end := 0
			for i, b := range buckets {
				if b.Lo < end || b.Hi <= b.Lo {
					t.Fatalf("%d bytes, frozen %v: bucket %d is %v behind %d", bytes, frozen, i, b, end)
				}
				end = b.Hi
			}
			for i, p := range ps.List() {
				k, in := of[p]
				if in == frozen[i] {
					t.Errorf("%d bytes: %s, frozen %v, is in a bucket: %v", bytes, p.Name, frozen[i], in)
				}
				if in && (p.Offset < buckets[k].Lo || p.Offset+p.Size() > buckets[k].Hi) {
					t.Errorf("%d bytes: %s at %d+%d is not in its bucket %v", bytes, p.Name, p.Offset, p.Size(), buckets[k])
				}
			}
		}
	}
}

// A size that the job leaves open fits the gradient, within bounds.
func TestBucketBytes(t *testing.T) {
	for floats, want := range map[int]int{0: 256 << 10, 1000: 256 << 10, 16 << 20: 4 << 20, 1 << 30: 8 << 20, 1331137 * 16 / 4: 1331137} {
		if got := BucketBytes(floats); got != want {
			t.Errorf("a gradient of %d floats has buckets of %d bytes, want %d", floats, got, want)
		}
	}
}
