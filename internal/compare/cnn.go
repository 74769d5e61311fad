package compare

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/vlaring/vlaring/internal/picture"
	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// The two sides of a comparison of vision encoders, by model.vision.
var visionSides = []string{models.VisionViT, models.VisionCNN}

// Sizes of the pictures: 4×4 patches of 8 pixels.
const (
	pictureSide  = 32
	picturePatch = 8
	cnnWidth     = 32
)

// Sizes of the probes of untrained encoders: 16×16 places, so that a field has
// room to grow.
const (
	probeSide  = 64
	probePatch = 4
	probeMap   = probeSide / probePatch
)

// cnnPlan is the sizes of a comparison.
type cnnPlan struct {
	glyphs, glyphSteps int   // training pictures and steps of the shifted-input test
	shifts             []int // pixels
	tested             int   // pictures a shift
	episodes           []int // of the tabletop, for data hunger
	held, steps        int
	depths             []int // blocks, for the receptive field
	pictures           int   // that it is averaged over
}

func planCNN(quick bool) cnnPlan {
	if quick {
		return cnnPlan{glyphs: 64, glyphSteps: 3, shifts: []int{0, 8}, tested: 32, episodes: []int{4, 8}, held: 4, steps: 3, depths: []int{0, 1}, pictures: 1}
	}
	return cnnPlan{glyphs: 2048, glyphSteps: 800, shifts: []int{0, 2, 4, 8, 12, 16}, tested: 512, episodes: []int{32, 128, 512, 2048}, held: 128, steps: 1500,
		depths: []int{0, 1, 2, 3, 4}, pictures: 8}
}

// CNN compares a convolutional vision encoder with a vision transformer: the
// text's three claims.
func CNN(ctx context.Context, o Options) (*Report, error) { return settled(measureCNN(ctx, o)) }

func measureCNN(ctx context.Context, o Options) (*Report, error) {
	start := time.Now()
	plan := planCNN(o.Quick)
	r := &Report{Title: "CNN against Vision Transformer", Quick: o.Quick,
		Setting: fmt.Sprintf("pictures of %d pixels, patches of %d, both %d wide, 2 layers; probes before training on %d pixels, patches of %d; %s",
			pictureSide, picturePatch, cnnWidth, probeSide, probePatch, machine(o.Threads))}
	shifted, err := shiftedInputs(ctx, o, plan)
	if err != nil {
		return nil, err
	}
	fields, err := receptiveFields(ctx, o, plan)
	if err != nil {
		return nil, err
	}
	hunger, err := dataHunger(ctx, o, plan)
	if err != nil {
		return nil, err
	}
	r.Claims = []Claim{claimBias(shifted, equivariance()), claimField(fields), claimHunger(hunger)}
	r.Seconds = time.Since(start).Seconds()
	return r, nil
}

// shiftRun is a side's accuracy on pictures whose glyph stands shift pixels
// right of and below where any stood in training.
type shiftRun struct {
	side     string
	shift    int
	accuracy float64
}

func shiftedInputs(ctx context.Context, o Options, plan cnnPlan) ([]shiftRun, error) {
	dir, err := os.MkdirTemp("", "vlaring-compare")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "glyphs.safetensors")
	images, actions := glyphs(plan.glyphs, 0, 1)
	if err := writeGlyphs(path, images, actions); err != nil {
		return nil, err
	}
	rt := tensor.NewRuntime(o.Threads)
	defer rt.Close()
	var out []shiftRun
	for _, side := range visionSides {
		o.log("training the %s to tell %d shapes apart, %d steps", side, glyphKinds, plan.glyphSteps)
		sub, err := open(fmt.Sprintf(`name: compare
seed: 1
model: {kind: vit, vision: %s, image_size: %d, patch_size: %d, d_model: %d, n_heads: 4, n_layers: 2, action_dim: %d, dropout: 0}
data: {kind: tensors, path: %q}
batch: {global: 32, micro: 32}
optimizer: {kind: adamw, lr: 0.001}
schedule: {warmup_steps: %d}
train: {steps: %d}
`, side, pictureSide, picturePatch, cnnWidth, glyphKinds, path, plan.glyphSteps/20, plan.glyphSteps))
		if err != nil {
			return nil, err
		}
		_, err = sub.fit(ctx, rt)
		for _, shift := range plan.shifts {
			if err != nil {
				break
			}
			var acc float64
			images, actions := glyphs(plan.tested, shift, 2)
			acc, err = classify(rt, sub.model, images, actions)
			out = append(out, shiftRun{side, shift, acc})
		}
		sub.Close()
		if err != nil {
			return nil, fmt.Errorf("shifted inputs, %s: %w", side, err)
		}
	}
	return out, nil
}

