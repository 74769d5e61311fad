package cli

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// keptSteps are the steps of a list of checkpoints, as the command prints it.
func keptSteps(t *testing.T, at string) (steps []uint64) {
	t.Helper()
	code, out, errs := call(t, bin.coordinator, "checkpoint", "ls", at, "--json")
	if code != 0 {
		t.Fatalf("checkpoint ls %s: %d %s", at, code, errs)
	}
	var raw []struct {
		Step  uint64
		State string
	}
	if err := json.Unmarshal([]byte(out), &raw); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	for _, e := range raw {
		if e.State != "complete" {
			t.Errorf("%s: step %d is %s", at, e.Step, e.State)
		}
		steps = append(steps, e.Step)
	}
	return steps
}

// A run uploads its checkpoints beside training and ends at the bits of one that does
// not; the store keeps what the disk keeps; what is then done from the store, on a
// machine that has nothing else, is what is done from the directory: a resume, a
// measurement, an export, a look. No secret is written anywhere.
func TestUploads(t *testing.T) {
	t.Parallel()
	s := s3(t, "models")
	want := undisturbed(t)
	dir := filepath.Join(t.TempDir(), "run")
	at := "s3://models/runs/small"
	set := "checkpoint={every: 2, keep: 1, keep_every: 4, best: {metric: heldout_l1}, upload: " + at + "}"
	got := trainDone(t, "testdata/small.yaml", "--run-dir", dir, "--set", set, "--set", "train.eval_every=2")
	if got != want {
		t.Errorf("with uploads the run ends at %s, and otherwise at %s", got, want)
	}
	disk := stepsIn(t, dir)
	if store := keptSteps(t, at); !slices.Equal(store, disk) || len(disk) < 3 {
		t.Errorf("the store keeps %v, the disk %v", store, disk)
	}
	if code, out, errs := call(t, bin.coordinator, "checkpoint", "verify", at); code != 0 || strings.Count(out, "ok ") != len(disk) {
		t.Errorf("verify: %d %s%s", code, out, errs)
	}
	for _, args := range [][]string{{"checkpoint", "show", "DIR", "--json"}, {"eval", "--checkpoint", "DIR", "--json"}} {
		both := make([]string, 2)
		for i, at := range []string{dir, at} {
			args := slices.Clone(args)
			args[slices.Index(args, "DIR")] = at
			code, out, errs := call(t, bin.coordinator, args...)
			if code != 0 {
				t.Fatalf("%q: %d %s", args, code, errs)
			}
			both[i] = out
		}
		if both[0] != both[1] {
			t.Errorf("%q of the directory and of the store:\n%s\n%s", args, both[0], both[1])
		}
	}
	var exported [2][]byte
	for i, from := range []string{dir, at} {
		to := filepath.Join(t.TempDir(), "model.safetensors")
		if code, _, errs := call(t, bin.coordinator, "checkpoint", "export", from, "--out", to); code != 0 {
			t.Fatalf("export of %s: %d %s", from, code, errs)
		}
		var err error
		if exported[i], err = os.ReadFile(to); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(exported[0], exported[1]) {
		t.Error("an export of the store has other bytes than one of the directory")
	}

	// Another machine: nothing but the job and the store's address.
	constant := []string{"train.steps=16", "schedule.min_lr=null"}
	fresh := filepath.Join(t.TempDir(), "run")
	trainDone(t, "testdata/small.yaml", "--run-dir", filepath.Join(t.TempDir(), "first"), "--set", "schedule.min_lr=null", "--set", "checkpoint.upload="+at+"-constant")
	if got := trainDone(t, "testdata/small.yaml", "--run-dir", fresh, "--resume", "--workers", "1", "--set", constant[0], "--set", constant[1], "--set", "checkpoint.upload="+at+"-constant"); got != undisturbed(t, constant...) {
		t.Errorf("gone on on another machine the run ends at %s, and undisturbed at %s", got, undisturbed(t, constant...))
	}
	if m := readMetrics(t, filepath.Join(fresh, "metrics.jsonl")); len(m) == 0 || m[0].Step != 13 {
		t.Errorf("the run on another machine did not begin after step 12: %d lines", len(m))
	}

	// A run that begins anew does not touch what another has stored.
	before := keptSteps(t, at)
	code, _, errs := call(t, bin.coordinator, "train", "testdata/small.yaml", "--run-dir", filepath.Join(t.TempDir(), "other"), "--set", "checkpoint.upload="+at)
	if code != 2 || !strings.Contains(errs, "already holds checkpoints, up to step 12: go on from them with --resume, or give another prefix") {
		t.Errorf("a new run where there is one: %d %s", code, errs)
	}
	code, _, errs = call(t, bin.coordinator, "train", "testdata/small.yaml", "--run-dir", filepath.Join(t.TempDir(), "other"), "--resume", "--set", "checkpoint.upload="+at, "--set", "name=another")
	if code != 2 || !strings.Contains(errs, `holds checkpoints of job "small", and this is job "another"`) {
		t.Errorf("another job: %d %s", code, errs)
	}
	if after := keptSteps(t, at); !slices.Equal(before, after) {
		t.Errorf("the store kept %v, and keeps %v", before, after)
	}

	for _, root := range []string{dir, fresh, s.Dir} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			b, err := os.ReadFile(path)
			if bytes.Contains(b, []byte(s.Secret)) {
				t.Errorf("%s holds the secret", path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// A store that is away costs no step and no bit: the run says so once, trains on, and
// uploads when it is back; if it is not, the end says what is missing and how to upload
// it, and that command does.
func TestUploadsToAStoreThatIsAway(t *testing.T) {
	t.Parallel()
	s := s3(t, "models")
	want := undisturbed(t)
	at := "s3://models/away"
	s.Stop()
	dir := filepath.Join(t.TempDir(), "run")
	p := start(t, nil, bin.coordinator, "train", "testdata/small.yaml", "--json", "--run-dir", dir, "--set", "checkpoint.upload="+at, "--set", "checkpoint={keep: 2, wait: 2s}")
	end := p.event("end")
	missing := p.event("not_uploaded")
	if code, _ := p.wait(); code != 0 || end["model_sha256"] != want {
		t.Fatalf("exit code %d, weights %v, want %s\n%s", code, end["model_sha256"], want, p.errText())
	}
	if steps, _ := json.Marshal(missing["steps"]); string(steps) != `["12","10"]` {
		t.Errorf("missing: %s", steps)
	}
	said := p.errText()
	if !strings.Contains(said, "coordinator checkpoint upload "+dir) || strings.Count(said, "this is said once") > 1 {
		t.Errorf("said: %s", said)
	}
	wantSteps(t, dir, 12)
	code, _, errs := call(t, bin.coordinator, "train", "testdata/small.yaml", "--run-dir", filepath.Join(t.TempDir(), "none"), "--resume", "--set", "checkpoint.upload="+at)
	if code != 1 || !strings.Contains(errs, "whether "+at+" has a checkpoint to go on from cannot be told") {
		t.Errorf("a resume from a store that is away: %d %s", code, errs)
	}
	s.Start(t)
	code, out, errs := call(t, bin.coordinator, "checkpoint", "upload", dir)
	if code != 0 || !strings.Contains(out, "uploaded 2 checkpoints") {
		t.Errorf("upload: %d %s%s", code, out, errs)
	}
	if got := keptSteps(t, at); !slices.Equal(got, []uint64{10, 12}) {
		t.Errorf("the store keeps %v", got)
	}
	if code, out, _ := call(t, bin.coordinator, "checkpoint", "upload", dir); code != 0 || !strings.Contains(out, "has all 2 checkpoints already") {
		t.Errorf("upload again: %d %s", code, out)
	}
}

// A resume of a run that is done brings to the store what it lacks, as a resume of one that
// is not does; where the store is still away it says what is missing, and fails for nothing.
func TestDoneRunUploads(t *testing.T) {
	t.Parallel()
	s := s3(t, "models")
	at := "s3://models/later"
	s.Stop()
	dir := filepath.Join(t.TempDir(), "run")
	args := []string{"train", "testdata/small.yaml", "--json", "--run-dir", dir, "--set", "checkpoint.upload=" + at, "--set", "checkpoint={keep: 2, wait: 2s}", "--workers", "1"}
	if code, _, errs := call(t, bin.coordinator, args...); code != 0 {
		t.Fatalf("%d %s", code, errs)
	}
	again := append(slices.Clone(args), "--resume")
	code, out, errs := call(t, bin.coordinator, again...)
	if code != 0 || !strings.Contains(out, `"event":"not_uploaded"`) || !strings.Contains(errs, "coordinator checkpoint upload "+dir) {
		t.Errorf("the store is away: %d\n%s\n%s", code, out, errs)
	}
	s.Start(t)
	code, out, errs = call(t, bin.coordinator, again...)
	if code != 0 || strings.Count(out, `"event":"upload"`) != 2 || strings.Contains(out, `"event":"not_uploaded"`) || !strings.Contains(out, `"outcome":"nothing to do"`) {
		t.Errorf("the store is back: %d\n%s\n%s", code, out, errs)
	}
	if got := keptSteps(t, at); !slices.Equal(got, []uint64{10, 12}) {
		t.Errorf("the store keeps %v", got)
	}
	code, out, errs = call(t, bin.coordinator, again...)
	if code != 0 || strings.Contains(out, `"event":"upload"`) {
		t.Errorf("once more: %d\n%s\n%s", code, out, errs)
	}
}

// A store that goes away in the middle of a run and comes back has all checkpoints at the
// end: the run says once that it takes none and once that it does again, and has the bits of
// an undisturbed one.
func TestUploadsToAStoreThatComesBack(t *testing.T) {
	t.Parallel()
	s := s3(t, "models")
	const steps = "train.steps=400"
	want := undisturbed(t, steps)
	at := "s3://models/back"
	dir := filepath.Join(t.TempDir(), "run")
	p := start(t, nil, bin.coordinator, "train", "testdata/small.yaml", "--json", "--run-dir", dir, "--set", "checkpoint.upload="+at, "--set", "checkpoint={every: 40, keep: 0}", "--set", steps)
	var workers []int
	for range 2 {
		workers = append(workers, int(p.event("joined")["pid"].(float64)))
	}
	signal := func(sig syscall.Signal) {
		for _, pid := range workers {
			if err := syscall.Kill(pid, sig); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Cleanup(func() {
		for _, pid := range workers { // stopped ones, should the test end early
			syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	p.event("upload")
	signal(syscall.SIGSTOP)
	had := len(stepsIn(t, dir))
	s.Stop()
	signal(syscall.SIGCONT)
	until(t, "a checkpoint that the store does not get", func() bool { return len(stepsIn(t, dir)) > had })
	signal(syscall.SIGSTOP) // or the run is over before the store is back
	until(t, "that the run notices", func() bool {
		return strings.Contains(p.errText(), "no checkpoint can be uploaded now; training goes on")
	})
	s.Start(t)
	until(t, "that the store is used again", func() bool { return strings.Contains(p.errText(), at+" takes checkpoints again") })
	signal(syscall.SIGCONT)
	end := p.event("end")
	if code, _ := p.wait(); code != 0 || end["model_sha256"] != want {
		t.Fatalf("exit code %d, weights %v, want %s\n%s", code, end["model_sha256"], want, p.errText())
	}
	if said := p.errText(); strings.Count(said, "this is said once") != 1 || strings.Contains(said, "not uploaded to") {
		t.Errorf("said: %s", said)
	}
	if store, disk := keptSteps(t, at), stepsIn(t, dir); !slices.Equal(store, disk) || len(disk) != 10 {
		t.Errorf("the store keeps %v, the disk %v", store, disk)
	}
	if code, out, errs := call(t, bin.coordinator, "checkpoint", "verify", at); code != 0 {
		t.Errorf("verify: %d %s%s", code, out, errs)
	}
}

// What is wrong with an address is said before anything is computed.
func TestUploadMistakes(t *testing.T) {
	t.Parallel()
	s3(t, "models")
	for at, want := range map[string]struct {
		code int
		say  string
	}{
		"s3://nowhere/p":               {1, "there is no bucket nowhere at "},
		"s3://AKIA:hunter2@models/p":   {2, "an address holds no credentials"},
		"/mnt/models":                  {2, "want s3://BUCKET/PREFIX"},
		"s3://models/p?region=eu-west": {1, "AWS_REGION"},
	} {
		dir := filepath.Join(t.TempDir(), "run")
		code, _, errs := call(t, bin.coordinator, "train", "testdata/small.yaml", "--run-dir", dir, "--set", "checkpoint.upload="+at)
		if code != want.code || !strings.Contains(errs, want.say) || !strings.Contains(errs, "checkpoint.upload") {
			t.Errorf("%s: %d %s", at, code, errs)
		}
		if _, err := os.Stat(filepath.Join(dir, "job.yaml")); err == nil {
			t.Errorf("%s: the run directory looks used", at)
		}
	}
	for _, args := range [][]string{{"checkpoint", "ls", "s3://models/none"}, {"checkpoint", "verify", "s3://models/none"}, {"checkpoint", "show", "s3://models/none"}, {"eval", "--checkpoint", "s3://models/none"}} {
		if code, _, errs := call(t, bin.coordinator, args...); code != 1 || !strings.Contains(errs, "there is no checkpoint in s3://models/none") {
			t.Errorf("%q: %d %s", args, code, errs)
		}
	}
	if code, _, errs := call(t, bin.coordinator, "eval", "--checkpoint", "s3://models/../x"); code != 2 || !strings.Contains(errs, "cannot be a prefix") {
		t.Errorf("a prefix that climbs: %d %s", code, errs)
	}
}
