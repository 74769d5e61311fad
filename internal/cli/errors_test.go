package cli

import (
	"context"
	"errors"
	"fmt"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/pkg/cluster"
	"github.com/vlaring/vlaring/pkg/natsbus"
)

// Whatever a user gets wrong comes back as one message that names the thing,
// with a documented exit code, and leaves no run directory that looks used.
func TestBadInput(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return p
	}
	good, err := os.ReadFile("testdata/small.yaml")
	if err != nil {
		t.Fatal(err)
	}
	edit := func(name, old, new string) string {
		if !strings.Contains(string(good), old) {
			t.Fatalf("testdata/small.yaml has no %q", old)
		}
		return write(name, strings.Replace(string(good), old, new, 1))
	}
	tensors := func(name string, l []safetensors.Tensor) string {
		p := filepath.Join(dir, name)
		f, err := os.Create(p)
		if err != nil {
			t.Fatal(err)
		}
		if err := safetensors.Write(f, l, nil); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		return p
	}
	data := func(token int64) []safetensors.Tensor {
		ids := make([]int64, 4*10)
		for i := range ids {
			ids[i] = 1
		}
		ids[13] = token
		return []safetensors.Tensor{{Name: "images", Shape: []int{4, 3, 32, 32}, Data: make([]float32, 4*3*32*32)},
			{Name: "instruction_tokens", Shape: []int{4, 10}, Data: ids}, {Name: "actions", Shape: []int{4, 7}, Data: make([]float32, 28)}}
	}
	curve, err := os.ReadFile("testdata/curve/job.yaml")
	if err != nil {
		t.Fatal(err)
	}
	withData := func(name, path string) string {
		s := strings.Replace(string(curve), "train_data.safetensors", path, 1)
		abs, _ := filepath.Abs("testdata/curve/train_init.safetensors")
		return write(name, strings.Replace(s, "train_init.safetensors", abs, 1))
	}
	whole, err := os.ReadFile("testdata/curve/train_data.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	write("cut.safetensors", string(whole[:len(whole)/2]))
	tensors("token.safetensors", data(50))
	initBase := []safetensors.Tensor{}
	init, err := safetensors.Open("testdata/curve/train_init.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range init.Names() {
		i, _ := init.Tensor(n)
		x, err := init.Float32(n)
		if err != nil {
			t.Fatal(err)
		}
		switch n {
		case "vision_encoder.cls_token": // left out
			continue
		case "cross_modal_fusion.language_proj.bias":
			i.Shape, x = []int{16}, x[:16]
		}
		initBase = append(initBase, safetensors.Tensor{Name: n, Shape: i.Shape, Data: x})
	}
	init.Close()
	tensors("bad_init.safetensors", append(initBase, safetensors.Tensor{Name: "surplus", Shape: []int{1}, Data: []float32{0}}))
	curveAbs, _ := filepath.Abs("testdata/curve/train_data.safetensors")
	badInit := write("bad_init.yaml", strings.NewReplacer("train_data.safetensors", curveAbs, "train_init.safetensors", "bad_init.safetensors").Replace(string(curve)))

	record := filepath.Join(dir, "record")
	if err := os.CopyFS(record, os.DirFS("../../pkg/data/testdata/rlds/tiny/1.0.0")); err != nil {
		t.Fatal(err)
	}
	shard := filepath.Join(record, "tiny-train.tfrecord-00001-of-00002")
	flip(t, shard, -100)
	rlds := edit("rlds.yaml", "kind: tabletop, episodes: 40", "kind: rlds, path: record, camera: image_0")
	folder := edit("folder.yaml", "kind: tabletop, episodes: 40", "kind: folder, path: folder")
	if err := os.Mkdir(filepath.Join(dir, "folder"), 0o755); err != nil {
		t.Fatal(err)
	}
	write("folder/manifest.jsonl", `{"image": "a.png", "instruction": "go", "action": [0,0,0,0,0,0,1]}`+"\n")
	write("folder/a.png", "\x89PNG\r\n\x1a\nand no more")

	for name, c := range map[string]struct {
		args []string
		code int
		want []string
	}{
		"unknown key":              {[]string{"train", edit("a.yaml", "n_heads:", "n_head:")}, exitUsage, []string{"a.yaml:5", "n_head", "n_heads"}},
		"wrong type":               {[]string{"train", edit("b.yaml", "global: 12", "global: many")}, exitUsage, []string{"b.yaml:7", "batch.global", "many"}},
		"micro not dividing":       {[]string{"train", edit("c.yaml", "micro: 2", "micro: 5")}, exitUsage, []string{"batch.micro", "5", "12"}},
		"heads not dividing":       {[]string{"train", edit("d.yaml", "n_heads: 4", "n_heads: 3")}, exitUsage, []string{"n_heads", "32", "3"}},
		"odd d_model":              {[]string{"train", edit("e.yaml", "d_model: 32, n_heads: 4", "d_model: 33, n_heads: 3")}, exitUsage, []string{"d_model", "33"}},
		"patch not dividing":       {[]string{"train", edit("f.yaml", "patch_size: 8", "patch_size: 7")}, exitUsage, []string{"patch_size", "7", "32"}},
		"bad --set":                {[]string{"train", "testdata/small.yaml", "--set", "batch.globall=4"}, exitUsage, []string{"globall", "batch.global"}},
		"no job file":              {[]string{"train", filepath.Join(dir, "none.yaml")}, exitUsage, []string{"none.yaml"}},
		"no argument":              {[]string{"train"}, exitUsage, []string{"JOB.yaml"}},
		"unknown flag":             {[]string{"train", "x", "--wrokers", "3"}, exitUsage, []string{"unknown flag: --wrokers: did you mean --workers?", "see 'coordinator train --help'"}},
		"unlike any flag":          {[]string{"train", "x", "--quantumness", "3"}, exitUsage, []string{"unknown flag: --quantumness\nsee"}},
		"unknown command":          {[]string{"tran"}, exitUsage, []string{`unknown command "tran": did you mean train?`}},
		"missing data":             {[]string{"train", withData("g.yaml", "nowhere.safetensors")}, exitFailed, []string{"nowhere.safetensors"}},
		"truncated data":           {[]string{"train", withData("h.yaml", "cut.safetensors")}, exitFailed, []string{"cut.safetensors"}},
		"token outside vocabulary": {[]string{"train", withData("i.yaml", "token.safetensors")}, exitUsage, []string{"token", "50"}},
		"TFRecord with a bad CRC":  {[]string{"train", rlds}, exitFailed, []string{shard, "record 2 at byte", "checksum"}},
		"image without pixels":     {[]string{"train", folder}, exitFailed, []string{"a.png", "manifest.jsonl"}},
		"bad init":                 {[]string{"train", badInit}, exitFailed, []string{"vision_encoder.cls_token", "surplus", "cross_modal_fusion.language_proj.bias", "[16]", "[32]"}},
		"no NATS":                  {[]string{"train", "testdata/small.yaml", "--nats", "nats://127.0.0.1:1", "--set", "cluster.join_timeout=1s"}, exitFailed, []string{"127.0.0.1:1"}},
		"no checkpoint":            {[]string{"eval", "--checkpoint", dir}, exitFailed, []string{dir}},
		"nats and listen":          {[]string{"train", "testdata/small.yaml", "--nats", "nats://127.0.0.1:1", "--listen", ":4222"}, exitUsage, []string{"--listen"}},
	} {
		t.Run(name, func(t *testing.T) {
			args := c.args
			if args[0] == "train" {
				args = append(args, "--run-dir", filepath.Join(t.TempDir(), "run"))
			}
			code, _, stderr := call(t, bin.coordinator, args...)
			if code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			for _, w := range c.want {
				if !strings.Contains(stderr, w) {
					t.Errorf("the message does not name %q", w)
				}
			}
			if t.Failed() || testing.Verbose() {
				t.Logf("%v\n%s", args, stderr)
			}
			if strings.Contains(stderr, "goroutine ") {
				t.Error("a panic reached the user")
			}
		})
	}
}

func TestWorkerRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		args []string
		code int
		want string
	}{
		"no job":    {[]string{"--nats", "nats://127.0.0.1:1"}, exitUsage, "--job"},
		"no server": {[]string{"--nats", "nats://127.0.0.1:1", "--job", "x", "--join-timeout", "2s"}, exitFailed, "127.0.0.1:1"},
		"bad id":    {[]string{"--nats", "nats://127.0.0.1:1", "--job", "x", "--id", "a b"}, exitUsage, "a b"},
	} {
		t.Run(name, func(t *testing.T) {
			code, _, stderr := call(t, bin.worker, c.args...)
			if code != c.code || !strings.Contains(stderr, c.want) {
				t.Errorf("exit code %d, want %d with %q in the message:\n%s", code, c.code, c.want, stderr)
			}
		})
	}
}

// A run directory is one run's: at the same time, and afterwards.
func TestRunDirInUse(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "run")
	p := start(t, nil, bin.coordinator, "train", "testdata/small.yaml", "--json", "--run-dir", dir, "--workers", "1", "--set", "train.steps=500")
	p.event("step")
	code, _, stderr := call(t, bin.coordinator, "train", "testdata/small.yaml", "--run-dir", dir, "--resume")
	if code == 0 || !strings.Contains(stderr, dir) {
		t.Errorf("a second coordinator on the same run directory: exit code %d\n%s", code, stderr)
	}
	p.cmd.Process.Signal(os.Interrupt)
	if code, _ := p.wait(); code != exitResume {
		t.Fatalf("exit code %d\n%s", code, p.errText())
	}
	code, _, stderr = call(t, bin.coordinator, "train", "testdata/small.yaml", "--run-dir", dir)
	if code != exitUsage || !strings.Contains(stderr, "--resume") {
		t.Errorf("an old run without --resume: exit code %d\n%s", code, stderr)
	}
	code, _, stderr = call(t, bin.coordinator, "train", "testdata/small.yaml", "--run-dir", dir, "--resume", "--set", "seed=12")
	if code != exitUsage || !strings.Contains(stderr, "seed") {
		t.Errorf("resumed with another seed: exit code %d\n%s", code, stderr)
	}
}

