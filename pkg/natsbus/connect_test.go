package natsbus

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vlaring/vlaring/pkg/cluster"
	"github.com/vlaring/vlaring/pkg/cluster/bustest"
)

func TestBus(t *testing.T) {
	broker := startBroker(t, BrokerOptions{})
	n := 0
	bustest.Run(t, func(t *testing.T) cluster.Bus {
		n++ // subscriptions end with their connection
		return connect(t, broker, "j", "m"+string(rune('a'+n))).Bus()
	})
}

func TestBrokerDefaults(t *testing.T) {
	a, b := startBroker(t, BrokerOptions{}), startBroker(t, BrokerOptions{})
	if len(a.Token()) != 32 || a.Token() == b.Token() {
		t.Errorf("tokens %q and %q: want two different ones of 32 digits", a.Token(), b.Token())
	}
	if !strings.HasPrefix(a.URL(), "nats://127.0.0.1:") || a.URL() == b.URL() || strings.Contains(a.URL(), a.Token()) {
		t.Errorf("URLs %s and %s", a.URL(), b.URL())
	}
	_, err := StartBroker(BrokerOptions{Port: port(t, a)})
	if err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a broker on a port in use: %v", err)
	}
	if _, err := StartBroker(BrokerOptions{Port: 65536}); err == nil || !strings.Contains(err.Error(), "65536") {
		t.Errorf("port 65536: %v", err)
	}
	all := startBroker(t, BrokerOptions{Host: "0.0.0.0"})
	if strings.Contains(all.URL(), "0.0.0.0") {
		t.Errorf("URL %s cannot be dialled from elsewhere", all.URL())
	}
	connect(t, all, "j", "m")
}

func TestRefusedCredentials(t *testing.T) {
	broker := startBroker(t, BrokerOptions{})
	for _, c := range []struct {
		creds Credentials
		want  string
	}{
		{Credentials{}, "none were given"},
		{Credentials{User: "u", Password: "wrong-secret"}, `user "u"`},
	} {
		_, err := Connect(context.Background(), broker.URL(), c.creds, ConnOptions{Job: "j", Member: "m"}) // no deadline: it must give up by itself
		if !errors.Is(err, cluster.ErrRefused) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), broker.URL()) || strings.Contains(err.Error(), "wrong-secret") {
			t.Errorf("%+v: got %v, want ErrRefused with %q and the URL, without the secret", c.creds, err, c.want)
		}
	}
	_, err := Connect(context.Background(), broker.URL(), Credentials{Token: "wrong-secret"}, ConnOptions{Job: "j", Member: "m"})
	if err == nil || !strings.Contains(err.Error(), "it is not the broker of this token, and was not shown it") || !strings.Contains(err.Error(), broker.URL()) || strings.Contains(err.Error(), "wrong-secret") {
		t.Errorf("another token: %v", err)
	}
	_, err = Connect(context.Background(), broker.URL(), Credentials{CredsFile: "/nonexistent/x.creds"}, ConnOptions{Job: "j", Member: "m"})
	if err == nil || !strings.Contains(err.Error(), "/nonexistent/x.creds") {
		t.Errorf("missing credentials file: %v", err)
	}
}

