package natsbus

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"math/rand/v2"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestMain has a dozen parallel tests at a time, where -parallel says nothing else: they
// wait for times that somebody is given, and compute nothing.
func TestMain(m *testing.M) {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		flag.Set("test.parallel", "12")
	}
	os.Exit(m.Run())
}

// patience fails what would hang; nothing passes by waiting it out.
const patience = 30 * time.Second

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func startBroker(t *testing.T, o BrokerOptions) *Broker {
	t.Helper()
	b, err := StartBroker(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Shutdown)
	return b
}

// again is the broker at its port and with its token, once more.
func again(t *testing.T, b *Broker) *Broker {
	t.Helper()
	return startBroker(t, BrokerOptions{Token: b.Token(), Port: port(t, b)})
}

func port(t *testing.T, b *Broker) int {
	t.Helper()
	u, err := url.Parse(b.URL())
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(u.Port())
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func connect(t *testing.T, b *Broker, job, member string) *Conn {
	t.Helper()
	return connectWith(t, b, ConnOptions{Job: job, Member: member})
}

func connectWith(t *testing.T, b *Broker, o ConnOptions) *Conn {
	t.Helper()
	c, err := Connect(within(t), b.URL(), Credentials{Token: b.Token()}, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func openBlobs(t *testing.T, c *Conn) *Blobs {
	t.Helper()
	b, err := c.Blobs(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

// events collects what an Event func is told.
type events struct {
	mu   sync.Mutex
	all  []string
	news chan struct{}
}

func newEvents() *events { return &events{news: make(chan struct{}, 1)} }

func (e *events) tell(text string) {
	e.mu.Lock()
	e.all = append(e.all, text)
	e.mu.Unlock()
	select {
	case e.news <- struct{}{}:
	default:
	}
}

// await waits for an event that contains text.
func (e *events) await(t *testing.T, text string) {
	t.Helper()
	late := time.After(patience)
	for {
		e.mu.Lock()
		all := append([]string(nil), e.all...)
		e.mu.Unlock()
		for _, s := range all {
			if strings.Contains(s, text) {
				return
			}
		}
		select {
		case <-e.news:
		case <-late:
			t.Fatalf("no event with %q among %q", text, all)
		}
	}
}

func randomBytes(seed uint64, n int) []byte {
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	b := make([]byte, n)
	r.Read(b)
	return b
}

func hashOf(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}
