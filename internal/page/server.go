package page

import (
	"compress/gzip"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/vlaring/vlaring/internal/netaddr"
	"github.com/vlaring/vlaring/internal/usage"
	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/run"
)

// DefaultListen is where the page is unless it is told otherwise. Where the port is
// taken it is a free one.
const DefaultListen = "127.0.0.1:7007"

// maxConns is how many connections there are at once; others wait.
const maxConns = 64

// maxReaders is how many runs are kept as they were read; beyond, the one that was
// asked for longest ago is read again when it is next asked for.
const maxReaders = 48

// Options say what a page shows, and where.
type Options struct {
	Dirs   []string // run directories, or folders of them
	Coming bool     // Dirs may not be there yet
	Listen string   // host:port
	Flag   string   // that Listen was given by; empty: --listen
	Kinds  job.Kinds
	Scans  *data.ScanDir // keeps what was found in data, for samples; may be nil
}

// Page serves runs to browsers.
type Page struct {
	o    Options
	l    net.Listener
	key  string // that others must show; empty: only this machine can ask
	look *looker

	mu       sync.Mutex
	spots    []spot
	notes    []string
	sought   time.Time
	glimpses map[spot]glimpse
	readers  map[string]*reader
	order    []string // of readers, by when they were last asked for
	verify   chan struct{}
}

//go:embed assets
var assets embed.FS

// New takes the port, so that a mistake shows before anything has begun.
func New(o Options) (*Page, error) {
	if !o.Coming {
		if err := checkDirs(o.Dirs); err != nil {
			return nil, err
		}
	}
	if o.Flag == "" {
		o.Flag = "--listen"
	}
	p := &Page{o: o, readers: map[string]*reader{}, glimpses: map[spot]glimpse{}, verify: make(chan struct{}, 1), look: newLooker(o.Kinds, o.Scans)}
	var err error
	if p.l, err = usage.Bind(o.Flag, o.Listen); err != nil && o.Listen == DefaultListen {
		p.l, err = usage.Bind(o.Flag, "127.0.0.1:0")
	}
	if err != nil {
		return nil, err
	}
	if !loopback(p.l.Addr().String()) {
		var b [16]byte
		rand.Read(b[:])
		p.key = hex.EncodeToString(b[:])
	}
	return p, nil
}

// URL is where the page is, with the key where it wants one.
func (p *Page) URL() string {
	host, port, _ := net.SplitHostPort(p.l.Addr().String())
	if a, err := netip.ParseAddr(host); err == nil && a.IsUnspecified() {
		host = netaddr.Reached(host)[0]
	}
	u := "http://" + net.JoinHostPort(host, port) + "/"
	if p.key != "" {
		u += "?key=" + p.key
	}
	return u
}

// Run serves until ctx ends.
func (p *Page) Run(ctx context.Context) error {
	defer p.look.close()
	h := &http.Server{Handler: p.Handler(), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 2 * time.Minute, IdleTimeout: 30 * time.Second,
		MaxHeaderBytes: 1 << 14, ErrorLog: log.New(io.Discard, "", 0)} // what strangers send is no news
	served := make(chan error, 1)
	go func() { served <- h.Serve(&bounded{p.l, make(chan struct{}, maxConns)}) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	h.Close()
	<-served
	return nil
}

// Beside serves a page beside something else, until end, and has say tell its URL; no
// page where there is no address for one.
func Beside(o Options, say func(text string)) (end func(), err error) {
	if o.Listen == "" {
		return func() {}, nil
	}
	p, err := New(o)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.Run(ctx) // what ends it early costs the page alone
	}()
	say("page: " + p.URL())
	return func() { cancel(); <-done }, nil
}

// bounded is a listener with so many connections at once.
type bounded struct {
	net.Listener
	room chan struct{}
}

func (b *bounded) Accept() (net.Conn, error) {
	b.room <- struct{}{}
	c, err := b.Listener.Accept()
	if err != nil {
		<-b.room
		return nil, err
	}
	return &boundedConn{Conn: c, leave: sync.OnceFunc(func() { <-b.room })}, nil
}

