package cli

import (
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// healthOf is where a command shows how it does, once it has said so.
func healthOf(t *testing.T, p *proc) (url string) {
	t.Helper()
	until(t, "the address of its health", func() bool {
		url = regexp.MustCompile(`http://[0-9.:]+`).FindString(p.errText())
		return url != ""
	})
	return url
}

// shows asks a command; a status of 0 is no answer.
func shows(url string) (status int, body string) {
	r, err := http.Get(url)
	if err != nil {
		return 0, err.Error()
	}
	defer r.Body.Close()
	b, _ := io.ReadAll(r.Body)
	return r.StatusCode, string(b)
}

// metric is the value of a metric without labels, or with those that are given.
func metric(t *testing.T, url, name string) float64 {
	_, text := shows(url + "/metrics")
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(rest), 64)
			if err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			return v
		}
	}
	return -1
}

// A run and its worker are ready when they are, count what they do, and a worker that
// has lost its coordinator says so and lives.
func TestHealth(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "run")
	c := start(t, nil, bin.coordinator, "train", "testdata/small.yaml", "--set", "train.steps=100000", "--set", "cluster.workers=1", "--set", "schedule.min_lr=null", "--set", "checkpoint.every=100",
		"--set", "checkpoint.keep=2", "--set", "cluster.orphan_timeout=5m", "--workers", "0", "--json", "--run-dir", dir, "--health", "127.0.0.1:0")
	cURL := healthOf(t, c)
	waiting := c.event("waiting")
	w := start(t, nil, bin.worker, "--nats", waiting["url"].(string), "--job", "small", "--token-file", filepath.Join(dir, "token"), "--threads", "1", "--health", "127.0.0.1:0", "--pprof")
	wURL := healthOf(t, w)
	until(t, "both ready", func() bool {
		a, _ := shows(cURL + "/readyz")
		b, _ := shows(wURL + "/readyz")
		return a == 200 && b == 200
	})
	until(t, "a checkpoint", func() bool { return metric(t, cURL, "vlaring_checkpoint_step") >= 100 })
	step := metric(t, cURL, "vlaring_run_step")
	for name, least := range map[string]float64{"vlaring_run_steps_total": 100, "vlaring_run_samples_total": 1200, "vlaring_run_loss": 1e-9, "vlaring_run_samples_per_second": 1, "vlaring_cluster_generation": 1,
		`vlaring_cluster_workers{state="training"}`: 1, `vlaring_cluster_phase{phase="running"}`: 1, "vlaring_checkpoint_age_seconds": 0} {
		if v := metric(t, cURL, name); v < least {
			t.Errorf("%s is %v, want at least %v", name, v, least)
		}
	}
	if n := metric(t, wURL, "vlaring_worker_step"); n < step {
		t.Errorf("the worker is at step %v, the coordinator was at %v before", n, step)
	}
	if n := metric(t, wURL, "vlaring_worker_micro_batches_total"); n < 600 {
		t.Errorf("the worker has computed %v micro-batches", n)
	}
	if status, _ := shows(cURL + "/debug/pprof/"); status != 404 {
		t.Errorf("profiles of the coordinator without --pprof: %d", status)
	}
	if status, _ := shows(wURL + "/debug/pprof/"); status != 200 {
		t.Errorf("profiles of the worker: %d", status)
	}
	c.cmd.Process.Signal(syscall.SIGKILL)
	until(t, "a worker that is not ready and lives", func() bool {
		ready, _ := shows(wURL + "/readyz")
		alive, _ := shows(wURL + "/healthz")
		return ready == 503 && alive == 200
	})
}

// Flags that cannot be end a command with 2 before it has begun anything.
func TestHealthFlags(t *testing.T) {
	t.Parallel()
	for _, command := range [][]string{{bin.coordinator, "train", "testdata/small.yaml", "--run-dir", filepath.Join(t.TempDir(), "run")}, {bin.worker, "--nats", "nats://127.0.0.1:1", "--job", "j"}} {
		for flags, want := range map[string]string{"--health=x": `--health "x": want host:port`, "--pprof": "give that too"} {
			p := start(t, nil, command[0], append(command[1:len(command):len(command)], flags)...)
			if code, _ := p.wait(); code != exitUsage || !strings.Contains(p.errText(), want) {
				t.Errorf("%s %s: exit %d, %s", filepath.Base(command[0]), flags, code, p.errText())
			}
		}
	}
}

// A worker in a pod of a TrainJob tells its status how far the run is; the end of a run
// is told before its process ends.
func TestTrainJobProgress(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var bodies []string
	s := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) {
		b, _ := io.ReadAll(q.Body)
		mu.Lock()
		defer mu.Unlock()
		bodies = append(bodies, q.Header.Get("Authorization")+" "+string(b))
	}))
	defer s.Close()
	dir := t.TempDir()
	for name, b := range map[string][]byte{"ca": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), "token": []byte("secret")} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := start(t, nil, bin.coordinator, "train", "testdata/small.yaml", "--set", "cluster.workers=1", "--workers", "0", "--json", "--run-dir", filepath.Join(dir, "run"))
	w := start(t, []string{"KUBEFLOW_TRAINER_SERVER_URL=" + s.URL, "KUBEFLOW_TRAINER_SERVER_CA_CERT=" + filepath.Join(dir, "ca"), "KUBEFLOW_TRAINER_SERVER_TOKEN=" + filepath.Join(dir, "token")},
		bin.worker, "--nats", c.event("waiting")["url"].(string), "--job", "small", "--token-file", filepath.Join(dir, "run", "token"), "--threads", "1")
	if code, _ := w.wait(); code != 0 {
		t.Fatalf("the worker ends with %d: %s", code, w.errText())
	}
	mu.Lock()
	defer mu.Unlock()
	if n := len(bodies); n == 0 || !strings.HasPrefix(bodies[n-1], `Bearer secret {"trainerStatus":{"progressPercentage":100,"estimatedRemainingSeconds":0,`) {
		t.Errorf("%d times: %q; standard error: %s", n, bodies, w.errText())
	}
}
