package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/pkg/checkpoint"
	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/run"
)

// pictureJob writes a job file that trains on dir/data in the order of its lines.
func pictureJob(t *testing.T, dir string) string {
	path := filepath.Join(dir, "job.yaml")
	writeTo(t, path, []byte(`name: pictures
seed: 3
model: {kind: vla, image_size: 16, patch_size: 8, d_model: 16, n_heads: 2, n_layers: 2, action_dim: 2, dropout: 0.1}
data: {kind: folder, path: data, shuffle: false, holdout: {fraction: 0}}
batch: {global: 4, micro: 2}
optimizer: {lr: 1.0e-3}
train: {steps: 12}
`))
	return path
}

// endOf reads the hash of the weights that a run with --json has ended with.
func endOf(t *testing.T, stdout string) string {
	t.Helper()
	var last struct {
		Event string `json:"event"`
		Model string `json:"model_sha256"`
	}
	for line := range strings.Lines(stdout) {
		var e = last
		if json.Unmarshal([]byte(line), &e) == nil && e.Event == "end" {
			last = e
		}
	}
	if last.Model == "" {
		t.Fatalf("no end in:\n%s", stdout)
	}
	return last.Model
}

// TestResumeAfterRepair guards the whole way of a picture that does not decode
// in the middle of a run: it is named, a checkpoint stands, the same data fails
// again, repaired data is shown and refused, and once accepted gives exactly
// the weights of a run that had it from the start; or the picture is left out.
func TestResumeAfterRepair(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	folder := filepath.Join(dir, "data")
	if err := os.Rename(pictureFolder(t, 48), folder); err != nil {
		t.Fatal(err)
	}
	path, into := pictureJob(t, dir), filepath.Join(dir, "run")
	code, out, errOut := call(t, bin.coordinator, "train", path, "--json", "--workers", "1", "--run-dir", filepath.Join(dir, "sound"))
	if code != exitDone {
		t.Fatalf("%d\n%s", code, errOut)
	}
	want := endOf(t, out)

	bad := filepath.Join(folder, "37.png")
	sound, err := os.ReadFile(bad)
	if err != nil {
		t.Fatal(err)
	}
	flip(t, bad, -len(sound)/2)
	args := []string{"train", path, "--json", "--workers", "1", "--run-dir", into}
	code, _, errOut = call(t, bin.coordinator, args...)
	for _, w := range []string{"manifest.jsonl:38", "37.png", "does not decode", "data.skip: [37]", "--accept-data-change", "resume with: "} {
		if code != exitFailed || !strings.Contains(errOut, w) {
			t.Fatalf("exit code %d, lacks %q:\n%s", code, w, errOut)
		}
	}
	if lines := strings.Split(strings.TrimSpace(errOut), "\n"); !strings.HasSuffix(lines[len(lines)-1], " --resume "+run.AcceptFlag) {
		t.Errorf("the last line does not say what to type once the picture is repaired: %s", lines[len(lines)-1])
	}
	damaged, err := os.ReadFile(bad)
	if err != nil {
		t.Fatal(err)
	}
	writeTo(t, bad, sound)
	args = append(args, "--resume")
	code, _, errOut = call(t, bin.coordinator, args...)
	for _, w := range []string{"1 of 48 samples differs", "manifest.jsonl:38 (37.png): another picture", "--accept-data-change"} {
		if code != exitFailed || !strings.Contains(errOut, w) {
			t.Fatalf("exit code %d, lacks %q:\n%s", code, w, errOut)
		}
	}
	left := filepath.Join(dir, "left") // the same run, to leave the picture out
	if err := os.CopyFS(left, os.DirFS(into)); err != nil {
		t.Fatal(err)
	}
	code, out, errOut = call(t, bin.coordinator, append(args, "--accept-data-change")...)
	if code != exitDone || !strings.Contains(out, `"event":"data_change"`) {
		t.Fatalf("%d\n%s\n%s", code, out, errOut)
	}
	if got := endOf(t, out); got != want {
		t.Errorf("the weights are %s; a run with the repaired picture from the start has %s", got, want)
	}
	meta := metaOf(t, into)
	if c := meta.Changes; len(c) != 1 || c[0].Step == 0 || c[0].Differ != 1 || c[0].Epoch || c[0].To != meta.Fingerprint || c[0].From == c[0].To || meta.Start != nil {
		t.Errorf("%+v", c)
	}

	// Left out: two workers give what one gives, and the next resume asks for nothing.
	writeTo(t, bad, damaged)
	var hashes []string
	for _, workers := range []string{"1", "2"} {
		d := filepath.Join(dir, "left"+workers)
		if err := os.CopyFS(d, os.DirFS(left)); err != nil {
			t.Fatal(err)
		}
		args := []string{"train", path, "--json", "--workers", workers, "--run-dir", d, "--resume", "--set", "data.skip=[37]"}
		code, out, errOut = call(t, bin.coordinator, append(args, "--accept-data-change", "--set", "train.steps=11")...)
		if code != exitDone || !strings.Contains(out, `"new_epoch":true`) {
			t.Fatalf("%d\n%s\n%s", code, out, errOut)
		}
		if code, out, errOut = call(t, bin.coordinator, append(args, "--set", "train.steps=14")...); code != exitDone {
			t.Fatalf("%d\n%s", code, errOut)
		}
		hashes = append(hashes, endOf(t, out))
		if m := metaOf(t, d); m.Train != 47 || m.Start == nil || m.Start.Epoch != 1 || len(m.Changes) != 1 || m.Changes[0].LeftOut != 1 {
			t.Errorf("%+v %+v", m.Start, m.Changes)
		}
	}
	if hashes[0] != hashes[1] {
		t.Errorf("one worker: %s, two: %s", hashes[0], hashes[1])
	}
}

