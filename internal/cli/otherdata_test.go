package cli

import (
	"encoding/json"
	"fmt"
	"image"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/pkg/eval"
)

// wordFolder writes a folder of one picture and the given lines, without their image.
func wordFolder(t *testing.T, dir string, lines ...string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(dir, "r.png"))
	if err != nil {
		t.Fatal(err)
	}
	if err := png.Encode(f, image.NewGray(image.Rect(0, 0, 8, 8))); err != nil {
		t.Fatal(err)
	}
	f.Close()
	text := ""
	for _, l := range lines {
		text += `{"image": "r.png", ` + l + "}\n"
	}
	if err := os.WriteFile(filepath.Join(dir, "manifest.jsonl"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// folderJob is a job file on the folder data beside it.
func folderJob(t *testing.T, dir, data string) string {
	t.Helper()
	path := filepath.Join(dir, "job.yaml")
	text := "name: f\nmodel: {kind: vla, image_size: 32, patch_size: 16, d_model: 16, n_heads: 2, n_layers: 2, action_dim: 2, dropout: 0}\n" +
		"data: {kind: folder, path: data, shuffle: false, " + data + "}\nbatch: {global: 4, micro: 4}\ntrain: {steps: 1}\ncluster: {workers: 1}\n"
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// A trained model is measured on a test set of the same features, which is said
// to be another; a resumed run is not given other data.
func TestEvalOnOtherData(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var lines []string
	for i := range 8 {
		lines = append(lines, fmt.Sprintf(`"instruction": "pick up the %s cube", "action": [%d, %g], "episode": %d`, []string{"red", "blue"}[i%2], 1-i%2*2, float64(i/2)/10, i))
	}
	wordFolder(t, filepath.Join(dir, "data"), lines...)
	wordFolder(t, filepath.Join(dir, "other"), `"instruction": "pick red", "action": [1, 0], "episode": 0`, `"instruction": "pick blue", "action": [-1, 0], "episode": 1`,
		`"instruction": "go", "action": [0, 1], "episode": 2`, `"instruction": "please pick up the block that is red", "action": [1, 0], "episode": 3`)
	wordFolder(t, filepath.Join(dir, "wide"), `"instruction": "pick red", "action": [1, 0, 2]`)
	wordFolder(t, filepath.Join(dir, "long"), append(lines, lines[7])...)
	job, run := folderJob(t, dir, "holdout: {episodes: [6, 7]}"), filepath.Join(dir, "run")
	trainDone(t, job, "--run-dir", run)

	measure := func(args ...string) (rep eval.Report, stderr string) {
		t.Helper()
		code, stdout, stderr := call(t, bin.coordinator, append([]string{"eval", "--checkpoint", run, "--json"}, args...)...)
		if code != 0 {
			t.Fatalf("eval %v: exit code %d\n%s", args, code, stderr)
		}
		if err := json.Unmarshal([]byte(stdout), &rep); err != nil {
			t.Fatal(err)
		}
		return rep, stderr
	}
	rep, stderr := measure("--data", filepath.Join(dir, "other"))
	if rep.Split != "all" || rep.Actions.Samples != 4 || !strings.Contains(stderr, "is other data (") || !strings.Contains(stderr, "with the checkpoint's vocabulary and statistics") {
		t.Errorf("%d samples of %q; %s", rep.Actions.Samples, rep.Split, stderr)
	}
	// By hand: the training means are 0 and 0.1, so their errors are (1+1+0+1)/4
	// and (0.1+0.1+0.9+0.1)/4.
	for d, want := range []float64{0.75, 0.3} {
		if got := rep.Actions.DoF[d].MeanMAE; math.Abs(got-want) > 1e-6 {
			t.Errorf("dimension %d: the training mean's error is %v, want %v", d, got, want)
		}
	}
	// A part of it, as the job divides: there is no episode 6, and its samples are not held out.
	if code, _, stderr := call(t, bin.coordinator, "eval", "--checkpoint", run, "--data", filepath.Join(dir, "other"), "--split", "heldout"); code == 0 || !strings.Contains(stderr, "no episode 6") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	// Data that has changed since is measured where it is named.
	manifest := filepath.Join(dir, "data", "manifest.jsonl")
	old, err := os.ReadFile(manifest)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(manifest, append(old, old...), 0o644); err != nil {
		t.Fatal(err)
	}
	code, _, stderr := call(t, bin.coordinator, "eval", "--checkpoint", run)
	if want := "\nto measure it on the data as it is now, name it as other data: --data " + filepath.Join(dir, "data") + "\n"; code == 0 || !strings.HasSuffix(stderr, want) {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	if rep, _ := measure("--data", filepath.Join(dir, "data")); rep.Actions.Samples != 16 {
		t.Errorf("%d samples of the data as it is now", rep.Actions.Samples)
	}
	if err := os.WriteFile(manifest, old, 0o644); err != nil {
		t.Fatal(err)
	}
	// The same data elsewhere is no other data.
	if err := os.CopyFS(filepath.Join(dir, "moved"), os.DirFS(filepath.Join(dir, "data"))); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		n    int
	}{{nil, 2}, {[]string{"--data", filepath.Join(dir, "moved")}, 2}, {[]string{"--split", "train"}, 6}, {[]string{"--split", "all"}, 8}} {
		rep, stderr := measure(c.args...)
		if rep.Actions.Samples != c.n || strings.Contains(stderr, "other data") {
			t.Errorf("eval %v: %d samples, want %d; %s", c.args, rep.Actions.Samples, c.n, stderr)
		}
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"eval", "--checkpoint", run, "--data", filepath.Join(dir, "wide")}, "its features must be the same: folder data: actions have 3 dimensions"},
		{[]string{"eval", "--checkpoint", run, "--data", filepath.Join(dir, "nowhere")}, "nowhere"},
		{[]string{"train", job, "--run-dir", run, "--resume", "--set", "train.steps=2", "--set", "data.path=long"}, "the data is not what the checkpoint was trained on"},
	} {
		if code, _, stderr := call(t, bin.coordinator, c.args...); code == 0 || !strings.Contains(stderr, c.want) {
			t.Errorf("%v: exit code %d, want %q:\n%s", c.args, code, c.want, stderr)
		}
	}
}

// A split without samples is refused for what it is.
func TestEvalWithoutSamples(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	wordFolder(t, filepath.Join(dir, "data"), `"instruction": "go", "action": [1, 0]`, `"instruction": "stop", "action": [0, 1]`)
	run := filepath.Join(dir, "run")
	code, _, stderr := call(t, bin.coordinator, "train", folderJob(t, dir, "holdout: {fraction: 0}"), "--run-dir", run, "--set", "batch.global=8", "--set", "batch.micro=4")
	if code != 0 || !strings.Contains(stderr, "batch.global is 8 and the data has 2 training samples: each is used 4 times a step") {
		t.Errorf("exit code %d\n%s", code, stderr)
	}
	code, _, stderr = call(t, bin.coordinator, "eval", "--checkpoint", run)
	if code == 0 || !strings.Contains(stderr, "nothing of this data is held out (data.holdout of the job): there is nothing to measure; --split train or all measures") {
		t.Errorf("exit code %d\n%s", code, stderr)
	}
}

// An init file that is none is told before the data is looked at.
func TestInitIsLookedAtFirst(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	wordFolder(t, filepath.Join(dir, "data"), `"instruction": "go", "action": [null, 0]`)
	job := folderJob(t, dir, "holdout: {fraction: 0}")
	if err := os.WriteFile(filepath.Join(dir, "w.safetensors"), []byte("version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 12\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ args, want string }{{"init=w.safetensors", "it is a Git LFS pointer"}, {"init=v.safetensors", "init: there is no " + filepath.Join(dir, "v.safetensors") + ": check the path"}, {"train.steps=2", "action value 0 is null"}} {
		if code, _, stderr := call(t, bin.coordinator, "train", job, "--run-dir", filepath.Join(dir, "run"), "--set", c.args); code == 0 || !strings.Contains(stderr, c.want) {
			t.Errorf("%s: exit code %d, want %q:\n%s", c.args, code, c.want, stderr)
		}
	}
}

// A model of made data is measured on the data that --data names, never on its own
// under that name; data of other features is refused.
func TestEvalOfMadeDataReadsWhatIsNamed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "job.yaml")
	text := "name: m\nmodel: {kind: vla, image_size: 32, patch_size: 16, d_model: 16, n_heads: 2, n_layers: 2, action_dim: 7, dropout: 0}\n" +
		"data: {kind: tabletop, episodes: 10}\nbatch: {global: 4, micro: 4}\ntrain: {steps: 1}\ncluster: {workers: 1}\n"
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	wordFolder(t, filepath.Join(dir, "seven"), `"instruction": "go", "action": [0, 0, 0, 0, 0, 0, 1]`, `"instruction": "stop", "action": [1, 0, 0, 0, 0, 0, 0]`)
	wordFolder(t, filepath.Join(dir, "two"), `"instruction": "go", "action": [0, 1]`)
	run := filepath.Join(dir, "run")
	trainDone(t, file, "--run-dir", run)
	code, stdout, stderr := call(t, bin.coordinator, "eval", "--checkpoint", run, "--data", filepath.Join(dir, "seven"), "--json")
	var rep eval.Report
	if err := json.Unmarshal([]byte(stdout), &rep); code != 0 || err != nil || rep.Split != "all" || rep.Actions.Samples != 2 || !strings.Contains(stderr, "is other data (") {
		t.Errorf("exit code %d, %v: %s%s", code, err, stdout, stderr)
	}
	for path, want := range map[string]string{"two": "its features must be the same", "none": "there is no "} {
		if code, _, stderr := call(t, bin.coordinator, "eval", "--checkpoint", run, "--data", filepath.Join(dir, path)); code == 0 || !strings.Contains(stderr, want) {
			t.Errorf("%s: exit code %d: %s", path, code, stderr)
		}
	}
	if code, _, stderr := call(t, bin.coordinator, "attention", "--checkpoint", run, "--sample", "0", "--data", filepath.Join(dir, "seven")); code == 0 || !strings.Contains(stderr, "tabletop data, which is made and lies nowhere: leave --data out") {
		t.Errorf("attention: exit code %d: %s", code, stderr)
	}
}

