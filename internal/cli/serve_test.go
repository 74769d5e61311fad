package cli

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// TestServeAndPredict guards the two ways of asking a checkpoint: by the server,
// whose clients pkg/serve tests, and by typing an observation.
func TestServeAndPredict(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	run := filepath.Join(dir, "run")
	if code, _, text := call(t, bin.coordinator, "train", "testdata/small.yaml", "--set", "train.steps=3", "--workers", "1", "--run-dir", run); code != exitDone {
		t.Fatal(text)
	}
	key := filepath.Join(dir, "key")
	writeTo(t, key, []byte("secret\n"))
	if err := os.Chmod(key, 0o644); err != nil {
		t.Fatal(err)
	}
	p := start(t, nil, bin.coordinator, "serve", "--checkpoint", run, "--listen", "127.0.0.1:0", "--key-file", key)
	if !p.stdout.Scan() || !strings.HasPrefix(p.stdout.Text(), "small, step 3: images (a picture), instruction_tokens (an instruction, given as prompt) -> 1 × x m, ") || !p.stdout.Scan() {
		t.Fatalf("%s\n%s", p.stdout.Text(), p.errText())
	}
	base := "http" + strings.TrimPrefix(p.stdout.Text(), "ws")
	for path, want := range map[string]int{"/healthz": 200, "/metrics": 401, "/": 401} {
		resp, err := http.Get(base + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: %d, want %d", path, resp.StatusCode, want)
		}
	}
	p.cmd.Process.Signal(syscall.SIGTERM)
	if code, _ := p.wait(); code != exitDone || !strings.Contains(p.errText(), "can read the key in "+key+" (mode 0644), and may move the robot with it") {
		t.Errorf("%d\n%s", code, p.errText())
	}
	for want, args := range map[string][]string{
		"--listen 0.0.0.0:8000 lets others than this machine ask: give --key-file": {"--listen", "0.0.0.0:8000"},
		"--key-file: open": {"--key-file", filepath.Join(dir, "none")},
	} {
		if code, _, text := call(t, bin.coordinator, append([]string{"serve", "--checkpoint", run}, args...)...); code != exitUsage || !strings.Contains(text, want) {
			t.Errorf("%v: %d %s", args, code, text)
		}
	}

	picture := filepath.Join(pictureFolder(t, 1), "0.png")
	ask := []string{"predict", "--checkpoint", run, "--image", picture, "--instruction", "push the red cube to the mauve left"}
	code, out, text := call(t, bin.coordinator, append(ask, "--json")...)
	var a struct {
		Dimensions []struct{ Name, Unit string }
		Actions    [][]float32
		Notes      []string
	}
	if err := json.Unmarshal([]byte(out), &a); code != exitDone || err != nil || len(a.Actions) != 1 || len(a.Actions[0]) != 7 || a.Dimensions[3].Name != "roll" || a.Dimensions[3].Unit != "rad" ||
		!slices.Equal(a.Notes, []string{"instruction_tokens: training had no mauve"}) || !strings.Contains(text, "warning: instruction_tokens: training had no mauve") {
		t.Errorf("%d %v %s\n%s", code, err, out, text)
	}
	if code, out, _ := call(t, bin.coordinator, ask...); code != exitDone || !strings.HasPrefix(strings.TrimSpace(out), "action") || !strings.Contains(out, "roll rad") || strings.Count(out, "\n") != 2 {
		t.Errorf("%d %s", code, out)
	}
	for want, args := range map[string][]string{
		"images (a picture) is missing":                              {"--instruction", "push the red cube"},
		"wrist is not looked at":                                     {"--instruction", "push the red cube", "--image", "wrist=" + picture},
		"--state 1,2: give it a name":                                {"--state", "1,2"},
		"--state x=1,b: \"b\" is no number":                          {"--state", "x=1,b"},
		"give an observation by --image":                             {"--inputs", "x"},
		"are one observation, without --inputs":                      {"--instruction", "push", "--inputs", "x"},
		"--image " + picture + ": images is given twice":             {"--image", picture, "--image", picture},
		`"hop" has no word that training had; it had at, away, back`: {"--image", picture, "--instruction", "hop"},
	} {
		if code, _, text := call(t, bin.coordinator, append([]string{"predict", "--checkpoint", run}, args...)...); code != exitUsage || !strings.Contains(text, want) {
			t.Errorf("%v: %d %s", args, code, text)
		}
	}
}
