package health

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/vlaring/vlaring/internal/netaddr"
	"github.com/vlaring/vlaring/internal/usage"
)

// Options say where a process shows how it does.
type Options struct {
	Listen  string // host:port; empty: nowhere
	OTLP    string // URL of a collector of OpenTelemetry; empty: what its variables say
	Pprof   bool   // Go's profiles too
	Version string // of this program
	Job     string // name
	Role    string // coordinator or worker
}

// shows says whether anybody is shown anything.
func (o Options) shows() bool {
	p, err := o.push(os.Getenv)
	return o.Listen != "" || p.url != "" || err != nil
}

// show serves probes and figures, and sends figures, as far as o says, until end is called.
func show(o Options, live, ready check, say func(text string), figures ...prometheus.Collector) (end func(), err error) {
	if o.Listen == "" && o.Pprof {
		return nil, usage.Errorf("--pprof shows profiles at the address of --health: give that too, e.g. --health 127.0.0.1:8080")
	}
	p, err := o.push(os.Getenv)
	if err != nil || o.Listen == "" && p.url == "" {
		return func() {}, err
	}
	reg, err := registry(o, figures...)
	if err != nil {
		return nil, err
	}
	sent := func() {}
	if p.url != "" {
		if sent, err = p.run(o, reg, say); err != nil {
			return nil, err
		}
	}
	if o.Listen == "" {
		return sent, nil
	}
	s, err := serve(o, live, ready, reg)
	if err != nil {
		sent()
		return nil, err
	}
	say("health: " + s.where())
	return func() { sent(); s.close() }, nil
}

// check says what is wrong; nil: nothing.
type check func() error

// maxConns is how many connections there are at once. One more is closed: what
// probes has to be answered at once or not at all.
const maxConns = 64

// slowest is how long a question may take, profiles of a minute included.
const slowest = 2 * time.Minute

// server answers until it is closed.
type server struct {
	l    net.Listener
	h    *http.Server
	done chan struct{}
}

// registry is of all figures of the process.
func registry(o Options, figures ...prometheus.Collector) (*prometheus.Registry, error) {
	reg := prometheus.NewRegistry()
	about := prometheus.NewGauge(prometheus.GaugeOpts{Name: "vlaring_info", Help: "1; its labels say which program of which release this is, and the job that it works for.",
		ConstLabels: prometheus.Labels{"role": o.Role, "version": o.Version, "name": o.Job}})
	about.Set(1)
	for _, c := range append(figures, about, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})) {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return reg, nil
}

// serve takes the port, so that a mistake shows before anything has begun.
func serve(o Options, live, ready check, reg *prometheus.Registry) (*server, error) {
	l, err := usage.Bind("--health", o.Listen)
	if err != nil {
		return nil, err
	}
	s := &server{l: l, done: make(chan struct{}), h: &http.Server{Handler: handler(o, live, ready, reg), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: slowest, IdleTimeout: 30 * time.Second, MaxHeaderBytes: 1 << 14, ErrorLog: log.New(io.Discard, "", 0)}} // what strangers send is no news
	go func() {
		defer close(s.done)
		s.h.Serve(&bounded{l, make(chan struct{}, maxConns)}) // what ends it early costs the figures alone
	}()
	return s, nil
}

// close ends it; what is being answered has a moment.
func (s *server) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if s.h.Shutdown(ctx) != nil {
		s.h.Close()
	}
	<-s.done
}

// where is the address, in words.
func (s *server) where() string {
	host, port, _ := net.SplitHostPort(s.l.Addr().String())
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = netaddr.Reached(host)[0]
	}
	return "http://" + net.JoinHostPort(host, port) + "/ (healthz, readyz, metrics)"
}

func handler(o Options, live, ready check, reg *prometheus.Registry) http.Handler {
	m := http.NewServeMux()
	for path, c := range map[string]check{"/healthz": live, "/readyz": ready} {
		m.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			w.Header().Set("Cache-Control", "no-store")
			if err := c(); err != nil {
				w.WriteHeader(http.StatusServiceUnavailable)
				fmt.Fprintln(w, err)
				return
			}
			fmt.Fprintln(w, "ok")
		})
	}
	m.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 10 * time.Second}))
	m.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "/healthz /readyz /metrics")
	})
	if o.Pprof {
		m.HandleFunc("GET /debug/pprof/", pprof.Index)
		m.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
		m.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		m.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		m.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	return m
}

// bounded is a listener that closes connections beyond so many.
type bounded struct {
	net.Listener
	room chan struct{}
}

func (b *bounded) Accept() (net.Conn, error) {
	for {
		c, err := b.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case b.room <- struct{}{}:
			return &boundedConn{Conn: c, room: b.room}, nil
		default:
			c.Close()
		}
	}
}

// boundedConn gives its place back once.
type boundedConn struct {
	net.Conn
	room chan struct{}
	once sync.Once
}

func (c *boundedConn) Close() error {
	c.once.Do(func() { <-c.room })
	return c.Conn.Close()
}
