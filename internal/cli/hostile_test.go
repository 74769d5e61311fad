package cli

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vlaring/vlaring/pkg/natsbus"
	"github.com/vlaring/vlaring/pkg/run"
)

// A client that has the token sends junk on every subject of a running job, as
// fast as it can: noise, torn and repeated messages, empty bodies, frames and
// requests with a flipped bit. The job is stopped then, with the bits of an
// undisturbed one of as many steps, in the same processes.
func TestHostileClient(t *testing.T) {
	t.Parallel()
	args := []string{"testdata/small.yaml", "--workers", "2", "--threads", "1", "--set", "train.steps=1000000", "--set", "checkpoint.every=50",
		"--set", "schedule.min_lr=null", "--set", "data.delivery=bus", "--set", "cluster.deadline=60s"}
	dir := filepath.Join(t.TempDir(), "run")
	p := start(t, nil, bin.coordinator, append([]string{"train", "--json", "--run-dir", dir}, args...)...)
	p.event("step")
	h := newHostile(t, dir, "small", "w0", "w1")
	var attack sync.WaitGroup
	for i := range 2 {
		attack.Go(func() { h.attack(uint64(i), 3000) })
	}
	over := make(chan struct{})
	go func() { attack.Wait(); close(over) }()
	for on := true; on; {
		p.event("step")
		select {
		case <-over:
			on = false
		default:
		}
	}
	p.cmd.Process.Signal(os.Interrupt)
	end := p.event("end")
	steps := int(end["step"].(float64))
	want := undisturbed(t, fmt.Sprint("train.steps=", steps), "schedule.min_lr=null")
	if code, _ := p.wait(); code != exitResume || end["model_sha256"] != want {
		t.Fatalf("exit code %d, weights %v after step %d, want %s\n%s", code, end["model_sha256"], steps, want, p.errText())
	}
	sent := 0
	for s, n := range h.sent {
		t.Logf("%7d on %s", n, s)
		if sent += n; n < 100 {
			t.Errorf("only %d messages on %s", n, s)
		}
	}
	said := p.errText() + workerLogs(t, dir)
	if strings.Contains(said, "panic") || strings.Contains(said, "lost worker") || !strings.Contains(said, "dropped a message") {
		t.Errorf("want dropped messages, and no lost worker:\n%.20000s", said)
	}
	if n := strings.Count(said, "\n"); n > 500 {
		t.Errorf("%d messages of junk have made %d lines of log", sent, n)
	}
	wantSteps(t, dir, steps)
	for _, m := range readMetrics(t, filepath.Join(dir, "metrics.jsonl")) {
		if m.World != 2 || m.Generation != 1 {
			t.Fatalf("step %d was made by %d workers in generation %d, want 2 in 1", m.Step, m.World, m.Generation)
		}
	}
}

// hostile is a member of a job's server that means no good.
type hostile struct {
	conn  *natsbus.Conn
	heard map[string][][]byte // some of what was said, by subject
	mu    sync.Mutex
	sent  map[string]int
}