// TestWorkersOfTheOldDataAreNotTakenOver guards that workers that outlive a
// killed coordinator never compute beside others that hold changed data: they
// are refused, only --resume gives them up, and metrics.jsonl has each step once.
func TestWorkersOfTheOldDataAreNotTakenOver(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	folder := filepath.Join(dir, "data")
	if err := os.Rename(pictureFolder(t, 24), folder); err != nil {
		t.Fatal(err)
	}
	into := filepath.Join(dir, "run")
	args := []string{"train", pictureJob(t, dir), "--workers", "1", "--run-dir", into, "--set", "train.steps=1000000", "--set", "checkpoint.every=20"}
	p := start(t, nil, bin.coordinator, args...)
	until(t, "60 steps", func() bool { return lineCount(filepath.Join(into, "metrics.jsonl")) > 60 })
	p.cmd.Process.Kill()
	p.wait()
	other, err := os.ReadFile(filepath.Join(folder, "7.png"))
	if err != nil {
		t.Fatal(err)
	}
	writeTo(t, filepath.Join(folder, "8.png"), other)
	args = append(args, "--accept-data-change")
	if code, _, errOut := call(t, bin.coordinator, args...); code != exitFailed || !strings.Contains(errOut, "--resume --accept-data-change") {
		t.Fatalf("without --resume: %d\n%s", code, errOut)
	}
	p = start(t, nil, bin.coordinator, append(args, "--resume")...)
	began := lineCount(filepath.Join(into, "metrics.jsonl"))
	until(t, "steps on the changed data", func() bool { return lineCount(filepath.Join(into, "metrics.jsonl")) > began+20 })
	p.cmd.Process.Signal(os.Interrupt)
	if code, out := p.wait(); code != exitResume || !strings.Contains(p.errText(), "refused worker w0") {
		t.Errorf("%d\n%s\n%s", code, out, p.errText())
	}
	for i, m := range readMetrics(t, filepath.Join(into, "metrics.jsonl")) {
		if m.Step != uint64(i+1) {
			t.Fatalf("line %d is of step %d", i+1, m.Step)
		}
	}
}

