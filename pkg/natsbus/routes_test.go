package natsbus

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vlaring/vlaring/pkg/allreduce"
	"github.com/vlaring/vlaring/pkg/allreduce/nettest"
	"github.com/vlaring/vlaring/pkg/cluster"
)

// startCluster starts n brokers that are all connected to each other.
func startCluster(t *testing.T, n int, o BrokerOptions) []*Broker {
	t.Helper()
	var l []*Broker
	for i := range n {
		o.Routes = &Routes{}
		if i > 0 {
			o.Token = l[0].Token()
			o.Routes.Join = []string{l[0].RouteAddr()} // of the others it hears
		}
		l = append(l, startBroker(t, o))
	}
	eventually(t, fmt.Sprintf("%d brokers are connected to each other", n), func() bool {
		return !slices.ContainsFunc(l, func(b *Broker) bool { return b.Peers() != n-1 })
	})
	return l
}

// eventually polls what nothing tells of.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not so within %v: %s", patience, what)
		}
	}
}

func urls(brokers []*Broker) string {
	var l []string
	for _, b := range brokers {
		l = append(l, b.URL())
	}
	return strings.Join(l, ",")
}

// TestRingSurvivesNode shuts the node of a cluster down that most members are
// on, when a ring operation is half done.
func TestRingSurvivesNode(t *testing.T) {
	nodes := startCluster(t, 3, BrokerOptions{})
	members := []string{"a", "b", "c"}
	var nets []allreduce.Network
	for _, m := range members {
		c, err := Connect(within(t), urls(nodes), Credentials{Token: nodes[0].Token()}, ConnOptions{Job: "j", Member: m})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		n, err := c.Network()
		if err != nil {
			t.Fatal(err)
		}
		nets = append(nets, n)
	}
	busiest := slices.MaxFunc(nodes, func(a, b *Broker) int { return a.Clients() - b.Clients() })
	if busiest.Clients() < 2 {
		t.Fatalf("%d connections of 6 on the busiest of 3 nodes", busiest.Clients())
	}
	ringThrough(t, nets, members, busiest.Shutdown, func() {})
}

// TestMesh is the conformance suite of networks, with a broker of its own for
// every member and nothing between them but routes.
func TestMesh(t *testing.T) {
	hub := startBroker(t, BrokerOptions{Routes: &Routes{}})
	nettest.Run(t, func(t *testing.T, members []string) []allreduce.Network {
		var nets []allreduce.Network
		var brokers []*Broker
		for _, m := range members {
			c, b := meshed(t, hub, m)
			n, err := c.Network()
			if err != nil {
				t.Fatal(err)
			}
			nets, brokers = append(nets, n), append(brokers, b)
		}
		awaitInterest(t, brokers, members)
		return nets
	})
}

// meshed is a member with a broker of its own.
func meshed(t *testing.T, hub *Broker, member string) (*Conn, *Broker) {
	t.Helper()
	b := startBroker(t, BrokerOptions{Token: hub.Token(), Routes: &Routes{Join: []string{hub.RouteAddr()}}})
	c, err := Connect(within(t), "", Credentials{}, ConnOptions{Job: "j", Member: member, Broker: b})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, b
}

// awaitInterest waits until every broker knows who listens where: networks do
// not notice absent peers.
func awaitInterest(t *testing.T, brokers []*Broker, members []string) {
	t.Helper()
	for _, b := range brokers {
		for _, m := range members {
			eventually(t, "all know of "+m, func() bool {
				return b.server.GlobalAccount().SubscriptionInterest(ringSubject("j", m, "x"))
			})
		}
	}
}

// TestMeshOutlivesItsHub: members that met through a broker need it no more,
// and meet again when it comes back at its address.
func TestMeshOutlivesItsHub(t *testing.T) {
	hub := startBroker(t, BrokerOptions{Routes: &Routes{}})
	a, ba := meshed(t, hub, "a")
	b, bb := meshed(t, hub, "b")
	eventually(t, "three brokers know each other", func() bool { return ba.Peers() == 2 && bb.Peers() == 2 && hub.Peers() == 2 })
	members := []string{"a", "b"}
	var nets []allreduce.Network
	for _, c := range []*Conn{a, b} {
		n, err := c.Network()
		if err != nil {
			t.Fatal(err)
		}
		nets = append(nets, n)
	}
	awaitInterest(t, []*Broker{ba, bb}, members)
	ringThrough(t, nets, members, hub.Shutdown, func() {})

	back := startBroker(t, BrokerOptions{Token: hub.Token(), Routes: &Routes{Port: routePort(t, hub)}})
	c := connect(t, back, "j", "c")
	if _, err := c.Bus().Subscribe("vlaring.j.coordinator", func(_ string, _ []byte, reply func([]byte) error) { reply([]byte("here")) }); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a reaches who is connected to the broker that came back", func() bool {
		got, err := a.Bus().Request(within(t), "vlaring.j.coordinator", nil)
		return err == nil && string(got) == "here"
	})
}

