package train

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/pkg/allreduce"
	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// meansCase is a fixture of tools/make_means.py: one global batch of 64 samples
// with what PyTorch makes of it at once.
type meansCase struct {
	f                *safetensors.File
	student, teacher models.Config
	spec             models.Spec
	whole            *models.Batch
}

// The sizes and weights of tools/make_means.py.
const (
	meansGlobal   = 64
	meansExit     = 0.5
	meansAlpha    = 0.4
	meansFeatures = 0.7
)

// meansParts are the losses that the fixtures have.
var meansParts = []string{"task", "exits", "teacher", "features", "all"}

func meansCases(t *testing.T) map[string]*meansCase {
	t.Helper()
	tokens := &meansCase{f: open(t, "testdata/means_tokens.safetensors"),
		student: models.Config{Kind: models.Encoder, VocabSize: 7, DModel: 8, NHeads: 2, NLayers: 2, DFF: 16, MaxLen: 8, PadToken: 0},
		teacher: models.Config{Kind: models.Encoder, VocabSize: 7, DModel: 12, NHeads: 2, NLayers: 1, DFF: 24, MaxLen: 8, PadToken: 0},
		spec:    models.Spec{models.Known(models.Instruction, 5), models.Known(models.Labels, 5)}}
	actions := &meansCase{f: open(t, "testdata/means_actions.safetensors"),
		student: models.Config{Kind: models.ViT, ImageSize: 8, PatchSize: 4, Channels: 1, DModel: 8, NHeads: 2, NLayers: 2, DFF: 16, ActionDim: 3, PadToken: -1},
		teacher: models.Config{Kind: models.ViT, ImageSize: 8, PatchSize: 4, Channels: 1, DModel: 12, NHeads: 2, NLayers: 1, DFF: 24, ActionDim: 3, PadToken: -1},
		spec:    models.Spec{models.Known(models.Images, 1, 8, 8), models.Known(models.Actions, 3)}}
	for _, c := range []*meansCase{tokens, actions} {
		c.whole = models.NewBatch(meansGlobal, c.spec)
		for i := range c.whole.IDs {
			c.whole.IDs[i] = uint64(i)
		}
		for name, dst := range map[string][]float32{"inputs.images": c.whole.Floats(models.Images), "inputs.actions": c.whole.Floats(models.Actions)} {
			if dst != nil {
				copy(dst, c.floats(t, name))
			}
		}
		for name, dst := range map[string][]int32{"inputs.tokens": c.whole.Ints(models.Instruction), "inputs.labels": c.whole.Ints(models.Labels)} {
			if dst == nil {
				continue
			}
			x, err := c.f.Int64(name)
			if err != nil {
				t.Fatal(err)
			}
			for i, v := range x {
				dst[i] = int32(v)
			}
		}
	}
	return map[string]*meansCase{"tokens": tokens, "actions": actions}
}

