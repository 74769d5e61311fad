package natsbus

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/vlaring/vlaring/pkg/allreduce"
	"github.com/vlaring/vlaring/pkg/cluster"
)

// outsider is a NATS server that is none of ours.
func outsider(t *testing.T, o server.Options) (url string, s *server.Server) {
	t.Helper()
	o.Host, o.Port, o.NoLog, o.NoSigs = "127.0.0.1", server.RANDOM_PORT, true, true
	s, err := server.NewServer(&o)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(patience) {
		t.Fatal("the server is not ready")
	}
	return "nats://" + s.Addr().String(), s
}

// A certificate's fault is said by its true kind, at once, with what to type.
func TestKindsOfTLSFaults(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	serverWith := func(name string, change func(c *x509.Certificate)) string {
		cert, key := a.issueAs(name, change)
		return startBroker(t, BrokerOptions{Token: "t", TLS: TLSFiles{Cert: cert, Key: key}}).URL()
	}
	names := serverWith("names", func(c *x509.Certificate) {
		c.IPAddresses, c.DNSNames = nil, []string{"head.example", "*.nodes.example"}
	})
	none := serverWith("none", func(c *x509.Certificate) { c.IPAddresses = nil })
	expired := serverWith("expired", func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour)
	})
	early := serverWith("early", func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now().Add(24*time.Hour), time.Now().Add(48*time.Hour)
	})
	client := serverWith("client", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} })
	good := serverWith("good", nil)
	http := listen(t, func(c net.Conn) { io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n") })
	for _, c := range []struct {
		what, url string
		files     TLSFiles
		want      string // of the error; empty: it works
	}{
		{"an address where the certificate has names", names, TLSFiles{CA: a.ca()}, "is for head.example, *.nodes.example and not for 127.0.0.1: connect by such a name, or give --tls-server-name head.example"},
		{"its name", names, TLSFiles{CA: a.ca(), Name: "head.example"}, ""},
		{"its wildcard", names, TLSFiles{CA: a.ca(), Name: "a.nodes.example"}, ""},
		{"another name", names, TLSFiles{CA: a.ca(), Name: "tail.example"}, "and not for tail.example"},
		{"no name at all", none, TLSFiles{CA: a.ca()}, "has no DNS name and no address"},
		{"expired", expired, TLSFiles{CA: a.ca()}, "expired on " + date(time.Now().Add(-24 * time.Hour))[:10]},
		{"not yet valid", early, TLSFiles{CA: a.ca()}, "is valid from " + date(time.Now().Add(24 * time.Hour))[:10]},
		{"a client's", client, TLSFiles{CA: a.ca()}, "is not one for servers"},
		{"no authority", good, TLSFiles{}, `it comes from "CN=test authority`},
		{"another server's port", "tls://" + http, TLSFiles{CA: a.ca()}, ""},
	} {
		t.Run(c.what, func(t *testing.T) {
			if c.what == "another server's port" {
				ctx, cancel := context.WithTimeout(context.Background(), time.Second)
				defer cancel()
				if _, err := Connect(ctx, c.url, Credentials{TLS: c.files}, ConnOptions{Job: "j", Member: "m"}); err == nil || !strings.Contains(err.Error(), http) {
					t.Fatalf("got %v", err)
				}
				return
			}
			conn, err := Connect(within(t), c.url, Credentials{Token: "t", TLS: c.files}, ConnOptions{Job: "j", Member: "m"})
			if c.want == "" && err == nil {
				conn.Close()
				return
			}
			if err == nil || c.want == "" || !strings.Contains(err.Error(), c.want) || errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("got %v, want %q at once", err, c.want)
			}
			if first, _, _ := strings.Cut(err.Error(), "("); strings.Contains(first, "not trusted") != (c.what == "no authority") {
				t.Errorf("it blames trust first: %v", err)
			}
		})
	}
}