// TestHeldoutPictureThatDoesNotDecode guards that a run whose held-out split has
// one says that its steps are stored, and that the command it names measures
// them once the picture is repaired.
func TestHeldoutPictureThatDoesNotDecode(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	folder := filepath.Join(dir, "data")
	if err := os.Rename(pictureFolder(t, 12), folder); err != nil {
		t.Fatal(err)
	}
	bad := filepath.Join(folder, "4.png")
	sound, err := os.ReadFile(bad)
	if err != nil {
		t.Fatal(err)
	}
	flip(t, bad, -len(sound)/2)
	run := filepath.Join(dir, "run")
	code, _, errOut := call(t, bin.coordinator, "train", pictureJob(t, dir), "--workers", "1", "--run-dir", run, "--set", "train.steps=2", "--set", "data.holdout.episodes=[1]", "--set", "data.holdout.fraction=0")
	command := "eval --checkpoint " + filepath.Join(run, "checkpoints", "step-00000002") + " --data " + folder
	if code != exitFailed || !strings.Contains(errOut, "4.png") || !strings.HasSuffix(errOut, "measure with: coordinator "+command+"\n") {
		t.Fatalf("%d\n%s", code, errOut)
	}
	writeTo(t, bad, sound)
	if code, _, errOut = call(t, bin.coordinator, strings.Fields(command)...); code != exitDone {
		t.Errorf("%d\n%s", code, errOut)
	}
}

// metaOf reads what the newest checkpoint of a run says of its data.
func metaOf(t *testing.T, run string) (m data.Meta) {
	t.Helper()
	found, err := checkpoint.LatestGood(filepath.Join(run, "checkpoints"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(found.Manifest.Data, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// TestTrainTellsWhatItsDataIs guards the summary and its warnings, in words and as an event.
func TestTrainTellsWhatItsDataIs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	folder := filepath.Join(dir, "data")
	if err := os.Rename(pictureFolder(t, 12), folder); err != nil {
		t.Fatal(err)
	}
	first, err := os.ReadFile(filepath.Join(folder, "0.png"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 12 {
		writeTo(t, filepath.Join(folder, string("0123456789"[i%10])+".png"), first)
	}
	for _, n := range []string{"10.png", "11.png"} {
		writeTo(t, filepath.Join(folder, n), first)
	}
	path := pictureJob(t, dir)
	code, out, errOut := call(t, bin.coordinator, "train", path, "--workers", "1", "--run-dir", filepath.Join(dir, "a"), "--set", "train.steps=1")
	for _, w := range []string{"folder data: 12 samples of 4 episodes; 12 to train on, 0 held out\n", "pictures      16×16, all the same", "WARN", "all 12 pictures are the same"} {
		if code != exitDone || !strings.Contains(out+errOut, w) {
			t.Fatalf("%d, lacks %q:\n%s%s", code, w, out, errOut)
		}
	}
	_, out, _ = call(t, bin.coordinator, "train", path, "--workers", "1", "--json", "--run-dir", filepath.Join(dir, "b"), "--set", "train.steps=1")
	var kinds []string
	for line := range strings.Lines(out) {
		var e struct {
			Event   string        `json:"event"`
			Summary *data.Summary `json:"summary"`
			Finding *data.Finding `json:"finding"`
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(line)
		}
		if e.Event == "data" && (e.Summary.Samples != 12 || !e.Summary.Camera.Equal) {
			t.Errorf("%+v", e.Summary)
		}
		if e.Event == "finding" {
			kinds = append(kinds, e.Finding.Kind)
		}
	}
	if !slices.Contains(kinds, "equal_pictures") {
		t.Errorf("findings %v in\n%s", kinds, out)
	}
}

// TestCtrlCWhileDataIsOpened guards that the first one ends a long scan.
func TestCtrlCWhileDataIsOpened(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	folder := filepath.Join(dir, "data")
	if err := os.Rename(pictureFolder(t, 3), folder); err != nil {
		t.Fatal(err)
	}
	manifest, err := os.ReadFile(filepath.Join(folder, data.ManifestName))
	if err != nil {
		t.Fatal(err)
	}
	writeTo(t, filepath.Join(folder, data.ManifestName), bytes.Repeat(manifest, 400_000)) // minutes of pictures
	p := start(t, nil, bin.coordinator, "train", pictureJob(t, dir), "--workers", "1", "--run-dir", filepath.Join(dir, "run"))
	until(t, "a line of progress", func() bool { return strings.Contains(p.errText(), " of 1,200,000 lines, ") })
	p.cmd.Process.Signal(os.Interrupt)
	code, _ := p.wait()
	if text := p.errText(); code != exitFailed || !strings.Contains(text, "stopped by Ctrl-C while the data was opened; no step was committed") {
		t.Errorf("%d\n%s", code, text)
	}
}