func newHostile(t *testing.T, dir, job string, workers ...string) *hostile {
	t.Helper()
	a, err := run.ReadAddress(dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := natsbus.Connect(ctx, a.URL, natsbus.Credentials{Token: a.Token}, natsbus.ConnOptions{Job: job, Member: "mallory"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	h := &hostile{conn: conn, sent: map[string]int{}}
	heard := map[string][][]byte{}
	subjects := []string{"coordinator", "blob.coordinator", "look", "order"}
	for _, w := range workers {
		subjects = append(subjects, "worker."+w, "from."+w, "ring."+w+".x", "blob."+w)
	}
	enough := make(chan struct{}, len(subjects))
	for i, s := range subjects {
		subjects[i] = "vlaring." + job + "." + s
		heard[subjects[i]] = nil // before anything is heard, which writes there
	}
	for _, s := range subjects {
		stop, err := conn.Bus().Subscribe(s, func(_ string, data []byte, _ func([]byte) error) {
			h.mu.Lock()
			defer h.mu.Unlock()
			if heard[s] = append(heard[s], slices.Clone(data)); len(heard[s]) == 3 {
				enough <- struct{}{}
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		defer stop()
	}
	long := time.After(300 * time.Millisecond)
	for n := len(subjects) - len(workers); n > 0; n-- { // all but the workers' control and blobs, where little is said
		select {
		case <-enough:
		case <-long: // noise will do
			n = 0
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.heard = maps.Clone(heard)
	return h
}

// attack sends n messages.
func (h *hostile) attack(seed uint64, n int) {
	rng := rand.New(rand.NewPCG(seed, 1))
	noise := rand.NewChaCha8([32]byte{byte(seed)})
	subjects := make([]string, 0, len(h.heard))
	for s := range h.heard {
		subjects = append(subjects, s)
	}
	slices.Sort(subjects)
	kinds := []string{"join", "welcome", "restore", "ready", "introduce", "recall", "standing", "assign", "formed", "go", "heartbeat", "beat", "report",
		"stall", "control", "snapshot", "offer", "stored", "fault", "leave", "end", "lead", "ask", "answered", "nonsense"}
	bodies := []string{"", "null", "{}", "[]", `"x"`, "1e999", `{"worker":"w0"}`, `{"worker":"../w0","step":-1}`, `{"generation":18446744073709551616}`, strings.Repeat("[", 20000)}
	for ; n > 0; n-- {
		s := subjects[rng.IntN(len(subjects))]
		var b []byte
		said := h.heard[s]
		switch k := rng.IntN(6); {
		case k == 0:
			b = make([]byte, rng.IntN(200))
			noise.Read(b)
		case k == 1 && n%50 == 0:
			b = make([]byte, 1<<20+rng.IntN(1<<19))
			noise.Read(b)
		case k == 2:
			b = fmt.Appendf(nil, `{"kind":%q,"body":%s}`, kinds[rng.IntN(len(kinds))], bodies[rng.IntN(len(bodies))])
		case k == 3:
			b = make([]byte, 64+4*rng.IntN(100))
			noise.Read(b)
			copy(b, []string{"VLRG\x01\x00", "VLBQ\x01\x00", "VLBR\x01\x00"}[rng.IntN(3)])
		case k == 4 && len(said) > 0: // torn, or said again
			b = said[rng.IntN(len(said))]
			if strings.Contains(s, ".ring.") && rng.IntN(2) == 0 {
				break
			}
			b = b[:rng.IntN(len(b)+1)]
			if strings.HasSuffix(string(b), "}}") {
				b = b[:len(b)-1]
			}
		case len(said) > 0 && (strings.Contains(s, ".ring.") || strings.Contains(s, ".blob.")):
			b = slices.Clone(said[rng.IntN(len(said))])
			if len(b) > 0 {
				b[rng.IntN(len(b))] ^= 1 << rng.IntN(8)
			}
		}
		bus := h.conn.Bus()
		if seed == 1 && n%100 == 0 { // one that wants an answer; it may get one. The other floods
			try, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
			bus.Request(try, s, b)
			cancel()
		} else if err := bus.Publish(s, b); err != nil {
			continue // its connection is cut, as it floods
		}
		h.mu.Lock()
		h.sent[s]++
		h.mu.Unlock()
	}
}

// What holds the token is for its owner's eyes only.
func TestSecretsOnDisk(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "run")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "token"), []byte("of an earlier run\n"), 0o644); err != nil { // its mode must not live on
		t.Fatal(err)
	}
	const secret = "the-token-of-this-test"
	p := start(t, []string{tokenEnv + "=" + secret}, bin.coordinator, "train", "testdata/small.yaml", "--json", "--run-dir", dir, "--workers", "0", "--set", "cluster.workers=1")
	p.event("waiting")
	for _, name := range []string{"token", run.AddressFile} {
		i, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if i.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, want 0600", name, i.Mode())
		}
	}
	p.cmd.Process.Kill()
	_, out := p.wait()
	if strings.Contains(out+p.errText(), secret) {
		t.Errorf("the token is in the output:\n%s%s", out, p.errText())
	}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == "token" || d.Name() == run.AddressFile {
			return err
		}
		b, err := os.ReadFile(path)
		if err == nil && strings.Contains(string(b), secret) {
			t.Errorf("the token is in %s", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Servers' URLs are checked before anything starts, and may hold no secret.
func TestServerURLs(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"nats://a:1,,nats://b:2":       "server 2 of 3",
		"http://a:1":                   "want nats://",
		"nats://a:1,tls://b:2":         "TLS for all of them or for none",
		"nats://wrong-secret@a:1":      "--token-file",
		"nats://u:wrong-secret@a:1,b:": "--token-file",
	} {
		for _, args := range [][]string{
			{bin.coordinator, "train", "testdata/small.yaml", "--nats", url, "--run-dir", filepath.Join(t.TempDir(), "run")},
			{bin.worker, "--job", "small", "--nats", url},
			{bin.coordinator, "status", "--job", "small", "--nats", url},
		} {
			code, _, stderr := call(t, args[0], args[1:]...)
			if code != exitUsage || !strings.Contains(stderr, want) || strings.Contains(stderr, "wrong-secret") {
				t.Errorf("%s %s: exit code %d, want %d with %q, without the secret\n%s", filepath.Base(args[0]), url, code, exitUsage, want, stderr)
			}
		}
	}
}