func (c *meansCase) floats(t *testing.T, name string) []float32 {
	t.Helper()
	x, err := c.f.Float32(name)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// model builds a model of the fixture's weights. What a loss has no use for,
// such as exits, is left out of it.
func (c *meansCase) model(t *testing.T, of string, cfg models.Config) *models.Model {
	t.Helper()
	m, err := models.New(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range m.Params().List() {
		copy(p.Value, c.floats(t, of+"."+p.Name))
	}
	return m
}

// options are those of one of meansParts.
func (c *meansCase) options(t *testing.T, part string, micro int) (*models.Model, Options) {
	t.Helper()
	cfg := c.student
	opt := Options{Spec: c.spec, Global: meansGlobal, Micro: micro, Optimizer: Adam{Betas: [2]float64{0.9, 0.999}, Eps: 1e-8}, Schedule: LRSchedule{}, BucketBytes: 2048}
	if part == "exits" || part == "all" {
		cfg.Exits, cfg.ExitWeights = []int{1}, []float64{meansExit}
	}
	if part != "task" && part != "exits" {
		opt.Distill = &models.Distillation{Teacher: c.model(t, "teacher", c.teacher), Alpha: meansAlpha, Temperature: 2}
		if part != "teacher" {
			opt.Distill.Features, cfg.HintDim = meansFeatures, c.teacher.DModel
		}
	}
	return c.model(t, "student", cfg), opt
}

// slices of the whole batch are its micro-batches.
type sliced struct {
	whole, part *models.Batch
}

func (s *sliced) Next(_ context.Context, _ uint64, m int) (*models.Batch, error) {
	n := s.part.N
	copy(s.part.IDs, s.whole.IDs[m*n:])
	for k, c := range s.part.Values {
		copy(c.Floats, s.whole.Values[k].Floats[m*len(c.Floats):])
		copy(c.Ints, s.whole.Values[k].Ints[m*len(c.Ints):])
	}
	return s.part, nil
}

// step runs the first step of the case on so many workers.
func (c *meansCase) step(t *testing.T, part string, micro, workers int) ([]*Trainer, []Result) {
	t.Helper()
	net := allreduce.NewMemNetwork(allreduce.Faults{})
	micros := meansGlobal / micro
	var bounds []int
	var names []string
	for r := range workers + 1 {
		bounds, names = append(bounds, (r*micros+workers-1)/workers), append(names, fmt.Sprint("w", r))
	}
	group := allreduce.Group{Generation: 1, Members: names[:workers], Micro: bounds}
	trainers, results, errs := make([]*Trainer, workers), make([]Result, workers), make(chan error, workers)
	rings := make([]*allreduce.Ring, workers)
	for r := range workers {
		model, opt := c.options(t, part, micro)
		opt.Recompute = r == 1 // the same bits
		rt := tensor.NewRuntime(1)
		t.Cleanup(rt.Close)
		var err error
		if trainers[r], err = NewTrainer(rt, model, opt, func(uint64, string) {}); err != nil {
			t.Fatal(err)
		}
		n := net.Join(names[r])
		t.Cleanup(func() { n.Close() })
		g := group
		g.Rank = r
		if rings[r], err = allreduce.NewRing(n, g, allreduce.Options{ChunkBytes: 4096, Fold: tensor.Fold}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { rings[r].Close() })
	}
	for r, x := range trainers {
		go func() {
			var err error
			results[r], err = x.Step(t.Context(), rings[r], bounds[r], bounds[r+1], &sliced{c.whole, models.NewBatch(micro, c.spec)}, nil)
			errs <- err
		}()
	}
	for range workers {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	return trainers, results
}

// Loss and gradient of every loss are PyTorch's over the whole global batch,
// whose samples have unequal numbers of targets, some none: for micro-batches
// of every size, also such without a target, and any number of workers.
func TestStepsArePyTorchs(t *testing.T) {
	for name, c := range meansCases(t) {
		for _, part := range meansParts {
			t.Run(name+"/"+part, func(t *testing.T) {
				loss := float64(c.floats(t, part+".loss")[0])
				for _, micro := range []int{1, 2, 8, 64} {
					var bits []float32
					for workers := 1; workers <= 3; workers++ {
						trainers, results := c.step(t, part, micro, workers)
						for r, x := range trainers {
							at := fmt.Sprintf("micro %d, worker %d of %d", micro, r, workers)
							if d := math.Abs(results[r].Loss - loss); d > 1e-6*loss {
								t.Errorf("%s: loss %v, PyTorch's %v", at, results[r].Loss, loss)
							}
							if bits == nil {
								bits = slices.Clone(x.total)
								c.compare(t, x, part, at)
							} else if !slices.Equal(bits, x.total) {
								t.Errorf("%s: other bits than one worker's", at)
							}
						}
					}
				}
			})
		}
	}
}

// compare holds a committed step's gradient against PyTorch's: within 1e-6 of
// the whole gradient's norm, some ten times what float32 leaves in sums over
// 64 samples.
func (c *meansCase) compare(t *testing.T, x *Trainer, part, at string) {
	t.Helper()
	whole := 0.0
	for _, p := range x.params.List() {
		for _, g := range c.floats(t, part+".grads."+p.Name) {
			whole += float64(g) * float64(g)
		}
	}
	whole = math.Sqrt(whole)
	for _, p := range x.params.List() {
		want := c.floats(t, part+".grads."+p.Name)
		for i, g := range x.total[p.Offset : p.Offset+p.Size()] {
			if d := math.Abs(float64(g) - float64(want[i])); !(d <= 1e-6*whole) {
				t.Errorf("%s: gradient %d of %s is %v, PyTorch's %v", at, i, p.Name, g, want[i])
				break
			}
		}
	}
}

// A step of which no sample has a target changes nothing, and says so.
func TestStepWithoutTarget(t *testing.T) {
	c := meansCases(t)["tokens"]
	for i := range c.whole.Ints(models.Labels) {
		if c.whole.Ints(models.Instruction)[i] != 0 {
			c.whole.Ints(models.Labels)[i] = models.NoLabel // the rest is padding
		}
	}
	for _, part := range meansParts {
		before, _ := c.options(t, part, 8)
		trainers, results := c.step(t, part, 8, 2)
		for r, x := range trainers {
			res := results[r]
			if !strings.HasPrefix(res.Refused, "step 1: none of its 64 samples has a target") || res.Loss != 0 || res.Targets != 0 || res.GradNorm != 0 || x.CommittedStep() != 1 {
				t.Errorf("%s: %+v after step %d", part, res, x.CommittedStep())
			}
			if !slices.Equal(x.params.Values(), before.Params().Values()) {
				t.Errorf("%s: the weights have moved", part)
			}
		}
	}
}

func open(t *testing.T, path string) *safetensors.File {
	t.Helper()
	f, err := safetensors.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}
