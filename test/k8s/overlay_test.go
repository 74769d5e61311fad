package k8s

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/vlaring/vlaring/internal/access"
	"github.com/vlaring/vlaring/test/programtest"
)

// process is a container's command, run here.
type process struct {
	cmd  *exec.Cmd
	done chan error

	mu   sync.Mutex
	step struct{ Step, World, Generation int } // the newest line
	end  string                                // model_sha256
	said bytes.Buffer                          // to standard error
}

func run(t *testing.T, program string, args ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(program, args...), done: make(chan error, 1)}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Stderr = writer(func(b []byte) { p.mu.Lock(); p.said.Write(b); p.mu.Unlock() })
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.cmd.Process.Kill() })
	go func() {
		for s := bufio.NewScanner(out); s.Scan(); {
			var e struct {
				Event                   string
				Step, World, Generation int
				Sum                     string `json:"model_sha256"`
			}
			if json.Unmarshal(s.Bytes(), &e) != nil {
				continue
			}
			p.mu.Lock()
			switch e.Event {
			case "step":
				p.step.Step, p.step.World, p.step.Generation = e.Step, e.World, e.Generation
			case "end":
				p.end = e.Sum
			}
			p.mu.Unlock()
		}
		p.done <- p.cmd.Wait()
	}()
	return p
}

type writer func(b []byte)

func (w writer) Write(b []byte) (int, error) { w(b); return len(b), nil }

// until waits for steps of a world of so many, beyond a step.
func (p *process) until(t *testing.T, what string, world, beyond int) (step int) {
	t.Helper()
	for end := time.Now().Add(3 * time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		p.mu.Lock()
		s := p.step
		p.mu.Unlock()
		if s.World == world && s.Step > beyond {
			return s.Step
		}
		select {
		case err := <-p.done:
			t.Fatalf("%s: the coordinator has ended (%v) after step %d of a world of %d:\n%s", what, err, s.Step, s.World, p.said.String())
		default:
		}
	}
	t.Fatalf("%s: no step of a world of %d beyond %d; the newest is %+v\n%s", what, world, beyond, p.step, p.said.String())
	return 0
}

func TestMain(m *testing.M) { programtest.Main(m) }

// The commands of overlays/tls, as it was rendered, with files where it mounts them:
// certificates for a DNS name alone, the token for the coordinator, for each worker the one key
// that its pod sees. Workers are killed and come again with the same key, certificates and
// their authority are replaced, the coordinator is killed, a worker more comes: the weights are
// those of a run here that nothing happens to. test/k8s/run.sh is the same by a cluster.
func TestTLSOverlayRuns(t *testing.T) {
	f, err := os.Open("render/testdata/overlays-tls.yaml")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	all := map[string]object{}
	for d := yaml.NewDecoder(f); ; {
		var o object
		if err := d.Decode(&o); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all[text(o, "kind")+"/"+text(o, "metadata.name")] = o
	}
	dir := t.TempDir()
	programtest.Into(t, dir)
	for _, d := range []string{"tls", "runs"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	certificate(t, filepath.Join(dir, "tls"), "vlaring-coordinator")
	settings, _ := at(all["ConfigMap/vlaring-settings"], "data").(object)
	if _, err := access.Make(access.Keys{Job: settings["JOB"].(string), Dir: filepath.Join(dir, "secrets"), Who: []string{"worker:w0..w2"}, Now: time.Now()}); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()

	// args are a container's, with its files and addresses as they are here.
	args := func(role string, index int) []string {
		c := at(all["Job/vlaring-"+role], "spec.template.spec.containers.0")
		here := []string{"/tls/", dir + "/tls/", "/runs/", dir + "/runs/", "/job/job.yaml", "overlay/job.yaml", "/secrets/token", dir + "/secrets/token", "=0.0.0.0:8080", "=127.0.0.1:0", "=0.0.0.0:4222", "=" + address}
		for k, v := range settings {
			here = append(here, "$("+k+")", v.(string))
		}
		for _, e := range list(c, "env") {
			here = append(here, "$("+text(e, "name")+")", text(e, "value"))
		}
		for _, m := range list(c, "volumeMounts") {
			if sub := text(m, "subPathExpr"); sub != "" {
				here = append(here, text(m, "mountPath"), filepath.Join(dir, "secrets", strings.ReplaceAll(sub, "$(JOB_COMPLETION_INDEX)", fmt.Sprint(index))))
			}
		}
		var out []string
		for _, a := range list(c, "args") {
			s := strings.NewReplacer(here...).Replace(a.(string))
			if s == "--nats=tls://vlaring-coordinator:4222" { // there is no such name here
				out = append(out, "--tls-server-name=vlaring-coordinator")
				s = "--nats=tls://" + address
			}
			out = append(out, s)
		}
		return out
	}
	steps := []string{"--set=train.steps=1200", "--set=cluster.deadline=5s"}
	train := func() *process {
		return run(t, filepath.Join(dir, "coordinator"), append(args("coordinator", 0), steps...)...)
	}
	work := func(index int) *process {
		return run(t, filepath.Join(dir, "worker"), append(args("worker", index), "--threads=1")...)
	}

	c, w0, w1 := train(), work(0), work(1)
	last := c.until(t, "the beginning", 2, 0)
	w0.cmd.Process.Kill()
	last = c.until(t, "worker 0 is killed", 1, last)
	w0 = work(0)
	last = c.until(t, "worker 0 comes again, by the same key", 2, last)
	certificate(t, filepath.Join(dir, "tls"), "vlaring-coordinator") // another authority's, too
	w1.cmd.Process.Kill()
	c.until(t, "worker 1 is killed", 1, last)
	w1 = work(1)
	last = c.until(t, "worker 1 comes again, by the new certificate", 2, last)
	c.cmd.Process.Kill()
	<-c.done
	c = train()
	last = c.until(t, "another coordinator", 2, last)
	w2 := work(2)
	c.until(t, "a worker more", 3, last)
	for name, p := range map[string]*process{"coordinator": c, "worker 0": w0, "worker 1": w1, "worker 2": w2} {
		if err := <-p.done; err != nil {
			t.Errorf("%s: %v\n%s", name, err, p.said.String())
		}
	}

	alone := run(t, filepath.Join(dir, "coordinator"), append([]string{"train", "overlay/job.yaml", "--workers=1", "--json", "--set=name=" + settings["JOB"].(string), "--run-dir=" + filepath.Join(dir, "alone")}, steps...)...)
	if err := <-alone.done; err != nil {
		t.Fatalf("%v\n%s", err, alone.said.String())
	}
	if c.end == "" || c.end != alone.end {
		t.Errorf("weights %s, and undisturbed %s", c.end, alone.end)
	}
}
