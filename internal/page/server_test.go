package page

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vlaring/vlaring/pkg/run"
	"github.com/vlaring/vlaring/pkg/train"
)

func newPage(t *testing.T, listen string, dirs ...string) *Page {
	t.Helper()
	p, err := New(Options{Dirs: dirs, Listen: listen, Kinds: train.Kinds()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.l.Close() })
	return p
}

func get(p *Page, path string, change func(q *http.Request)) *httptest.ResponseRecorder {
	q := httptest.NewRequest("GET", path, nil)
	q.Host = "127.0.0.1:7007"
	if change != nil {
		change(q)
	}
	w := httptest.NewRecorder()
	p.Handler().ServeHTTP(w, q)
	return w
}

// Only who may ask is answered, and only about runs, and nothing is ever written.
func TestGuard(t *testing.T) {
	dir := t.TempDir()
	theRun(t, filepath.Join(dir, "x"), 3)
	write(t, dir, "x/broker.json", `{"token":"secret"}`)
	p := newPage(t, "127.0.0.1:0", dir)
	for name, c := range map[string]struct {
		path   string
		change func(q *http.Request)
		status int
	}{
		"the page":             {"/", nil, 200},
		"a module":             {"/plot.js", nil, 200},
		"runs":                 {"/api/runs", nil, 200},
		"localhost":            {"/api/runs", func(q *http.Request) { q.Host = "localhost:9" }, 200},
		"IPv6":                 {"/api/runs", func(q *http.Request) { q.Host = "[::1]:9" }, 200},
		"another name":         {"/api/runs", func(q *http.Request) { q.Host = "evil.example" }, 403},
		"a name like ours":     {"/", func(q *http.Request) { q.Host = "127.0.0.1.evil.example:7007" }, 403},
		"no name":              {"/", func(q *http.Request) { q.Host = "" }, 403},
		"another site":         {"/api/runs", func(q *http.Request) { q.Header.Set("Sec-Fetch-Site", "cross-site") }, 403},
		"a link from a site":   {"/", func(q *http.Request) { q.Header.Set("Sec-Fetch-Site", "cross-site") }, 200},
		"a form":               {"/api/runs", func(q *http.Request) { q.Method = "POST" }, 405},
		"a deletion":           {"/api/run?run=x", func(q *http.Request) { q.Method = "DELETE" }, 405},
		"the run":              {"/api/run?run=x", nil, 200},
		"a run that is none":   {"/api/run?run=y", nil, 404},
		"a path that climbs":   {"/api/run?run=" + url.QueryEscape("../"+filepath.Base(dir)+"/x"), nil, 404},
		"a path within":        {"/api/curves?run=" + url.QueryEscape("x/../x"), nil, 404},
		"a file":               {"/x/broker.json", nil, 404},
		"a file that climbs":   {"/..%2f..%2fserver.go", nil, 404},
		"a checkpoint of none": {"/api/verify?run=x&step=7", nil, 404},
	} {
		w := get(p, c.path, c.change)
		if w.Code != c.status {
			t.Errorf("%s: %d, want %d: %s", name, w.Code, c.status, w.Body)
		}
		if strings.Contains(w.Body.String(), "secret") {
			t.Errorf("%s: the token is told", name)
		}
		if !strings.Contains(w.Header().Get("Content-Security-Policy"), "default-src 'none'") || w.Header().Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: headers %v", name, w.Header())
		}
	}
}

// From elsewhere only who has the key is answered.
func TestKey(t *testing.T) {
	dir := t.TempDir()
	theRun(t, filepath.Join(dir, "x"), 3)
	p := newPage(t, "127.0.0.1:0", dir)
	p.key = "k3y"
	if w := get(p, "/api/runs", nil); w.Code != 401 {
		t.Errorf("without a key: %d", w.Code)
	}
	if w := get(p, "/?key=other", nil); w.Code != 401 {
		t.Errorf("with another key: %d", w.Code)
	}
	w := get(p, "/?key=k3y", nil)
	c := w.Result().Cookies()
	if w.Code != 303 || len(c) != 1 || !c[0].HttpOnly || c[0].SameSite != http.SameSiteStrictMode || w.Header().Get("Location") != "/" {
		t.Fatalf("with the key: %d, %v", w.Code, c)
	}
	if w := get(p, "/api/runs", func(q *http.Request) { q.Host = "10.0.0.1:7007"; q.AddCookie(c[0]) }); w.Code != 200 {
		t.Errorf("with the cookie: %d", w.Code)
	}
	if all := newPage(t, "0.0.0.0:0", dir); all.key == "" || !strings.Contains(all.URL(), "?key="+all.key) {
		t.Errorf("on all addresses without a key: %s", all.URL())
	}
	if own := newPage(t, "127.0.0.1:0", dir); own.key != "" {
		t.Error("a key on this machine's own address")
	}
}

