package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"github.com/vlaring/vlaring/internal/bench/measure"
	"github.com/vlaring/vlaring/internal/usage"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// GateReady is the line that a process of --scaling prints when it is warm.
const GateReady = "ready"

// ThreadsReport compares N threads of one process with N processes of one
// thread: what threads could reach at most, memory being shared by both.
type ThreadsReport struct {
	CPU         string  `json:"cpu"`
	Model       string  `json:"model"`
	N           int     `json:"n"`
	Cores       int     `json:"cores"`
	Rounds      int     `json:"rounds"`
	Alone       float64 `json:"one_thread_samples_per_s"` // medians over the rounds
	Independent float64 `json:"processes_samples_per_s"`  // all N together
	Threads     float64 `json:"threads_samples_per_s"`
	Speedup     float64 `json:"threads_over_one"`
	Share       float64 `json:"threads_over_processes"` // median of the rounds' ratios
}

// Threads starts processes of this program in turns, rounds times: one on one
// thread, n of them at once on a thread each, and one on n threads. What it
// refuses of its options is a usage.Error.
func Threads(ctx context.Context, f StepOptions, n, rounds int) (*ThreadsReport, error) {
	if err := usage.Within("scaling", n, 2, 1<<10); err != nil {
		return nil, err
	}
	r := &ThreadsReport{CPU: tensor.CPULevel(), Model: f.Model, N: n, Cores: newMachine(1).Cores, Rounds: rounds}
	if f.Job != "" {
		r.Model = f.Job
	}
	var alone, independent, threads, shares, speedups []float64
	for range rounds {
		a, err := f.processes(ctx, 1, 1)
		if err != nil {
			return nil, err
		}
		p, err := f.processes(ctx, n, 1)
		if err != nil {
			return nil, err
		}
		t, err := f.processes(ctx, 1, n)
		if err != nil {
			return nil, err
		}
		alone, independent, threads = append(alone, a), append(independent, p), append(threads, t)
		shares, speedups = append(shares, t/p), append(speedups, t/a)
	}
	r.Alone, r.Independent, r.Threads = measure.Median(alone), measure.Median(independent), measure.Median(threads)
	r.Share, r.Speedup = measure.Median(shares), measure.Median(speedups)
	return r, nil
}

// processes runs n processes of this program at once and returns their samples
// a second together.
func (f *StepOptions) processes(ctx context.Context, n, threads int) (samples float64, err error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // kills whoever is left
	args := append([]string{"bench", "step", "--json", "--gate", "--threads", strconv.Itoa(threads), "--budget", f.Budget.String(), "--slab", "1024"}, f.args()...)
	type child struct {
		cmd    *exec.Cmd
		in     io.WriteCloser
		out    *bufio.Reader
		stderr bytes.Buffer
	}
	var all []*child
	defer func() {
		cancel()
		for _, k := range all {
			k.cmd.Wait()
		}
	}()
	failed := func(k *child, err error) error {
		k.cmd.Wait()
		return fmt.Errorf("%s: %w: %s", strings.Join(k.cmd.Args, " "), err, strings.TrimSpace(k.stderr.String()))
	}
	for range n {
		k := &child{cmd: exec.CommandContext(ctx, self, args...)}
		k.cmd.Stderr = &k.stderr
		if k.in, err = k.cmd.StdinPipe(); err != nil {
			return 0, err
		}
		out, err := k.cmd.StdoutPipe()
		if err != nil {
			return 0, err
		}
		k.out = bufio.NewReader(out)
		if err := k.cmd.Start(); err != nil {
			return 0, err
		}
		all = append(all, k)
	}
	for _, k := range all {
		if line, err := k.out.ReadString('\n'); err != nil || strings.TrimSpace(line) != GateReady {
			return 0, failed(k, fmt.Errorf("it did not get ready: %q, %w", line, err))
		}
	}
	for _, k := range all {
		if _, err := io.WriteString(k.in, "go\n"); err != nil {
			return 0, failed(k, err)
		}
	}
	for _, k := range all {
		var r StepReport
		if err := json.NewDecoder(k.out).Decode(&r); err != nil {
			return 0, failed(k, err)
		}
		samples += r.Samples
	}
	return samples, nil
}