// A server that wants TLS before it says anything is found out by itself.
func TestHandshakeFirst(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	cert, key := a.issue("server")
	config, err := TLSFiles{Cert: cert, Key: key}.server(nil)
	if err != nil {
		t.Fatal(err)
	}
	url, _ := outsider(t, server.Options{TLS: true, TLSConfig: config, TLSTimeout: 2, TLSHandshakeFirst: true, Authorization: "t"})
	c, err := Connect(within(t), "tls"+strings.TrimPrefix(url, "nats"), Credentials{Token: "t", TLS: TLSFiles{CA: a.ca()}}, ConnOptions{Job: "j", Member: "m"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Bus().Request(within(t), "vlaring.j.coordinator", nil); !errors.Is(err, cluster.ErrNoResponder) {
		t.Fatal(err)
	}
}

// listen answers every connection to a port of its own.
func listen(t *testing.T, answer func(c net.Conn)) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); answer(c) }()
		}
	}()
	return l.Addr().String()
}

// A frame that the server's max_payload does not take is told before the job
// begins, with the key and the value that fits; where only the run finds out,
// the ring is told that trying again is of no use.
func TestFramesBeyondMaxPayload(t *testing.T) {
	url, _ := outsider(t, server.Options{MaxPayload: 1 << 20})
	_, err := Connect(within(t), url, Credentials{}, ConnOptions{Job: "j", Member: "coordinator", Chunk: 1 << 20})
	if want := "set cluster.chunk_bytes to at most 1048512 (it is 1048576), or the server's max_payload to at least 1048640"; err == nil || !strings.Contains(err.Error(), want) {
		t.Fatalf("got %v, want %q", err, want)
	}
	c, err := Connect(within(t), url, Credentials{}, ConnOptions{Job: "j", Member: "w0", Chunk: 1048512})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	n, err := c.Network()
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Send(within(t), "w1", make([]byte, allreduce.FrameBytes(1048512))); err != nil {
		t.Error(err)
	}
	if err := n.Send(within(t), "w1", make([]byte, allreduce.FrameBytes(1048516))); !errors.Is(err, allreduce.ErrUnsendable) || !strings.Contains(err.Error(), "cluster.chunk_bytes") {
		t.Errorf("a frame that is too long: %v", err)
	}
	small, _ := outsider(t, server.Options{MaxPayload: 1 << 19})
	if _, err := Connect(within(t), small, Credentials{}, ConnOptions{Job: "j", Member: "w0"}); err == nil || !strings.Contains(err.Error(), "max_payload is 524288 bytes: set it to at least 1048576") {
		t.Errorf("a small max_payload: %v", err)
	}
}

// limited is a server whose user v, password p, may use the subjects alone.
func limited(t *testing.T, pub, sub []string) (url string, reload func(pub, sub []string)) {
	t.Helper()
	options := func(pub, sub []string) server.Options {
		return server.Options{Users: []*server.User{{Username: "v", Password: "p", Permissions: &server.Permissions{
			Publish: &server.SubjectPermission{Allow: pub}, Subscribe: &server.SubjectPermission{Allow: sub}}}}}
	}
	url, s := outsider(t, options(pub, sub))
	return url, func(pub, sub []string) {
		o := options(pub, sub)
		o.Host, o.Port, o.NoLog, o.NoSigs = "127.0.0.1", s.Addr().(*net.TCPAddr).Port, true, true
		if err := s.ReloadOptions(&o); err != nil {
			t.Fatal(err)
		}
	}
}

var limitedUser = Credentials{User: "v", Password: "p"}