func routePort(t *testing.T, b *Broker) int {
	t.Helper()
	_, p, err := net.SplitHostPort(b.RouteAddr())
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(p)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestRoutesRefused(t *testing.T) {
	told := newEvents()
	hub := startBroker(t, BrokerOptions{Routes: &Routes{}})
	stranger := startBroker(t, BrokerOptions{Token: "wrong-secret", Routes: &Routes{Join: []string{hub.RouteAddr()}}, Event: told.tell})
	told.await(t, "it does not prove to be the broker of this token")
	c, err := Connect(within(t), "", Credentials{}, ConnOptions{Job: "j", Member: "m", Broker: stranger})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Bus().Request(within(t), "vlaring.j.coordinator", nil); !errors.Is(err, cluster.ErrNoResponder) || hub.Peers() != 0 {
		t.Errorf("a broker with the wrong token: %v, %d peers", err, hub.Peers())
	}
	for _, addr := range []string{"", "host", "host:0", ":1", "host:x", "host:1:2"} {
		if _, err := StartBroker(BrokerOptions{Routes: &Routes{Join: []string{addr}}}); err == nil || !strings.Contains(err.Error(), "want host:port") {
			t.Errorf("joining %q: %v", addr, err)
		}
	}
	_, err = StartBroker(BrokerOptions{Routes: &Routes{Port: routePort(t, hub)}})
	if err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("routes on a port in use: %v", err)
	}
}

// TestRoutesTLS: routes are encrypted, and a broker whose certificate is of
// another authority is kept out although it has the token.
func TestRoutesTLS(t *testing.T) {
	ours, others := newAuthority(t), newAuthority(t)
	files := func(a *authority, name string) TLSFiles {
		cert, key := a.issue(name)
		return TLSFiles{CA: ours.ca(), Cert: cert, Key: key}
	}
	startCluster(t, 3, BrokerOptions{TLS: files(ours, "broker")})

	told := newEvents()
	hub := startBroker(t, BrokerOptions{TLS: files(ours, "hub"), Routes: &Routes{}, Event: told.tell})
	startBroker(t, BrokerOptions{TLS: files(others, "stranger"), Token: hub.Token(), Routes: &Routes{Join: []string{hub.RouteAddr()}}})
	told.await(t, "TLS route handshake error")
	if hub.Peers() != 0 {
		t.Errorf("%d peers", hub.Peers())
	}
}

func TestValidServers(t *testing.T) {
	for _, good := range []string{"nats://h:4222", "h:4222", "h", "tls://h", "nats://a:1, nats://b:2 ,c:3", "nats://[::1]:4222", "tls://a,tls://b:5"} {
		if err := ValidServers(good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for bad, want := range map[string]string{
		"":                              "no URL",
		"nats://a:1,,nats://b:2":        "server 2 of 3",
		"nats://a:1,":                   "server 2 of 2",
		"nats://a:1;nats://b:2":         "URL",
		"http://a:1":                    `scheme "http"`,
		"nats://:4222":                  "no host",
		"nats://a:99999":                "port 99999",
		"nats://a:b":                    "port",
		"nats://a:1/path":               "more than host and port",
		"nats://a:1,tls://b:2":          "TLS for all of them or for none",
		"nats://u:wrong-secret@a:70000": "port 70000",
		"nats://u:wrong-secret@a:x":     "port",
	} {
		if err := ValidServers(bad); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v, want an error with %q, without the secret", bad, err, want)
		}
	}
}

// TestSubjectsOfAJob: who holds the token of a job's broker has that job's
// subjects, and no others.
func TestSubjectsOfAJob(t *testing.T) {
	broker := startBroker(t, BrokerOptions{Job: "j"})
	told := newEvents()
	c := connectWith(t, broker, ConnOptions{Job: "j", Member: "m", Event: told.tell})
	if _, err := c.Bus().Subscribe("vlaring.j.coordinator", func(_ string, _ []byte, reply func([]byte) error) { reply(nil) }); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Bus().Request(within(t), "vlaring.j.coordinator", nil); err != nil {
		t.Fatal(err)
	}
	if err := c.Bus().Publish("vlaring.k.coordinator", nil); err != nil {
		t.Fatal(err)
	}
	told.await(t, `Permissions Violation for Publish to "vlaring.k.coordinator"`)
	for _, s := range []string{">", "vlaring.k.ring.a", "$SYS.>"} {
		if _, err := c.control.SubscribeSync(s); err != nil {
			t.Fatal(err)
		}
		told.await(t, fmt.Sprintf("Permissions Violation for Subscription to %q", s))
	}
	if _, err := StartBroker(BrokerOptions{Job: "a.>"}); err == nil || !strings.Contains(err.Error(), "job name") {
		t.Errorf("a broker for a wildcard: %v", err)
	}
}