func TestServerNotThere(t *testing.T) {
	broker := startBroker(t, BrokerOptions{})
	broker.Shutdown()

	ctx, cancel := context.WithCancel(context.Background())
	told := newEvents()
	done := make(chan error, 1)
	go func() {
		_, err := Connect(ctx, "nats://secret@"+strings.TrimPrefix(broker.URL(), "nats://"), Credentials{}, ConnOptions{Job: "j", Member: "m", Event: told.tell})
		done <- err
	}()
	told.await(t, "no NATS server at "+broker.URL())
	cancel()
	err := <-done
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), broker.URL()) || !strings.Contains(err.Error(), "check that it runs") || strings.Contains(err.Error(), "secret") {
		t.Fatalf("got %v", err)
	}

	// one that comes later is found
	told = newEvents()
	go func() {
		c, err := Connect(within(t), broker.URL(), Credentials{Token: broker.Token()}, ConnOptions{Job: "j", Member: "m", Event: told.tell})
		if err == nil {
			err = c.Close()
		}
		done <- err
	}()
	told.await(t, "trying again")
	again(t, broker)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestEventsOfARestart(t *testing.T) {
	broker := startBroker(t, BrokerOptions{})
	told := newEvents()
	c := connectWith(t, broker, ConnOptions{Job: "j", Member: "m", Event: told.tell})
	got := make(chan string, 9)
	if _, err := c.Bus().Subscribe("a", func(_ string, data []byte, _ func([]byte) error) { got <- string(data) }); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Network(); err != nil {
		t.Fatal(err)
	}
	broker.Shutdown()
	told.await(t, "ring connection to "+strings.TrimPrefix(broker.URL(), "nats://")+" lost")
	told.await(t, "control connection to "+broker.URL()+" lost")
	told.await(t, "bulk connection to "+broker.URL()+" lost")
	if err := c.Bus().Publish("a", []byte("meanwhile")); err != nil { // kept until the server is back
		t.Fatal(err)
	}
	again(t, broker)
	told.await(t, "control connection is back")
	told.await(t, "bulk connection is back")
	told.await(t, "ring connection is back")
	select {
	case s := <-got:
		if s != "meanwhile" {
			t.Fatalf("got %q", s)
		}
	case <-time.After(patience):
		t.Fatal("the subscription did not survive")
	}
	told.mu.Lock()
	before := len(told.all)
	told.mu.Unlock()
	c.Close()
	c.Close()
	told.mu.Lock()
	defer told.mu.Unlock()
	if len(told.all) != before {
		t.Errorf("Close itself was reported: %q", told.all[before:])
	}
}

func TestNames(t *testing.T) {
	for _, good := range []string{"a", "job-1_x", strings.Repeat("a", 64)} {
		if err := cluster.ValidName("job name", good); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{"", "a.b", "*", ">", "a b", "ä", strings.Repeat("a", 65)} {
		if err := cluster.ValidName("job name", bad); err == nil || !strings.Contains(err.Error(), "job name") {
			t.Errorf("%q: %v", bad, err)
		}
		if _, err := Connect(context.Background(), "nats://127.0.0.1:1", Credentials{}, ConnOptions{Job: bad, Member: "m"}); err == nil {
			t.Errorf("connected to job %q", bad)
		}
		if _, err := Connect(context.Background(), "nats://127.0.0.1:1", Credentials{}, ConnOptions{Job: "j", Member: bad}); err == nil {
			t.Errorf("connected as %q", bad)
		}
	}
}

// authority makes certificates for 127.0.0.1 in files.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	n    int64
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t, dir: t.TempDir()}
	a.key, a.cert = a.make(true)
	a.pem("ca.pem", "CERTIFICATE", a.cert.Raw)
	return a
}

func (a *authority) ca() string { return filepath.Join(a.dir, "ca.pem") }

// issue makes a certificate that this authority signs.
func (a *authority) issue(name string) (cert, key string) {
	return a.issueAs(name, nil)
}

// issueAs makes one that is changed before it is signed.
func (a *authority) issueAs(name string, change func(c *x509.Certificate)) (cert, key string) {
	k, c := a.makeAs(false, change)
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		a.t.Fatal(err)
	}
	return a.pem(name+".pem", "CERTIFICATE", c.Raw), a.pem(name+".key", "PRIVATE KEY", der)
}

func (a *authority) make(ca bool) (*ecdsa.PrivateKey, *x509.Certificate) { return a.makeAs(ca, nil) }

