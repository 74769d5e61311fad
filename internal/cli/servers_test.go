package cli

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vlaring/vlaring/internal/netaddr"
	"github.com/vlaring/vlaring/pkg/natsbus"
)

// Jobs over NATS servers that run elsewhere go on with the same bits when a
// node of a cluster is shut down, and when the only server is started again.
// No worker is lost by it: the deadline is far above what this machine needs
// to connect again, however busy it is.
func TestServersFail(t *testing.T) {
	t.Parallel()
	args := []string{"testdata/small.yaml", "--workers", "3", "--threads", "1", "--set", "train.steps=120", "--set", "checkpoint.every=30",
		"--set", "schedule.min_lr=null", "--set", "cluster.deadline=60s"}
	want := undisturbed(t, "train.steps=120", "schedule.min_lr=null")
	for name, disturb := range map[string]func(t *testing.T) (urls, token string, strike func()){
		"one node of three": func(t *testing.T) (string, string, func()) {
			nodes := startNodes(t, 3)
			var urls []string
			for _, n := range nodes {
				urls = append(urls, n.URL())
			}
			return strings.Join(urls, ","), nodes[0].Token(), func() {
				busiest := slices.MaxFunc(nodes, func(a, b *natsbus.Broker) int { return a.Clients() - b.Clients() })
				if n := busiest.Clients(); n < 3 {
					t.Errorf("%d of 8 connections are on the busiest of 3 nodes", n)
				}
				busiest.Shutdown()
			}
		},
		"the only server": func(t *testing.T) (string, string, func()) {
			server := startNode(t, natsbus.BrokerOptions{Port: ownPort(t)})
			return server.URL(), server.Token(), func() {
				server.Shutdown()
				startNode(t, natsbus.BrokerOptions{Port: netaddr.Port(server.URL()), Token: server.Token()})
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			urls, token, strike := disturb(t)
			dir := filepath.Join(t.TempDir(), "run")
			p := start(t, []string{tokenEnv + "=" + token}, bin.coordinator, append([]string{"train", "--json", "--run-dir", dir, "--nats", urls}, args...)...)
			p.event("step")
			p.event("step")
			strike()
			at := time.Now()
			struck := p.event("step")["step"].(float64)
			p.event("step")
			t.Logf("two more steps within %v", time.Since(at)) // the first may have been on its way
			end := p.event("end")
			if code, _ := p.wait(); code != 0 || end["model_sha256"] != want {
				t.Fatalf("exit code %d, weights %v, want %s\n%s", code, end["model_sha256"], want, p.errText())
			}
			if struck >= 120 {
				t.Errorf("the job was over before anything happened")
			}
			if said := p.errText() + workerLogs(t, dir); strings.Contains(said, "lost worker") || !strings.Contains(said, "reconnecting") {
				t.Errorf("want lost connections, and no lost worker:\n%s", said)
			}
			wantSteps(t, dir, 120)
			for _, m := range readMetrics(t, filepath.Join(dir, "metrics.jsonl")) {
				if m.World != 3 || m.Generation != 1 {
					t.Fatalf("step %d was made by %d workers in generation %d, want 3 in 1", m.Step, m.World, m.Generation)
				}
			}
		})
	}
}

// workerLogs is what the local workers of a run have said.
func workerLogs(t *testing.T, dir string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "logs", "*.log"))
	if err != nil || len(files) == 0 {
		t.Fatalf("the workers' logs: %v, %v", files, err)
	}
	var all strings.Builder
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(b)
	}
	return all.String()
}

// ownPort is one that no system gives to those who ask for any: nobody takes it while its
// server is away.
func ownPort(t *testing.T) int {
	t.Helper()
	for range 100 {
		port := 10000 + rand.IntN(10000)
		if l, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", port)); err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("of 100 ports between 10000 and 20000 none is free")
	return 0
}

func startNode(t *testing.T, o natsbus.BrokerOptions) *natsbus.Broker {
	t.Helper()
	b, err := natsbus.StartBroker(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Shutdown)
	return b
}

// startNodes starts a cluster of servers, all connected to each other.
func startNodes(t *testing.T, n int) []*natsbus.Broker {
	t.Helper()
	var l []*natsbus.Broker
	for i := range n {
		o := natsbus.BrokerOptions{Routes: &natsbus.Routes{}}
		if i > 0 {
			o.Token, o.Routes.Join = l[0].Token(), []string{l[0].RouteAddr()}
		}
		l = append(l, startNode(t, o))
	}
	for end := time.Now().Add(time.Minute); slices.ContainsFunc(l, func(b *natsbus.Broker) bool { return b.Peers() != n-1 }); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the nodes do not find each other")
		}
	}
	return l
}

// A coordinator that is killed takes the meeting place of the mesh with it. The
// workers' brokers find the next one at the same address.
func TestMeshOutlivesItsCoordinator(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "run")
	args := []string{"train", "testdata/small.yaml", "--json", "--run-dir", dir, "--workers", "2", "--threads", "1", "--set", "cluster.topology=mesh",
		"--set", "train.steps=100", "--set", "checkpoint.every=20", "--set", "schedule.min_lr=null"}
	want := undisturbed(t, "train.steps=100", "schedule.min_lr=null")
	outlives(t, dir, args, want)
}

// What does not go together is said before anything starts.
func TestMeshFlags(t *testing.T) {
	t.Parallel()
	run := filepath.Join(t.TempDir(), "run")
	for want, args := range map[string][]string{
		"give one of them":      {bin.coordinator, "train", "testdata/small.yaml", "--run-dir", run, "--nats", "nats://a:1", "--set", "cluster.topology=mesh"},
		"cluster.topology mesh": {bin.coordinator, "train", "testdata/small.yaml", "--run-dir", run, "--routes", "127.0.0.1:1"},
		"one of broker, mesh":   {bin.coordinator, "train", "testdata/small.yaml", "--run-dir", run, "--set", "cluster.topology=star"},
		"--nats connects":       {bin.worker, "--job", "small", "--nats", "nats://a:1", "--mesh", "a:1"},
		"the job's token":       {bin.worker, "--job", "small", "--mesh", "a:1"},
	} {
		code, _, stderr := call(t, args[0], args[1:]...)
		if code != exitUsage || !strings.Contains(stderr, want) {
			t.Errorf("%v: exit code %d, want %d with %q\n%s", args[1:], code, exitUsage, want, stderr)
		}
	}
	p := start(t, []string{tokenEnv + "=x"}, bin.worker, "--job", "small", "--mesh", "nowhere")
	if code, _ := p.wait(); code != exitUsage || !strings.Contains(p.errText(), "--mesh") {
		t.Errorf("--mesh nowhere: exit code %d\n%s", code, p.errText())
	}
}
