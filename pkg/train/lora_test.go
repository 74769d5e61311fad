package train

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/pkg/allreduce"
	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// loraSet is an encoder that is frozen but for its adapters, and all else trained.
var loraSet = []string{`model.lora={rank: 2, alpha: 4, dropout: 0.1, match: ["vision_encoder.*attention*", "*feed_forward.0.weight"]}`, `train.freeze=["vision_encoder.*"]`}

// Adapters train, what they adapt stays, and nothing of what stays is sent round or
// kept: no bucket, no moment in memory, no tensor in the optimizer's file.
func TestLoRA(t *testing.T) {
	x := trainJob(t, 3, nil, loraSet...)
	adapters := x.t.params.Adapters()
	if len(adapters) < 6 {
		t.Fatalf("%d adapters", len(adapters))
	}
	files, err := x.t.files()
	if err != nil {
		t.Fatal(err)
	}
	kept := map[string]bool{}
	for _, name := range written(t, "o", files.optimizer).Names() {
		kept[name] = true
	}
	adapted, moved := 0, 0
	for _, p := range x.t.params.List() {
		frozen := p.Low != nil || strings.HasPrefix(p.Name, "vision_encoder.") && !adapters[p]
		in := slices.ContainsFunc(x.t.buckets, func(b allreduce.Range) bool { return b.Lo <= p.Offset && p.Offset < b.Hi })
		has := kept["exp_avg."+p.Name] || kept["exp_avg_sq."+p.Name]
		if p.Low != nil {
			adapted++
		}
		if p.Frozen != frozen || in == frozen || has == frozen || frozen && x.moved(p.Name) > 0 {
			t.Errorf("%s: frozen %v (want %v), in a bucket %v, kept %v, moved by %v", p.Name, p.Frozen, frozen, in, has, x.moved(p.Name))
		}
		if adapters[p] && x.moved(p.Name) > 0 {
			moved++
		}
	}
	if adapted == 0 || moved != len(adapters) || moved != 2*adapted {
		t.Errorf("%d weights adapted, %d of %d adapters moved", adapted, moved, len(adapters))
	}
	// B begins as zeros, so the first step's loss is that of the model without.
	bare := trainJob(t, 1, nil, `train.freeze=["vision_encoder.*"]`, "model.dropout=0")
	with := trainJob(t, 1, nil, append(loraSet, "model.dropout=0")...)
	if bare.results[0].Loss != with.results[0].Loss {
		t.Errorf("the first loss is %v, without adapters %v", with.results[0].Loss, bare.results[0].Loss)
	}
}

// written is a view as a file.
func written(t *testing.T, name string, v *safetensors.View) *safetensors.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	w, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.WriteTo(w); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := safetensors.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// The state goes through files and back, and a file of a former release, which has
// zeros for what is frozen, is the same state.
func TestLoRAState(t *testing.T) {
	x := trainJob(t, 2, nil, loraSet...)
	files, err := x.t.files()
	if err != nil {
		t.Fatal(err)
	}
	model, small := written(t, "m", files.model), written(t, "o", files.optimizer)
	var all []safetensors.Tensor
	for _, p := range x.t.params.List() {
		for i, slot := range []string{"exp_avg.", "exp_avg_sq."} {
			all = append(all, safetensors.Tensor{Name: slot + p.Name, Shape: p.Shape, Data: x.t.slots[i][p.Offset : p.Offset+p.Size()]})
		}
	}
	old, err := safetensors.NewView(all, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := x.t.Digest()
	layout := LayoutOf(x.t.params, x.t.opt.Optimizer.Slots(), false)
	for name, f := range map[string]*safetensors.File{"now": small, "before": written(t, "old", old)} {
		y := trainJob(t, 1, nil, loraSet...)
		if err := y.t.Restore(2, model, f, want); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got, err := layout.Digest(2, model, f); err != nil || got != want {
			t.Errorf("%s: the files are %s (%v), the state %s", name, got, err, want)
		}
	}
	if got, want := layout.OptimizerBytes(), int64(8*trainedValues(x)); got != want {
		t.Errorf("the optimizer's file is to have %d bytes, want %d", got, want)
	}
}

// wrongBuild is what reading, building or recording a job fails with.
func wrongBuild(t *testing.T, set string) error {
	t.Helper()
	j, err := Kinds().Parse("tiny.yaml", []byte(tinyJob), []string{set})
	if err != nil {
		return err
	}
	d, err := OpenData(j, "", nil)
	if err != nil {
		return err
	}
	defer d.Close()
	model, opt, err := Build(j, d.Meta())
	if err != nil {
		return err
	}
	defer model.Close()
	rt := tensor.NewRuntime(1)
	defer rt.Close()
	_, err = NewTrainer(rt, model, opt, func(uint64, string) {})
	return err
}

func trainedValues(x trained) (n int) {
	for _, p := range x.t.params.List() {
		if !p.Frozen {
			n += p.Size()
		}
	}
	return n
}

func TestLoRAThatIsWrong(t *testing.T) {
	for set, says := range map[string]string{
		`model.lora={rank: 2, match: ["vison*"]}`:                  `model.lora.match[0]: no weight of the model matches "vison*"`,
		`model.lora={rank: 99, match: ["vision_encoder.*"]}`:       `model.lora.rank: 99 is above the rank that`,
		`model.lora={rank: 0, match: ["vision_encoder.*"]}`:        `model.lora.rank`,
		`model.lora={rank: 2}`:                                     `model.lora.match: is missing`,
		`model.lora={rank: 2, match: ["*"], dropout: 1}`:           `model.lora.dropout: 1 is outside`,
		`model.lora={rank: 2, match: ["*"], alpha: -1}`:            `model.lora.alpha: -1 is not a scale`,
		`model.lora={alpha: 3}`:                                    `model.lora.alpha`,
		`model.lora={rank: 2, match: ["language_encoder.embed*"]}`: `is the weight of no linear layer`,
	} {
		err := wrongBuild(t, set)
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %s", set, err, says)
		}
		// all are of a key of the job, whose place is told, and end as such mistakes do
		if !errors.As(err, new(*data.KeyError)) && !errors.As(err, new(*job.Error)) {
			t.Errorf("%s: %v is of no key", set, err)
		}
	}
}
