package natsbus

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/vlaring/vlaring/internal/limits"
	"github.com/vlaring/vlaring/internal/netaddr"
	"github.com/vlaring/vlaring/pkg/cluster"
)

func keyOf(t *testing.T, token string, role Role, id string, until time.Time) Key {
	t.Helper()
	k, err := NewKey(token, "j", role, id, time.Now(), until)
	if err != nil {
		t.Fatal(err)
	}
	k, err = ParseKey(k.String()) // as it comes from a file
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// as connects with a key.
func as(t *testing.T, url string, k Key) (*Conn, error) {
	t.Helper()
	member := k.ID
	if k.asks() {
		member = AskMember
	}
	c, err := Connect(within(t), url, Credentials{Key: &k}, ConnOptions{Job: "j", Member: member})
	if err == nil {
		t.Cleanup(func() { c.Close() })
	}
	return c, err
}

// Whoever has taken the port of a broker that died hears nothing that is worth
// anything: no token, no proof of it, no word of the job. A broker that comes back
// at another port is found there.
func TestSquattedPort(t *testing.T) {
	const token = "the-secret-token"
	broker := startBroker(t, BrokerOptions{Token: token, Job: "j"})
	var moved atomic.Pointer[string]
	told := newEvents()
	c, err := Connect(within(t), broker.URL(), Credentials{Token: token}, ConnOptions{Job: "j", Member: "w0", Event: told.tell,
		Moved: func() string {
			if s := moved.Load(); s != nil {
				return *s
			}
			return ""
		}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	n, err := c.Network()
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	port := port(t, broker)
	broker.Shutdown()

	forged, err := identityTLS("another-token")
	if err != nil {
		t.Fatal(err)
	}
	heard := make(chan string, 1024)
	var visits [3]atomic.Int64
	l, err := net.Listen("tcp", strings.TrimPrefix(broker.URL(), "nats://"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for i := 0; ; i++ {
			s, err := l.Accept()
			if err != nil {
				return
			}
			way := i % 3
			visits[way].Add(1)
			go func() {
				defer s.Close()
				const info = `INFO {"server_id":"x","version":"2.15.2","proto":1,"headers":true,"max_payload":1048576,"nonce":"abcdefghijk"%s}` + "\r\n"
				s.SetDeadline(time.Now().Add(2 * time.Second))
				var in io.Reader = s
				switch way {
				case 0: // without TLS
					fmt.Fprintf(s, info, "")
				case 1: // with a certificate of its own
					fmt.Fprintf(s, info, `,"tls_available":true`)
					in = tls.Server(s, forged)
				case 2: // in the hope to be taken for one that comes later with TLS
					fmt.Fprintf(s, info, `,"tls_available":true`)
				}
				for r := bufio.NewScanner(in); r.Scan(); {
					heard <- r.Text()
				}
			}()
		}
	}()
	eventually(t, "all three were tried", func() bool {
		return visits[0].Load() > 1 && visits[1].Load() > 1 && visits[2].Load() > 1
	})
	again := startBroker(t, BrokerOptions{Token: token, Job: "j"})
	url := again.URL()
	moved.Store(&url)
	eventually(t, "the broker is found at its new port", func() bool {
		_, err := c.Bus().Request(within(t), "vlaring.j.look", nil)
		return errors.Is(err, cluster.ErrNoResponder)
	})
	eventually(t, "the ring's connection, too", func() bool {
		return again.server.GlobalAccount().SubscriptionInterest("vlaring.j.ring.w0.w1")
	})
	for len(heard) > 0 {
		if s := <-heard; strings.Contains(s, token) || strings.Contains(s, "CONNECT") || strings.Contains(s, "sig") || strings.Contains(s, "vlaring") {
			t.Errorf("the squatter heard %q", s)
		}
	}
	if _, err := Connect(within(t), fmt.Sprintf("nats://127.0.0.1:%d", port), Credentials{Token: "another"}, ConnOptions{Job: "j", Member: "w1"}); err == nil || !strings.Contains(err.Error(), "was not shown it") {
		t.Errorf("a newcomer is told %v", err)
	}
}

// say publishes on a subject of c's server, and returns whether that was forbidden.
func (e *events) has(text string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, s := range e.all {
		if strings.Contains(s, text) {
			return true
		}
	}
	return false
}

// roles are one connection of each role, and where their complaints go.
func roles(t *testing.T, open func(k Key, o ConnOptions) (*Conn, error), token string) (conns map[string]*Conn, told map[string]*events) {
	t.Helper()
	conns, told = map[string]*Conn{}, map[string]*events{}
	for _, k := range []Key{
		keyOf(t, token, RoleCoordinator, "coordinator", time.Time{}), keyOf(t, token, RoleWorker, "w0", time.Time{}), keyOf(t, token, RoleWorker, "w1", time.Now().Add(time.Hour)),
		keyOf(t, token, RoleOperator, "ops", time.Time{}), keyOf(t, token, RoleWatcher, "eve", time.Time{}),
	} {
		e := newEvents()
		o := ConnOptions{Job: "j", Member: k.ID, Event: e.tell, Trouble: e.tell}
		if k.asks() {
			o.Member = AskMember
		}
		c, err := open(k, o)
		if err != nil {
			t.Fatalf("%s %s: %v", k.Role, k.ID, err)
		}
		t.Cleanup(func() { c.Close() })
		conns[k.ID], told[k.ID] = c, e
	}
	return conns, told
}

// mayAndMayNot is what each role can do in its job, and what it cannot.
func mayAndMayNot(t *testing.T, conns map[string]*Conn, told map[string]*events) {
	t.Helper()
	c := conns["coordinator"]
	heard := make(chan string, 64)
	for _, s := range []string{"vlaring.j.coordinator", "vlaring.j.from.*", "vlaring.j.look", "vlaring.j.order"} {
		if _, err := c.Bus().Subscribe(s, func(from string, _ []byte, reply func([]byte) error) {
			heard <- s + " " + from
			if reply != nil {
				reply([]byte("aye"))
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	asks := func(who, subject string) {
		t.Helper()
		if got, err := conns[who].Bus().Request(within(t), subject, nil); err != nil || string(got) != "aye" {
			t.Errorf("%s asks %s: %q, %v", who, subject, got, err)
		}
	}
	asks("w0", "vlaring.j.from.w0")
	asks("ops", "vlaring.j.look")
	asks("ops", "vlaring.j.order")
	asks("eve", "vlaring.j.look")
	for _, w := range []string{"w0", "w1"} {
		if _, err := conns[w].Bus().Subscribe("vlaring.j.worker."+w, func(_ string, _ []byte, reply func([]byte) error) { reply([]byte("aye")) }); err != nil {
			t.Fatal(err)
		}
	}
	asks("coordinator", "vlaring.j.worker.w1")
	blobs := openBlobs(t, conns["w1"])
	if err := blobs.Offer("x", 3, hashOf([]byte("abc")), strings.NewReader("abc")); err != nil {
		t.Fatal(err)
	}
	for _, who := range []string{"w0", "coordinator"} {
		if got, err := openBlobs(t, conns[who]).Get(within(t), "w1", "x", 10); err != nil || string(got) != "abc" {
			t.Errorf("%s fetches %q, %v", who, got, err)
		}
	}
	n0, err := conns["w0"].Network()
	if err != nil {
		t.Fatal(err)
	}
	n1, err := conns["w1"].Network()
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "a frame of w0's has come to w1", func() bool {
		if err := n0.Send(within(t), "w1", make([]byte, 64)); err != nil {
			t.Fatal(err)
		}
		select {
		case <-n1.Frames():
			return true
		case <-time.After(20 * time.Millisecond):
			return false
		}
	})
	for _, no := range []struct{ who, how, subject, what string }{
		{"w0", "Publish to", "vlaring.j.coordinator", "as a coordinator to others"},
		{"w0", "Publish to", "vlaring.j.worker.w1", "as the coordinator to a worker"},
		{"w0", "Publish to", "vlaring.j.from.w1", "as another worker to the coordinator"},
		{"w0", "Publish to", "vlaring.j.ring.w1.w2", "as another rank to a rank"},
		{"w0", "Publish to", "vlaring.j.inbox.w1.x", "an answer that nobody asked of it"},
		{"w0", "Publish to", "vlaring.j.order", "an order from outside"},
		{"w0", "Publish to", "vlaring.k.from.w0", "in another job"},
		{"w0", "Subscription to", "vlaring.j.>", "all of its job"},
		{"w0", "Subscription to", "vlaring.j.from.*", "what workers say"},
		{"w0", "Subscription to", "vlaring.j.worker.w1", "what another worker is told"},
		{"w0", "Subscription to", "vlaring.j.inbox.w1.>", "answers to another worker"},
		{"w0", "Subscription to", "vlaring.j.ring.w1.*", "another worker's gradients"},
		{"w0", "Subscription to", "vlaring.j.blob.coordinator", "requests for the coordinator's blobs"},
		{"w0", "Subscription to", "vlaring.k.>", "another job"},
		{"w0", "Subscription to", "$SYS.>", "the server's own"},
		{"eve", "Publish to", "vlaring.j.order", "an order"},
		{"eve", "Publish to", "vlaring.j.from.w0", "as a worker"},
		{"eve", "Publish to", "vlaring.j.blob.coordinator", "a request for weights"},
		{"eve", "Publish to", "vlaring.j.worker.w0", "as the coordinator"},
		{"eve", "Subscription to", "vlaring.j.asked.ops.>", "answers to an operator"},
		{"eve", "Subscription to", "vlaring.j.inbox.w0.>", "answers to a worker"},
		{"ops", "Publish to", "vlaring.j.worker.w0", "as the coordinator"},
		{"coordinator", "Publish to", "vlaring.j.from.w0", "as a worker"},
		{"coordinator", "Publish to", "vlaring.k.coordinator", "to another job"},
	} {
		c := conns[no.who].control
		if no.how == "Publish to" {
			err = c.Publish(no.subject, nil)
		} else {
			_, err = c.SubscribeSync(no.subject)
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Flush(); err != nil {
			t.Fatal(err)
		}
		eventually(t, fmt.Sprintf("%s is forbidden to speak or hear %s (%s %s)", no.who, no.what, no.how, no.subject), func() bool {
			return told[no.who].has(fmt.Sprintf("%s %q", no.how, no.subject)) || strings.Contains(fmt.Sprint(c.LastError()), fmt.Sprintf("%s %q", no.how, no.subject))
		})
	}
	for len(heard) > 0 {
		if s := <-heard; s != "vlaring.j.from.* w0" && s != "vlaring.j.look look" && s != "vlaring.j.order order" {
			t.Errorf("the coordinator heard %q", s)
		}
	}
}

// With keys each member of a job can do what its role does and nothing else: on a
// broker, and on a NATS server that has the lines that ServerConfig gives.
func TestRolesOnABroker(t *testing.T) {
	broker := startBroker(t, BrokerOptions{Token: "secret", Job: "j"})
	conns, told := roles(t, func(k Key, o ConnOptions) (*Conn, error) {
		return Connect(within(t), broker.URL(), Credentials{Key: &k}, o)
	}, "secret")
	mayAndMayNot(t, conns, told)
}

func TestRolesOnAnyServer(t *testing.T) {
	var keys []Key
	for _, w := range []struct {
		role Role
		id   string
	}{{RoleCoordinator, "coordinator"}, {RoleWorker, "w0"}, {RoleWorker, "w1"}, {RoleOperator, "ops"}, {RoleWatcher, "eve"}} {
		keys = append(keys, keyOf(t, "secret", w.role, w.id, time.Time{}).ForServer())
	}
	file := filepath.Join(t.TempDir(), "nats.conf")
	if err := os.WriteFile(file, []byte(ServerConfig(keys)), 0o600); err != nil {
		t.Fatal(err)
	}
	o, err := server.ProcessConfigFile(file)
	if err != nil {
		t.Fatalf("%v\n%s", err, ServerConfig(keys))
	}
	url, _ := outsider(t, *o)
	conns, told := roles(t, func(k Key, o ConnOptions) (*Conn, error) {
		for i := range keys {
			if keys[i].ID == k.ID {
				return Connect(within(t), url, Credentials{Key: &keys[i]}, o)
			}
		}
		panic("no such key")
	}, "secret")
	mayAndMayNot(t, conns, told)
}

// A key is taken for what it was made for, and no word of it can be changed.
func TestKeysAreRefused(t *testing.T) {
	broker := startBroker(t, BrokerOptions{Token: "secret", Job: "j"})
	good := keyOf(t, "secret", RoleWorker, "w0", time.Now().Add(time.Hour))
	if _, err := as(t, broker.URL(), good); err != nil {
		t.Fatal(err)
	}
	change := func(f func(k *Key)) Key {
		k := good
		f(&k)
		return k
	}
	for what, k := range map[string]Key{
		"another worker":    change(func(k *Key) { k.ID = "w1" }),
		"a greater role":    change(func(k *Key) { k.Role, k.ID = RoleCoordinator, "coordinator" }),
		"an operator":       change(func(k *Key) { k.Role = RoleOperator }),
		"a longer time":     change(func(k *Key) { k.Until = k.Until.Add(time.Hour) }),
		"no end":            change(func(k *Key) { k.Until = time.Time{} }),
		"made later":        change(func(k *Key) { k.Made = k.Made.Add(time.Hour) }),
		"another token's":   change(func(k *Key) { k.seed = derive("other", k.claims()) }),
		"of seed and claim": change(func(k *Key) { k.seed = derive("secret", "j worker w0 0") }),
	} {
		if _, err := as(t, broker.URL(), k); !errors.Is(err, cluster.ErrRefused) {
			t.Errorf("%s: %v", what, err)
		}
	}
	other := good
	other.Job = "k"
	if _, err := Connect(within(t), broker.URL(), Credentials{Key: &other}, ConnOptions{Job: "k", Member: "w0"}); !errors.Is(err, cluster.ErrRefused) {
		t.Errorf("another job: %v", err)
	}
	for _, c := range []struct {
		k      Key
		member string
		want   string
	}{
		{good, "w1", `this is the key of worker "w0", and nobody else's: it is no key of "w1"`},
		{good, AskMember, "this is the key of a worker, who may not ask for the job: an operator or a watcher may"},
		{keyOf(t, "secret", RoleWatcher, "eve", time.Time{}), "w0", `this is the key of watcher "eve", who may ask and takes no part in the job`},
		{other, "w0", `this key is for job "k", and not for "j"`},
		{keyOf(t, "secret", RoleWorker, "w0", time.Now().Add(-time.Hour)), "w0", "this key of worker w0 was good until"},
	} {
		if _, err := Connect(within(t), broker.URL(), Credentials{Key: &c.k}, ConnOptions{Job: "j", Member: c.member}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("member %s: %v, want %q", c.member, err, c.want)
		}
	}
	for _, text := range []string{"", "vlaring-key 2 job=j", "vlaring-key 1 job=j role=worker id=w0", "vlaring-key 1 job=j job=j", strings.Replace(good.String(), "role=worker", "role=king", 1),
		strings.Replace(good.String(), "id=w0", "id=w.0", 1), good.String()[:len(good.String())-3], strings.Replace(good.String(), "broker=", "broker=x", 1), strings.Replace(good.String(), "id=w0", "id=coordinator", 1)} {
		if k, err := ParseKey(text); err == nil {
			t.Errorf("%.60q makes %+v", text, k)
		} else if seed := good.String()[len(good.String())-20:]; strings.Contains(err.Error(), seed[:8]) {
			t.Errorf("the secret is in %q", err)
		}
	}
}

// A key ends when its time is over, for who is connected as well, and at once where
// it is revoked; one that was made later goes on.
func TestKeysEnd(t *testing.T) {
	t.Parallel()
	revoked := filepath.Join(t.TempDir(), "revoked")
	broker := startBroker(t, BrokerOptions{Token: "secret", Job: "j", Revoked: revoked})
	short := keyOf(t, "secret", RoleWorker, "w0", time.Now().Add(2*time.Second))
	c, err := as(t, broker.URL(), short)
	if err != nil {
		t.Fatal(err)
	}
	long := keyOf(t, "secret", RoleWorker, "w1", time.Time{})
	l, err := as(t, broker.URL(), long)
	if err != nil {
		t.Fatal(err)
	}
	gone := func(c *Conn) {
		t.Helper()
		select {
		case <-c.Broken():
			if c.Err() == nil {
				t.Error("it does not say why")
			}
		case <-time.After(patience):
			t.Error("it is still connected")
		}
	}
	if _, err := l.Network(); err != nil { // whose connection waits for the others
		t.Fatal(err)
	}
	gone(c)
	if l.Err() != nil {
		t.Errorf("another one has ended with it: %v", l.Err())
	}
	if err := os.WriteFile(revoked, []byte("# a comment\n\n"+Revocation(RoleWorker, "w1", time.Now())), 0o600); err != nil {
		t.Fatal(err)
	}
	gone(l)
	if _, err := as(t, broker.URL(), long); !errors.Is(err, cluster.ErrRefused) {
		t.Errorf("a revoked key: %v", err)
	}
	later, err := NewKey("secret", "j", RoleWorker, "w1", time.Now().Add(2*time.Second), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := as(t, broker.URL(), later); err != nil {
		t.Errorf("a key made after that: %v", err)
	}
	if err := os.WriteFile(revoked, []byte("worker w1 yesterday\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := StartBroker(BrokerOptions{Token: "secret", Job: "j", Revoked: revoked}); err == nil || !strings.Contains(err.Error(), "line 1: want ROLE NAME TIME") {
		t.Errorf("a file that makes no sense: %v", err)
	}
	x := keyOf(t, "secret", RoleWorker, "w2", time.Time{})
	e, err := as(t, broker.URL(), x)
	if err != nil {
		t.Fatal(err)
	}
	broker.Expel("w2")
	gone(e)
}

// Connections that say nothing are bounded apart from members: 4,200 of them keep
// nobody out, and are closed.
func TestSilentConnections(t *testing.T) {
	broker := startBroker(t, BrokerOptions{Token: "secret", Job: "j"})
	member := connect(t, broker, "j", "w0")
	before := member.control.Statistics.Reconnects
	address := strings.TrimPrefix(broker.URL(), "nats://")
	stop := make(chan struct{})
	done := make(chan int)
	go func() {
		var open []net.Conn
		n := 0
		for ; n < 4200; n++ {
			c, err := net.DialTimeout("tcp", address, time.Second)
			if err != nil {
				break
			}
			open = append(open, c)
		}
		<-stop
		for _, c := range open {
			c.Close()
		}
		done <- n
	}()
	slowest := time.Duration(0)
	for i := range 10 {
		began := time.Now()
		c := connect(t, broker, "j", fmt.Sprint("x", i))
		slowest = max(slowest, time.Since(began))
		c.Close()
		time.Sleep(50 * time.Millisecond)
	}
	eventually(t, "what is too much is closed", func() bool { return broker.Clients() <= limits.Strangers+10 })
	close(stop)
	if n := <-done; n < 4200 {
		t.Errorf("only %d were opened", n)
	}
	if slowest > 2*time.Second {
		t.Errorf("a member took %v to come in", slowest)
	}
	if member.control.Statistics.Reconnects != before || member.Err() != nil {
		t.Error("a member was cut off")
	}
	t.Logf("the slowest member took %v to come in", slowest)
}

// A certificate that is renewed is used from the next connection on, by a broker
// and by its clients, and files that make no sense in between do no harm.
func TestCertificatesAreReadAgain(t *testing.T) {
	a, b := newAuthority(t), newAuthority(t)
	dir := t.TempDir()
	put := func(name, from string) {
		t.Helper()
		text, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		later := time.Now().Add(time.Hour) // clocks of file systems are coarse
		os.Chtimes(filepath.Join(dir, name), later, later)
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	cert, key := a.issue("server")
	put("cert", cert)
	put("key", key)
	told := newEvents()
	broker := startBroker(t, BrokerOptions{Token: "secret", Job: "j", TLS: TLSFiles{Cert: at("cert"), Key: at("key")}, Event: told.tell})
	put("ca", a.ca())
	c, err := Connect(within(t), broker.URL(), Credentials{Token: "secret", TLS: TLSFiles{CA: at("ca")}}, ConnOptions{Job: "j", Member: "w0"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Network(); err != nil {
		t.Fatal(err)
	}
	cert2, key2 := b.issue("server")
	time.Sleep(10 * time.Millisecond)
	put("cert", cert2) // not yet its key
	if err := os.Chtimes(at("cert"), time.Now().Add(2*time.Hour), time.Now().Add(2*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if x, err := Connect(within(t), broker.URL(), Credentials{Token: "secret", TLS: TLSFiles{CA: a.ca()}}, ConnOptions{Job: "j", Member: "w1"}); err != nil {
		t.Errorf("between certificate and key: %v", err)
	} else {
		x.Close()
	}
	told.await(t, "the files from before are used until that is mended")
	put("key", key2)
	if err := os.Chtimes(at("key"), time.Now().Add(3*time.Hour), time.Now().Add(3*time.Hour)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if _, err := Connect(ctx, broker.URL(), Credentials{Token: "secret", TLS: TLSFiles{CA: a.ca()}}, ConnOptions{Job: "j", Member: "w1"}); err == nil || !strings.Contains(err.Error(), "is not trusted") {
		t.Errorf("the new certificate to who knows the old authority: %v", err)
	}
	put("ca", b.ca())
	if err := os.Chtimes(at("ca"), time.Now().Add(4*time.Hour), time.Now().Add(4*time.Hour)); err != nil {
		t.Fatal(err)
	}
	for _, cc := range []*nats.Conn{c.control, c.bulk} {
		if err := cc.ForceReconnect(); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "a client that was connected is back with the new authority", func() bool {
		_, err := c.Bus().Request(within(t), "vlaring.j.look", nil)
		return errors.Is(err, cluster.ErrNoResponder) && c.control.Stats().Reconnects > 0
	})
}

// What goes over a network is encrypted without a certificate of anybody's, and the
// broker refuses what is not.
func TestNetworksSeeNoPlainText(t *testing.T) {
	host := netaddr.Reached("0.0.0.0")[0]
	if ip := net.ParseIP(host); ip == nil || ip.IsLoopback() {
		t.Skipf("this machine has no address but loopback's (%s)", host)
	}
	broker := startBroker(t, BrokerOptions{Token: "secret", Job: "j", Host: "0.0.0.0"})
	c, err := Connect(within(t), broker.URL(), Credentials{Token: "secret"}, ConnOptions{Job: "j", Member: "w0"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.control.TLSConnectionState(); err != nil {
		t.Errorf("the connection for control: %v", err)
	}
	n, err := c.Network()
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	if n.(*network).link.tcp != nil {
		t.Error("the ring's connection is not encrypted")
	}
	if nc, err := nats.Connect(broker.URL(), nats.Token("secret")); err == nil {
		nc.Close()
		t.Error("a connection without TLS was let in from a network")
	}
	local, err := nats.Connect(fmt.Sprintf("nats://127.0.0.1:%d", port(t, broker)), nats.Token("secret"))
	if err != nil {
		t.Errorf("from this machine: %v", err)
	} else {
		local.Close()
	}
}