// Of a path where no checkpoint is verify says so; of one that is damaged, what is wrong.
func TestVerifyNoCheckpoint(t *testing.T) {
	dir := t.TempDir()
	empty, bad := filepath.Join(dir, "empty"), filepath.Join(dir, "bad", "checkpoints")
	for _, d := range []string{empty, filepath.Join(bad, "step-00000005")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	nowhere := filepath.Join(dir, "nowhere")
	corrupt := "checkpoint " + filepath.Join(bad, "step-00000005") + " is corrupt: manifest.json: is missing"
	for path, want := range map[string]string{
		nowhere:                "there is no " + nowhere + "\n",
		empty:                  empty + " is neither a checkpoint nor a run directory\n",
		filepath.Dir(bad):      corrupt,
		bad:                    corrupt,
		bad + "/step-00000005": corrupt,
	} {
		verify := newCheckpointVerify()
		var out strings.Builder
		verify.SetArgs([]string{path})
		verify.SetOut(&out)
		verify.SilenceUsage, verify.SilenceErrors = true, true
		if err := verify.Execute(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("verify %s: %v\nwant %s", path, err, want)
		}
		if got := out.String(); got != "" && want != corrupt || want == corrupt && got != "BAD  "+corrupt+"\n" {
			t.Errorf("verify %s prints %q", path, got)
		}
	}
}
