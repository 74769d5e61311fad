package cli

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

	"github.com/spf13/cobra"

	"github.com/vlaring/vlaring/pkg/tensor"
	"github.com/vlaring/vlaring/pkg/tensor/measure"
)

// gateReady is the line that a process of --scaling prints when it is warm.
const gateReady = "ready"

// scalingReport compares N threads of one process with N processes of one
// thread: what threads could reach at most, memory being shared by both.
type scalingReport struct {
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

func (f *stepFlags) scale(c *cobra.Command) error {
	r := scalingReport{CPU: tensor.CPULevel(), Model: f.model, N: f.scaling, Cores: newBenchMachine(1).Cores, Rounds: f.rounds}
	if f.job != "" {
		r.Model = f.job
	}
	var alone, independent, threads, shares, speedups []float64
	for range f.rounds {
		a, err := f.processes(c.Context(), 1, 1)
		if err != nil {
			return err
		}
		p, err := f.processes(c.Context(), f.scaling, 1)
		if err != nil {
			return err
		}
		t, err := f.processes(c.Context(), 1, f.scaling)
		if err != nil {
			return err
		}
		alone, independent, threads = append(alone, a), append(independent, p), append(threads, t)
		shares, speedups = append(shares, t/p), append(speedups, t/a)
	}
	r.Alone, r.Independent, r.Threads = measure.Median(alone), measure.Median(independent), measure.Median(threads)
	r.Share, r.Speedup = measure.Median(shares), measure.Median(speedups)
	if f.asJSON {
		return printJSON(c.OutOrStdout(), r)
	}
	out := c.OutOrStdout()
	fmt.Fprintf(out, "%s, %s, %d core(s); medians of %d round(s)\n", r.Model, r.CPU, r.Cores, r.Rounds)
	fmt.Fprintf(out, "%-36s %8.2f samples/s\n", "one process, one thread", r.Alone)
	fmt.Fprintf(out, "%-36s %8.2f samples/s\n", fmt.Sprintf("%d processes at once, a thread each", r.N), r.Independent)
	fmt.Fprintf(out, "%-36s %8.2f samples/s, %.2f× one thread, %s of the processes\n", fmt.Sprintf("one process, %d threads", r.N), r.Threads, r.Speedup, percent(r.Share))
	return nil
}

// processes runs n processes of this program at once and returns their samples
// a second together.
func (f *stepFlags) processes(ctx context.Context, n, threads int) (samples float64, err error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // kills whoever is left
	args := append([]string{"bench", "step", "--json", "--gate", "--threads", strconv.Itoa(threads), "--budget", f.budget.String(), "--slab", "1024"}, f.args()...)
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
		if line, err := k.out.ReadString('\n'); err != nil || strings.TrimSpace(line) != gateReady {
			return 0, failed(k, fmt.Errorf("it did not get ready: %q, %w", line, err))
		}
	}
	for _, k := range all {
		if _, err := io.WriteString(k.in, "go\n"); err != nil {
			return 0, failed(k, err)
		}
	}
	for _, k := range all {
		var r stepReport
		if err := json.NewDecoder(k.out).Decode(&r); err != nil {
			return 0, failed(k, err)
		}
		samples += r.Samples
	}
	return samples, nil
}
