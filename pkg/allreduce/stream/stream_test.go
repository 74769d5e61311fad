package stream

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vlaring/vlaring/pkg/allreduce"
	"github.com/vlaring/vlaring/pkg/allreduce/nettest"
)

// silent is a fallback that carries nothing, and counts what it is given.
type silent struct {
	frames chan []byte
	once   sync.Once
	mu     sync.Mutex
	sent   int
}

func newSilent() *silent { return &silent{frames: make(chan []byte)} }

func (s *silent) Send(context.Context, string, []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent++
	return nil
}
func (s *silent) Frames() <-chan []byte { return s.frames }
func (s *silent) Release([]byte)        {}
func (s *silent) Close() error {
	s.once.Do(func() { close(s.frames) })
	return nil
}

func (s *silent) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sent
}

// open is a network for each member, its End changed by set before anything runs.
func open(t *testing.T, members []string, encrypt bool, fallback func(string) allreduce.Network, set ...func(*allreduce.End)) []*Network {
	t.Helper()
	var l []*Network
	for _, m := range members {
		l0, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		end := allreduce.End{Member: m, Listener: l0, Fallback: fallback(m), Encrypt: encrypt}
		for _, f := range set {
			f(&end)
		}
		n, err := New(end)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { n.Close() })
		l = append(l, n)
	}
	return l
}

func (n *Network) address() string { return n.opt.Listener.Addr().String() }

// between is the secret of two members.
func between(a, b string) []byte { return []byte("of " + min(a, b) + " and " + max(a, b)) }

// form makes a generation of all.
func form(t *testing.T, generation uint64, l []*Network) {
	t.Helper()
	var wg sync.WaitGroup
	for _, n := range l {
		peers := map[string]allreduce.Peer{}
		for _, p := range l {
			if p != n {
				peers[p.opt.Member] = allreduce.Peer{Address: p.address(), Secret: between(n.opt.Member, p.opt.Member)}
			}
		}
		wg.Go(func() {
			if bad := n.Form(t.Context(), generation, peers); len(bad) > 0 {
				t.Errorf("%s cannot reach %v", n.opt.Member, bad)
			}
		})
	}
	wg.Wait()
}

func TestNetwork(t *testing.T) {
	for _, encrypt := range []bool{false, true} {
		t.Run(fmt.Sprint("encrypted ", encrypt), func(t *testing.T) {
			nettest.Run(t, func(t *testing.T, members []string) (nets []allreduce.Network) {
				hub := allreduce.NewMemNetwork(allreduce.Faults{})
				l := open(t, members, encrypt, hub.Join)
				form(t, 1, l)
				for _, n := range l {
					nets = append(nets, n)
				}
				return nets
			})
		})
	}
}

func receive(t *testing.T, n *Network) []byte {
	t.Helper()
	select {
	case f := <-n.Frames():
		return f
	case <-time.After(time.Minute):
		t.Fatal("nothing came")
		return nil
	}
}

