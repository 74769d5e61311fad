package board

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/vlaring/vlaring/internal/usage"
	"github.com/vlaring/vlaring/pkg/run"
)

// tracker is a server of a test's own. It does what the real ones do with what is sent
// twice: trackio knows entries by log_id, MLflow adds up all it gets.
type tracker struct {
	t      *testing.T
	mu     sync.Mutex
	logs   map[string]trackioLog
	runs   []map[string]string       // tags, of MLflow's runs
	points map[string][]mlflowMetric // by run
	params map[string]string
	status string
	asked  int
	lose   int // of every so many answers one is lost, after the work was done; 0: none
}

func (s *tracker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var in struct {
		Kwargs struct {
			Logs []trackioLog `json:"logs"`
		} `json:"kwargs"`
		RunID   string         `json:"run_id"`
		Metrics []mlflowMetric `json:"metrics"`
		Params  []mlflowTag    `json:"params"`
		Tags    []mlflowTag    `json:"tags"`
		Filter  string         `json:"filter"`
		Status  string         `json:"status"`
	}
	if r.Method == "POST" {
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			s.t.Errorf("%s: %v", r.URL, err)
		}
	}
	var out any = map[string]any{}
	switch path := strings.TrimPrefix(r.URL.Path, mlflowAPI); path {
	case "/version":
		out = map[string]any{"api_version": 1}
	case "/api/bulk_log":
		for _, l := range in.Kwargs.Logs {
			if _, ok := s.logs[l.LogID]; !ok {
				s.logs[l.LogID] = l
			}
		}
	case "experiments/get-by-name":
		w.WriteHeader(404)
		fmt.Fprint(w, `{"error_code":"RESOURCE_DOES_NOT_EXIST"}`)
		return
	case "experiments/create":
		out = map[string]any{"experiment_id": "7"}
	case "runs/search":
		l := []any{}
		for i, tags := range s.runs {
			if strings.Contains(in.Filter, "'"+tags[runTag]+"'") {
				l = append(l, map[string]any{"info": map[string]any{"run_id": fmt.Sprint(i)}})
			}
		}
		out = map[string]any{"runs": l}
	case "runs/create":
		tags := map[string]string{}
		for _, x := range in.Tags {
			tags[x.Key] = x.Value
		}
		s.runs = append(s.runs, tags)
		out = map[string]any{"run": map[string]any{"info": map[string]any{"run_id": fmt.Sprint(len(s.runs) - 1)}}}
	case "runs/log-batch":
		if len(in.Metrics) > 1000 || len(in.Params) > 100 {
			s.t.Errorf("%d metrics and %d params in one request", len(in.Metrics), len(in.Params))
		}
		s.points[in.RunID] = append(s.points[in.RunID], in.Metrics...)
		for _, p := range in.Params {
			if was, ok := s.params[p.Key]; ok && was != p.Value {
				s.t.Errorf("%s is changed from %s to %s", p.Key, was, p.Value)
			}
			s.params[p.Key] = p.Value
		}
	case "runs/get":
		newest := map[string]mlflowMetric{}
		for _, p := range s.points[r.URL.Query().Get("run_id")] {
			if o, ok := newest[p.Key]; !ok || p.Step >= o.Step {
				newest[p.Key] = p
			}
		}
		l := []any{}
		for _, p := range newest {
			l = append(l, map[string]any{"key": p.Key, "step": fmt.Sprint(p.Step)})
		}
		params := []mlflowTag{}
		for k, v := range s.params {
			params = append(params, mlflowTag{k, v})
		}
		out = map[string]any{"run": map[string]any{"data": map[string]any{"metrics": l, "params": params}}}
	case "runs/update":
		s.status = in.Status
	default:
		s.t.Errorf("%s is asked for", r.URL)
	}
	if s.asked++; s.lose > 0 && s.asked%s.lose == 0 {
		w.WriteHeader(502)
		return
	}
	json.NewEncoder(w).Encode(out)
}

