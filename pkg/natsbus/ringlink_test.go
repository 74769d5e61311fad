package natsbus

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/vlaring/vlaring/pkg/allreduce"
	"github.com/vlaring/vlaring/pkg/cluster"
)

// ringEncrypted opens the ring's connection, sends a frame to itself, and looks
// at how it is connected.
func ringEncrypted(t *testing.T, c *Conn) {
	t.Helper()
	n := ringWorks(t, c)
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, ok := n.link.nc.(*tls.Conn); !ok {
		t.Errorf("the ring's connection is a %T: not encrypted", n.link.nc)
	}
}

func ringWorks(t *testing.T, c *Conn) *network {
	t.Helper()
	net, err := c.Network()
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{64, 300 << 10} {
		frame := randomBytes(uint64(size), size)
		if err := net.Send(within(t), c.opt.Member, frame); err != nil {
			t.Fatal(err)
		}
		select {
		case got := <-net.Frames():
			if !bytes.Equal(got, frame) {
				t.Fatalf("a frame of %d bytes came as another", size)
			}
		case <-time.After(patience):
			t.Fatal("nothing came")
		}
	}
	return net.(*network)
}

// anyServer is a NATS server that is none of our brokers.
func anyServer(t *testing.T, o *server.Options) string {
	t.Helper()
	o.Host, o.Port, o.NoLog, o.NoSigs = "127.0.0.1", server.RANDOM_PORT, true, true
	s, err := server.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(patience) {
		t.Fatal("the server is not ready")
	}
	return s.Addr().String()
}

// TestRingShowsCredentials: each kind of credentials, to servers that want it.
func TestRingShowsCredentials(t *testing.T) {
	user := anyServer(t, &server.Options{Username: "u", Password: "wrong-secret"})
	token := anyServer(t, &server.Options{Authorization: "a-secret"})
	creds, jwtServer := jwtServer(t)
	for _, c := range []struct {
		name, url string
		creds     Credentials
	}{
		{"password", "nats://" + user, Credentials{User: "u", Password: "wrong-secret"}},
		{"password in the URL", "nats://u:wrong-secret@" + user, Credentials{}},
		{"token in the URL", "nats://a-secret@" + token, Credentials{}},
		{"credentials file", "nats://" + jwtServer, Credentials{CredsFile: creds}},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn, err := Connect(within(t), c.url, c.creds, ConnOptions{Job: "j", Member: "m"})
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			ringWorks(t, conn)
		})
	}
}

// jwtServer is a server of an operator, and a file of a user's credentials.
func jwtServer(t *testing.T) (creds, addr string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	operator, err := nkeys.CreateOperator()
	must(err)
	account, err := nkeys.CreateAccount()
	must(err)
	user, err := nkeys.CreateUser()
	must(err)
	operatorKey, err := operator.PublicKey()
	must(err)
	accountKey, err := account.PublicKey()
	must(err)
	userKey, err := user.PublicKey()
	must(err)
	accountJWT, err := jwt.NewAccountClaims(accountKey).Encode(operator)
	must(err)
	userJWT, err := jwt.NewUserClaims(userKey).Encode(account)
	must(err)
	seed, err := user.Seed()
	must(err)
	file, err := jwt.FormatUserConfig(userJWT, seed)
	must(err)
	creds = filepath.Join(t.TempDir(), "user.creds")
	must(os.WriteFile(creds, file, 0o600))
	resolver := &server.MemAccResolver{}
	must(resolver.Store(accountKey, accountJWT))
	return creds, anyServer(t, &server.Options{TrustedKeys: []string{operatorKey}, AccountResolver: resolver})
}

