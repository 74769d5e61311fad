// Package s3test starts a real S3 server for tests: versitygw over a directory, built
// from the module in test/s3.
package s3test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"
)

// Server is a running server.
type Server struct {
	Endpoint       string // http://127.0.0.1:port
	Access, Secret string // of its root
	Dir            string // its buckets are directories here

	port  string
	args  []string
	cmd   *exec.Cmd
	log   *bytes.Buffer
	ended chan struct{}
}

// kept is the user's cache, as it is before a test has another one: what is built stays
// there. Without one it is made in the system's temporary folder.
var kept = func() string {
	if dir, err := os.UserCacheDir(); err == nil {
		return filepath.Join(dir, "vlaring-s3test")
	}
	return filepath.Join(os.TempDir(), fmt.Sprintf("vlaring-s3test-%d", os.Getuid()))
}()

// binary builds the server, once.
var binary = sync.OnceValues(func() (string, error) {
	if runtime.GOOS == "windows" {
		return "", errors.New("it needs extended attributes or links of a POSIX system")
	}
	_, self, _, _ := runtime.Caller(0)
	module := filepath.Join(filepath.Dir(self), "..", "..", "..", "test", "s3")
	dir := kept
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	h := sha256.New() // go links anew each time: what it has linked is kept
	for _, name := range []string{"go.mod", "go.sum"} {
		b, err := os.ReadFile(filepath.Join(module, name))
		if err != nil {
			return "", err
		}
		h.Write(b)
	}
	path := filepath.Join(dir, fmt.Sprintf("versitygw-%s-%x", runtime.Version(), h.Sum(nil)[:8]))
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	tmp, err := os.MkdirTemp(dir, "build")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	ctx, cancel := context.WithTimeout(context.Background(), 9*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "build", "-C", module, "-o", filepath.Join(tmp, "versitygw"), "github.com/versity/versitygw/cmd/versitygw")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build of github.com/versity/versitygw: %w\n%s", err, out)
	}
	return path, os.Rename(filepath.Join(tmp, "versitygw"), path)
})

// Start starts a server with the named buckets for the length of a test, and has the
// environment of this process speak to it. Where it cannot be built (its modules are
// not there, and there is no network) the test says so and is skipped. flags are those
// of its posix backend.
func Start(t testing.TB, buckets []string, flags ...string) *Server {
	t.Helper()
	s := Serve(t, buckets, flags...)
	for k, v := range s.Env() {
		t.Setenv(k, v)
	}
	return s
}

// Serve is Start, and leaves the environment as it is: a test may be parallel.
func Serve(t testing.TB, buckets []string, flags ...string) *Server {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Skipf("NOT RUN: no S3 server to test against: %v", err)
	}
	s := &Server{Access: access, Secret: secret, Dir: t.TempDir()}
	for _, b := range buckets {
		if err := os.Mkdir(filepath.Join(s.Dir, b), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	side := t.TempDir()
	s.port = freePort(t)
	s.Endpoint = "http://" + s.port
	s.args = []string{path, "--port", s.port, "--access", s.Access, "--secret", s.Secret, "--quiet", "posix", "--sidecar", side}
	s.args = append(append(s.args, flags...), s.Dir)
	s.Start(t)
	t.Cleanup(func() { s.Stop() })
	return s
}

// The root of each server.
const access, secret = "AKIAVLARINGTEST", "not-a-secret-of-anybody"

// Env is what a program needs in its environment to speak to the server as its root,
// and to nobody else.
func (s *Server) Env() map[string]string { return Env(s.Endpoint) }

// Env is Server's, of the server at an endpoint.
func Env(endpoint string) map[string]string {
	none := os.DevNull // no file of the user's
	return map[string]string{"AWS_ACCESS_KEY_ID": access, "AWS_SECRET_ACCESS_KEY": secret, "AWS_ENDPOINT_URL": endpoint, "AWS_REGION": "us-east-1",
		"AWS_CONFIG_FILE": none, "AWS_SHARED_CREDENTIALS_FILE": none, "AWS_PROFILE": "", "AWS_SESSION_TOKEN": "", "AWS_ENDPOINT_URL_S3": "", "AWS_DEFAULT_REGION": "",
		"AWS_CA_BUNDLE": ""}
}

// Binary is the server's program, which is its own admin's too.
func (s *Server) Binary() string { return s.args[0] }

// Start starts the server, which was stopped, at the same address.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	s.log = &bytes.Buffer{}
	s.cmd = exec.Command(s.args[0], s.args[1:]...)
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.ended = make(chan struct{})
	go func(cmd *exec.Cmd, ended chan struct{}) {
		cmd.Wait()
		close(ended)
	}(s.cmd, s.ended)
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		c, err := net.Dial("tcp", s.port)
		if err == nil {
			c.Close()
			return
		}
		select {
		case <-s.ended:
			t.Fatalf("the S3 server ended at once:\n%s", s.log)
		default:
		}
		if time.Now().After(end) {
			s.Stop()
			t.Fatalf("the S3 server does not listen:\n%s", s.log)
		}
	}
}

// Stop kills the server, as a store goes away.
func (s *Server) Stop() {
	s.cmd.Process.Kill()
	<-s.ended
}

// freePort is one that no system gives to those who ask for any: it is the server's still
// when it has been stopped, while other tests go on.
func freePort(t testing.TB) string {
	for range 100 {
		at := fmt.Sprintf("127.0.0.1:%d", 20000+rand.IntN(10000))
		if l, err := net.Listen("tcp", at); err == nil {
			l.Close()
			return at
		}
	}
	t.Fatal("of 100 ports between 20000 and 30000 none is free")
	return ""
}
