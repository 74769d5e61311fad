package serve

import (
	"context"
	"crypto/subtle"
	"crypto/tls"
	"fmt"
	"log"
	"net/http"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/vlaring/vlaring/internal/usage"
	"github.com/vlaring/vlaring/pkg/trained"
)

// Policy is what is asked: a trained.Policy. Read is called by many goroutines at
// once, Answer by one.
type Policy interface {
	Card() trained.Card
	Read(trained.Observation) (q *trained.Question, notes []string, err error)
	Answer(qs []*trained.Question) ([]trained.Chunk, error)
}

// Server is a policy that clients are connected to. It is run once.
type Server struct {
	policy Policy
	o      Options
	tls    *tls.Config
	speaks protocol
	card   trained.Card
	names  names
	plan   plan // of a client that has just come
	asks   chan ask
	count  counters
	life   context.Context // ends when clients are no longer waited for
	die    context.CancelFunc

	mu       sync.Mutex
	clients  map[*client]bool // whether its question is under way
	draining bool
	talks    sync.WaitGroup
}

// New makes a server of a policy. Its errors are mistakes in the options.
func New(p Policy, o Options) (*Server, error) {
	o = o.withDefaults()
	config, err := o.check()
	if err != nil {
		return nil, err
	}
	s := &Server{policy: p, o: o, tls: config, card: p.Card(), asks: make(chan ask, o.Clients), clients: map[*client]bool{}}
	if s.speaks, err = protocolOf(o.Protocol); err != nil {
		return nil, err
	}
	if s.names, err = namesFor(s.card, o.Rename); err != nil {
		return nil, err
	}
	if err := s.speaks.check(o, s.names); err != nil {
		return nil, err
	}
	values := s.card.Actions.Shape[len(s.card.Actions.Shape)-1]
	if s.plan, err = planned(o.Execute, o.Ensemble, s.card.Chunk, values); err != nil {
		return nil, err
	}
	s.life, s.die = context.WithCancel(context.Background())
	return s, nil
}

// Run listens and serves until ctx ends. Then it takes no more clients and
// questions, answers those that are under way, and tells the clients; that takes
// at most Options.Drain. ready is told the URL once clients can come.
func (s *Server) Run(ctx context.Context, ready func(url string)) error {
	l, err := usage.Bind("--listen", s.o.Listen)
	if err != nil {
		return err
	}
	scheme := "ws"
	if s.tls != nil {
		l, scheme = tls.NewListener(l, s.tls), "wss"
	}
	answering := make(chan struct{})
	go func() {
		defer close(answering)
		s.answer()
	}()
	h := &http.Server{Handler: s.handler(), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 1 << 14,
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){}, // websockets are of HTTP/1.1
		ErrorLog:     log.New(discard{}, "", 0)}                                // what strangers send is no news
	served := make(chan error, 1)
	go func() { served <- h.Serve(l) }()
	ready(scheme + "://" + l.Addr().String())
	select {
	case err = <-served:
	case <-ctx.Done():
	}
	s.drain(h)
	close(s.asks)
	<-answering
	return err
}

// drain ends clients: idle ones at once, others behind their answer.
func (s *Server) drain(h *http.Server) {
	s.mu.Lock()
	s.draining = true
	for c, busy := range s.clients {
		if !busy {
			go c.conn.Close(websocket.StatusGoingAway, goingAway)
		}
	}
	s.mu.Unlock()
	hard := time.AfterFunc(s.o.Drain, func() {
		s.die()
		h.Close()
		s.mu.Lock()
		defer s.mu.Unlock()
		for c := range s.clients {
			if c.conn != nil {
				c.conn.CloseNow()
			}
		}
	})
	defer hard.Stop()
	defer s.die()
	h.Shutdown(s.life)
	s.talks.Wait()
}

const goingAway = "the server ends"