// classify is the share of pictures whose greatest output is that of their kind.
func classify(rt *tensor.Runtime, m *models.Model, images, actions []float32) (float64, error) {
	n := len(actions) / glyphKinds
	p, err := m.Program(rt, n, m.Spec(0), models.ProgramOptions{Forward: true})
	if err != nil {
		return 0, err
	}
	defer p.Close()
	b := models.NewBatch(n, m.Spec(0))
	copy(b.Floats(models.Images), images)
	copy(b.Floats(models.Actions), actions)
	if err := p.Load(b); err != nil {
		return 0, err
	}
	p.SetStep(0, 0, false)
	p.Forward()
	right := 0
	for i := range n {
		if greatest(p.Output().Data[i*glyphKinds:][:glyphKinds]) == greatest(actions[i*glyphKinds:][:glyphKinds]) {
			right++
		}
	}
	return float64(right) / float64(n), nil
}

func greatest(v []float32) int {
	best := 0
	for i, x := range v {
		if x > v[best] {
			best = i
		}
	}
	return best
}

// encoder builds one side's encoder, untrained, which makes of pictures a
// sequence of tokens [B, first+N, D]: the map's places row by row begin at first.
func encoder(b *models.Builder, side string, layers int) (f func(p *models.Pass, images *tensor.Var) *tensor.Var, first int) {
	c := models.Config{Kind: models.ViT, Vision: models.Tower{Kind: side}, ImageSize: probeSide, PatchSize: probePatch, Channels: 3, DModel: cnnWidth, NHeads: 4, NLayers: layers, ActionDim: 1}
	if side == models.VisionCNN {
		e := models.NewConvEncoder(b, "", c, false)
		return func(p *models.Pass, images *tensor.Var) *tensor.Var {
			m := e.Map(p, images)
			return p.Tape.Reshape(m, m.Shape[0], m.Shape[1]*m.Shape[2], m.Shape[3])
		}, 0
	}
	return models.NewVisionTransformer(b, "", c).Sequence, 1
}

// equivariance is, for each side, by how much the map of a picture that was
// moved by one patch differs from the moved map: ‖f(Sx) - Sf(x)‖/‖f(x)‖ over
// places whose neighbourhood the edges do not touch. Untrained, one block.
func equivariance() map[string]float64 {
	const n, margin = probeMap, 5
	rt := tensor.NewRuntime(1)
	defer rt.Close()
	out := map[string]float64{}
	for _, side := range visionSides {
		b := models.NewBuilder()
		f, first := encoder(b, side, 1)
		b.Params().Seal()
		b.Init(1)
		tape := tensor.NewTape(rt, b.Params())
		x := tape.Input(2, 3, probeSide, probeSide)
		y := f(&models.Pass{Tape: tape}, x)
		tape.Seal()
		image := noise(3*probeSide*probeSide, 3)
		copy(x.Data, image)
		for c := range 3 { // the second picture is the first, moved right and down by a patch
			for i := probePatch; i < probeSide; i++ {
				for j := probePatch; j < probeSide; j++ {
					x.Data[((3+c)*probeSide+i)*probeSide+j] = image[(c*probeSide+i-probePatch)*probeSide+j-probePatch]
				}
			}
		}
		tape.Forward()
		diff, norm := 0.0, 0.0
		for i := margin; i+1+margin < n; i++ {
			for j := margin; j+1+margin < n; j++ {
				for d := range cnnWidth {
					a, moved := y.Data[(first+i*n+j)*cnnWidth+d], y.Data[(first+n*n+first+(i+1)*n+j+1)*cnnWidth+d]
					diff += math.Pow(float64(a-moved), 2)
					norm += math.Pow(float64(a), 2)
				}
			}
		}
		out[side] = math.Sqrt(diff / norm)
		tape.Close()
	}
	return out
}

