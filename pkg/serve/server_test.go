package serve

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/vmihailenco/msgpack/v5"

	"github.com/vlaring/vlaring/pkg/trained"
)

// twin is a policy in memory: it answers a state with its double, twice. hold, where
// it is not nil, is received from before each answer.
type twin struct {
	hold chan struct{}

	mu      sync.Mutex
	asked   map[*trained.Question]float64
	batches []int
}

func (p *twin) Card() trained.Card {
	return trained.Card{Format: "vlaring-card", Job: "twin", Chunk: 2, Actions: trained.CardFeature{Name: "action", Shape: []int{2, 1}},
		Observation: []trained.CardFeature{{Name: "observation.state", Kind: trained.Numbers, Shape: []int{1}}}}
}

func (p *twin) Read(o trained.Observation) (*trained.Question, []string, error) {
	g, ok := o["observation.state"]
	if !ok {
		return nil, nil, errors.New("observation.state is missing")
	}
	q := new(trained.Question)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.asked == nil {
		p.asked = map[*trained.Question]float64{}
	}
	p.asked[q] = g.Floats[0]
	return q, []string{"read"}, nil
}

func (p *twin) Answer(qs []*trained.Question) (out []trained.Chunk, err error) {
	if p.hold != nil {
		<-p.hold
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.batches = append(p.batches, len(qs))
	for _, q := range qs {
		x := float32(2 * p.asked[q])
		out = append(out, trained.Chunk{x, x})
	}
	return out, nil
}

// running serves p until the test ends. stop ends it before, and waits.
func running(t *testing.T, p Policy, o Options) (s *Server, url string, stop func()) {
	t.Helper()
	o.Listen = "127.0.0.1:0"
	s, err := New(p, o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	at, ended := make(chan string, 1), make(chan error, 1)
	go func() { ended <- s.Run(ctx, func(url string) { at <- url }) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(stop)
	return s, <-at, stop
}

// robot is a client for tests.
type robot struct {
	t    testing.TB
	conn *websocket.Conn
	card map[string]any
}

func connect(t testing.TB, url string, o *websocket.DialOptions) *robot {
	t.Helper()
	conn, _, err := websocket.Dial(t.Context(), url, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.CloseNow() })
	r := &robot{t: t, conn: conn}
	_, b, err := conn.Read(t.Context())
	if err == nil {
		err = msgpack.Unmarshal(b, &r.card)
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *robot) send(m any) {
	b, err := msgpack.Marshal(m)
	if err == nil {
		err = r.conn.Write(r.t.Context(), websocket.MessageBinary, b)
	}
	if err != nil {
		r.t.Error(err)
	}
}

// answer reads an answer's actions; told is the error that came instead.
func (r *robot) answer() (actions []float32, told string) {
	kind, b, err := r.conn.Read(r.t.Context())
	if err != nil {
		r.t.Error(err)
		return nil, err.Error()
	}
	if kind == websocket.MessageText {
		return nil, string(b)
	}
	i := strings.Index(string(b), "\xc4\x04data\xc4") // bytes of less than 256, as encodeArray writes them
	return floats(b[i+8 : i+8+int(b[i+7])]), ""
}

func floats(b []byte) (x []float32) {
	for ; len(b) > 0; b = b[4:] {
		x = append(x, math.Float32frombits(binary.LittleEndian.Uint32(b)))
	}
	return x
}

func state(x float64) map[string]any { return map[string]any{"observation.state": []float64{x}} }

// until waits for what is to come by itself.
func until(t *testing.T, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it does not come")
		}
	}
}

// TestManyClients guards that 64 clients at once each get the answers to their own
// questions, that questions go together where they come together, and that a
// client more is refused.
func TestManyClients(t *testing.T) {
	p := &twin{hold: make(chan struct{})}
	s, url, _ := running(t, p, Options{})
	const each = 5
	robots := make([]*robot, 64)
	for i := range robots {
		robots[i] = connect(t, url, nil)
	}
	if card := robots[0].card; card["format"] != "vlaring-card" || card["job"] != "twin" {
		t.Errorf("the card: %v", card)
	}
	if _, resp, err := websocket.Dial(t.Context(), url, nil); err == nil || resp == nil || resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("a client above the limit: %v", err)
	}
	for _, r := range robots {
		r.send(state(0))
	}
	until(t, func() bool { return len(s.asks) == len(robots)-1 }) // the first is being answered
	close(p.hold)
	var all sync.WaitGroup
	for i, r := range robots {
		all.Go(func() {
			r.answer()
			for k := range each {
				x := float64(100*i + k)
				r.send(state(x))
				if got, told := r.answer(); told != "" || len(got) != 2 || got[0] != float32(2*x) || got[1] != got[0] {
					t.Errorf("client %d, question %d: %v %s", i, k, got, told)
				}
			}
		})
	}
	all.Wait()
	n, most := 0, 0
	for _, b := range p.batches {
		n, most = n+b, max(most, b)
	}
	if n != 64*(each+1) || most != 16 {
		t.Errorf("%d answers in batches of up to %d", n, most)
	}
}