// handler answers HTTP: websockets on every path, as openpi's and vla-eval's servers
// do, but for those of health, which each of them has its own of, and metrics.
func (s *Server) handler() http.Handler {
	m := http.NewServeMux()
	health := func(kind, text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			if s.isDraining() {
				http.Error(w, goingAway, http.StatusServiceUnavailable)
				return
			}
			w.Header().Set("Content-Type", kind)
			fmt.Fprintln(w, text)
		}
	}
	m.HandleFunc("GET /healthz", health("text/plain; charset=utf-8", "OK"))
	m.HandleFunc("GET /health", health("application/json", `{"status": "ok"}`))
	m.HandleFunc("GET /metrics", s.guarded(func(w http.ResponseWriter, _ *http.Request) {
		s.mu.Lock()
		n := len(s.clients)
		s.mu.Unlock()
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		fmt.Fprint(w, s.count.text(n))
	}))
	m.HandleFunc("/", s.guarded(s.connect))
	return m
}

func (s *Server) isDraining() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.draining
}

// guarded asks for the key where there is one. Pages of a browser are no clients.
func (s *Server) guarded(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		switch {
		case s.o.Key != "" && !s.shown(r):
			s.count.refused.Add(1)
			http.Error(w, "the key is missing or wrong: Authorization: Api-Key KEY, or ws://any:KEY@host", http.StatusUnauthorized)
		case r.Header.Get("Origin") != "":
			http.Error(w, "a web page may not ask this server", http.StatusForbidden)
		default:
			next(w, r)
		}
	}
}

// shown says whether the request has the key: as openpi's client sends it, or as the
// password of a URL, the only way that vla-eval's has.
func (s *Server) shown(r *http.Request) bool {
	given := r.Header.Get("Authorization")
	if _, password, ok := r.BasicAuth(); ok {
		given = "Api-Key " + password
	}
	return subtle.ConstantTimeCompare([]byte(given), []byte("Api-Key "+s.o.Key)) == 1
}

// connect makes a client of a request.
func (s *Server) connect(w http.ResponseWriter, r *http.Request) {
	c := &client{s: s, addr: r.RemoteAddr}
	if why := s.enter(c); why != "" {
		s.count.refused.Add(1)
		http.Error(w, why, http.StatusServiceUnavailable)
		return
	}
	defer s.leave(c)
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return // it has been told
	}
	c.talk(conn)
}

// enter counts c among the clients, or says why it cannot be one.
func (s *Server) enter(c *client) (refusal string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.draining:
		return goingAway
	case len(s.clients) >= s.o.Clients:
		return fmt.Sprintf("%d clients are connected, which is the limit", s.o.Clients)
	}
	s.clients[c] = true // until it has been greeted
	s.talks.Add(1)
	return ""
}

func (s *Server) leave(c *client) {
	s.mu.Lock()
	delete(s.clients, c)
	s.mu.Unlock()
	s.talks.Done()
}

// busy notes whether a question of c is under way, and says whether c may go on.
func (s *Server) busy(c *client, is bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clients[c] = is
	return !s.draining
}

// ask is a question on its way.
type ask struct {
	q    *trained.Question
	gone context.Context
	to   chan<- answer // has room
}

type answer struct {
	chunk trained.Chunk
	err   error
}

// answer runs the policy, on as many questions as have come, until asks is closed.
func (s *Server) answer() {
	for first := range s.asks {
		batch := []ask{first}
	gather:
		for len(batch) < s.o.Together {
			select {
			case a, ok := <-s.asks:
				if !ok {
					break gather
				}
				batch = append(batch, a)
			default:
				break gather
			}
		}
		var qs []*trained.Question
		var to []chan<- answer
		for _, a := range batch {
			if a.gone.Err() == nil {
				qs, to = append(qs, a.q), append(to, a.to)
			}
		}
		if len(qs) == 0 {
			continue
		}
		began := time.Now()
		chunks, err := s.policy.Answer(qs)
		s.count.answered(len(qs), time.Since(began))
		for i, c := range to {
			if err != nil {
				c <- answer{err: err}
			} else {
				c <- answer{chunk: chunks[i]}
			}
		}
	}
}

// discard is nowhere.
type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }
