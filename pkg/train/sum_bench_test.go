package train

import (
	"fmt"
	"testing"

	"github.com/vlaring/vlaring/pkg/tensor"
)

// BenchmarkWeightsSum measures the checksum that each step's record has, of the default
// VLA (34.6 M parameters) and of a small one (1.5 M): update is the optimizer's step
// alone, recorded is that and the checksum, which it leaves on its way, and alone is a
// pass of its own, as after a gathering of shards. time.hash and time.step of
// metrics.jsonl have both of any run.
//
//	go test ./pkg/train -run '^$' -bench WeightsSum
func BenchmarkWeightsSum(b *testing.B) {
	for name, model := range map[string]string{"default": "{kind: vla, vocab_size: 10000}", "small": "{kind: vla, vocab_size: 1000, image_size: 64, patch_size: 16, d_model: 128, n_heads: 4, n_layers: 4}"} {
		for _, threads := range []int{1, 2} {
			j, err := Kinds().Parse("job.yaml", []byte("name: bench\nmodel: "+model+"\ndata: {kind: tabletop, episodes: 20}\n"), nil)
			if err != nil {
				b.Fatal(err)
			}
			set, err := OpenData(j, ".", nil)
			if err != nil {
				b.Fatal(err)
			}
			defer set.Close()
			m, opt, err := Build(j, set.Meta())
			if err != nil {
				b.Fatal(err)
			}
			defer m.Close()
			rt := tensor.NewRuntime(threads)
			defer rt.Close()
			m.Init(j.Seed)
			t, err := NewTrainer(rt, m, opt, func(uint64, string) {})
			if err != nil {
				b.Fatal(err)
			}
			all, g := t.whole[0], tensor.Floats(m.Params().Len())
			for what, f := range map[string]func(){
				"update":   func() { t.optimize(all, t.params.Values(), g, t.cutSlots(all), 1e-9, 1) },
				"recorded": func() { t.updateWhole(all, g, 1e-9, 1); t.WeightsSum() },
				"alone":    func() { t.sums.drop(); t.WeightsSum() },
			} {
				b.Run(fmt.Sprintf("%s/%d_threads/%s", name, threads, what), func(b *testing.B) {
					b.SetBytes(4 * int64(m.Params().Len()))
					for b.Loop() {
						f()
					}
				})
			}
		}
	}
}
