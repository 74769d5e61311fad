package run

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/train"
	"github.com/vlaring/vlaring/pkg/trained"
	"github.com/vlaring/vlaring/pkg/transport"
	"github.com/vlaring/vlaring/pkg/weights"
	"github.com/vlaring/vlaring/pkg/worker"
)

// TestWholeRunWithAnAverage: the average has the same bits for any number of
// workers, shared out among them or not; it is measured beside the weights, keeps
// checkpoints, is what a checkpoint opens with, exports and begins other runs.
func TestWholeRunWithAnAverage(t *testing.T) {
	t.Parallel()
	set := []string{"optimizer.ema=true", "checkpoint={every: 2, keep: 1, best: {metric: heldout_ema_l1}}", "train.eval_every=2"}
	kinds := train.Kinds()
	_, one := wholeRunOf(t, kinds, transport.NewMemory(), 1, set...)
	_, three := wholeRunOf(t, kinds, transport.NewMemory(), 3, append(set, "cluster.optimizer=sharded")...)
	step := filepath.Join(three, "checkpoints", "step-00000004")
	read := func(path string) []byte {
		t.Helper()
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for _, name := range []string{train.ModelFile, train.OptimizerFile} {
		if !bytes.Equal(read(filepath.Join(one, "checkpoints", "step-00000004", name)), read(filepath.Join(step, name))) {
			t.Errorf("three workers that share the optimizer out make another %s than one", name)
		}
	}

	c, err := trained.Open(three, kinds)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if c.Weights != job.Average {
		t.Errorf("it opens with the weights %q", c.Weights)
	}
	if err := c.OpenToMeasure(BaseDir(c.Dir), "", "", nil); err != nil {
		t.Fatal(err)
	}
	src, split, err := c.Source("")
	if err != nil {
		t.Fatal(err)
	}
	lines, _, err := ReadEval(three, math.MaxUint64)
	if err != nil || len(lines) != 2 {
		t.Fatalf("%s has %+v (%v)", EvalFile, lines, err)
	}
	for of, which := range map[string]string{"": job.Raw, job.Averaged: job.Average} {
		if err := c.Use(which); err != nil {
			t.Fatal(err)
		}
		rep, err := c.Evaluate(t.Context(), src, split, 2)
		if err != nil {
			t.Fatal(err)
		}
		if loss, ok := lines[1].Metric(of + "loss"); !ok || loss != rep.Loss || rep.Weights != which || !strings.Contains(rep.Text(), "("+which+")") {
			t.Errorf("the loss of the weights %s is %v, %v in %s; the report says\n%s", which, rep.Loss, loss, EvalFile, rep.Text())
		}
		if l1, ok := lines[1].Metric(of + "l1"); !ok || l1 != rep.Metrics[0].Value {
			t.Errorf("the L1 of the weights %s is %v, %v in %s", which, rep.Metrics[0].Value, l1, EvalFile)
		}
	}
	if err := c.Use("mean"); err == nil || err.Error() != `--weights "mean": want ema or raw` {
		t.Errorf("weights that there are not: %v", err)
	}

	out := t.TempDir()
	if err := c.Use(job.Average); err != nil {
		t.Fatal(err)
	}
	if _, err := writeModel(filepath.Join(out, "plain.safetensors"), c.Model.Params()); err != nil {
		t.Fatal(err)
	}
	x, err := trained.Export{Dir: c.Dir, Out: out, Type: "f32", Weights: "both"}.Write()
	if err != nil || x.Weights != job.Average || len(x.Files) != 3 {
		t.Fatalf("exported %+v (%v)", x, err)
	}
	for name, want := range map[string]func() (*safetensors.File, error){
		train.ModelFile:         func() (*safetensors.File, error) { return openAverage(step) },
		"model-raw.safetensors": func() (*safetensors.File, error) { return safetensors.Open(filepath.Join(step, train.ModelFile)) },
	} {
		from, err := want()
		if err != nil {
			t.Fatal(err)
		}
		defer from.Close()
		exported, err := safetensors.Open(filepath.Join(out, name))
		if err != nil {
			t.Fatal(err)
		}
		defer exported.Close()
		model, err := models.New(c.Model.Options(), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer model.Close()
		if err := weights.Load(model.Params(), exported); err != nil { // all of the model's tensors, and no others
			t.Fatal(err)
		}
		for _, p := range model.Params().List() {
			if x, err := from.Float32(p.Name); err != nil || !bytes.Equal(bytesOf(x), bytesOf(p.Value)) {
				t.Errorf("%s has another %s than the checkpoint (%v)", name, p.Name, err)
			}
		}
	}
	if b := read(filepath.Join(out, "config.json")); !bytes.Contains(b, []byte(`"weights": "ema"`)) {
		t.Errorf("config.json does not say which weights these are:\n%s", b)
	}

	// Other runs begin with it, and learn from it.
	_, next := wholeRunOf(t, kinds, transport.NewMemory(), 1, "init={path: "+step+", weights: ema}")
	_, student := wholeRunOf(t, kinds, transport.NewMemory(), 1, "distill={teacher: "+three+"}")
	for _, path := range []string{filepath.Join(next, initName), filepath.Join(student, worker.TeacherFile)} {
		if !bytes.Equal(read(path), read(filepath.Join(out, "plain.safetensors"))) {
			t.Errorf("%s is not the average", path)
		}
	}
	if b := read(filepath.Join(student, JobCopy)); !bytes.Contains(b, []byte("weights: ema\n")) {
		t.Errorf("the student's job does not say which weights teach:\n%s", b)
	}
	if _, err := openAverage(filepath.Join(next, "checkpoints", "step-00000004", train.ModelFile)); err == nil || !strings.Contains(err.Error(), "has no averaged weights, since its job has no optimizer.ema: leave init.weights out") {
		t.Errorf("an average that there is not: %v", err)
	}
}

func bytesOf(x []float32) []byte {
	var b bytes.Buffer
	safetensors.Write(&b, []safetensors.Tensor{{Name: "x", Shape: []int{len(x)}, Data: x}}, nil)
	return b.Bytes()
}
