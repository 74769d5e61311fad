package cli

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"image"
	"image/color"
	"image/png"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"github.com/vmihailenco/msgpack/v5"
)

// policyRun trains a policy of two cameras, a state and chunks of 8 for three steps.
func policyRun(t *testing.T, more ...string) string {
	t.Helper()
	run := filepath.Join(t.TempDir(), "run")
	args := []string{"train", "testdata/small.yaml", "--workers", "1", "--run-dir", run, "--set", "train.steps=3", "--set", "data.cameras=[front, side]", "--set", "data.state=[gripper]", "--set", "data.chunk=8"}
	for _, s := range more {
		args = append(args, "--set", s)
	}
	if code, _, text := call(t, bin.coordinator, args...); code != exitDone {
		t.Fatal(text)
	}
	return run
}

// pictureOf is a PNG file of some colours, larger than the model's pictures.
func pictureOf(t *testing.T, seed int) string {
	t.Helper()
	m := image.NewRGBA(image.Rect(0, 0, 48, 40))
	for y := range 40 {
		for x := range 48 {
			m.Set(x, y, color.RGBA{byte(5*x + seed), byte(6*y + x*seed), byte(x * y), 255})
		}
	}
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "picture.png")
	writeTo(t, path, b.Bytes())
	return path
}

// serving starts a server, and returns its URL.
func serving(t *testing.T, run string, more ...string) string {
	t.Helper()
	p := start(t, nil, bin.coordinator, append([]string{"serve", "--checkpoint", run, "--listen", "127.0.0.1:0"}, more...)...)
	for p.stdout.Scan() {
		if url := p.stdout.Text(); strings.HasPrefix(url, "ws://") {
			return url
		}
	}
	t.Fatal(p.errText())
	return ""
}

// predicted is what predict says to an observation.
func predicted(t *testing.T, args ...string) [][]float32 {
	t.Helper()
	code, out, text := call(t, bin.coordinator, append([]string{"predict", "--json"}, args...)...)
	var a struct{ Actions [][]float32 }
	if err := json.Unmarshal([]byte(out), &a); code != exitDone || err != nil {
		t.Fatalf("%d %v\n%s", code, err, text)
	}
	return a.Actions
}