// TestTLSFirst: a server that says nothing before the handshake.
func TestTLSFirst(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	cert, key := a.issue("server")
	config, err := TLSFiles{Cert: cert, Key: key}.server(nil)
	if err != nil {
		t.Fatal(err)
	}
	addr := anyServer(t, &server.Options{TLS: true, TLSConfig: config, TLSTimeout: 10, TLSHandshakeFirst: true})
	conn, err := Connect(within(t), "tls://"+addr, Credentials{TLS: TLSFiles{CA: a.ca()}}, ConnOptions{Job: "j", Member: "m"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ringEncrypted(t, conn)
}

// TestRingRefusedLater: a server that comes back and takes other credentials ends the
// network, as it ends the other connections. One that does not prove to be the
// broker is told of, and the broker is waited for.
func TestRingRefusedLater(t *testing.T) {
	t.Parallel()
	url, first := outsider(t, server.Options{Username: "u", Password: "p"})
	told := newEvents()
	conn, err := Connect(within(t), url, Credentials{User: "u", Password: "p"}, ConnOptions{Job: "j", Member: "m", Event: told.tell})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	n := ringWorks(t, conn)
	at := first.Addr().(*net.TCPAddr).Port
	first.Shutdown()
	first.WaitForShutdown()
	second, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: at, NoLog: true, NoSigs: true, Username: "u", Password: "other"})
	if err != nil {
		t.Fatal(err)
	}
	second.Start()
	defer second.Shutdown()
	told.await(t, "tried again for")
	select {
	case _, open := <-n.Frames():
		if open {
			t.Error("a frame from nowhere")
		}
	case <-time.After(patience):
		t.Error("Frames stays open")
	}
	if err := n.Send(within(t), "m", []byte{1}); !errors.Is(err, allreduce.ErrUnsendable) || !errors.Is(err, cluster.ErrRefused) {
		t.Errorf("send: %v", err)
	}

	broker := startBroker(t, BrokerOptions{})
	told = newEvents()
	c := connectWith(t, broker, ConnOptions{Job: "j", Member: "m", Trouble: told.tell})
	n = ringWorks(t, c)
	broker.Shutdown()
	other := startBroker(t, BrokerOptions{Port: port(t, broker), Token: "other"})
	told.await(t, "it is not the broker of this token, and was not shown it")
	other.Shutdown()
	again(t, broker)
	eventually(t, "frames go through the broker that is back", func() bool {
		n.Send(within(t), "m", []byte{1})
		select {
		case <-n.Frames():
			return true
		case <-time.After(10 * time.Millisecond):
			return false
		}
	})
}

func TestRingServers(t *testing.T) {
	got := ringServers("nats://u:p@first:4222, second, nats://10.0.0.9:5", "nats://u:p@second:4222",
		[]string{"nats://first:4222", "nats://10.0.0.7:4222", "nats://second:4222", "nats://10.0.0.9:5", "nats://third:1"})
	want := []ringServer{
		{host: "second:4222", tlsName: "second"},
		{host: "10.0.0.7:4222", tlsName: "first", user: url.UserPassword("u", "p")},
		{host: "first:4222", tlsName: "first", user: url.UserPassword("u", "p")},
		{host: "10.0.0.9:5", tlsName: "10.0.0.9"},
		{host: "third:1", tlsName: "third", user: url.UserPassword("u", "p")},
	}
	if len(got) != len(want) {
		t.Fatalf("got %v", got)
	}
	for i := range want {
		if !reflect.DeepEqual(got[i], want[i]) {
			t.Errorf("server %d: %+v, want %+v", i, got[i], want[i])
		}
	}
}

// scripted is a link to a server that the test plays.
func scripted(t *testing.T, told *events) (*network, *ringLink, net.Conn) {
	t.Helper()
	ours, theirs := tcpPair(t)
	c := &Conn{opt: ConnOptions{Job: "j", Member: "m", Event: told.tell}}
	c.fate, c.doom = context.WithCancelCause(context.Background())
	n := &network{conn: c, subject: "vlaring.j.ring.m.*", prefix: "PUB vlaring.j.ring.", suffix: ".m ", liars: map[string]bool{}, frames: make(chan []byte, 16), opened: make(chan error, 1)}
	n.ctx, n.end = context.WithCancel(context.Background())
	t.Cleanup(n.end)
	l := &ringLink{nc: ours, in: newProtoReader(ours), server: "test"}
	l.tcp, _ = ours.(*net.TCPConn)
	return n, l, theirs
}