// Frames go over streams where there are any, and over the fallback where not:
// before a generation, to who cannot be reached, behind a connection that broke.
func TestFallback(t *testing.T) {
	falls := map[string]*silent{}
	l := open(t, []string{"a", "b"}, false, func(m string) allreduce.Network {
		falls[m] = newSilent()
		return falls[m]
	})
	a, b := l[0], l[1]
	send := func(text string) {
		t.Helper()
		if err := a.Send(t.Context(), "b", []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	send("before")
	if falls["a"].count() != 1 {
		t.Error("a frame before the generation did not go over the fallback")
	}
	form(t, 1, l)
	send("direct")
	if got := string(receive(t, b)); got != "direct" || falls["a"].count() != 1 {
		t.Errorf("b got %q, %d frames went over the fallback", got, falls["a"].count())
	}
	for _, n := range l { // every connection breaks
		n.mu.Lock()
		for c := range n.in {
			c.Close()
		}
		n.mu.Unlock()
	}
	for falls["a"].count() == 1 { // what is on its way may be lost; then it goes round
		a.Send(t.Context(), "b", []byte("lost"))
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) { // and it is dialled again
		n := falls["a"].count()
		send("again")
		if falls["a"].count() == n {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("a broken connection does not come back")
		}
	}
	for string(receive(t, b)) != "again" {
	}
	gone := map[string]allreduce.Peer{"b": {Address: "127.0.0.1:1", Secret: between("a", "b")}}
	if bad := a.Form(t.Context(), 2, gone); bad["b"] == nil {
		t.Error("a peer at a closed port counts as reached")
	}
	n := falls["a"].count()
	send("around")
	if falls["a"].count() != n+1 {
		t.Error("a frame to a peer that cannot be reached did not go over the fallback")
	}
}

// Whoever does not know the secret, means another member or another generation,
// or speaks something else, gets no frame and gives none.
func TestStrangers(t *testing.T) {
	l := open(t, []string{"a", "b", "c"}, false, func(string) allreduce.Network { return newSilent() })
	form(t, 5, l)
	secret := between("a", "b")
	a := l[0]
	for name, c := range map[string]struct {
		h      hello
		secret []byte
	}{
		"another secret":                   {hello{generation: 5, from: "b", to: "a"}, []byte("guessed")},
		"a member that passes for another": {hello{generation: 5, from: "b", to: "a"}, between("a", "c")},
		"who is no neighbour":              {hello{generation: 5, from: "d", to: "a"}, secret},
		"another member":                   {hello{generation: 5, from: "b", to: "c"}, secret},
		"an older generation":              {hello{generation: 4, from: "b", to: "a"}, secret},
	} {
		conn, err := net.Dial("tcp", a.address())
		if err != nil {
			t.Fatal(err)
		}
		if err := introduce(conn, c.h, c.secret, nil); err == nil {
			t.Errorf("%s: it was let in", name)
		}
		conn.Close()
	}
	for _, noise := range []string{"", "GET / HTTP/1.1\r\n\r\n", magic, strings.Repeat("x", 1<<16)} {
		conn, err := net.Dial("tcp", a.address())
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(conn, noise)
		conn.Close()
	}
	// one that knows the secret, and sends a length that no frame has
	for _, size := range []uint32{0, allreduce.MaxFrame + 1, 1 << 31} {
		conn, err := net.Dial("tcp", a.address())
		if err != nil {
			t.Fatal(err)
		}
		if err := introduce(conn, hello{generation: 5, from: "b", to: "a"}, secret, nil); err != nil {
			t.Fatal(err)
		}
		conn.Write(binary.LittleEndian.AppendUint32(nil, size))
		conn.SetReadDeadline(time.Now().Add(time.Minute))
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !strings.Contains(fmt.Sprint(err), "reset") {
			t.Errorf("a frame of %d bytes: %v", size, err)
		}
		conn.Close()
	}
	// a listener that does not know it is not sent to
	liar, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer liar.Close()
	go func() {
		for {
			c, err := liar.Accept()
			if err != nil {
				return
			}
			if h, err := readHello(c); err == nil {
				answer(c, &h, []byte("guessed"), nil)
			}
			c.Close()
		}
	}()
	if bad := a.Form(t.Context(), 6, map[string]allreduce.Peer{"b": {Address: liar.Addr().String(), Secret: secret}}); !errors.Is(bad["b"], errProof) {
		t.Errorf("a listener without the secret: %v", bad["b"])
	}
}

// In the middle stands somebody who ends TLS on both sides and passes everything
// on: the proofs are of two different sessions.
func TestManInTheMiddle(t *testing.T) {
	l := open(t, []string{"a", "b"}, true, func(string) allreduce.Network { return newSilent() })
	a, b := l[0], l[1]
	middle, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer middle.Close()
	cert, err := certificate()
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := middle.Accept()
			if err != nil {
				return
			}
			in, _, err := encrypt(c, cert, false)
			if err != nil {
				continue
			}
			d, err := net.Dial("tcp", b.address())
			if err != nil {
				continue
			}
			out, _, err := encrypt(d, cert, true)
			if err != nil {
				continue
			}
			go io.Copy(out, in)
			go func() { io.Copy(in, out); in.Close() }()
		}
	}()
	secret := between("a", "b")
	go b.Form(t.Context(), 1, map[string]allreduce.Peer{"a": {Secret: secret}})
	if bad := a.Form(t.Context(), 1, map[string]allreduce.Peer{"b": {Address: middle.Addr().String(), Secret: secret}}); !errors.Is(bad["b"], errProof) {
		t.Errorf("through somebody in the middle: %v", bad["b"])
	}
}

// A peer that is frozen does not hold up the ring for longer than a bound.
func TestFrozenPeer(t *testing.T) {
	l := open(t, []string{"a", "b"}, false, func(string) allreduce.Network { return newSilent() })
	form(t, 1, l) // nobody reads b's frames
	frame := make([]byte, 1<<20)
	for range 200 {
		start := time.Now()
		err := l[0].Send(t.Context(), "b", frame)
		if d := time.Since(start); d > writeWait+10*time.Second {
			t.Fatalf("a frame took %v", d)
		}
		if err != nil {
			return
		}
	}
	t.Error("200 MB went to a peer that takes nothing")
}

func FuzzHello(f *testing.F) {
	f.Add([]byte(magic + strings.Repeat("a", 60)))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := readHello(strings.NewReader(string(b)))
		if err != nil {
			return
		}
		var again strings.Builder
		if err := h.write(&again); err != nil || !strings.HasPrefix(string(b), again.String()) {
			t.Errorf("%q is read as %+v and written as %q", b, h, again.String())
		}
	})
}

// A member whose frames bear another one's rank is cut off by name, and none of
// these frames is passed on; its own are.
func TestFramesInAnotherName(t *testing.T) {
	var mu sync.Mutex
	var told []string
	l := open(t, []string{"a", "b", "c"}, false, func(string) allreduce.Network { return newSilent() }, func(e *allreduce.End) {
		if e.Member == "a" {
			e.Event = func(text string) { mu.Lock(); told = append(told, text); mu.Unlock() }
		}
	})
	form(t, 3, l)
	l[0].Only(allreduce.Group{Generation: 3, Members: []string{"a", "b", "c"}})
	frame := func(generation uint64, rank byte) []byte {
		f := make([]byte, 64)
		binary.LittleEndian.PutUint64(f[8:], generation)
		f[46] = rank
		return f
	}
	for _, f := range [][]byte{frame(3, 1), frame(2, 7), frame(3, 2)} { // its own; stale, which nobody reads; c's
		if err := l[1].Send(t.Context(), "a", f); err != nil {
			t.Fatal(err)
		}
	}
	if err := l[2].Send(t.Context(), "a", frame(3, 2)); err != nil {
		t.Fatal(err)
	}
	for range 3 { // b's two and c's own, in whatever order
		receive(t, l[0])
	}
	late := time.Now().Add(time.Minute)
	for {
		mu.Lock()
		said := strings.Join(told, "; ")
		mu.Unlock()
		if strings.Contains(said, "worker b sends frames of the ring in another one's name") {
			break
		}
		if time.Now().After(late) {
			t.Fatalf("told %q", said)
		}
		time.Sleep(time.Millisecond)
	}
	select {
	case f := <-l[0].Frames():
		t.Errorf("a frame in another one's name was passed on: %x", f)
	case <-time.After(50 * time.Millisecond):
	}
}