func claimBias(runs []shiftRun, equal map[string]float64) Claim {
	c := Claim{Name: "inductive bias", Text: "CNN: locality, translation invariance. ViT: none (learns everything from data).",
		Table: Table{Columns: []string{"shift, pixels", "model", "accuracy %", "map moves with the picture, error"}}}
	var acc curves
	for _, r := range runs {
		c.Table.add(r.shift, r.side, 100*r.accuracy, equal[r.side])
		acc.add(r.side, float64(r.shift), 100*r.accuracy)
	}
	c.Verdict, c.Why = judgeBias(runs, equal)
	c.plots = [][]picture.Panel{{&picture.Lines{Title: "shapes moved from where they were in training", X: "shift, pixels", Y: "accuracy %", Lines: acc.lines, Zero: true}}}
	return c
}

func judgeBias(runs []shiftRun, equal map[string]float64) (Verdict, string) {
	base, moved, n := map[string]float64{}, map[string]float64{}, map[string]float64{}
	for _, r := range runs {
		if r.shift == 0 {
			base[r.side] = r.accuracy
		} else {
			moved[r.side] += r.accuracy
			n[r.side]++
		}
	}
	const vit, cnn = models.VisionViT, models.VisionCNN
	lost := func(side string) float64 { return base[side] - moved[side]/n[side] }
	why := fmt.Sprintf("where they stood in training the CNN tells %.0f %% of the shapes and the ViT %.0f %%; moved, the CNN loses %.0f points on average and the ViT %.0f. Before any training a map that should move with its picture is off by %.2g in the CNN and %.2g in the ViT",
		100*base[cnn], 100*base[vit], 100*lost(cnn), 100*lost(vit), equal[cnn], equal[vit])
	if lost(vit) > lost(cnn)+0.1 && equal[cnn] < equal[vit]/10 {
		return Confirmed, why
	}
	return Corrected, why
}

// field is the part of a picture that one place in the middle of a side's map
// depends on, by its gradient.
type field struct {
	side    string
	depth   int
	reached float64 // share of pixels with any gradient
	most    float64 // share of pixels that have 95 % of it
	mean    float64 // distance of the gradient from its place, pixels
	shown   []float32
}

func receptiveFields(ctx context.Context, o Options, plan cnnPlan) ([]field, error) {
	var out []field
	rt := tensor.NewRuntime(o.Threads)
	defer rt.Close()
	for _, side := range visionSides {
		for _, depth := range plan.depths {
			if err := ended(ctx); err != nil {
				return nil, err
			}
			o.log("receptive field of the %s at depth %d", side, depth)
			out = append(out, fieldOf(rt, side, depth, plan.pictures))
		}
	}
	return out, nil
}

