package train

import (
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"testing"

	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/pkg/allreduce"
	"github.com/vlaring/vlaring/pkg/cluster"
	"github.com/vlaring/vlaring/pkg/data"
)

// mixedJob trains on three kinds of data at once: made ones, a file of tensors and a
// LeRobot data set, of which 7 numbers are taken for an action.
const mixedJob = `name: mixed
model: {kind: vit, image_size: 16, patch_size: 8, d_model: 8, n_heads: 2, n_layers: 2, action_dim: 7}
data:
  kind: mixture
  holdout: {fraction: 0.3}
  sets:
    - {name: table, weight: 3, kind: tabletop, scene: simple, episodes: 6}
    - {name: file, weight: 1, kind: tensors, path: %q, normalize: min_max}
    - {name: robot, weight: 2, kind: lerobot, path: ../data/testdata/lerobot/v3, split: all, camera: front, action: [action, observation.state, timestamp, frame_index], normalize: quantile}
batch: {global: 8, micro: 1}
optimizer: {lr: 1.0e-3}
train: {steps: 4}
`

// mixedSquad is a squad of a mixture.
func mixedSquad(t *testing.T, set ...string) *squad {
	t.Helper()
	path := filepath.Join(t.TempDir(), "data.safetensors")
	images, actions := make([]float32, 10*3*16*16), make([]float32, 10*7)
	for i := range images {
		images[i] = float32(i%29)/14 - 1
	}
	for i := range actions {
		actions[i] = float32(i*i%31) * 100
	}
	if err := safetensors.WriteFile(path, []safetensors.Tensor{{Name: "images", Shape: []int{10, 3, 16, 16}, Data: images}, {Name: "actions", Shape: []int{10, 7}, Data: actions}}, nil); err != nil {
		t.Fatal(err)
	}
	j, err := kindsOfTests().Parse("mixed.yaml", fmt.Appendf(nil, mixedJob, path), set)
	if err != nil {
		t.Fatal(err)
	}
	d, err := OpenData(j, ".", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return &squad{t: t, job: j, net: allreduce.NewMemNetwork(allreduce.Faults{}), set: d}
}

// A mixture of kinds gives the same bits for 1, 2 and 3 workers, also where one is
// lost, and each set comes in its share.
func TestMixtureHasTheSameBits(t *testing.T) {
	const steps = 4
	one := mixedSquad(t)
	if m := one.set.Meta(); len(m.Sets) != 3 || m.Sets[2].Heldout == 0 {
		t.Fatalf("%+v", m.Sets)
	}
	a := one.rank("alone")
	one.form([]int{0, 8}, a)
	var want []string
	var losses []float64
	var sets [][]cluster.SetLoss
	for range steps {
		res := one.step([]int{0, 8}, a)[0]
		losses, sets = append(losses, res.Loss), append(sets, res.Sets)
		sum, targets := 0.0, 0
		for _, s := range res.Sets {
			sum, targets = sum+s.Loss*float64(s.Targets), targets+s.Targets
		}
		if off := sum/float64(targets) - res.Loss; len(res.Sets) != 3 || targets != res.Targets || math.Abs(off) > 1e-9*res.Loss {
			t.Errorf("the sets' losses %+v are not those of the step, %v over %d", res.Sets, res.Loss, res.Targets)
		}
		want = append(want, a.Digest())
	}
	for _, bounds := range [][]int{{0, 5, 8}, {0, 3, 6, 8}} {
		s := mixedSquad(t)
		var ranks []*rank
		for i := range len(bounds) - 1 {
			ranks = append(ranks, s.rank(fmt.Sprint(i)))
		}
		s.form(bounds, ranks...)
		for step := range steps {
			if res := s.step(bounds, ranks...); res[0].Loss != losses[step] || !slices.Equal(res[0].Sets, sets[step]) || ranks[len(ranks)-1].Digest() != want[step] {
				t.Errorf("%d workers, step %d: loss %v and state %s, alone %v and %s", len(ranks), step+1, res[0].Loss, ranks[0].Digest(), losses[step], want[step])
			}
			if step == 1 && len(ranks) == 3 { // one is lost, and two go on
				lost := ranks[1]
				ranks, bounds = []*rank{ranks[0], ranks[2]}, []int{0, 4, 8}
				lost.net.Close()
				s.form(bounds, ranks...)
			}
		}
	}
	// Every set comes, in its share.
	o, drawn := Order(one.job, one.set.Meta()), [3]int{}
	for m := range 8 * steps {
		b, err := a.feed.Next(t.Context(), uint64(m/8), m%8)
		if err != nil {
			t.Fatal(err)
		}
		drawn[setOf(one.set.Meta(), b.IDs[0])]++
	}
	if drawn[0] < 12 || drawn[1] < 2 || drawn[2] < 6 || o.N != one.set.Meta().Train {
		t.Errorf("of %d samples the sets had %v", 8*steps, drawn)
	}
}

// setOf is the set of the sample with a number.
func setOf(m data.Meta, id uint64) (i int) {
	for id >= uint64(m.Sets[i].Samples) {
		id -= uint64(m.Sets[i].Samples)
		i++
	}
	return i
}
