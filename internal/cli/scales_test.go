package cli

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/eval"
	"github.com/vlaring/vlaring/pkg/run"
)

// A dimension that is 0.5 in training and 0.7 when held out: it is told before
// training, has its true error in every report, and does not dilute the totals,
// nor what eval.jsonl and the best checkpoint go by. Names and units come from
// the file and the job, and stay with checkpoint and export.
func TestDimensionWithoutScale(t *testing.T) {
	t.Parallel()
	const n, held = 20, 5
	dir := t.TempDir()
	var actions, vision, language []float32
	episode := make([]int64, n)
	for i := range n {
		x := float32(math.Sin(float64(i)))
		still := float32(0.5)
		if i >= n-held {
			still = 0.7
		}
		actions = append(actions, x, still)
		vision, language = append(vision, x, -x), append(language, 1, x)
		episode[i] = int64(i / held)
	}
	f, err := os.Create(filepath.Join(dir, "x.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	err = safetensors.Write(f, []safetensors.Tensor{
		{Name: "actions", Shape: []int{n, 2}, Data: actions},
		{Name: "vision_features", Shape: []int{n, 1, 2}, Data: vision},
		{Name: "language_features", Shape: []int{n, 1, 2}, Data: language},
		{Name: "episode", Shape: []int{n}, Data: episode},
	}, map[string]string{"action_names": `["wrist", "lid"]`})
	if err != nil || f.Close() != nil {
		t.Fatal(err)
	}
	text := `name: scales
seed: 1
model: {kind: cross_modal, vision_dim: 2, language_dim: 2, d_model: 8, n_heads: 2, n_layers: 1, action_dim: 2, dropout: 0}
data: {kind: tensors, path: x.safetensors, normalize: mean_std, holdout: {episodes: [3]}, action_units: [rad, ""]}
batch: {global: 4, micro: 4}
train: {steps: 4, eval_every: 2}
checkpoint: {every: 2, best: {metric: heldout_l1}}
cluster: {workers: 1}
`
	jobFile := filepath.Join(dir, "job.yaml")
	if err := os.WriteFile(jobFile, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	into := filepath.Join(dir, "run")
	code, _, stderr := call(t, bin.coordinator, "train", jobFile, "--run-dir", into)
	if code != 0 {
		t.Fatalf("exit code %d\n%s", code, stderr)
	}
	for _, want := range []string{
		"WARN the data: lid: 0.5 in training, but 0.7 at " + filepath.Join(dir, "x.safetensors") + " row 15, which is held out: its error there stays",
		"WARN the data: lid: the same in all 15 training samples (0.5): not learned, the answer is always that",
		"not learned and left out of all, normalised: lid (always 0.5): one value in all training samples",
	} {
		if !strings.Contains(stderr, want) {
			t.Errorf("train says\n%s\nwant %q in it", stderr, want)
		}
	}

	code, out, stderr := call(t, bin.coordinator, "eval", "--checkpoint", into, "--json")
	var rep eval.Report
	if err := json.Unmarshal([]byte(out), &rep); code != 0 || err != nil {
		t.Fatalf("eval: exit code %d, %v\n%s", code, err, stderr)
	}
	a := rep.Actions
	if want := []eval.LeftOut{{Name: "lid", Why: "constant", Answer: 0.5}}; !reflect.DeepEqual(a.LeftOut, want) {
		t.Errorf("left out: %+v, want %+v", a.LeftOut, want)
	}
	if d := a.DoF[1]; d.Name != "lid" || d.Unit != "" || math.Abs(d.MAE-0.2) > 1e-7 || math.Abs(d.MeanMAE-0.2) > 1e-7 {
		t.Errorf("%+v, want an error of 0.2 for the model and for the mean", d)
	}
	// One dimension has a scale: its error in its unit, over the std, is all of the total.
	mean, square := 0.0, 0.0
	for i := range n - held {
		x := float64(actions[2*i])
		mean, square = mean+x/(n-held), square+x*x/(n-held)
	}
	std := math.Sqrt(square - mean*mean)
	if d := a.DoF[0]; d.Name != "wrist" || d.Unit != "rad" || math.Abs(d.MAE/std-a.L1) > 1e-6 {
		t.Errorf("%+v, and a total of %v; want the error divided by the std %v", d, a.L1, std)
	}
	lines, _, err := run.ReadEval(into, 4)
	if err != nil || len(lines) == 0 {
		t.Fatal(lines, err)
	}
	if last := lines[len(lines)-1]; last.Step != 4 || metricOf(last, "l1") != a.L1 || last.Loss != a.MSE {
		t.Errorf("eval.jsonl has l1 %v, loss %v; eval says %v, %v", metricOf(last, "l1"), last.Loss, a.L1, a.MSE)
	}

	code, _, stderr = call(t, bin.coordinator, "checkpoint", "export", into, "--out", filepath.Join(dir, "out"))
	if code != 0 {
		t.Fatal(stderr)
	}
	var config struct{ Actions data.Stats }
	b, err := os.ReadFile(filepath.Join(dir, "out", "config.json"))
	if err != nil || json.Unmarshal(b, &config) != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(config.Actions.Names, config.Actions.Units); got != "[wrist lid] [rad ]" {
		t.Errorf("the export has %s", got)
	}

	// The names may be set anew, for a run that was made without.
	code, _, stderr = call(t, bin.coordinator, "train", jobFile, "--run-dir", into, "--resume", "--set", "data.action_names=[hinge, cover]", "--set", "train.steps=6")
	if code != 0 || !strings.Contains(stderr, "cover") || strings.Contains(stderr, "lid") {
		t.Errorf("resumed with other names: exit code %d\n%s", code, stderr)
	}
}