func fieldOf(rt *tensor.Runtime, side string, depth, pictures int) field {
	const n, pixels = probeMap, probeSide * probeSide
	const place = (n/2)*n + n/2
	b := models.NewBuilder()
	f, first := encoder(b, side, depth)
	ps := b.Params()
	ps.Seal()
	b.Init(1)
	ps.BindGrads(make([]float32, ps.Len()))
	tape := tensor.NewTape(rt, ps)
	defer tape.Close()
	x := tape.Input(pictures, 3, probeSide, probeSide)
	tape.NeedGrad(x)
	at := tape.SelectToken(f(&models.Pass{Tape: tape}, x), first+place)
	probe(tape, at, func() { copy(x.Data, noise(len(x.Data), 4)) })
	g := make([]float32, pixels) // |gradient| by pixel, over channels and pictures
	for i, v := range x.Grad {
		g[i%pixels] += float32(math.Abs(float64(v)))
	}
	r := field{side: side, depth: depth, shown: g}
	r.reached, r.most, r.mean = footprint(g, probeSide, place/n, place%n, probePatch)
	return r
}

// footprint measures a map of gradients g [size, size] around the middle of
// patch (row, col): the share of pixels that have any, the share of those that
// hold 95 % of it, the greatest first, and its mean distance.
func footprint(g []float32, size, row, col, patch int) (reached, most, mean float64) {
	var sorted []float64
	sum := 0.0
	for i, v := range g {
		if v > 0 {
			sorted = append(sorted, float64(v))
		}
		dy := float64(i/size) - (float64(row*patch) + float64(patch-1)/2)
		dx := float64(i%size) - (float64(col*patch) + float64(patch-1)/2)
		mean += float64(v) * math.Hypot(dx, dy)
		sum += float64(v)
	}
	slices.Sort(sorted)
	slices.Reverse(sorted)
	part := 0.0
	count := 0
	for count < len(sorted) && part < 0.95*sum {
		part += sorted[count]
		count++
	}
	return float64(len(sorted)) / float64(len(g)), float64(count) / float64(len(g)), mean / sum
}

func claimField(fields []field) Claim {
	c := Claim{Name: "receptive field", Text: "CNN: grows step by step (small filters → large field). ViT: global (the whole image from the first layer).",
		Table: Table{Columns: []string{"blocks", "model", "pixels reached %", "95 % of the gradient in, % of pixels", "mean distance, pixels"}}}
	var reached curves
	var maps [2][]picture.Panel
	for _, f := range fields {
		c.Table.add(f.depth, f.side, 100*f.reached, 100*f.most, f.mean)
		reached.add(f.side, float64(f.depth), 100*f.reached)
		reached.add(f.side+", 95 % of it", float64(f.depth), 100*f.most)
		i := 0
		if f.side == models.VisionCNN {
			i = 1
		}
		if f.depth <= 2 {
			maps[i] = append(maps[i], &picture.Heatmap{Title: fmt.Sprintf("%s, blocks: %d; gradient, log", f.side, f.depth), Rows: probeSide, Cols: probeSide, Values: logOf(f.shown)})
		}
	}
	c.Verdict, c.Why = judgeField(fields)
	c.plots = [][]picture.Panel{append([]picture.Panel{&picture.Lines{Title: "field of one place", X: "blocks", Y: "% of pixels", Lines: reached.lines, Zero: true}}, maps[0]...),
		append([]picture.Panel{nil}, maps[1]...)}
	return c
}

// logOf is the decimal logarithm of v over its greatest, six decades at most.
func logOf(v []float32) []float32 {
	_, hi := picture.Range(v)
	out := make([]float32, len(v))
	for i, x := range v {
		out[i] = float32(max(math.Log10(float64(x)/hi), -6))
	}
	return out
}

func judgeField(fields []field) (Verdict, string) {
	at := func(side string, depth int) field {
		for _, f := range fields {
			if f.side == side && f.depth == depth {
				return f
			}
		}
		return field{}
	}
	deepest := fields[len(fields)-1].depth
	v1, c1, c0, cn := at(models.VisionViT, 1), at(models.VisionCNN, 1), at(models.VisionCNN, 0), at(models.VisionCNN, deepest)
	why := fmt.Sprintf("after one block a place of the ViT depends on %.0f %% of the pixels, one of the CNN on %.0f %%; the CNN goes from %.0f %% without a block to %.0f %% after %d. 95 %% of the ViT's gradient after one lies in %.0f %% of the pixels",
		100*v1.reached, 100*c1.reached, 100*c0.reached, 100*cn.reached, deepest, 100*v1.most)
	if v1.reached > 0.99 && c0.reached < c1.reached && c1.reached <= cn.reached && c1.reached < 0.99 {
		return Confirmed, why
	}
	return Corrected, why
}

