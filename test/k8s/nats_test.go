package k8s

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/vlaring/vlaring/internal/access"
	"github.com/vlaring/vlaring/pkg/transport"
)

// certificate writes tls.crt, tls.key and ca.crt, as cert-manager does: an authority,
// and a certificate for DNS names alone.
func certificate(t *testing.T, dir string, names ...string) {
	t.Helper()
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	write := func(name, kind string, der []byte) {
		must(os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "vlaring"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	must(err)
	write("ca.crt", "CERTIFICATE", der)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), NotAfter: time.Now().Add(time.Hour), DNSNames: names, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err = x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), caKey)
	must(err)
	write("tls.crt", "CERTIFICATE", der)
	b, err := x509.MarshalPKCS8PrivateKey(key)
	must(err)
	write("tls.key", "PRIVATE KEY", b)
}

// The certificate of overlays/nats-cluster is good for what members call and for every
// server's name in nats.conf, and the head tells those who make it themselves so.
func TestNATSNames(t *testing.T) {
	read := func(name string) string {
		b, err := os.ReadFile("../../k8s/overlays/nats-cluster/" + name)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	_, list, ok := strings.Cut(read("certificates.yaml"), "dnsNames: [")
	if list, _, _ = strings.Cut(list, "]"); !ok {
		t.Fatal("certificates.yaml has no dnsNames")
	}
	names := strings.Split(strings.ReplaceAll(list, `"`, ""), ", ")
	head := read("kustomization.yaml")
	if want := "(for " + strings.Join(names, " and ") + ")"; !strings.Contains(head, want) {
		t.Errorf("the head does not say that the certificate is %s", want)
	}
	hosts := []string{"vlaring-nats"}
	for _, r := range strings.Split(read("nats.conf"), "nats-route://")[1:] {
		host, _, _ := strings.Cut(r, ":")
		hosts = append(hosts, host)
	}
	if len(hosts) != 4 {
		t.Fatalf("nats.conf has %d routes, want 3", len(hosts)-1)
	}
	for _, host := range hosts {
		if err := (&x509.Certificate{DNSNames: names}).VerifyHostname(host); err != nil {
			t.Error(err)
		}
	}
}

// The configuration of overlays/nats-cluster is a server's: three of them make a
// cluster over TLS, keep nothing, let members in by their keys, each for what it is,
// and nobody else.
func TestNATSCluster(t *testing.T) {
	text, err := os.ReadFile("../../k8s/overlays/nats-cluster/nats.conf")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	// Here peers are found by address, and clients ask for the Service's name.
	certificate(t, dir, "vlaring-nats", "localhost")
	// As the overlay's head says to make them, and where it mounts them.
	if _, err := access.Make(access.Keys{Job: "j", Dir: filepath.Join(dir, "nats-users"), Server: true, Who: []string{"worker:w0..w1"}, Now: time.Now()}); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "nats"), 0o700); err != nil {
		t.Fatal(err)
	}
	var ports [3]int
	routes := ""
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ports[i] = l.Addr().(*net.TCPAddr).Port
		routes += fmt.Sprintf("nats-route://localhost:%d, ", ports[i])
		l.Close()
	}
	var servers []*server.Server
	for i, port := range ports {
		t.Setenv("POD_NAME", fmt.Sprintf("vlaring-nats-%d", i))
		conf := string(text)
		for old, is := range map[string]string{"/tls/": dir + "/", "/run/nats/": dir + "/", "port: 4222": "port: -1", "http_port: 8222": "http_port: -1", "port: 6222": fmt.Sprintf("port: %d", port)} {
			if !strings.Contains(conf, old) {
				t.Fatalf("nats.conf has no %q", old)
			}
			conf = strings.ReplaceAll(conf, old, is)
		}
		from, to := strings.Index(conf, "routes: ["), strings.Index(conf, "6222]")
		if from < 0 || to < 0 {
			t.Fatal("nats.conf has no routes")
		}
		conf = conf[:from] + "routes: [" + strings.TrimSuffix(routes, ", ") + conf[to+len("6222"):]
		path := filepath.Join(dir, "nats", fmt.Sprintf("%d.conf", i))
		if err := os.WriteFile(path, []byte(conf), 0o600); err != nil {
			t.Fatal(err)
		}
		o, err := server.ProcessConfigFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if o.JetStream || o.Authorization != "" || len(o.Nkeys) != 3 || o.TLSConfig == nil || !o.Cluster.NoAdvertise || o.ServerName != fmt.Sprintf("vlaring-nats-%d", i) || o.LameDuckDuration != 30*time.Second {
			t.Errorf("options: JetStream %v, token %q, %d keys, TLS %v, name %s", o.JetStream, o.Authorization, len(o.Nkeys), o.TLSConfig != nil, o.ServerName)
		}
		o.Host, o.Cluster.Host, o.HTTPHost, o.NoLog, o.NoSigs = "127.0.0.1", "127.0.0.1", "127.0.0.1", true, true
		s, err := server.NewServer(o)
		if err != nil {
			t.Fatal(err)
		}
		s.Start()
		t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
		servers = append(servers, s)
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		n := 0
		for _, s := range servers {
			if s.ReadyForConnections(time.Second) && s.NumRoutes() > 0 {
				n++
			}
		}
		if n == len(servers) {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the three do not find one another")
		}
	}
	url := fmt.Sprintf("tls://127.0.0.1:%d", servers[1].Addr().(*net.TCPAddr).Port)
	ca := transport.TLSFiles{CA: filepath.Join(dir, "ca.crt"), Name: "vlaring-nats"}
	dial := func(member, file string, ca transport.TLSFiles) error {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		o := access.Options{URL: url, TokenFile: file, TLS: ca}
		if file != "" {
			o.TokenFile = filepath.Join(dir, "nats-users", file)
		}
		c, err := o.Credentials(func(text string) { t.Error(text) })
		if err != nil {
			return err
		}
		m, err := transport.Of(url).Dial(ctx, url, c, transport.Options{Job: "j", Member: member})
		if err == nil {
			m.Close()
		}
		return err
	}
	for member, file := range map[string]string{"w0": "worker-w0.key", "w1": "worker-w1.key", "coordinator": "coordinator.key"} {
		if err := dial(member, file, ca); err != nil {
			t.Errorf("%s: %v", member, err)
		}
	}
	for what, x := range map[string][2]string{"a worker's key for another's": {"w1", "worker-w0.key"}, "a worker's key for the coordinator's": {"coordinator", "worker-w0.key"},
		"the token that the keys follow from": {"w0", "token"}, "nothing": {"w0", ""}} {
		if err := dial(x[0], x[1], ca); err == nil {
			t.Errorf("%s is let in", what)
		}
	}
	ca.Name = "vlaring-coordinator"
	if err := dial("w0", "worker-w0.key", ca); err == nil {
		t.Error("a certificate for another name is taken")
	}
}
