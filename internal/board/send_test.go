package board

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/internal/usage"
	"github.com/vlaring/vlaring/pkg/checkpoint"
	"github.com/vlaring/vlaring/pkg/run"
	"github.com/vlaring/vlaring/pkg/train"
)

// aRun is the directory of a run that is over, of 320 steps.
func aRun(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, b []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var steps, held bytes.Buffer
	r := records(1, 320)
	for _, m := range r.Steps {
		if err := json.NewEncoder(&steps).Encode(m); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range r.Measured {
		if err := json.NewEncoder(&held).Encode(m.Heldout); err != nil {
			t.Fatal(err)
		}
	}
	write(run.MetricsFile, steps.Bytes())
	write(run.EvalFile, held.Bytes())
	write(run.JobCopy, about(t, dir, 0).Job.YAML())
	write(run.OriginFile, []byte(`{"state":"done","step":320}`))
	return dir
}

// A run that is over is sent afterwards, by a command that fails on its way, is given
// again, and once more: each figure is there once, in one run that is finished.
func TestSendAfterwards(t *testing.T) {
	for _, kind := range []string{"trackio", "mlflow"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := &tracker{t: t, logs: map[string]trackioLog{}, points: map[string][]mlflowMetric{}, params: map[string]string{}}
			away := 0 // answers until it is away; 0: never
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if away > 0 {
					if away--; away == 0 {
						away = 1
						w.WriteHeader(503)
						return
					}
				}
				s.ServeHTTP(w, r)
			}))
			defer server.Close()
			dir := aRun(t)
			send := func() ([]run.Sent, error) {
				to, err := Sinks(false, []string{kind + ":" + server.URL})
				if err != nil {
					t.Fatal(err)
				}
				return run.Send(t.Context(), dir, train.Kinds(), "test", to)
			}
			away = map[string]int{"trackio": 1, "mlflow": 7}[kind]
			if _, err := send(); err == nil || !strings.Contains(err.Error(), "503") || !strings.Contains(err.Error(), "nothing will be there twice") {
				t.Errorf("of a server that goes: %v", err)
			}
			away = 0
			for range 2 {
				sent, err := send()
				if err != nil || len(sent) != 1 || sent[0].Step != 320 {
					t.Fatalf("%+v, %v", sent, err)
				}
			}
			want := wantNumbers(records(1, 320))
			if kind == "mlflow" {
				for i, w := range want {
					want[i] = strings.NewReplacer("[", "", "]", "").Replace(w)
				}
				slices.Sort(want)
				if s.status != "FINISHED" || len(s.runs) != 1 {
					t.Errorf("%s, %d runs", s.status, len(s.runs))
				}
			}
			if got := s.numbers(); !slices.Equal(got, want) {
				t.Errorf("%d figures, want %d", len(got), len(want))
			}
		})
	}
}

// What cannot be sent is said before anything is.
func TestSendRefuses(t *testing.T) {
	dir := aRun(t)
	lock, err := checkpoint.LockRunDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	empty := aRun(t)
	if err := os.WriteFile(filepath.Join(empty, run.MetricsFile), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]string{t.TempDir(): "no run directory", dir: "--resume --track", empty: "nothing to send"} {
		if _, err := run.Send(t.Context(), dir, train.Kinds(), "test", nil); !errors.As(err, new(usage.Error)) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	lock.Unlock()
	if sent, err := run.Send(t.Context(), dir, train.Kinds(), "test", nil); err != nil || len(sent) != 0 {
		t.Errorf("%v, %v", sent, err)
	}
}