// A link out of the given folder is not followed, a link within it is.
func TestLinks(t *testing.T) {
	dir, out := t.TempDir(), t.TempDir()
	theRun(t, filepath.Join(dir, "in"), 3)
	theRun(t, filepath.Join(out, "far"), 3)
	write(t, dir, "sneaky/"+run.OriginFile, "{}")
	write(t, out, "secret", metricsLine(1, 42))
	for to, from := range map[string]string{filepath.Join(out, "far"): "away", filepath.Join(out, "secret"): "sneaky/" + run.MetricsFile} {
		if err := os.Symlink(to, filepath.Join(dir, from)); err != nil {
			t.Fatal(err)
		}
	}
	p := newPage(t, "127.0.0.1:0", dir)
	var l listing
	if err := json.Unmarshal(get(p, "/api/runs", nil).Body.Bytes(), &l); err != nil {
		t.Fatal(err)
	}
	if len(l.Runs) != 2 || l.Runs[0].ID != "in" || l.Runs[1].ID != "sneaky" || len(l.Runs[1].Last) != 0 {
		t.Errorf("runs %+v", l.Runs)
	}
	if len(l.Notes) != 1 || !strings.Contains(l.Notes[0], "away is a link that leads out of") {
		t.Errorf("notes %v", l.Notes)
	}
	if w := get(p, "/api/curves?run=sneaky", nil); w.Code == 200 {
		t.Errorf("a link out of the folder was read: %s", w.Body)
	}
}

func TestSearch(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	theRun(t, filepath.Join(a, "x"), 1)
	theRun(t, filepath.Join(a, "deep/er/y"), 1)
	theRun(t, filepath.Join(a, "x/rescue/z"), 1) // within a run
	theRun(t, filepath.Join(a, ".hidden"), 1)
	theRun(t, filepath.Join(b, "x"), 1)
	found, notes := search([]string{a, b, filepath.Join(b, "x"), filepath.Join(b, "none")})
	var ids []string
	for _, s := range found {
		ids = append(ids, s.id)
	}
	if got := strings.Join(ids, ", "); got != "deep/er/y, x, x (2), x (3)" || len(notes) != 1 {
		t.Errorf("%s; %v", got, notes)
	}
	if _, err := New(Options{Dirs: []string{filepath.Join(b, "none")}, Listen: "127.0.0.1:0", Kinds: train.Kinds()}); err == nil || !strings.Contains(err.Error(), "there is no folder") {
		t.Errorf("a folder that is not there: %v", err)
	}
	if _, err := New(Options{Dirs: []string{a}, Listen: "here", Kinds: train.Kinds()}); err == nil || !strings.Contains(err.Error(), "--listen") {
		t.Errorf("an address that is none: %v", err)
	}
}

// Connections beyond the most wait, and are answered when others have gone.
func TestConnectionsAreBounded(t *testing.T) {
	dir := t.TempDir()
	theRun(t, filepath.Join(dir, "x"), 1)
	p := newPage(t, "127.0.0.1:0", dir)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	var open []net.Conn
	for range maxConns {
		c, err := net.Dial("tcp", p.l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
	}
	asked := make(chan int, 1)
	go func() {
		w, err := http.Get(p.URL())
		if err != nil {
			asked <- 0
			return
		}
		io.Copy(io.Discard, w.Body)
		w.Body.Close()
		asked <- w.StatusCode
	}()
	select {
	case code := <-asked:
		t.Errorf("one connection too many was answered: %d", code)
	case <-time.After(300 * time.Millisecond):
	}
	for _, c := range open {
		c.Close()
	}
	if code := <-asked; code != 200 {
		t.Errorf("once others had gone: %d", code)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