// A picture is decoded when a worker needs it. One that then turns out broken
// ends the job, and the message says which.
func TestImageThatDoesNotDecode(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pixels := image.NewRGBA(image.Rect(0, 0, 40, 40))
	for i := range pixels.Pix {
		pixels.Pix[i] = byte(i * i)
	}
	var manifest strings.Builder
	for i := range 24 {
		name := fmt.Sprintf("%02d.png", i)
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(png.Encode(f, pixels), f.Close()); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&manifest, `{"image": %q, "instruction": "go", "action": [%d,0,0,0,0,0,1]}`+"\n", name, i)
	}
	if err := os.WriteFile(filepath.Join(dir, "manifest.jsonl"), []byte(manifest.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	flip(t, filepath.Join(dir, "17.png"), -200)
	small, err := os.ReadFile("testdata/small.yaml")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "job.yaml")
	text := strings.Replace(string(small), "kind: tabletop, episodes: 40, shuffle: true, holdout: {fraction: 0.1}", "kind: folder, path: ., shuffle: true, holdout: {episodes: [0]}", 1)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	code, _, stderr := call(t, bin.coordinator, "train", path, "--run-dir", filepath.Join(t.TempDir(), "run"))
	if code != exitFailed || !strings.Contains(stderr, "17.png") || !strings.Contains(stderr, "does not decode") {
		t.Errorf("exit code %d, want %d and the picture's name:\n%s", code, exitFailed, stderr)
	}
}