// numbers are the figures that the server has, as wantNumbers has them.
func (s *tracker) numbers() (out []string) {
	for _, l := range s.logs {
		for k, v := range l.Metrics {
			out = append(out, fmt.Sprint(l.Step, " ", k, " ", float32(v)))
		}
	}
	for _, points := range s.points {
		for _, p := range points {
			out = append(out, fmt.Sprint(p.Step, " ", p.Key, " ", float32(p.Value)))
		}
	}
	slices.Sort(out)
	return out
}

// track has a run of 320 steps, which is killed and resumed from earlier steps, sent to a tracker.
func track(t *testing.T, word string) {
	t.Helper()
	dir := t.TempDir()
	for _, c := range []struct{ resume, to uint64 }{{0, 150}, {70, 120}, {70, 70}, {100, 320}} {
		sink, err := newTracker(word)
		if err != nil {
			t.Fatal(err)
		}
		again := func(what string, f func() error) {
			t.Helper()
			for try := 0; ; try++ {
				err := f()
				if err == nil {
					return
				}
				if try == 20 {
					t.Fatalf("%s: %v", what, err)
				}
			}
		}
		var has run.Has
		again("open", func() (err error) { has, err = sink.Open(t.Context(), about(t, dir, c.resume)); return err })
		r := records(has.Step+1, c.to)
		half := len(r.Steps) / 2
		again("put", func() error { return sink.Put(t.Context(), run.Records{Steps: r.Steps[:half]}) })
		again("put", func() error { return sink.Put(t.Context(), run.Records{Steps: r.Steps[half:], Measured: r.Measured}) })
		again("close", func() error { return sink.Close(t.Context(), c.to == 320) })
	}
}

// A server that loses answers, a run that is killed, resumed from an earlier step and goes
// on: each figure is there once, in one run.
func TestTrackersHaveEachNumberOnce(t *testing.T) {
	for _, kind := range []string{"trackio", "mlflow"} {
		t.Run(kind, func(t *testing.T) {
			s := &tracker{t: t, logs: map[string]trackioLog{}, points: map[string][]mlflowMetric{}, params: map[string]string{}, lose: 7}
			server := httptest.NewServer(s)
			defer server.Close()
			track(t, kind+":"+server.URL+"/")
			want := wantNumbers(records(1, 320))
			if kind == "mlflow" {
				for i, w := range want {
					want[i] = strings.NewReplacer("[", "", "]", "").Replace(w)
				}
				slices.Sort(want)
				if s.status != "FINISHED" || len(s.runs) != 1 || s.params["optimizer.lr"] == "" || s.runs[0]["mlflow.runName"] == "" {
					t.Errorf("%s, %d runs, %v", s.status, len(s.runs), s.params)
				}
			}
			if got := s.numbers(); !slices.Equal(got, want) {
				t.Errorf("%d figures, want %d", len(got), len(want))
			}
		})
	}
}

// A run directory that another job is computed in is another run there.
func TestIdentityIsOfTheComputation(t *testing.T) {
	dir := t.TempDir()
	a := about(t, dir, 0)
	one, err := identify(a)
	if err != nil {
		t.Fatal(err)
	}
	a.Job.Cluster.Workers = 7 // decides no bit
	if two, err := identify(a); err != nil || two != one {
		t.Errorf("%v, want %v (%v)", two, one, err)
	}
	a.Job.Optimizer.LR *= 2
	if two, err := identify(a); err != nil || two.ID == one.ID {
		t.Errorf("%v, as before (%v)", two, err)
	}
	if err := os.WriteFile(filepath.Join(dir, identityFile), []byte("{torn"), 0o644); err != nil {
		t.Fatal(err)
	}
	if two, err := identify(a); err != nil || two.ID == "" {
		t.Errorf("after a torn file: %v (%v)", two, err)
	}
}

func TestTrackWords(t *testing.T) {
	for _, word := range []string{"", "trackio", "trackio:", "wandb:http://x", "mlflow:/x", "http://x", "trackio:ftp://x"} {
		if _, err := newTracker(word); !errors.As(err, new(usage.Error)) || !strings.Contains(err.Error(), "trackio:http://") {
			t.Errorf("%q: %v", word, err)
		}
	}
	s, err := newTracker("mlflow:http://me:secret@host:5000")
	if err != nil || strings.Contains(s.String(), "secret") {
		t.Errorf("%v (%v)", s, err)
	}
}