// hungerRun is a side trained on so many episodes of the tabletop.
type hungerRun struct {
	side             string
	episodes         int
	explained, train float64 // share of the action's variance that it predicts, held out and in training
}

func dataHunger(ctx context.Context, o Options, plan cnnPlan) ([]hungerRun, error) {
	rt := tensor.NewRuntime(o.Threads)
	defer rt.Close()
	held := make([]string, plan.held) // the same for every size
	for i := range held {
		held[i] = fmt.Sprint(i)
	}
	var out []hungerRun
	for _, n := range plan.episodes {
		for _, side := range visionSides {
			o.log("training the %s on %d episodes of the tabletop, %d steps", side, n, plan.steps)
			sub, err := open(fmt.Sprintf(`name: compare
seed: 1
model: {kind: vla, vision: %s, image_size: %d, patch_size: %d, d_model: %d, n_heads: 4, n_layers: 4, dropout: 0}
data: {kind: tabletop, scene: simple, episodes: %d, holdout: {episodes: [%s]}}
batch: {global: 32, micro: 32}
optimizer: {kind: adamw, lr: 0.001}
schedule: {warmup_steps: %d, min_lr: 0.0001}
train: {steps: %d}
`, side, pictureSide, picturePatch, cnnWidth, n+plan.held, strings.Join(held, ", "), plan.steps/20, plan.steps))
			if err != nil {
				return nil, err
			}
			f, err := sub.fit(ctx, rt)
			if err == nil {
				rep, e := sub.evaluate(ctx, rt)
				if err = e; err == nil {
					tail := f.losses[len(f.losses)-max(1, len(f.losses)/10):]
					loss := 0.0
					for _, l := range tail {
						loss += l / float64(len(tail))
					}
					out = append(out, hungerRun{side, n, 1 - rep.Actions.MSE/rep.Actions.MeanMSE, 1 - loss})
				}
			}
			sub.Close()
			if err != nil {
				return nil, fmt.Errorf("data hunger, %s, %d episodes: %w", side, n, err)
			}
		}
	}
	return out, nil
}

func claimHunger(runs []hungerRun) Claim {
	c := Claim{Name: "data hunger", Text: "CNN: little data (enough inductive bias). ViT: much (has to learn everything).",
		Table: Table{Columns: []string{"episodes", "model", "variance explained, held out %", "in training %"}}}
	var acc curves
	for _, r := range runs {
		c.Table.add(r.episodes, r.side, 100*r.explained, 100*r.train)
		acc.add(r.side, float64(r.episodes), 100*r.explained)
		acc.add(r.side+", in training", float64(r.episodes), 100*r.train)
	}
	c.Verdict, c.Why = judgeHunger(runs)
	c.plots = [][]picture.Panel{{&picture.Lines{Title: "tabletop, the same number of steps", X: "training episodes", Y: "variance of actions explained, %", Lines: acc.lines, LogX: true}}}
	return c
}

func judgeHunger(runs []hungerRun) (Verdict, string) {
	ahead, sizes := 0, 0
	why := "variance of the actions explained, CNN and ViT, held out: "
	for i := 0; i+1 < len(runs); i += 2 { // vit, cnn
		v, c := runs[i], runs[i+1]
		if i > 0 {
			why += ", "
		}
		why += fmt.Sprintf("%.0f and %.0f %% on %d episodes", 100*c.explained, 100*v.explained, v.episodes)
		sizes++
		if c.explained > v.explained+0.02 {
			ahead++
		}
	}
	if ahead == sizes {
		return Confirmed, why
	}
	return Corrected, why
}