func tcpPair(t testing.TB) (a, b net.Conn) {
	t.Helper()
	listen, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listen.Close()
	if a, err = net.Dial("tcp", listen.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if b, err = listen.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

// TestRingHearsTheServer: what a server may say besides frames, and what it may not.
func TestRingHearsTheServer(t *testing.T) {
	told := newEvents()
	n, l, server := scripted(t, told)
	done := make(chan error, 1)
	go func() { done <- n.read(l) }()
	expect := func(words string) {
		t.Helper()
		got := make([]byte, len(words))
		server.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.ReadFull(server, got); err != nil || string(got) != words {
			t.Fatalf("the server got %q, %v; want %q", got, err, words)
		}
	}
	expect("SUB vlaring.j.ring.m.* 1\r\nPING\r\n")
	big := strings.Repeat("b", allreduce.MaxFrame+1)
	fmt.Fprintf(server, "PONG\r\nPING\r\n+OK\r\nMSG x 1 3\r\nabc\r\nMSG x 2 3\r\nxxx\r\nMSG x 1 0\r\n\r\nMSG x 1 %d\r\n%s\r\nMSG x 1 2\r\nde\r\n", len(big), big)
	expect("PONG\r\n")
	for _, want := range []string{"abc", "de"} {
		if got := <-n.frames; string(got) != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if err := <-n.opened; err != nil {
		t.Error(err)
	}
	fmt.Fprintf(server, "-ERR 'Permissions Violation for Publish to \"a\"'\r\nINFO {\"ldm\":true,\"max_payload\":77}\r\nMSG x 1 99999999999\r\n")
	told.await(t, "Permissions Violation for Publish")
	told.await(t, "about to stop")
	select {
	case err := <-done:
		if !errors.Is(err, errProto) {
			t.Errorf("the end: %v", err)
		}
	case <-time.After(patience):
		t.Fatal("nonsense did not end it")
	}
	if l.maxPayload.Load() != 77 {
		t.Errorf("max_payload %d", l.maxPayload.Load())
	}
	told.mu.Lock()
	defer told.mu.Unlock()
	if k := strings.Count(strings.Join(told.all, "\n"), "no frame"); k != 1 {
		t.Errorf("three messages that are no frames were told of %d times: %q", k, told.all)
	}
}

// TestRingGreets: beginnings that must not lead to credentials being shown, or
// to trust.
func TestRingGreets(t *testing.T) {
	for _, c := range []struct {
		name, words string
		tls         bool
		want        error
		prove       bool
	}{
		{"no INFO", "PING\r\n", false, errProto, true},
		{"INFO that is none", "INFO x\r\n", false, errProto, false},
		{"no TLS where it is wanted", "INFO {}\r\n", true, nats.ErrSecureConnWanted, false},
		{"words before TLS", "INFO {\"tls_required\":true}\r\nPONG\r\n", false, errProto, false},
		{"nothing", "", false, io.EOF, false},
		{"a message before the answer", "INFO {}\r\n|MSG a 1 1\r\n", false, errProto, false},
		{"refused", "INFO {}\r\n|+OK\r\n-ERR 'Authorization Violation'\r\n", false, nats.ErrAuthorization, false},
		{"taken", "INFO {}\r\n|PING\r\nINFO {\"max_payload\":5}\r\nPONG\r\n", false, nil, false},
		{"asked for no proof", "INFO {}\r\n", false, nats.ErrNkeysNotSupported, true},
		{"proof taken", "INFO {\"nonce\":\"abc\"}\r\n|PONG\r\n", false, nil, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, l, server := scripted(t, newEvents())
			conn := &Conn{opt: ConnOptions{Job: "j", Member: "m"}, creds: Credentials{Token: "a-secret"}, shows: !c.prove}
			conn.fate, conn.doom = context.WithCancelCause(context.Background())
			if c.tls {
				conn.config = func() *tls.Config { return &tls.Config{} }
			}
			heard := make(chan string, 1)
			go func() {
				defer close(heard)
				before, after, shown := strings.Cut(c.words, "|")
				io.WriteString(server, before)
				if shown {
					b := make([]byte, 4096)
					k, _ := server.Read(b)
					heard <- string(b[:k])
				}
				io.WriteString(server, after)
				server.(*net.TCPConn).CloseWrite()
				rest, _ := io.ReadAll(server)
				if !shown {
					heard <- string(rest)
				}
			}()
			err := conn.greet(l, ringServer{host: "h", tlsName: "h"})
			l.nc.Close()
			if !errors.Is(err, c.want) || c.want == nil && err != nil {
				t.Errorf("got %v, want %v", err, c.want)
			}
			got := <-heard
			spoke := strings.Contains(c.words, "|")
			if strings.Contains(got, "a-secret") != (spoke && !c.prove) || strings.Contains(got, `"nkey":"U`) != (spoke && c.prove) {
				t.Errorf("the server heard %q", got)
			}
		})
	}
}

// TestRingMakesNoGarbage: a chunk that is sent, and one that is received and
// given back, cost no allocation.
func TestRingMakesNoGarbage(t *testing.T) {
	n, l, server := scripted(t, newEvents())
	go io.Copy(io.Discard, server)
	for _, size := range []int{64, 512 << 10} {
		frame := make([]byte, size)
		if got := testing.AllocsPerRun(200, func() {
			if err := l.publish(n.prefix, "peer", n.suffix, frame); err != nil {
				t.Error(err)
			}
		}); got >= 1 {
			t.Errorf("sending %d bytes: %v allocations", size, got)
		}
	}
	n, l, server = scripted(t, newEvents())
	done := make(chan error, 1)
	go func() { done <- n.read(l) }()
	io.ReadFull(server, make([]byte, len("SUB vlaring.j.ring.m.* 1\r\nPING\r\n")))
	for _, size := range []int{64, 512 << 10} {
		words := []byte(fmt.Sprintf("MSG vlaring.j.ring.m 1 %d\r\n%s\r\n", size, make([]byte, size)))
		if got := testing.AllocsPerRun(200, func() {
			go server.Write(words)
			n.Release(<-n.frames)
		}); got >= 2 { // of the test's own: the goroutine
			t.Errorf("receiving %d bytes: %v allocations", size, got)
		}
	}
	n.end()
	<-done
}
