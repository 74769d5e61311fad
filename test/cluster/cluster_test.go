// Package cluster holds the test of examples/cluster: systemd units and the Slurm script.
package cluster

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/vlaring/vlaring/internal/cli"
	"github.com/vlaring/vlaring/test/programtest"
)

const examples = "../../examples/cluster/"

func TestMain(m *testing.M) { programtest.Main(m) }

// The units' commands have flags that the programs have, and systemd finds nothing wrong.
func TestUnits(t *testing.T) {
	for file, command := range map[string]func() *cobra.Command{"vlaring-coordinator.service": cli.NewCoordinator, "vlaring-worker@.service": cli.NewWorker} {
		b, err := os.ReadFile(examples + file)
		if err != nil {
			t.Fatal(err)
		}
		text := strings.ReplaceAll(string(b), "\\\n", " ")
		line := regexp.MustCompile(`(?m)^ExecStart=/usr/local/bin/(\w+) (.*)$`).FindStringSubmatch(text)
		if line == nil {
			t.Errorf("%s starts nothing", file)
			continue
		}
		args := strings.Fields(strings.NewReplacer("${NATS}", "nats://h:4222", "${JOB}", "tabletop", "${THREADS}", "0", "%l-%i", "host-1").Replace(line[2]))
		c, rest, err := command().Find(args)
		if err == nil {
			err = c.ParseFlags(rest)
		}
		if err == nil {
			err = c.ValidateArgs(c.Flags().Args())
		}
		if err != nil {
			t.Errorf("%s: %s %q: %v", file, line[1], args, err)
		}
		if !strings.Contains(text, "\nRestartPreventExitStatus=2\n") { // a mistake in the flags is no reason to try again
			t.Errorf("%s is started again after exit code 2", file)
		}
	}
	t.Run("verify", func(t *testing.T) {
		analyze, err := exec.LookPath("systemd-analyze")
		if err != nil {
			t.Skip("NOT RUN: systemd-analyze is not here, which reads units as systemd does")
		}
		dir := t.TempDir()
		for _, file := range []string{"vlaring-coordinator.service", "vlaring-worker@.service"} {
			b, err := os.ReadFile(examples + file)
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, strings.Replace(file, "@", "@1", 1)) // an instance of it
			text := regexp.MustCompile(`/usr/local/bin/\w+`).ReplaceAllString(string(b), "/bin/true")
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			out, err := exec.Command(analyze, "verify", "--man=no", path).CombinedOutput()
			if err != nil || strings.Contains(string(out), path) {
				t.Errorf("%s: %v\n%s", file, err, out)
			}
		}
	})
}

// The batch script, where srun and scontrol stand in for Slurm's (srun starts its command
// here, once): near its time limit the run stores a checkpoint and is queued again, and what is
// started then goes on from there to the weights of an undisturbed run.
func TestSlurmScript(t *testing.T) {
	bin, dir := t.TempDir(), t.TempDir()
	programtest.Into(t, bin)
	for name, text := range map[string]string{
		"srun":     "#!/bin/bash\nwhile [[ $1 == --* ]]; do shift; done\nexec \"$@\"\n",
		"scontrol": "#!/bin/bash\necho \"$@\" >>" + dir + "/scontrol\n",
		"hostname": "#!/bin/bash\necho 127.0.0.1\n",
	} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	script, err := filepath.Abs(examples + "slurm.sh")
	if err != nil {
		t.Fatal(err)
	}
	job, err := filepath.Abs("../k8s/overlay/job.yaml")
	if err != nil {
		t.Fatal(err)
	}
	const steps = "train.steps=300"
	batch := func() *exec.Cmd {
		c := exec.Command("bash", script, job, "--set", steps)
		c.Dir = dir
		c.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "SLURM_JOB_ID=4711", "SLURM_JOB_NUM_NODES=1", "SLURM_CPUS_PER_TASK=1", fmt.Sprint("VLARING_PORT=", port))
		c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		return c
	}
	finished := func(c *exec.Cmd) (int, string) {
		t.Helper()
		out, _ := c.CombinedOutput()
		return c.ProcessState.ExitCode(), string(out)
	}

	first := batch()
	go func() { // the signal that Slurm sends to the batch step before the time is up
		for {
			b, _ := os.ReadFile(filepath.Join(dir, "runs/slurm-4711/metrics.jsonl"))
			if strings.Count(string(b), "\n") > 5 {
				first.Process.Signal(syscall.SIGUSR1)
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	}()
	code, out := finished(first)
	queued, _ := os.ReadFile(filepath.Join(dir, "scontrol"))
	if code != 3 || string(queued) != "requeue 4711\n" {
		t.Fatalf("near the time limit: exit code %d, scontrol %q\n%s", code, queued, out)
	}
	code, out = finished(batch())
	if queued, _ := os.ReadFile(filepath.Join(dir, "scontrol")); code != 0 || string(queued) != "requeue 4711\n" || !strings.Contains(out, "resuming after step") {
		t.Fatalf("queued again: exit code %d, scontrol %q\n%s", code, queued, out)
	}
	sum := regexp.MustCompile(`model\.safetensors sha256 ([0-9a-f]{64})`).FindStringSubmatch(out)
	alone := exec.Command(filepath.Join(bin, "coordinator"), "train", job, "--workers", "1", "--json", "--set", steps, "--set", "name=slurm-4711", "--run-dir", filepath.Join(dir, "alone"))
	lines, err := alone.Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(lines)) {
		var e struct {
			Event string
			Sum   string `json:"model_sha256"`
		}
		if json.Unmarshal([]byte(line), &e) == nil && e.Event == "end" && (sum == nil || sum[1] != e.Sum) {
			t.Errorf("weights %v, and undisturbed %s", sum, e.Sum)
		}
	}
}
