package allreduce_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	. "github.com/vlaring/vlaring/pkg/allreduce"
)

// A step of 8 Mi elements. Bytes are those of the gradient.
func BenchmarkRing(b *testing.B) {
	for _, world := range []int{2, 4} {
		b.Run(fmt.Sprintf("world %d", world), func(b *testing.B) {
			const elements = 8 << 20
			nets := join(NewMemNetwork(Faults{}), names(world))
			bounds := make([]int, world+1)
			rings, micro, out := make([]*Ring, world), make([][][]float32, world), make([][]float32, world)
			for r := range bounds {
				bounds[r] = r
			}
			for r := range rings {
				ring, err := NewRing(nets[r], Group{Generation: 1, Rank: r, Members: names(world), Micro: bounds}, Options{})
				if err != nil {
					b.Fatal(err)
				}
				defer ring.Close()
				rings[r], micro[r], out[r] = ring, [][]float32{make([]float32, elements)}, make([]float32, elements)
			}
			b.SetBytes(4 * elements)
			b.ReportAllocs()
			step := uint64(0)
			for b.Loop() {
				var wg sync.WaitGroup
				for r, ring := range rings {
					wg.Go(func() {
						op := ring.Begin(step, []Range{{0, elements}}, micro[r], out[r], nil)
						op.Ready(0)
						if _, err := op.Wait(context.Background()); err != nil {
							b.Error(err)
						}
					})
				}
				wg.Wait()
				step++
			}
			var repeated uint64
			for _, ring := range rings {
				repeated += ring.Stats().Retransmits
			}
			b.ReportMetric(float64(repeated), "repeated")
		})
	}
}