// TestExecuteAndEnsemble guards what of its chunks openpi's client is answered, that
// the greeting says so, and that reset begins an ensemble anew.
func TestExecuteAndEnsemble(t *testing.T) {
	_, url, _ := running(t, &arm{}, Options{Execute: 3})
	ask := func(r *robot, x float64, more ...string) []float32 {
		t.Helper()
		o := map[string]any{"observation.images.image": "x", "observation.images.wrist": "x", "prompt": "open", "observation.state": []float64{x, 0, 0}}
		for _, key := range more {
			o[key] = true
		}
		r.send(o)
		got, told := r.answer()
		if told != "" {
			t.Error(told)
		}
		return got
	}
	r := connect(t, url, nil)
	if r.card["execute"] != int8(3) || r.card["ensemble"] != nil || r.card["chunk"] != int8(4) || r.card["job"] != "arm" {
		t.Errorf("%v", r.card)
	}
	for i, want := range [][]float32{{0, 7, 1, 7, 2, 7}, {100, 7, 101, 7, 102, 7}} {
		if got := ask(r, 7); !slices.Equal(got, want) {
			t.Errorf("answer %d: %v, want %v", i, got, want)
		}
	}
	_, url, _ = running(t, &arm{}, Options{Ensemble: true})
	r = connect(t, url, nil)
	if r.card["execute"] != int8(1) || r.card["ensemble"] != true {
		t.Errorf("%v", r.card)
	}
	w := math.Exp(-0.01)
	for i, want := range [][]float32{{0, 7}, {float32((1 + 100*w) / (1 + w)), 7}, {float32((2 + 101*w + 200*w*w) / (1 + w + w*w)), 7}} {
		if got := ask(r, 7); len(got) != 2 || math.Abs(float64(got[0]-want[0])) > 1e-4 || got[1] != 7 { // float32 of up to 200
			t.Errorf("answer %d: %v, want %v", i, got, want)
		}
	}
	if got := ask(r, 8, "reset"); !slices.Equal(got, []float32{300, 8}) {
		t.Errorf("behind a reset: %v", got)
	}
	if got := ask(connect(t, url, nil), 9); !slices.Equal(got, []float32{400, 9}) {
		t.Errorf("another client: %v", got)
	}
	for want, o := range map[string]Options{"--spec is what vla-eval's": {Spec: "x=raw:1"}, "--protocol ros: want openpi or vla-eval": {Protocol: "ros"}, "--execute 5: an answer": {Execute: 5}} {
		if _, err := New(&arm{}, o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// TestClientsThatDoNotKeepUp guards that whoever stalls in the middle of a message or
// reads no answer is ended by its deadline, and holds up nobody.
func TestClientsThatDoNotKeepUp(t *testing.T) {
	lost := make(chan string, 10)
	_, url, _ := running(t, &twin{}, Options{Transfer: 150 * time.Millisecond, Idle: 300 * time.Millisecond, Log: func(f string, args ...any) {
		if text := fmt.Sprintf(f, args...); strings.Contains(text, "lost") {
			lost <- text
		}
	}})
	stalls := connect(t, url, nil)
	w, err := stalls.conn.Writer(t.Context(), websocket.MessageBinary)
	if err == nil {
		_, err = w.Write(make([]byte, 1<<16)) // a frame of a message that does not end
	}
	if err != nil {
		t.Fatal(err)
	}
	connect(t, url, nil) // says nothing
	r := connect(t, url, nil)
	for range 20 {
		r.send(state(1))
		if got, told := r.answer(); told != "" || got[0] != 2 {
			t.Fatal(got, told)
		}
	}
	seen := map[string]bool{}
	for len(seen) < 2 {
		text := <-lost
		for _, why := range []string{"a message took longer than 150ms", "no message within 300ms"} {
			if strings.Contains(text, why) {
				seen[why] = true
			}
		}
	}
}

// TestErrorsAreTold guards that what is wrong comes as a text, with which the
// connection ends, and that others do not notice.
func TestErrorsAreTold(t *testing.T) {
	_, url, _ := running(t, &twin{}, Options{Message: 1 << 20})
	other := connect(t, url, nil)
	for name, c := range map[string]struct {
		kind    websocket.MessageType
		message []byte
		want    string
	}{
		"a text":          {websocket.MessageText, []byte("hello"), "a text message; want a binary one, of msgpack"},
		"no msgpack":      {websocket.MessageBinary, []byte{0xc1}, "msgpack"},
		"missing":         {websocket.MessageBinary, fixture(t, "file"), "observation.state is missing"},
		"a missing value": {websocket.MessageBinary, fixture(t, "nothing"), `"a": is nil`},
	} {
		r := connect(t, url, nil)
		if err := r.conn.Write(t.Context(), c.kind, c.message); err != nil {
			t.Fatal(err)
		}
		if _, told := r.answer(); !strings.Contains(told, c.want) {
			t.Errorf("%s: %q, want %q", name, told, c.want)
		}
		if _, _, err := r.conn.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusInternalError {
			t.Errorf("%s: then %v", name, err)
		}
	}
	large := connect(t, url, nil)
	large.conn.Write(t.Context(), websocket.MessageBinary, make([]byte, 2<<20))
	if _, _, err := large.conn.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusMessageTooBig {
		t.Errorf("a message above the limit: %v", err)
	}
	other.send(state(3))
	if got, told := other.answer(); told != "" || got[0] != 6 {
		t.Error(got, told)
	}
}

// TestDrain guards that a server that ends answers what it was asked, tells all
// clients, and takes nobody new.
func TestDrain(t *testing.T) {
	p := &twin{hold: make(chan struct{})}
	s, url, stop := running(t, p, Options{})
	idle, busy := connect(t, url, nil), connect(t, url, nil)
	busy.send(state(4))
	p.hold <- struct{}{} // its answer is being made
	busy.answer()
	busy.send(state(5))
	until(t, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		n := 0
		for _, busy := range s.clients {
			if busy {
				n++
			}
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		return n == 1 && len(p.asked) == 2 // the greetings are over
	})
	ended := make(chan struct{})
	go func() { stop(); close(ended) }()
	if _, _, err := idle.conn.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusGoingAway {
		t.Errorf("the idle client: %v", err)
	}
	if _, _, err := websocket.Dial(t.Context(), url, nil); err == nil {
		t.Error("a new client is taken")
	}
	p.hold <- struct{}{}
	if got, told := busy.answer(); told != "" || got[0] != 10 {
		t.Errorf("the question under way: %v %s", got, told)
	}
	if _, _, err := busy.conn.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusGoingAway {
		t.Errorf("the busy client: %v", err)
	}
	<-ended
}

// TestDrainEnds guards that the end of a server waits for nobody beyond its limit: not
// for a client whose turn comes late, and not for one whose answer does.
func TestDrainEnds(t *testing.T) {
	slow := &twin{}
	s, url, stop := running(t, slow, Options{Rate: 0.01, Drain: 100 * time.Millisecond})
	r := connect(t, url, nil)
	for range 2 { // the second may be asked 100 s later
		r.send(state(1))
	}
	r.answer()
	until(t, func() bool {
		slow.mu.Lock()
		defer slow.mu.Unlock()
		return len(slow.asked) == 2
	})
	began := time.Now()
	stop()
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("a client that waits for its turn is waited for: %v", took)
	}
	if s.life.Err() == nil {
		t.Error("the server has ended and lives")
	}

	p := &twin{hold: make(chan struct{})}
	_, url, stop = running(t, p, Options{Drain: 100 * time.Millisecond})
	held, late := connect(t, url, nil), connect(t, url, nil)
	held.send(state(1))
	until(t, func() bool { p.mu.Lock(); defer p.mu.Unlock(); return len(p.asked) == 1 })
	late.send(state(2))
	until(t, func() bool { p.mu.Lock(); defer p.mu.Unlock(); return len(p.asked) == 2 })
	ended := make(chan struct{})
	go func() { stop(); close(ended) }()
	if kind, b, err := late.conn.Read(t.Context()); err == nil && (kind != websocket.MessageText || string(b) != goingAway) {
		t.Errorf("an answer of a policy that is held up: %s", b)
	}
	close(p.hold) // a policy at work cannot be ended
	<-ended
}

// TestDoors guards health, metrics, the key, and that web pages are kept out.
func TestDoors(t *testing.T) {
	_, url, _ := running(t, &twin{}, Options{Key: "secret"})
	base := "http" + strings.TrimPrefix(url, "ws")
	get := func(path, key, origin string) (int, string) {
		req, _ := http.NewRequestWithContext(t.Context(), "GET", base+path, nil)
		if key != "" {
			req.Header.Set("Authorization", key)
		}
		if origin != "" {
			req.Header.Set("Origin", origin)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(b)
	}
	r := connect(t, url, &websocket.DialOptions{HTTPHeader: http.Header{"Authorization": {"Api-Key secret"}}})
	r.send(state(1))
	r.answer()
	for _, c := range []struct {
		path, key, origin string
		code              int
		want              string
	}{
		{"/healthz", "", "", 200, "OK\n"},
		{"/health", "", "", 200, `{"status": "ok"}`},
		{"/metrics", "Basic YW55OnNlY3JldA==", "", 200, "questions_total 1"}, // any:secret
		{"/metrics", "Basic YW55OnNlY3JlcA==", "", 401, "the key is missing or wrong"},
		{"/metrics", "Api-Key secret", "", 200, "vlaring_serve_questions_total 1\n"},
		{"/metrics", "Api-Key wrong", "", 401, "the key is missing or wrong"},
		{"/", "", "", 401, "the key is missing or wrong"},
		{"/", "secret", "", 401, "the key is missing or wrong"},
		{"/", "Api-Key secret", "http://evil.example", 403, "web page"},
		{"/", "Api-Key secret", "", 426, "WebSocket"},
	} {
		if code, text := get(c.path, c.key, c.origin); code != c.code || !strings.Contains(text, c.want) {
			t.Errorf("%+v: %d %s", c, code, text)
		}
	}
}

// TestTLS guards that a certificate is shown, and that a client without one of the
// authority's is refused where there is an authority.
func TestTLS(t *testing.T) {
	files, pool, own := certificate(t)
	_, url, _ := running(t, &twin{}, Options{TLS: files})
	client := func(c *tls.Config) *websocket.DialOptions {
		return &websocket.DialOptions{HTTPClient: &http.Client{Transport: &http.Transport{TLSClientConfig: c}}}
	}
	if !strings.HasPrefix(url, "wss://") {
		t.Error(url)
	}
	if _, _, err := websocket.Dial(t.Context(), url, client(&tls.Config{RootCAs: pool})); err == nil {
		t.Error("a client without a certificate is taken")
	}
	r := connect(t, url, client(&tls.Config{RootCAs: pool, Certificates: []tls.Certificate{own}}))
	r.send(state(1))
	if got, told := r.answer(); told != "" || got[0] != 2 {
		t.Error(got, told)
	}
}

// certificate is one that is its own authority, of 127.0.0.1.
func certificate(t *testing.T) (Files, *x509.CertPool, tls.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	f := Files{CA: filepath.Join(t.TempDir(), "ca.pem"), Key: filepath.Join(t.TempDir(), "key.pem")}
	f.Cert = f.CA
	for path, block := range map[string]*pem.Block{f.CA: {Type: "CERTIFICATE", Bytes: der}, f.Key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return f, pool, tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// TestOptions guards what a server is not started with.
func TestOptions(t *testing.T) {
	for want, o := range map[string]Options{
		"want host:port":                      {Listen: "8000"},
		"give --key-file, or --tls-cert":      {Listen: "0.0.0.0:8000"},
		"--tls-cert and --tls-key go":         {TLS: Files{Cert: "x"}},
		"--tls-ca wants --tls-cert":           {TLS: Files{CA: "x"}},
		"--tls-cert: ":                        {TLS: Files{Cert: "/nowhere", Key: "/nowhere"}},
		"--clients 5000: want 1 to 4096":      {Clients: 5000},
		"--batch 33: want 1 to 32":            {Together: 33},
		"--max-message 2048: want 1 to 1024":  {Message: 2 << 30},
		"--rate -1: want questions a second,": {Rate: -1},
		"--rate NaN: want questions a second": {Rate: math.NaN()},
		"--rate 1e-12: want questions a seco": {Rate: 1e-12},
	} {
		if _, err := New(&twin{}, o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	for _, o := range []Options{{}, {Listen: "localhost:1"}, {Listen: "[::1]:1"}, {Listen: "0.0.0.0:1", Key: "k"}} {
		if _, err := New(&twin{}, o); err != nil {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// BenchmarkQuestion is what a question with two pictures of 96×96 costs beside the
// policy: client, websocket, msgpack, and the way there and back between goroutines.
func BenchmarkQuestion(b *testing.B) {
	for _, protocol := range Protocols() {
		b.Run(protocol, func(b *testing.B) {
			s, err := New(&arm{}, Options{Listen: "127.0.0.1:0", Protocol: protocol, Ensemble: true})
			if err != nil {
				b.Fatal(err)
			}
			ctx, cancel := context.WithCancel(b.Context())
			at, ended := make(chan string, 1), make(chan error, 1)
			go func() { ended <- s.Run(ctx, func(url string) { at <- url }) }()
			conn, _, err := websocket.Dial(b.Context(), <-at, nil)
			if err != nil {
				b.Fatal(err)
			}
			picture := map[string]any{"__ndarray__": true, "data": make([]byte, 96*96*3), "dtype": "|u1", "shape": []int{96, 96, 3}}
			var o any = map[string]any{"observation.images.image": picture, "observation.images.wrist": picture, "observation.state": []float64{1, 2, 3}, "prompt": "open"}
			if protocol == "openpi" {
				_, _, err = conn.Read(b.Context()) // the card
			} else {
				o = map[string]any{"type": "observation", "payload": o, "seq": 1, "timestamp": 0.5}
			}
			message, wrong := msgpack.Marshal(o)
			if err != nil || wrong != nil {
				b.Fatal(err, wrong)
			}
			for b.Loop() {
				if err := conn.Write(b.Context(), websocket.MessageBinary, message); err != nil {
					b.Fatal(err)
				}
				if _, answer, err := conn.Read(b.Context()); err != nil || !strings.Contains(string(answer), "actions") {
					b.Fatalf("%q %v", answer, err)
				}
			}
			conn.Close(websocket.StatusNormalClosure, "")
			cancel()
			if err := <-ended; err != nil {
				b.Error(err)
			}
		})
	}
}