type boundedConn struct {
	net.Conn
	leave func()
}

func (c *boundedConn) Close() error {
	defer c.leave()
	return c.Conn.Close()
}

// loopback says whether a host:port or a host is this machine's, for itself.
func loopback(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = strings.Trim(hostport, "[]")
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}

const cookie = "vlaring_page"

// guard lets those in who may ask, and tells browsers what a page may do.
func (p *Page) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		switch {
		case q.Method != http.MethodGet && q.Method != http.MethodHead:
			h.Set("Allow", "GET, HEAD")
			http.Error(w, "the page only reads", http.StatusMethodNotAllowed)
			return
		case p.key == "" && !loopback(q.Host):
			http.Error(w, "this page answers under localhost and 127.0.0.1 alone", http.StatusForbidden)
			return
		case q.Header.Get("Sec-Fetch-Site") == "cross-site" && q.URL.Path != "/":
			http.Error(w, "other sites may not ask", http.StatusForbidden)
			return
		}
		if p.key != "" {
			if is(q.URL.Query().Get("key"), p.key) {
				http.SetCookie(w, &http.Cookie{Name: cookie, Value: p.key, Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode})
				http.Redirect(w, q, "/", http.StatusSeeOther)
				return
			}
			if c, err := q.Cookie(cookie); err != nil || !is(c.Value, p.key) {
				http.Error(w, "open the whole URL that the command has printed: it ends in a key", http.StatusUnauthorized)
				return
			}
		}
		next.ServeHTTP(w, q)
	})
}

func is(given, key string) bool { return subtle.ConstantTimeCompare([]byte(given), []byte(key)) == 1 }

// Handler answers HTTP.
func (p *Page) Handler() http.Handler {
	m := http.NewServeMux()
	files, err := fs.Sub(assets, "assets")
	if err != nil {
		panic(err) // it is built in
	}
	m.Handle("GET /", http.FileServerFS(files))
	m.HandleFunc("GET /api/runs", func(w http.ResponseWriter, q *http.Request) { answer(w, q, p.runs(), nil) })
	m.HandleFunc("GET /api/run", p.ofRun(func(r *reader, w http.ResponseWriter, q *http.Request) {
		b, err := r.overview(q.FormValue("version"), q.FormValue("told"))
		if b == nil && err == nil {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		answer(w, q, b, err)
	}))
	m.HandleFunc("GET /api/curves", p.ofRun(func(r *reader, w http.ResponseWriter, q *http.Request) {
		c, err := r.curves(asked{int(whole(q, "epoch")), whole(q, "width"), whole(q, "since"), whole(q, "from"), whole(q, "to")})
		answer(w, q, c, err)
	}))
	m.HandleFunc("GET /api/verify", p.ofRun(func(r *reader, w http.ResponseWriter, q *http.Request) {
		answer(w, q, struct{}{}, r.verify(whole(q, "step"), p.verify))
	}))
	m.HandleFunc("GET /api/sample", p.ofRun(func(r *reader, w http.ResponseWriter, q *http.Request) {
		s, err := p.look.sample(q.Context(), r.spot, whole(q, "step"), int(whole(q, "sample")))
		answer(w, q, s, err)
	}))
	return p.guard(m)
}

// whole is a number of a question; 0 where there is none.
func whole(q *http.Request, name string) uint64 {
	n, _ := strconv.ParseUint(q.FormValue(name), 10, 53)
	return n
}

// ofRun answers of the run that a question names, if the page knows one of that name.
func (p *Page) ofRun(f func(r *reader, w http.ResponseWriter, q *http.Request)) http.HandlerFunc {
	return func(w http.ResponseWriter, q *http.Request) {
		r := p.reader(q.FormValue("run"))
		if r == nil {
			answer(w, q, nil, errUnknown)
			return
		}
		f(r, w, q)
	}
}

var errUnknown = errors.New("there is no such run (any more)")

// answer writes v as JSON, or what went wrong.
func answer(w http.ResponseWriter, q *http.Request, v any, err error) {
	status := http.StatusOK
	if err != nil {
		status = http.StatusInternalServerError
		if errors.Is(err, errUnknown) || errors.Is(err, fs.ErrNotExist) {
			status = http.StatusNotFound
		}
		v = map[string]string{"error": err.Error()}
	}
	b, ok := v.(json.RawMessage)
	if !ok {
		if b, err = json.Marshal(v); err != nil {
			status, b = http.StatusInternalServerError, []byte(`{"error":"the answer has a number that JSON cannot write"}`)
		}
	}
	w.Header().Set("Content-Type", "application/json")
	if len(b) > 4096 && strings.Contains(q.Header.Get("Accept-Encoding"), "gzip") {
		w.Header().Set("Content-Encoding", "gzip")
		w.WriteHeader(status)
		z, _ := gzip.NewWriterLevel(w, gzip.BestSpeed)
		z.Write(b) // who has gone reads nothing
		z.Close()
		return
	}
	w.WriteHeader(status)
	w.Write(b)
}

// seek searches the folders, not more often than every two seconds.
func (p *Page) seek() ([]spot, []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Since(p.sought) > 2*time.Second || len(p.spots) == 0 {
		p.spots, p.notes = search(p.o.Dirs)
		p.sought = time.Now()
		if p.o.Coming && len(p.spots) == 0 {
			p.notes = nil
		}
	}
	return p.spots, p.notes
}

// reader is that of the run called id; nil: there is none.
func (p *Page) reader(id string) *reader {
	spots, _ := p.seek()
	for _, s := range spots {
		if s.id != id {
			continue
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		for i, x := range p.order {
			if x == id {
				p.order = append(p.order[:i], p.order[i+1:]...)
				break
			}
		}
		p.order = append(p.order, id)
		if len(p.order) > maxReaders {
			delete(p.readers, p.order[0])
			p.order = p.order[1:]
		}
		r := p.readers[id]
		if r == nil || r.spot != s {
			r = newReader(s, p.o.Kinds)
			p.readers[id] = r
		}
		return r
	}
	return nil
}

// listing is all runs in a line each.
type listing struct {
	Runs    []glimpse `json:"runs"`
	Folders []string  `json:"folders"`
	Notes   []string  `json:"notes,omitempty"`
	Coming  bool      `json:"coming,omitempty"`
	Now     int64     `json:"now"`
}

func (p *Page) runs() listing {
	spots, notes := p.seek()
	l := listing{Runs: []glimpse{}, Folders: p.o.Dirs, Notes: notes, Coming: p.o.Coming, Now: time.Now().UnixMilli()}
	for _, s := range spots {
		g, err := p.glance(s)
		if err != nil {
			if !errors.Is(err, os.ErrNotExist) {
				l.Notes = append(l.Notes, fmt.Sprintf("%s: %v", s.id, err))
			}
			continue
		}
		g.ID = s.id
		l.Runs = append(l.Runs, g)
	}
	return l
}

// glance looks at a run, unless nothing of it has changed since: there may be many.
func (p *Page) glance(s spot) (glimpse, error) {
	root, err := s.open()
	if err != nil {
		return glimpse{}, err
	}
	defer root.Close()
	var as strings.Builder
	for _, name := range []string{run.MetricsFile, run.EvalFile, run.EventsFile, run.OriginFile, run.JobCopy} {
		if i, err := root.Stat(name); err == nil {
			fmt.Fprint(&as, i.Size(), " ", i.ModTime().UnixNano(), ";")
		}
	}
	p.mu.Lock()
	g, had := p.glimpses[s]
	p.mu.Unlock()
	if had && g.as == as.String() && g.State != run.StateRunning {
		return g, nil
	}
	g = glance(root, p.o.Kinds, time.Now())
	g.as = as.String()
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.glimpses) > 2*maxRuns {
		clear(p.glimpses)
	}
	p.glimpses[s] = g
	return g, nil
}
