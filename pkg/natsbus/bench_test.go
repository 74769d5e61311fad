package natsbus

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/vlaring/vlaring/internal/bench/measure"
	"github.com/vlaring/vlaring/pkg/allreduce"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// BenchmarkRing reduces a gradient of 32 MiB over loopback, all members in this
// process: through one broker, and from broker to broker. MB/s are gradient
// bytes by time. CPU-s/GB is the processor time of the whole process, user and
// system, for each GB that ranks send: what counts where ranks compute on the
// same cores, and what holds on a machine that others share.
//
//	go test ./pkg/natsbus -run '^$' -bench Ring
func BenchmarkRing(b *testing.B) {
	const elements = 8 << 20
	for _, topology := range []string{"broker", "mesh"} {
		for _, world := range []int{2, 4} {
			b.Run(fmt.Sprintf("%s/%d", topology, world), func(b *testing.B) {
				hub, err := StartBroker(BrokerOptions{Routes: &Routes{}})
				if err != nil {
					b.Fatal(err)
				}
				defer hub.Shutdown()
				var members []string
				micro := []int{0}
				for r := range world {
					members, micro = append(members, fmt.Sprint("w", r)), append(micro, r+1)
				}
				rings := make([]*allreduce.Ring, world)
				grads, sums := make([][]float32, world), make([][]float32, world)
				for r, m := range members {
					o := ConnOptions{Job: "j", Member: m}
					if topology == "mesh" {
						if o.Broker, err = StartBroker(BrokerOptions{Token: hub.Token(), Routes: &Routes{Join: []string{hub.RouteAddr()}}}); err != nil {
							b.Fatal(err)
						}
						defer o.Broker.Shutdown()
					}
					c, err := Connect(context.Background(), hub.URL(), Credentials{Token: hub.Token()}, o)
					if err != nil {
						b.Fatal(err)
					}
					defer c.Close()
					net, err := c.Network()
					if err != nil {
						b.Fatal(err)
					}
					if rings[r], err = allreduce.NewRing(net, allreduce.Group{Generation: 1, Rank: r, Members: members, Micro: micro}, allreduce.Options{Fold: tensor.Fold}); err != nil {
						b.Fatal(err)
					}
					defer rings[r].Close()
					grads[r], sums[r] = make([]float32, elements), make([]float32, elements)
				}
				step := func(n uint64) {
					var wg sync.WaitGroup
					for r := range rings {
						wg.Go(func() {
							op := rings[r].Begin(n, []allreduce.Range{{Lo: 0, Hi: elements}}, [][]float32{grads[r]}, sums[r], nil)
							op.Ready(0)
							if _, err := op.Wait(context.Background()); err != nil {
								b.Error(err)
							}
						})
					}
					wg.Wait()
				}
				step(0) // buffers, and brokers that must meet
				sent := func() (bytes uint64) {
					for _, r := range rings {
						bytes += r.Stats().BytesSent
					}
					return bytes
				}
				b.SetBytes(4 * elements)
				b.ReportAllocs()
				b.ResetTimer()
				cpu, bytes := measure.CPUTime(), sent()
				for n := range b.N {
					step(uint64(n + 1))
				}
				b.ReportMetric((measure.CPUTime()-cpu).Seconds()/(float64(sent()-bytes)/1e9), "CPU-s/GB")
				again := uint64(0)
				for _, r := range rings {
					again += r.Stats().Retransmits
				}
				b.ReportMetric(float64(again)/float64(b.N), "frames-again/op")
			})
		}
	}
}
