package cli

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/vlaring/vlaring/pkg/checkpoint"
)

// foreign is a NATS server that runs elsewhere, as far as the commands know.
func foreign(t *testing.T, o server.Options) (url string, s *server.Server, options server.Options) {
	t.Helper()
	o.Host, o.Port, o.NoLog, o.NoSigs = "127.0.0.1", server.RANDOM_PORT, true, true
	s, err := server.NewServer(&o)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(time.Minute) {
		t.Fatal("the server is not ready")
	}
	o.Port = s.Addr().(*net.TCPAddr).Port
	return "nats://" + s.Addr().String(), s, o
}

func userWith(subjects ...string) server.Options {
	return server.Options{Users: []*server.User{{Username: "v", Password: "p", Permissions: &server.Permissions{
		Publish: &server.SubjectPermission{Allow: subjects}, Subscribe: &server.SubjectPermission{Allow: subjects}}}}}
}

// lastLines is the end of what a command said to people.
func lastLines(p *proc, n int) string {
	l := strings.Split(strings.TrimSpace(p.errText()), "\n")
	return strings.Join(l[max(0, len(l)-n):], "\n")
}

// What a server elsewhere will never let through ends the command at once, and
// the last lines say what to change.
func TestServersThatNeverWill(t *testing.T) {
	t.Parallel()
	password := []string{tokenEnv + "=p"}
	for _, c := range []struct {
		what   string
		server server.Options
		more   []string
		env    []string
		want   []string
	}{
		{"max_payload", server.Options{MaxPayload: 1 << 20}, []string{"--set", "cluster.bucket_bytes=4194304", "--set", "cluster.chunk_bytes=1048576"}, nil,
			[]string{"its max_payload is 1048576 bytes", "set cluster.chunk_bytes to at most 1048512", "or the server's max_payload to at least 1048640"}},
		{"another job's account", userWith("vlaring.other.>", "_INBOX.>"), []string{"--user", "v"}, password,
			[]string{"does not let this user", `publish and subscribe on "vlaring.small.>"`}},
		{"no token", server.Options{Authorization: "secret"}, nil, nil, []string{"refuses these credentials"}},
	} {
		t.Run(c.what, func(t *testing.T) {
			url, _, _ := foreign(t, c.server)
			began := time.Now()
			p := start(t, c.env, bin.coordinator, append([]string{"train", "testdata/small.yaml", "--run-dir", filepath.Join(t.TempDir(), "run"), "--nats", url, "--workers", "2", "--threads", "1"}, c.more...)...)
			code, _ := p.wait()
			if code != exitFailed {
				t.Errorf("exit code %d, want %d", code, exitFailed)
			}
			if took := time.Since(began); took > 30*time.Second {
				t.Errorf("it took %v", took)
			}
			for _, w := range c.want {
				if !strings.Contains(lastLines(p, 3), w) {
					t.Errorf("the last lines lack %q:\n%s", w, lastLines(p, 3))
				}
			}
		})
	}
}

// A server that is full of other connections is named by the coordinator, not
// by its workers' logs alone.
func TestFullServer(t *testing.T) {
	t.Parallel()
	url, _, _ := foreign(t, server.Options{MaxConn: 3})
	p := start(t, nil, bin.coordinator, "train", "testdata/small.yaml", "--run-dir", filepath.Join(t.TempDir(), "run"), "--nats", url, "--workers", "2", "--threads", "1",
		"--set", "cluster.join_timeout=8s")
	code, _ := p.wait()
	if code != exitFailed || !strings.Contains(lastLines(p, 3), "raise its max_connections") {
		t.Errorf("exit code %d, the last lines:\n%s", code, lastLines(p, 3))
	}
	if n := strings.Count(p.errText(), "has not joined yet; its log says"); n < 1 || n > 2 {
		t.Errorf("it was said %d times while there was time to mend it:\n%s", n, p.errText())
	}
}