// The subjects that docs/operations.md lists for each role are enough for all
// that it does, and each of them is needed: without it the cause is said.
func TestPermissions(t *testing.T) {
	table := map[string]permission{"coordinator": permissions("j", RoleCoordinator, "coordinator"), "w0": permissions("j", RoleWorker, "w0"), "ask": permissions("j", RoleOperator, "ask")}
	// whole does all that a role does, and returns the first error.
	whole := func(url, member string) error {
		c, err := Connect(within(t), url, limitedUser, ConnOptions{Job: "j", Member: member})
		if err != nil {
			return err
		}
		defer c.Close()
		ask := func(subject string) error {
			_, err := c.Bus().Request(within(t), subject, nil)
			if err == nil || errors.Is(err, cluster.ErrNoResponder) {
				return nil
			}
			return err
		}
		if member == "ask" {
			return cmp.Or(ask("vlaring.j.look"), ask("vlaring.j.order"))
		}
		listens := []string{"vlaring.j.coordinator", "vlaring.j.from.*", "vlaring.j.look", "vlaring.j.order"}
		says := "vlaring.j.coordinator" // it asks for another
		if member != "coordinator" {
			listens, says = []string{"vlaring.j.worker." + member}, "vlaring.j.from."+member
			n, err := c.Network()
			if err != nil {
				return err
			}
			if err := n.Send(within(t), "w1", []byte{1}); err != nil {
				return err
			}
		}
		if err := ask(says); err != nil {
			return err
		}
		for _, s := range listens {
			if _, err := c.Bus().Subscribe(s, func(string, []byte, func([]byte) error) {}); err != nil {
				return err
			}
		}
		if _, err := c.Blobs(nil); err != nil {
			return err
		}
		if member == "coordinator" {
			if err := ask("vlaring.j.worker.w0"); err != nil {
				return err
			}
		}
		_, err = c.bulkRequest(within(t), "vlaring.j.blob.w1", nil)
		if errors.Is(err, nats.ErrNoResponders) {
			err = nil
		}
		return err
	}
	without := func(l []string, i int) []string {
		rest := append(append([]string{}, l[:i]...), l[i+1:]...)
		return append(rest, "vlaring.other.>") // an empty list allows everything
	}
	for role, may := range table {
		url, _ := limited(t, may.publish, may.subscribe)
		if err := whole(url, role); err != nil {
			t.Errorf("%s with its subjects: %v", role, err)
		}
		for i, subject := range may.publish {
			url, _ := limited(t, without(may.publish, i), may.subscribe)
			if err := whole(url, role); err == nil || !strings.Contains(err.Error(), "does not let this user publish on") || !strings.Contains(err.Error(), `"vlaring.j.>"`) {
				t.Errorf("%s may not publish on %s: %v", role, subject, err)
			}
		}
		for i, subject := range may.subscribe {
			url, _ := limited(t, may.publish, without(may.subscribe, i))
			err := whole(url, role)
			if err == nil || !strings.Contains(err.Error(), "ubscri") || !errors.Is(err, nats.ErrPermissionViolation) {
				t.Errorf("%s may not subscribe to %s: %v", role, subject, err)
			}
		}
	}
}

// Permissions that are taken away in the middle end what waits, with the cause,
// and it is told once.
func TestPermissionsTakenAway(t *testing.T) {
	all := []string{"vlaring.j.>"}
	url, reload := limited(t, all, all)
	told := make(chan string, 9)
	c, err := Connect(within(t), url, limitedUser, ConnOptions{Job: "j", Member: "w0", Trouble: func(s string) { told <- s }})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	n, err := c.Network()
	if err != nil {
		t.Fatal(err)
	}
	reload([]string{"vlaring.j.coordinator", "vlaring.j.inbox.>"}, all)
	late := time.After(patience)
	for err == nil {
		err = n.Send(within(t), "w1", []byte{1})
		select {
		case <-late:
			t.Fatal("frames that nobody gets are sent for ever")
		case <-time.After(time.Millisecond):
		}
		if errors.Is(err, allreduce.ErrUnsendable) {
			break
		}
		err = nil
	}
	select {
	case s := <-told:
		if !strings.Contains(s, `does not let this user publish on "vlaring.j.ring.w1.w0"`) {
			t.Errorf("told %q", s)
		}
	case <-late:
		t.Fatal("nobody was told")
	}
	if _, err := c.Bus().Request(within(t), "vlaring.j.coordinator", nil); err == nil || !strings.Contains(err.Error(), "ring.w1") {
		t.Errorf("a request afterwards: %v", err)
	}
	select {
	case s := <-told:
		t.Errorf("told once more: %q", s)
	default:
	}
}

