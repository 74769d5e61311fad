package board

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// The real servers have what is sent to them, each figure once, after a run that was
// resumed twice: TRACKERS_PYTHON names a Python that has trackio and mlflow.
func TestRealTrackers(t *testing.T) {
	python := os.Getenv("TRACKERS_PYTHON")
	if python == "" {
		t.Log("NOT TESTED: the real servers of trackio and MLflow: TRACKERS_PYTHON names no Python that has them")
		t.Skip("no TRACKERS_PYTHON")
	}
	t.Run("trackio", func(t *testing.T) { realTrackio(t, python) })
	t.Run("mlflow", func(t *testing.T) { realMLflow(t, python) })
}

// serve starts a program that ends with the test, and returns what it writes.
func serve(t *testing.T, env []string, name string, args ...string) *bufio.Scanner {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Dir = t.TempDir()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		r.Close()
	})
	return bufio.NewScanner(r)
}

func realTrackio(t *testing.T, python string) {
	dir := t.TempDir()
	out := serve(t, []string{"TRACKIO_DIR=" + dir, "GRADIO_ANALYTICS_ENABLED=False"}, python, "-u", "-c",
		"import trackio, time; trackio.show(block_thread=False, open_browser=False); time.sleep(600)")
	var at []string
	for said := ""; at == nil; {
		if !out.Scan() {
			t.Fatalf("the server has ended:\n%s", said)
		}
		said += out.Text() + "\n"
		at = regexp.MustCompile(`(http://[\d.:]+)/?\?write_token=([\w-]+)`).FindStringSubmatch(out.Text())
	}
	t.Setenv("TRACKIO_WRITE_TOKEN", at[2])
	track(t, "trackio:"+at[1])
	read := exec.Command(python, "-c", `import sqlite3, glob, json
for f in glob.glob("*.db"):
    for run, step, metrics in sqlite3.connect(f).execute("select run_name, step, metrics from metrics"):
        print(json.dumps([run, step, json.loads(metrics)]))`)
	read.Dir = dir
	b, err := read.Output()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	runs := map[string]bool{}
	for line := range strings.Lines(string(b)) {
		var x struct {
			run     string
			step    uint64
			metrics map[string]float64
		}
		if err := json.Unmarshal([]byte(line), &[]any{&x.run, &x.step, &x.metrics}); err != nil {
			t.Fatal(err)
		}
		runs[x.run] = true
		for k, v := range x.metrics {
			got = append(got, fmt.Sprint(x.step, " ", k, " ", float32(v)))
		}
	}
	slices.Sort(got)
	if want := wantNumbers(records(1, 320)); !slices.Equal(got, want) || len(runs) != 1 {
		t.Errorf("%d figures in %d runs, want %d", len(got), len(runs), len(want))
	}
}

func realMLflow(t *testing.T, python string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	host := l.Addr().String()
	l.Close()
	_, port, _ := net.SplitHostPort(host)
	dir := t.TempDir()
	out := serve(t, nil, python, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", port, "--workers", "1", "--backend-store-uri", "sqlite:///"+dir+"/m.db", "--artifacts-destination", dir)
	go func() {
		for out.Scan() { // what nobody reads would hold it up
		}
	}()
	for deadline := time.Now().Add(4 * time.Minute); ; time.Sleep(time.Second) {
		c, err := net.Dial("tcp", host)
		if err == nil {
			c.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("no server has come up")
		}
	}
	track(t, "mlflow:http://"+host)
	s, err := newTracker("mlflow:http://" + host)
	if err != nil {
		t.Fatal(err)
	}
	m := s.(*mlflow)
	id, err := m.experiment(t.Context(), "small")
	if err != nil {
		t.Fatal(err)
	}
	var found struct {
		Runs []struct {
			mlflowRun
			Info struct {
				RunID  string `json:"run_id"`
				Status string `json:"status"`
			} `json:"info"`
			Data struct {
				Metrics []struct {
					Key string `json:"key"`
				} `json:"metrics"`
				Params []mlflowTag `json:"params"`
			} `json:"data"`
		} `json:"runs"`
	}
	if err := m.call(t.Context(), "POST", mlflowAPI+"runs/search", map[string]any{"experiment_ids": []string{id}}, &found); err != nil || len(found.Runs) != 1 {
		t.Fatalf("%d runs (%v)", len(found.Runs), err)
	}
	r := found.Runs[0]
	if r.Info.Status != "FINISHED" || len(r.Data.Params) < 20 {
		t.Errorf("%s, %d params", r.Info.Status, len(r.Data.Params))
	}
	var got []string
	for _, x := range r.Data.Metrics {
		var h struct {
			Metrics []struct {
				Value float64  `json:"value"`
				Step  flexible `json:"step"`
			} `json:"metrics"`
		}
		if err := m.call(t.Context(), "GET", mlflowAPI+"metrics/get-history?max_results=5000&run_id="+r.Info.RunID+"&metric_key="+url.QueryEscape(x.Key), nil, &h); err != nil {
			t.Fatal(err)
		}
		for _, p := range h.Metrics {
			got = append(got, fmt.Sprint(uint64(p.Step), " ", x.Key, " ", float32(p.Value)))
		}
	}
	slices.Sort(got)
	want := wantNumbers(records(1, 320))
	for i, w := range want {
		want[i] = strings.NewReplacer("[", "", "]", "").Replace(w)
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%d figures, want %d", len(got), len(want))
	}
}