func (a *authority) makeAs(ca bool, change func(c *x509.Certificate)) (*ecdsa.PrivateKey, *x509.Certificate) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	a.n++
	c := &x509.Certificate{SerialNumber: big.NewInt(a.n), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	parent, signer := a.cert, a.key
	if ca {
		c.IsCA, c.BasicConstraintsValid, c.KeyUsage, c.ExtKeyUsage, c.IPAddresses = true, true, x509.KeyUsageCertSign, nil, nil
		c.Subject.CommonName = "test authority " + a.dir
		parent, signer = c, key
	}
	if change != nil {
		change(c)
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		a.t.Fatal(err)
	}
	return key, c
}

func (a *authority) pem(name, kind string, der []byte) string {
	path := filepath.Join(a.dir, name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		a.t.Fatal(err)
	}
	return path
}

func TestTLS(t *testing.T) {
	ours, others := newAuthority(t), newAuthority(t)
	serverCert, serverKey := ours.issue("server")
	clientCert, clientKey := ours.issue("client")
	otherCert, otherKey := others.issue("client")
	own := TLSFiles{Cert: serverCert, Key: serverKey}
	plain := startBroker(t, BrokerOptions{})
	oneWay := startBroker(t, BrokerOptions{TLS: own})
	mutual := startBroker(t, BrokerOptions{TLS: TLSFiles{CA: ours.ca(), Cert: serverCert, Key: serverKey}})
	for _, c := range []struct {
		name   string
		broker *Broker
		scheme string
		files  TLSFiles
		want   string // of the error; empty: it works
	}{
		{"authority", oneWay, "tls", TLSFiles{CA: ours.ca()}, ""},
		{"the server's own files", oneWay, "tls", own, ""},
		{"authority, nats scheme", oneWay, "nats", TLSFiles{CA: ours.ca()}, ""},
		{"no authority", oneWay, "tls", TLSFiles{}, "which this machine does not know: name that authority's file with --tls-ca"},
		{"other authority", oneWay, "tls", TLSFiles{CA: others.ca()}, "which is not the authority in --tls-ca "},
		{"both certificates", mutual, "tls", TLSFiles{CA: ours.ca(), Cert: clientCert, Key: clientKey}, ""},
		{"client without certificate", mutual, "tls", TLSFiles{CA: ours.ca()}, "wants a certificate of this side: give --tls-cert"},
		{"client of other authority", mutual, "tls", TLSFiles{CA: ours.ca(), Cert: otherCert, Key: otherKey}, "does not accept the certificate of this side, --tls-cert "},
		{"TLS to a plain server", plain, "tls", TLSFiles{CA: ours.ca()}, "use nats:// and no --tls flags"},
		{"key missing", oneWay, "tls", TLSFiles{CA: ours.ca(), Cert: clientCert}, "want both or none"},
		{"key of another", oneWay, "tls", TLSFiles{CA: ours.ca(), Cert: clientCert, Key: serverKey}, clientCert},
		{"authority missing", oneWay, "tls", TLSFiles{CA: clientKey}, "no PEM certificate"},
	} {
		t.Run(c.name, func(t *testing.T) {
			url := c.scheme + strings.TrimPrefix(strings.TrimPrefix(c.broker.URL(), "nats"), "tls")
			conn, err := Connect(within(t), url, Credentials{Token: c.broker.Token(), TLS: c.files}, ConnOptions{Job: "j", Member: "m"})
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) || errors.Is(err, context.DeadlineExceeded) {
					t.Fatalf("got %v, want an error with %q at once", err, c.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := conn.Bus().Request(within(t), "a", nil); !errors.Is(err, cluster.ErrNoResponder) {
				t.Fatal(err)
			}
			if _, err := conn.bulk.TLSConnectionState(); err != nil {
				t.Errorf("the bulk connection is not encrypted: %v", err)
			}
			ringEncrypted(t, conn)
		})
	}
	if !strings.HasPrefix(mutual.URL(), "tls://") {
		t.Errorf("URL %s", mutual.URL())
	}
	if _, err := StartBroker(BrokerOptions{TLS: TLSFiles{CA: ours.ca()}}); err == nil {
		t.Error("a broker without certificate started")
	}
}