// Subjects that are forbidden in the middle of a run end the job with a
// checkpoint where the coordinator can still speak, and the coordinator says why.
func TestPermissionsTakenAwayInARun(t *testing.T) {
	t.Parallel()
	url, s, o := foreign(t, userWith("vlaring.small.>"))
	dir := filepath.Join(t.TempDir(), "run")
	p := start(t, []string{tokenEnv + "=p"}, bin.coordinator, endless(dir, "--nats", url, "--user", "v", "--workers", "2", "--set", "cluster.road=nats")...)
	until(t, "steps", func() bool { return lineCount(filepath.Join(dir, "metrics.jsonl")) > 5 })
	o.Users = userWith("vlaring.small.coordinator", "vlaring.small.from.>", "vlaring.small.look", "vlaring.small.order", "vlaring.small.worker.>", "vlaring.small.blob.>", "vlaring.small.inbox.>").Users
	if err := s.ReloadOptions(&o); err != nil {
		t.Fatal(err)
	}
	code, _ := p.wait()
	last := lastLines(p, 3)
	if code != exitFailed || !strings.Contains(last, `"vlaring.small.ring.`) || !strings.Contains(last, "resume with: ") {
		t.Errorf("exit code %d, the last lines:\n%s", code, last)
	}
	found, err := checkpoint.LatestGood(filepath.Join(dir, "checkpoints"))
	if err != nil || found.Manifest.Step < 5 {
		t.Errorf("the newest checkpoint is of step %d (%v)", found.Manifest.Step, err)
	}
	if n := workersOf(t, dir); n > 0 {
		t.Errorf("%d workers live on", n)
	}
}

// SIGTERM is heard while a server is looked for, by both commands.
func TestSignalWhileConnecting(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	url := "nats://" + l.Addr().String()
	for name, args := range map[string][]string{
		"coordinator": append([]string{bin.coordinator}, endless(filepath.Join(t.TempDir(), "run"), "--nats", url)...),
		"worker":      {bin.worker, "--nats", url, "--job", "small"},
	} {
		t.Run(name, func(t *testing.T) {
			p := start(t, nil, args[0], args[1:]...)
			until(t, "a word of the server", func() bool { return strings.Contains(p.errText(), "no NATS server") })
			began := time.Now()
			p.cmd.Process.Signal(syscall.SIGTERM)
			code, _ := p.wait()
			if took := time.Since(began); took > 6*time.Second {
				t.Errorf("it took %v", took)
			}
			if name == "coordinator" && (code != exitFailed || !strings.Contains(lastLines(p, 2), "stopped by SIGTERM while it connected")) || name == "worker" && code != exitResume {
				t.Errorf("exit code %d, the last lines:\n%s", code, lastLines(p, 2))
			}
		})
	}
}

// A certificate with DNS names alone, as Kubernetes' tools issue them, serves a
// broker on all addresses, its own workers, workers from elsewhere and status.
func TestBrokerWithDNSNamesAlone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "x"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, DNSNames: []string{"head.jobs.svc"}}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	file := func(name, kind string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	cert, keyFile := file("cert.pem", "CERTIFICATE", der), file("key.pem", "PRIVATE KEY", raw)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := strings.TrimPrefix(l.Addr().String(), "127.0.0.1:")
	l.Close()
	run := filepath.Join(dir, "run")
	p := start(t, nil, bin.coordinator, endless(run, "--listen", "0.0.0.0:"+port, "--tls-cert", cert, "--tls-key", keyFile)...)
	until(t, "steps", func() bool {
		return lineCount(filepath.Join(run, "metrics.jsonl")) > 2 || strings.Contains(p.errText(), "coordinator: ")
	})
	token := filepath.Join(run, "token")
	if err := os.Chmod(token, 0o644); err != nil {
		t.Fatal(err)
	}
	elsewhere := []string{"--nats", "tls://127.0.0.1:" + port, "--job", "small", "--token-file", token, "--tls-ca", cert}
	code, _, said := call(t, bin.coordinator, append([]string{"status"}, elsewhere...)...)
	if code != exitFailed || !strings.Contains(said, "its TLS certificate is for head.jobs.svc and not for 127.0.0.1") {
		t.Errorf("status by address: exit code %d: %s", code, said)
	}
	code, out, said := call(t, bin.coordinator, append([]string{"status", "--tls-server-name", "head.jobs.svc"}, elsewhere...)...)
	if code != 0 || !strings.Contains(out, "running") {
		t.Errorf("status by name: exit code %d: %s%s", code, out, said)
	}
	if want := "can read the token in " + token + " (mode 0644), and may stop the job with it: chmod 600 " + token; !strings.Contains(said, want) {
		t.Errorf("of a token that everybody can read it says %q, want %q", said, want)
	}
	if code, out, said := call(t, bin.coordinator, "stop", run, "--tls-ca", cert); code != 0 {
		t.Errorf("stop by run directory: exit code %d: %s%s", code, out, said)
	}
	if code, _ := p.wait(); code != exitResume {
		t.Errorf("exit code %d\n%s", code, p.errText())
	}
}