// A coordinator tells a worker of another release, and one with the wrong
// token, why it may not join, and goes on waiting for others.
func TestStrangersAreRefused(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "run")
	p := start(t, nil, bin.coordinator, "train", "testdata/small.yaml", "--json", "--run-dir", dir, "--workers", "0", "--set", "cluster.workers=1", "--set", "train.steps=3")
	url := p.event("waiting")["url"].(string)
	token := filepath.Join(dir, "token")
	secret, err := os.ReadFile(token)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := natsbus.Connect(ctx, url, natsbus.Credentials{Token: strings.TrimSpace(string(secret))}, natsbus.ConnOptions{Job: "small", Member: "old"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _, err = cluster.JoinJob(ctx, conn.Bus(), "small", cluster.Join{Protocol: cluster.Protocol + 1, Version: "v9", Worker: "old", Host: "here"})
	if err == nil || !strings.Contains(err.Error(), fmt.Sprint("protocol version ", cluster.Protocol+1)) || !strings.Contains(err.Error(), fmt.Sprint("speaks ", cluster.Protocol)) {
		t.Errorf("a worker of another protocol version: %v", err)
	}

	wrong := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(wrong, []byte("wrong\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, _, stderr := call(t, bin.worker, "--nats", url, "--job", "small", "--token-file", wrong, "--join-timeout", "20s")
	if code != exitFailed || !strings.Contains(stderr, "it is not the broker of this token, and was not shown it") {
		t.Errorf("a worker with the wrong token: exit code %d\n%s", code, stderr)
	}

	if code, _, stderr := call(t, bin.worker, "--nats", url, "--job", "small", "--token-file", token); code != exitDone {
		t.Errorf("the right worker: exit code %d\n%s", code, stderr)
	}
	if code, _ := p.wait(); code != exitDone || !strings.Contains(p.errText(), "refused worker old") {
		t.Errorf("the coordinator: exit code %d\n%s", code, p.errText())
	}
}

// flip changes one bit of the file at offset at, from its end if negative.
func flip(t *testing.T, file string, at int) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if at < 0 {
		at += len(b)
	}
	b[at] ^= 1
	if err := os.WriteFile(file, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

// A checkpoint with one flipped byte is refused by name, and resuming goes on
// from the one before it to the same weights.
func TestFlippedByte(t *testing.T) {
	t.Parallel()
	want := undisturbed(t)
	dir := filepath.Join(t.TempDir(), "run")
	if got := trainDone(t, "testdata/small.yaml", "--run-dir", dir, "--workers", "2"); got != want {
		t.Fatalf("weights are %s, want %s", got, want)
	}
	file := filepath.Join(dir, "checkpoints", "step-00000012", "model.safetensors")
	flip(t, file, -100)
	code, stdout, stderr := call(t, bin.coordinator, "checkpoint", "verify", dir)
	if code != exitFailed || !strings.Contains(stdout+stderr, "model.safetensors") || !strings.Contains(stdout, "step-00000010") {
		t.Errorf("verify: exit code %d\n%s%s", code, stdout, stderr)
	}
	code, _, stderr = call(t, bin.coordinator, "eval", "--checkpoint", filepath.Join(dir, "checkpoints", "step-00000012"))
	if code != exitFailed || !strings.Contains(stderr, "model.safetensors") {
		t.Errorf("eval: exit code %d\n%s", code, stderr)
	}
	code, _, stderr = call(t, bin.coordinator, "eval", "--checkpoint", dir) // an older one answers, and that is said
	if code != 0 || !strings.Contains(stderr, "passed over checkpoint "+filepath.Dir(file)) {
		t.Errorf("eval of the run: exit code %d\n%s", code, stderr)
	}
	p := start(t, nil, bin.coordinator, "train", "testdata/small.yaml", "--json", "--run-dir", dir, "--resume", "--workers", "1")
	if r := p.event("resume"); r["step"].(float64) != 10 {
		t.Errorf("resumed from step %v, want 10", r["step"])
	}
	end := p.event("end")
	if code, _ := p.wait(); code != 0 || end["model_sha256"] != want {
		t.Errorf("exit code %d, weights %v, want %s\n%s", code, end["model_sha256"], want, p.errText())
	}
	if !strings.Contains(p.errText(), "step-00000012") {
		t.Errorf("nothing says that step 12 was passed over:\n%s", p.errText())
	}
}
