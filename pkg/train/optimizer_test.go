package train

import (
	"context"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/pkg/allreduce"
	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/tensor"
)

const tinyJob = `
name: tiny
seed: 3
model: {kind: vla, vocab_size: 64, image_size: 16, patch_size: 8, d_model: 16, n_heads: 2, n_layers: 2, dropout: 0.1}
data: {kind: tabletop, episodes: 40}
batch: {global: 4, micro: 2}
optimizer: {lr: 0.01, weight_decay: 0.1, clip_norm: 0}
cluster: {bucket_bytes: 4096}
`

// trained is what steps of a job leave behind.
type trained struct {
	t       *Trainer
	before  map[string][]float32
	results []Result
}

func (x trained) moved(name string) float64 {
	d := 0.0
	for i, w := range x.t.params.ByName(name).Value {
		d = max(d, math.Abs(float64(w)-float64(x.before[name][i])))
	}
	return d
}

// trainJob trains a job in process, alone on its ring. teacher may be nil.
func trainJob(t *testing.T, steps int, teacher *models.Distillation, set ...string) trained {
	t.Helper()
	j, err := Kinds().Parse("tiny.yaml", []byte(tinyJob), set)
	if err != nil {
		t.Fatal(err)
	}
	d, err := OpenData(j, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	model, opt, err := Build(j, d.Meta())
	if err != nil {
		t.Fatal(err)
	}
	model.Init(j.Seed)
	x := trained{before: map[string][]float32{}}
	for _, p := range model.Params().List() {
		x.before[p.Name] = slices.Clone(p.Value)
	}
	rt := tensor.NewRuntime(1)
	defer rt.Close()
	opt.Distill = teacher
	if x.t, err = NewTrainer(rt, model, opt, func(uint64, string) {}); err != nil {
		t.Fatal(err)
	}
	net := allreduce.NewMemNetwork(allreduce.Faults{}).Join("a")
	defer net.Close()
	g := allreduce.Group{Generation: 1, Members: []string{"a"}, Micro: []int{0, j.Batch.Global / j.Batch.Micro}}
	ring, err := allreduce.NewRing(net, g, allreduce.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer ring.Close()
	feed, err := data.NewLocalFeed(d.Train(), Order(j, d.Meta()))
	if err != nil {
		t.Fatal(err)
	}
	in, err := data.NewPrefetcher(feed, d.Meta(), j.Batch.Micro, 2, data.Range{End: uint64(steps), Hi: g.Micro[1]})
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	for range steps {
		r, err := x.t.Step(context.Background(), ring, g.Micro[0], g.Micro[1], in, nil)
		if err != nil {
			t.Fatal(err)
		}
		x.results = append(x.results, r)
	}
	return x
}

// Frozen parameters keep their values against gradient and weight decay, have
// no moments and no part in the norm, and are in no bucket.
func TestFreeze(t *testing.T) {
	all := trainJob(t, 1, nil)
	x := trainJob(t, 3, nil, `train.freeze=["vision_encoder.*", "*.norm1.weight"]`)
	ps := x.t.params
	norm := 0.0
	for _, p := range ps.List() {
		frozen := strings.HasPrefix(p.Name, "vision_encoder.") || strings.HasSuffix(p.Name, ".norm1.weight")
		in := false
		for _, b := range x.t.buckets {
			in = in || b.Lo <= p.Offset && p.Offset < b.Hi
		}
		if in == frozen || frozen == (x.moved(p.Name) > 0) || frozen != p.Frozen {
			t.Errorf("%s: frozen %v, in a bucket %v, moved by %v", p.Name, frozen, in, x.moved(p.Name))
		}
		for _, m := range x.t.slots {
			if frozen && slices.ContainsFunc(m[p.Offset:p.Offset+p.Size()], func(v float32) bool { return v != 0 }) {
				t.Errorf("%s is frozen and has moments", p.Name)
			}
		}
		if !frozen { // of the first step, whose weights are the same
			for _, g := range all.t.total[p.Offset : p.Offset+p.Size()] {
				norm += float64(g) * float64(g)
			}
		}
	}
	if got := x.results[0].GradNorm; math.Abs(got-math.Sqrt(norm)) > 1e-6*got {
		t.Errorf("the gradient's norm is %v, want that of the trained parameters, %v", got, math.Sqrt(norm))
	}
	if err := buildError(t, `train.freeze=["vison_encoder.*"]`); err == nil || !strings.Contains(err.Error(), "train.freeze[0]") || !strings.Contains(err.Error(), "vision_encoder") {
		t.Errorf("a pattern that names nothing gives %v", err)
	}
	if err := buildError(t, `train.freeze=["*"]`); err == nil || !strings.Contains(err.Error(), "every parameter") {
		t.Errorf("a job that trains nothing gives %v", err)
	}
}

func mustParse(t *testing.T, set ...string) *job.Job {
	t.Helper()
	j, err := Kinds().Parse("tiny.yaml", []byte(tinyJob), set)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// buildError is what Build says of a job.
func buildError(t *testing.T, set ...string) error {
	t.Helper()
	j := mustParse(t, set...)
	d, err := OpenData(j, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	_, _, err = Build(j, d.Meta())
	return err
}

// Adam's first step moves by the learning rate, whatever the gradient: so a
// group's rate can be read off it.
func TestGroups(t *testing.T) {
	x := trainJob(t, 1, nil, "optimizer.weight_decay=0",
		`optimizer.groups=[{match: "language_encoder.*", lr: 0.0001}, {match: "*.embedding.weight", lr: 1}, {match: "cross_modal_fusion.action_head.*", weight_decay: 0.5}]`)
	near := func(name string, want float64) {
		t.Helper()
		if got := x.moved(name); math.Abs(got-want) > 0.01*want {
			t.Errorf("%s moved by at most %v, want %v", name, got, want)
		}
	}
	near("language_encoder.transformer_blocks.0.attention.in_proj_weight", 0.0001)
	near("language_encoder.embedding.weight", 0.0001) // the first group that matches counts
	near("vision_encoder.patch_embedding.weight", 0.01)
	// decay: w·(1 - lr·0.5), and then at most the rate
	name := "cross_modal_fusion.action_head.2.weight"
	grad := x.t.total[x.t.params.ByName(name).Offset:]
	for i, w := range x.t.params.ByName(name).Value {
		was := float64(x.before[name][i])
		want := was*(1-0.01*0.5) - 0.01*math.Copysign(1, float64(grad[i]))
		if math.Abs(float64(grad[i])) > 1e-3 && math.Abs(float64(w)-want) > 1e-5 {
			t.Fatalf("%s[%d] went from %v to %v, want %v", name, i, was, w, want)
		}
	}
	if err := buildError(t, `optimizer.groups=[{match: nothing}]`); err == nil || !strings.Contains(err.Error(), "optimizer.groups[0].match") {
		t.Errorf("a group that names nothing gives %v", err)
	}
}

// A group's rate follows the schedule.
func TestGroupsFollowTheSchedule(t *testing.T) {
	x := trainJob(t, 1, nil, "optimizer.weight_decay=0", "schedule.warmup_steps=4", `optimizer.groups=[{match: "language_encoder.*", lr: 0.002}]`)
	if got := x.moved("language_encoder.embedding.weight"); math.Abs(got-0.0005) > 1e-5 {
		t.Errorf("moved by %v in the first of 4 steps of warm-up, want 0.0005", got)
	}
}

// With adam the weight decay is part of the gradient: the first step moves by
// the learning rate no more; adamw shrinks the weight beside it.
func TestAdamDecaysThroughTheGradient(t *testing.T) {
	const name = "language_encoder.embedding.weight" // of words that do not occur: gradient 0 but for the decay
	row := func(x trained) (before, after float32) {
		p := x.t.params.ByName(name)
		at := 63 * p.Shape[1]
		return x.before[name][at], p.Value[at]
	}
	before, after := row(trainJob(t, 1, nil, "optimizer.kind=adam"))
	if d := math.Abs(float64(after - before)); math.Abs(d-0.01) > 1e-4 {
		t.Errorf("adam moved an unused weight %v by %v, want 0.01", before, d)
	}
	before, after = row(trainJob(t, 1, nil, "optimizer.kind=adamw"))
	if want := before * (1 - 0.01*0.1); math.Abs(float64(after-want)) > 1e-6 {
		t.Errorf("adamw moved an unused weight %v to %v, want %v", before, after, want)
	}
}

// A teacher is deterministic, and pulls: with alpha 1 and the student's own
// weights as the teacher's there is nothing left to learn.
func TestDistillFromItself(t *testing.T) {
	set := []string{"model.dropout=0", "optimizer.weight_decay=0"}
	j := mustParse(t, set...)
	d, err := OpenData(j, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	teacher, _, err := Build(j, d.Meta())
	if err != nil {
		t.Fatal(err)
	}
	teacher.Init(j.Seed)
	x := trainJob(t, 2, &models.Distillation{Teacher: teacher, Alpha: 1}, set...)
	for i, r := range x.results {
		if r.Loss != 0 || r.GradNorm != 0 {
			t.Errorf("step %d: the loss against itself is %v, the gradient's norm %v", i+1, r.Loss, r.GradNorm)
		}
	}
	plain := trainJob(t, 2, nil, set...)
	half := trainJob(t, 2, &models.Distillation{Teacher: teacher, Alpha: 0.5}, set...)
	if want := plain.results[0].Loss / 2; half.results[0].Loss != want {
		t.Errorf("half of the task's loss is %v, want %v", half.results[0].Loss, want)
	}
	again := trainJob(t, 2, &models.Distillation{Teacher: teacher, Alpha: 0.5}, set...)
	if !slices.Equal(again.t.params.Values(), half.t.params.Values()) || slices.Equal(plain.t.params.Values(), half.t.params.Values()) {
		t.Error("distillation is not a function of its inputs, or changes nothing")
	}
}
