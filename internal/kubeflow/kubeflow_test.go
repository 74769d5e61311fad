package kubeflow

import (
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vlaring/vlaring/pkg/worker"
)

// trainer is a status server, as Trainer's: by TLS, with a token.
type trainer struct {
	*httptest.Server
	env    map[string]string
	mu     sync.Mutex
	tokens []string
	got    []status
	answer int
}

func newTrainer(t *testing.T) *trainer {
	s := &trainer{answer: 200}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		var st status
		d := json.NewDecoder(q.Body)
		d.DisallowUnknownFields()
		s.mu.Lock()
		defer s.mu.Unlock()
		if err := d.Decode(&st); err != nil || q.Method != "POST" || q.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s, %v", q.Method, err)
		}
		s.tokens = append(s.tokens, q.Header.Get("Authorization"))
		s.got = append(s.got, st)
		w.WriteHeader(s.answer)
		io.WriteString(w, "the answer\nin two lines")
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	dir := t.TempDir()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	for name, b := range map[string][]byte{"ca": ca, "token": []byte("first\n")} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.env = map[string]string{urlEnv: s.URL + "/status", caEnv: filepath.Join(dir, "ca"), tokenEnv: filepath.Join(dir, "token")}
	return s
}

func (s *trainer) getenv(name string) string { return s.env[name] }

func (s *trainer) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.got)
}

func wait(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}

// The first rank tells, with the token as it is now, and once more at the end.
func TestReport(t *testing.T) {
	s := newTrainer(t)
	var mu sync.Mutex
	is := worker.Standing{Rank: 0, Planned: 200, Step: 50, Steps: 1, Loss: 0.25}
	end := report(s.getenv, func() worker.Standing { mu.Lock(); defer mu.Unlock(); return is }, func(text string) { t.Error(text) }, 5*time.Millisecond)
	wait(t, "a status", func() bool { return s.count() > 0 })
	if err := os.WriteFile(s.env[tokenEnv], []byte("second"), 0o600); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	is.Step = 200
	mu.Unlock()
	end()
	n := s.count()
	if s.tokens[0] != "Bearer first" || s.tokens[n-1] != "Bearer second" {
		t.Errorf("tokens %q … %q", s.tokens[0], s.tokens[n-1])
	}
	if got := s.got[0].Trainer; got.Percent != 25 || got.Metrics[2] != (metric{"loss", "0.25"}) || got.Remaining != nil {
		t.Errorf("first %+v", got)
	}
	if got := s.got[n-1].Trainer; got.Percent != 100 || got.Remaining == nil || *got.Remaining != 0 {
		t.Errorf("last %+v", got)
	}
	time.Sleep(30 * time.Millisecond)
	if s.count() != n {
		t.Error("it speaks after its end")
	}
}

// Other ranks, workers without a place, and processes that are no pod of a TrainJob say nothing.
func TestSilence(t *testing.T) {
	s := newTrainer(t)
	for _, is := range []worker.Standing{{Rank: 1, Planned: 2, Step: 1, Steps: 1}, {Rank: -1}, {Rank: 0, Planned: 9, Step: 4}} {
		report(s.getenv, func() worker.Standing { return is }, func(text string) { t.Error(text) }, time.Millisecond)()
	}
	Report(func(string) string { return "" }, nil, nil)()
	if s.count() != 0 {
		t.Errorf("%d were told", s.count())
	}
}

// What goes wrong is said once, in one line, and never with the token.
func TestTroubles(t *testing.T) {
	for what, c := range map[string]struct {
		break_ func(s *trainer)
		want   string
	}{
		"refused":        {func(s *trainer) { s.answer = 403 }, "403 Forbidden: the answer in two lines"},
		"redirected":     {func(s *trainer) { s.answer = 307 }, "307 Temporary Redirect"},
		"no TLS":         {func(s *trainer) { s.env[urlEnv] = "http://127.0.0.1:1/" }, "want an https:// URL"},
		"no token":       {func(s *trainer) { s.env[tokenEnv] += "x" }, tokenEnv + ": open "},
		"no authority":   {func(s *trainer) { s.env[caEnv] += "x" }, caEnv + ": open "},
		"no certificate": {func(s *trainer) { s.env[caEnv] = s.env[tokenEnv] }, "has no certificate"},
		"gone":           {func(s *trainer) { s.Close() }, "connection refused"},
		"another's":      {func(s *trainer) { s.env[urlEnv] = strings.Replace(s.env[urlEnv], "127.0.0.1", "localhost", 1) }, "certificate is valid for"},
	} {
		s := newTrainer(t)
		c.break_(s)
		var mu sync.Mutex
		var said []string
		is := worker.Standing{Planned: 2, Step: 1, Steps: 1, Loss: 1}
		end := report(s.getenv, func() worker.Standing { return is }, func(text string) { mu.Lock(); said = append(said, text); mu.Unlock() }, time.Millisecond)
		wait(t, what, func() bool { mu.Lock(); defer mu.Unlock(); return len(said) > 0 })
		time.Sleep(5 * time.Millisecond)
		end()
		if len(said) != 1 || !strings.Contains(said[0], c.want) || strings.Contains(said[0], "first") || strings.Contains(said[0], "\n") {
			t.Errorf("%s: %q, want %q", what, said, c.want)
		}
	}
}

func TestProgress(t *testing.T) {
	at := time.Date(2026, 5, 6, 7, 8, 9, 999, time.UTC)
	got := progress(worker.Standing{Step: 30, Planned: 90, Loss: 1.5}, at, 10*time.Second, 20)
	left := int64(30)
	want := status{trainerStatus{33, &left, []metric{{"step", "30"}, {"steps", "90"}, {"loss", "1.5"}, {"steps_per_second", "2"}}, at.Truncate(time.Second)}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	for _, m := range progress(worker.Standing{Step: 1, Planned: 2, Loss: math.NaN()}, at, 0, 0).Trainer.Metrics {
		if m.Name == "loss" {
			t.Error("a loss that is none was told")
		}
	}
	b, _ := json.Marshal(want)
	if s := string(b); !strings.Contains(s, `"lastUpdatedTime":"2026-05-06T07:08:09Z"`) || !strings.Contains(s, `"progressPercentage":33,"estimatedRemainingSeconds":30`) {
		t.Errorf("on the wire: %s", s)
	}
}