// A server that is full says so, whichever connection it is that has no place,
// and one that gets room is used.
func TestConnectionLimit(t *testing.T) {
	t.Parallel()
	url, _ := outsider(t, server.Options{MaxConn: 3})
	first, err := Connect(within(t), url, Credentials{}, ConnOptions{Job: "j", Member: "w0"})
	if err != nil {
		t.Fatal(err)
	}
	told := newEvents()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_, err = Connect(ctx, url, Credentials{}, ConnOptions{Job: "j", Member: "w1", Event: told.tell})
	want := "raise its max_connections (or the account's), a job needs 3 of them for each worker"
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Fatalf("got %v, want %q", err, want)
	}
	told.await(t, want)
	if len(told.all) > 2 { // that it closes connections, and that it is full
		t.Errorf("told %q", told.all)
	}
	told = newEvents()
	done := make(chan error, 1)
	go func() {
		c, err := Connect(within(t), url, Credentials{}, ConnOptions{Job: "j", Member: "w1", Event: told.tell})
		if err == nil {
			err = c.Close()
		}
		done <- err
	}()
	told.await(t, want)
	first.Close()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// A server that cuts a slow reader again and again is told from one that is
// restarted now and then.
func TestCuts(t *testing.T) {
	now := time.Now()
	var often, seldom cuts
	for i := range 100 {
		if got, want := often.add(now.Add(time.Duration(i)*time.Second)), i == cutsMany-1; got != want {
			t.Errorf("cut %d of one a second: %v, want %v", i+1, got, want)
		}
		if at := now.Add(time.Duration(i) * time.Second); often.known(at) != (i >= cutsMany-1) || often.known(at.Add(cutsWithin)) {
			t.Errorf("after cut %d each one by itself is news: %v", i+1, !often.known(at))
		}
		if seldom.add(now.Add(time.Duration(i) * cutsWithin / (cutsMany - 1))) {
			t.Errorf("cut %d of a few a minute is told of", i+1)
		}
	}
}

// A server whose max_pending is below what is in flight cuts a reader again and
// again: that is told once, with what to raise, and then each cut is no news.
func TestSlowConsumerIsToldOnce(t *testing.T) {
	url, srv := outsider(t, server.Options{MaxPending: 1 << 20, MaxPayload: 1 << 20})
	trouble, told := newEvents(), newEvents()
	c, err := Connect(within(t), url, Credentials{}, ConnOptions{Job: "j", Member: "w0", Event: told.tell, Trouble: trouble.tell})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	n, err := c.Network() // whose reader is slower than a sender without credit
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	other, err := Connect(within(t), url, Credentials{}, ConnOptions{Job: "j", Member: "w1"})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	from, err := other.Network()
	if err != nil {
		t.Fatal(err)
	}
	frame := make([]byte, 1<<19)
	send := func(while func() bool) {
		for end := time.Now().Add(patience); while() && time.Now().Before(end); {
			from.Send(within(t), "w0", frame)
			for drained := false; !drained; { // or it would never connect anew
				select {
				case <-n.Frames():
				default:
					drained = true
				}
			}
		}
	}
	count := func(e *events, text string) (n int) {
		e.mu.Lock()
		defer e.mu.Unlock()
		for _, s := range e.all {
			if strings.Contains(s, text) {
				n++
			}
		}
		return n
	}
	send(func() bool { return count(trouble, "") == 0 })
	trouble.await(t, "has cut the ring connection of w0 5 times within 1m0s")
	before, cuts := count(told, "reconnecting"), srv.NumSlowConsumers()
	send(func() bool { return srv.NumSlowConsumers() < cuts+4 }) // three of which the reader has come back from
	if n := srv.NumSlowConsumers(); n < cuts+4 {
		t.Errorf("the server has cut the reader %d times more", n-cuts)
	}
	if more := count(told, "reconnecting") - before; more > 1 || count(trouble, "") != 1 {
		t.Errorf("%d cuts more are told of, and %d troubles", more, count(trouble, ""))
	}
}