// answered is what a server says to an observation by openpi's protocol, or the error.
func answered(t *testing.T, url string, o map[string]any) (actions []float32, told string) {
	t.Helper()
	conn, _, err := websocket.Dial(t.Context(), url, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	conn.SetReadLimit(1 << 20)
	b, err := msgpack.Marshal(o)
	if err == nil {
		_, _, err = conn.Read(t.Context()) // the card
	}
	if err == nil {
		err = conn.Write(t.Context(), websocket.MessageBinary, b)
	}
	if err != nil {
		t.Fatal(err)
	}
	kind, b, err := conn.Read(t.Context())
	if err != nil || kind == websocket.MessageText {
		return nil, string(b)
	}
	var m map[string]any
	if err := msgpack.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	for data := m["actions"].(map[string]any)["data"].([]byte); len(data) > 0; data = data[4:] {
		actions = append(actions, math.Float32frombits(binary.LittleEndian.Uint32(data)))
	}
	return actions, ""
}

// TestServeDepthAndStudents guards that a policy with exits, which leaves where it is
// sure enough, and a distilled one are answered by serve as by predict.
func TestServeDepthAndStudents(t *testing.T) {
	t.Parallel()
	deep := policyRun(t, "model.n_layers=6", "model.exits=[1, 2]")
	student := policyRun(t, "model.d_model=16", "distill={teacher: "+deep+", alpha: 0.7}")
	picture := pictureOf(t, 3)
	png, err := os.ReadFile(picture)
	if err != nil {
		t.Fatal(err)
	}
	state := []float64{0.25, 0.125, 0.0625, 0, 0, 0.25, 1, 0.5}
	seen := map[string][]float32{}
	for name, flags := range map[string][]string{
		"whole":   {"--checkpoint", deep},
		"shallow": {"--checkpoint", deep, "--exit-doubt", "1e9"},
		"hurried": {"--checkpoint", deep, "--exit-budget", "1ns"},
		"student": {"--checkpoint", student},
	} {
		want := slices.Concat(predicted(t, append(flags, "--image", "front="+picture, "--image", "side="+picture, "--state", "0.25,0.125,0.0625,0,0,0.25,1,0.5", "--instruction", "push the red cube to the left")...)...)
		url := serving(t, flags[1], flags[2:]...)
		got, told := answered(t, url, map[string]any{"front": png, "side": png, "state": state, "prompt": "push the red cube to the left"})
		if told != "" || !slices.Equal(got, want) {
			t.Errorf("%s: %v %s, want %v", name, got, told, want)
		}
		for other, x := range seen {
			if slices.Equal(x, got) {
				t.Errorf("%s and %s are answered alike: the test sees no difference", name, other)
			}
		}
		seen[name] = got
	}
	for want, flags := range map[string][]string{"the model has no exits: train one with model.exits": {"--exit-doubt", "1"}, "--exit-budget -1s: want numbers above 0": {"--exit-budget", "-1s"}} {
		if code, _, text := call(t, bin.coordinator, append([]string{"serve", "--checkpoint", student}, flags...)...); code != exitUsage || !strings.Contains(text, want) {
			t.Errorf("%v: %d %s", flags, code, text)
		}
	}
}

// TestPredictFrame guards that a frame of the data, by its episode's number and its
// own, is answered with what predict says to the same pictures, state and words, beside
// what was done there.
func TestPredictFrame(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	run, folder := filepath.Join(dir, "run"), pictureFolder(t, 12) // episodes of 3 frames; frame i does [i%5, i%3]
	job := filepath.Join(dir, "job.yaml")
	writeTo(t, job, []byte("name: frames\nmodel: {kind: vla, image_size: 16, patch_size: 8, d_model: 16, n_heads: 2, n_layers: 2}\n"+
		"data: {kind: folder, path: "+folder+", chunk: 2, holdout: {episodes: [3]}}\nbatch: {global: 3, micro: 3}\ntrain: {steps: 2}\ncluster: {workers: 1}\n"))
	if code, _, text := call(t, bin.coordinator, "train", job, "--run-dir", run); code != exitDone {
		t.Fatal(text)
	}
	ask := func(args ...string) (actions, done [][]float32, text string) {
		t.Helper()
		code, out, text := call(t, bin.coordinator, append([]string{"predict", "--json", "--checkpoint", run}, args...)...)
		var a struct{ Actions, Done [][]float32 }
		if err := json.Unmarshal([]byte(out), &a); code != exitDone || err != nil {
			t.Fatalf("%v: %d %v\n%s", args, code, err, text)
		}
		return a.Actions, a.Done, text
	}
	for i, want := range map[int][][]float32{3: {{3, 0}, {4, 1}}, 5: {{0, 2}}, 10: {{0, 1}, {1, 2}}} { // the last frame of an episode has no next
		got, done, text := ask("--episode", strconv.Itoa(i/3), "--frame", strconv.Itoa(i%3))
		typed, _, _ := ask("--image", filepath.Join(folder, strconv.Itoa(i)+".png"), "--instruction", "go to "+strconv.Itoa(i%4))
		if !slices.EqualFunc(got, typed, slices.Equal[[]float32]) || !slices.EqualFunc(done, want, slices.Equal[[]float32]) {
			t.Errorf("frame %d: %v, typed %v; done %v, want %v", i, got, typed, done, want)
		}
		if trained := strings.Contains(text, "is of the training split"); trained != (i < 9) {
			t.Errorf("frame %d: %s", i, text)
		}
	}
	if code, out, _ := call(t, bin.coordinator, "predict", "--checkpoint", run, "--episode", "1", "--data", folder); code != exitDone || strings.Count(out, "done") != 2 || strings.Count(out, "\n") != 5 {
		t.Errorf("%d\n%s", code, out)
	}
	for want, args := range map[string][]string{
		"the data has no episode 9: they go from 0 to 3":        {"--episode", "9"},
		"episode 1 has no frame 3: it has 3, from 0":            {"--episode", "1", "--frame", "3"},
		"--episode is an observation of the data, without":      {"--episode", "1", "--instruction", "go"},
		"--data and --frame go with --episode, which says what": {"--frame", "1", "--instruction", "go"},
	} {
		if code, _, text := call(t, bin.coordinator, append([]string{"predict", "--checkpoint", run}, args...)...); code != exitUsage || !strings.Contains(text, want) {
			t.Errorf("%v: %d %s", args, code, text)
		}
	}
}

// realClient is what tools/serving_client.py prints.
type realClient struct {
	Server    map[string]any
	Actions   []json.RawMessage
	Again     []float32
	Dtype     string
	Warnings  []string
	Error     string
	Connected bool
}

// Each protocol's own client, unchanged, is answered with the very numbers of predict.
// OPENPI_PYTHON and VLAEVAL_PYTHON name Pythons that have openpi-client 0.1.2 and
// vla-eval 0.8.0; without them the fixtures of pkg/serve, which these clients wrote,
// are all that is tested.
func TestRealClients(t *testing.T) {
	t.Parallel()
	pythons := map[string]string{"openpi": os.Getenv("OPENPI_PYTHON"), "vla-eval": os.Getenv("VLAEVAL_PYTHON")}
	for protocol, python := range pythons {
		if python == "" {
			t.Logf("NOT TESTED: the real client of %s: its environment variable names no Python that has it", protocol)
		}
	}
	if pythons["openpi"] == "" && pythons["vla-eval"] == "" {
		t.Skip("no OPENPI_PYTHON, no VLAEVAL_PYTHON")
	}
	run := policyRun(t)
	front, side := pictureOf(t, 1), pictureOf(t, 2)
	const text = "push the red cube to the left"
	state := []float64{0.25, 0.1, 0.05, 0.02, -0.02, 0.3, 1, 0.5}
	var list []string
	for _, x := range state {
		list = append(list, strconv.FormatFloat(float64(float32(x)), 'g', -1, 64)) // as the client sends it
	}
	want := predicted(t, "--checkpoint", run, "--image", "front="+front, "--image", "side="+side, "--state", strings.Join(list, ","), "--instruction", text)
	ask := func(protocol, url string, q map[string]any) (c realClient) {
		t.Helper()
		path := filepath.Join(t.TempDir(), "questions.json")
		b, err := json.Marshal(q)
		if err != nil {
			t.Fatal(err)
		}
		writeTo(t, path, b)
		cmd := exec.Command(pythons[protocol], filepath.Join("..", "..", "tools", "serving_client.py"), protocol, url, path)
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err == nil {
			err = json.Unmarshal(out, &c)
		}
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return c
	}
	rows := func(m json.RawMessage) (l [][]float32) {
		if json.Unmarshal(m, &l) != nil {
			var one []float32
			if err := json.Unmarshal(m, &one); err != nil {
				t.Fatal(err)
			}
			l = [][]float32{one}
		}
		return l
	}
	same := func(got, want [][]float32) bool {
		return slices.EqualFunc(got, want, func(a, b []float32) bool { return slices.Equal(a, b) })
	}
	if pythons["openpi"] != "" {
		q := map[string]any{"pictures": map[string]string{"observation/front": front, "side": side}, "numbers": map[string]any{"state": state}, "text": map[string]string{"prompt": text}, "steps": 3, "wrong": "state"}
		c := ask("openpi", serving(t, run), q)
		for i, a := range c.Actions {
			if !same(rows(a), want) {
				t.Errorf("openpi, answer %d: %s\nwant %v", i, a, want)
			}
		}
		if len(c.Actions) != 3 || c.Dtype != "float32" || c.Server["format"] != "vlaring-card" || !strings.Contains(c.Error, "gripper") || !strings.Contains(c.Error, "is missing") {
			t.Errorf("%+v", c)
		}
		c = ask("openpi", serving(t, run, "--execute", "3"), q)
		if !same(rows(c.Actions[0]), want[:3]) || c.Server["execute"] != 3.0 {
			t.Errorf("openpi, three executed: %+v", c)
		}
	}
	if pythons["vla-eval"] == "" {
		return
	}
	q := map[string]any{"pictures": map[string]string{"agentview": front, "wrist": side}, "numbers": map[string]any{"states": state, "controller_states": state}, "text": map[string]string{"task_description": text},
		"steps": 7, "wrong": "wrist"}
	flags := []string{"--protocol", "vla-eval", "--rename", "agentview=front", "--rename", "wrist=side", "--spec", "position=delta_xyz,rotation=euler_xyz,gripper=continuous_01"}
	for execute, from := range map[string][]int{"0": {0, 1, 2, 3, 4, 5, 6}, "3": {0, 1, 2, 0, 1, 2, 0}} {
		c := ask("vla-eval", serving(t, run, append(flags, "--execute", execute)...), q)
		for i, a := range c.Actions {
			if !same(rows(a), want[from[i]:][:1]) {
				t.Errorf("vla-eval, execute %s, step %d: %s\nwant %v", execute, i, a, want[from[i]])
			}
		}
		actions, _ := c.Server["action_spec"].(map[string]any)
		if len(c.Actions) != 7 || c.Dtype != "float32" || c.Server["model_server"] != "vlaring" || len(actions) != 3 || len(c.Warnings) > 0 || !slices.Equal(c.Again, want[0]) || !c.Connected ||
			!strings.Contains(c.Error, "(a picture) is missing; the client also sent controller_states (serve --rename") {
			t.Errorf("%+v", c)
		}
	}
	c := ask("vla-eval", serving(t, run, append(flags, "--ensemble")...), q)
	for i, a := range c.Actions {
		for d, got := range rows(a)[0] {
			sum, all := 0.0, 0.0
			for k := 0; k <= i; k++ { // the chunk that was asked at step k, all of them alike
				w := math.Exp(-0.01 * float64(k))
				sum, all = sum+w*float64(want[i-k][d]), all+w
			}
			if diff := math.Abs(sum/all - float64(got)); diff > 1e-6 {
				t.Errorf("ensemble, step %d: %v, want %v", i, got, sum/all)
			}
		}
	}
}