// To a NATS server with a token that is known by its certificate the token is
// shown, and to no other; and a broker takes a token that is shown, from other programs.
func TestTokenToOtherServers(t *testing.T) {
	a := newAuthority(t)
	cert, key := a.issue("server")
	config, err := TLSFiles{Cert: cert, Key: key}.server(nil)
	if err != nil {
		t.Fatal(err)
	}
	url, _ := outsider(t, server.Options{Authorization: "secret", TLS: true, TLSConfig: config, TLSTimeout: 5})
	c, err := Connect(within(t), "tls"+strings.TrimPrefix(url, "nats"), Credentials{Token: "secret", TLS: TLSFiles{CA: a.ca()}}, ConnOptions{Job: "j", Member: "m"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	n, err := c.Network()
	if err != nil {
		t.Fatal(err)
	}
	n.Close()
	plain, _ := outsider(t, server.Options{Authorization: "secret"})
	if _, err := Connect(within(t), plain, Credentials{Token: "secret"}, ConnOptions{Job: "j", Member: "m"}); err == nil || !strings.Contains(err.Error(), "it does not prove to be the broker of this token, and was not shown it") {
		t.Errorf("a server that is known by nothing: %v", err)
	}
	broker := startBroker(t, BrokerOptions{Token: "secret"})
	r, err := net.Dial("tcp", strings.TrimPrefix(broker.URL(), "nats://"))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	io.WriteString(r, "CONNECT {\"verbose\":true,\"auth_token\":\"secret\"}\r\n")
	in := bufio.NewScanner(r)
	for in.Scan() && strings.HasPrefix(in.Text(), "INFO") {
	}
	if in.Text() != "+OK" {
		t.Errorf("the broker says %q to its token", in.Text())
	}
}

// Certificates with DNS names alone serve a broker on all addresses: its own
// process needs none, and others are told which name to ask for.
func TestBrokerWithNamesAlone(t *testing.T) {
	a := newAuthority(t)
	cert, key := a.issueAs("server", func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{"*.jobs.svc"} })
	b := startBroker(t, BrokerOptions{Host: "0.0.0.0", Job: "j", TLS: TLSFiles{Cert: cert, Key: key}})
	own, err := Connect(within(t), "", Credentials{}, ConnOptions{Job: "j", Member: "coordinator", Broker: b})
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	if b.TLSName() != "vlaring.jobs.svc" {
		t.Fatalf("the name to ask for is %q", b.TLSName())
	}
	c, err := Connect(within(t), b.URL(), Credentials{Token: b.Token(), TLS: TLSFiles{CA: a.ca(), Name: b.TLSName()}}, ConnOptions{Job: "j", Member: "w0"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if state, err := c.control.TLSConnectionState(); err != nil || !state.HandshakeComplete || state.Version < tls.VersionTLS12 {
		t.Errorf("TLS %+v, %v", state, err)
	}
}

// What is printed for a broker on all addresses can be dialled.
func TestAddresses(t *testing.T) {
	for _, host := range []string{"0.0.0.0", "::"} {
		b, err := StartBroker(BrokerOptions{Host: host})
		if host == "::" && err != nil {
			t.Logf("no IPv6 here: %v", err)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, url := range append(b.Others(), b.URL()) {
			if strings.Contains(url, "0.0.0.0") || strings.Contains(url, "[::]") {
				t.Errorf("listening on %s: %s cannot be dialled from elsewhere", host, url)
			}
			c, err := Connect(within(t), url, Credentials{Token: b.Token()}, ConnOptions{Job: "j", Member: "m"})
			if err != nil {
				t.Errorf("listening on %s: %v", host, err)
				continue
			}
			c.Close()
		}
		b.Shutdown()
	}
}
