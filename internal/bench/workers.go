package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/vlaring/vlaring/internal/bench/measure"
	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/internal/usage"
	"github.com/vlaring/vlaring/pkg/run"
)

// WorkersRow is a job on a number of workers.
type WorkersRow struct {
	Job     string  `json:"job"`
	Workers int     `json:"workers"`
	Road    string  `json:"road,omitempty"` // cluster.road; empty: one worker needs none
	Runs    int     `json:"runs"`
	Steps   int     `json:"steps"` // of a run, those that count
	Batch   int     `json:"batch"` // samples a step
	StepMS  float64 `json:"step_ms"`
	Samples float64 `json:"samples_per_s"` // of the median step
	Ring    float64 `json:"ring_share"`    // of a step: waiting for the ring after backward
	OverOne float64 `json:"over_one,omitempty"`
}

// WorkersReport is what more workers are worth.
type WorkersReport struct {
	Host
	Threads int          `json:"threads"`
	Rounds  int          `json:"rounds"`
	Rows    []WorkersRow `json:"rows"`
}

// workload is a job that is measured.
type workload struct {
	name  string
	file  string
	steps int
	set   []string
}

// prepared are the models that bench scaling makes data for.
var prepared = map[string]struct {
	size, vocab, rows, micro, steps int
	text                            string
}{
	"small": {64, 1000, 256, 32, 200, "model: {kind: vla, vocab_size: 1000, image_size: 64, patch_size: 16, d_model: 128, n_heads: 4, n_layers: 4, action_dim: 7}\n"},
	"default": {224, 10000, 64, 8, 25,
		"model: {kind: vla, vocab_size: 10000, image_size: 224, patch_size: 16, d_model: 512, n_heads: 8, n_layers: 6, action_dim: 7}\n"},
}

// metricsFile holds a line a committed step, in a run's directory.
const metricsFile = "metrics.jsonl"

// jobSteps is how many steps of a job file count for a run.
const jobSteps = 800

// WorkersOptions choose what Workers measures.
type WorkersOptions struct {
	Models  []string // that jobs and data are made for: small, default
	Jobs    []string // job files
	Roads   []string // cluster.road of runs with several workers: auto, nats, shm
	Workers []int
	Threads int // of a worker
	Rounds  int // turns of which the medians count
	Steps   int // of a run; 0: as DefaultSteps says
}

// DefaultSteps is how many steps of a run count: of a prepared model, and of a
// job file for any other name.
func DefaultSteps(model string) int {
	if p, ok := prepared[model]; ok {
		return p.steps
	}
	return jobSteps
}

func (f *WorkersOptions) check() error {
	f.Models = slices.DeleteFunc(f.Models, func(s string) bool { return s == "" })
	for _, m := range f.Models {
		if _, ok := prepared[m]; !ok {
			return usage.Errorf("--models %q: want small or default; a job file is named without a flag", m)
		}
	}
	if len(f.Models)+len(f.Jobs) == 0 {
		return usage.Errorf("nothing to measure: name --models or a JOB.yaml")
	}
	for _, r := range f.Roads {
		if r != "auto" && r != "nats" && r != "shm" {
			return usage.Errorf("--roads %q: want auto, nats or shm", r)
		}
	}
	for _, n := range f.Workers {
		if err := usage.Within("workers", n, 1, 64); err != nil {
			return err
		}
	}
	if len(f.Workers) == 0 || len(f.Roads) == 0 && slices.Max(f.Workers) > 1 {
		return usage.Errorf("nothing to measure: --workers and --roads want a value each")
	}
	if err := usage.Within("threads", f.Threads, 1, 1024); err != nil {
		return err
	}
	if err := usage.Within("rounds", f.Rounds, 1, 100); err != nil {
		return err
	}
	if f.Steps != 0 {
		return usage.Within("steps", f.Steps, leastSteps, 1<<20)
	}
	return nil
}

// leastSteps is how many steps a run needs for a median after the warm-up.
const leastSteps = 8

// workloads writes what is to be trained.
func (f *WorkersOptions) workloads(dir string) (l []workload, err error) {
	for _, m := range f.Models {
		p := prepared[m]
		data := filepath.Join(dir, m+".safetensors")
		if err := safetensors.WriteFile(data, randomTensors(p.rows, p.size, p.vocab), nil); err != nil {
			return nil, err
		}
		text := fmt.Sprintf("name: %s\nseed: 1\n%sdata: {kind: tensors, path: %q}\nbatch: {global: %d, micro: %d}\noptimizer: {lr: 1.0e-4}\ntrain: {steps: %d}\n",
			m, p.text, data, p.micro*max(2, slices.Max(f.Workers)), p.micro, p.steps)
		w := workload{name: m, file: filepath.Join(dir, m+".yaml"), steps: p.steps}
		if err := os.WriteFile(w.file, []byte(text), 0o644); err != nil {
			return nil, err
		}
		l = append(l, w)
	}
	for _, j := range f.Jobs {
		l = append(l, workload{name: j, file: j, steps: jobSteps})
	}
	for i := range l {
		if f.Steps != 0 {
			l[i].steps = f.Steps
		}
		l[i].set = []string{fmt.Sprintf("train.steps=%d", l[i].steps), "checkpoint.every=0"}
	}
	return l, nil
}

// randomTensors is data of a VLA model: pictures, instructions of eight tokens,
// actions of seven numbers.
func randomTensors(rows, size, vocab int) []safetensors.Tensor {
	rng := rand.New(rand.NewPCG(1, 2))
	images, tokens, actions := make([]uint8, rows*3*size*size), make([]int32, rows*8), make([]float32, rows*7)
	for i := range images {
		images[i] = uint8(rng.Uint32())
	}
	for i := range tokens {
		tokens[i] = 1 + rng.Int32N(int32(vocab-1))
	}
	for i := range actions {
		actions[i] = 2*rng.Float32() - 1
	}
	return []safetensors.Tensor{{Name: "images", Shape: []int{rows, 3, size, size}, Data: images}, {Name: "instruction_tokens", Shape: []int{rows, 8}, Data: tokens},
		{Name: "actions", Shape: []int{rows, 7}, Data: actions}}
}

// Workers runs every job on every number of workers and every road, round after
// round, and writes a line a run to progress. What it refuses of its options is a
// usage.Error.
func Workers(ctx context.Context, f WorkersOptions, progress io.Writer) (*WorkersReport, error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "vlaring-bench")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	list, err := f.workloads(dir)
	if err != nil {
		return nil, err
	}
	r := &WorkersReport{Host: newHost(), Threads: f.Threads, Rounds: f.Rounds}
	for _, w := range list {
		var rows []WorkersRow
		for _, n := range f.Workers {
			if n == 1 {
				rows = append(rows, WorkersRow{Job: w.name, Workers: 1})
				continue
			}
			for _, road := range f.Roads {
				rows = append(rows, WorkersRow{Job: w.name, Workers: n, Road: road})
			}
		}
		runs := make([][]trainedRun, len(rows))
		for round := range f.Rounds {
			for i, row := range rows {
				t, err := f.train(ctx, w, row, filepath.Join(dir, "run"))
				if err != nil {
					return nil, fmt.Errorf("%s: %w", row.what(), err)
				}
				runs[i] = append(runs[i], t)
				if first := runs[0][0].weights; t.weights != first {
					return nil, fmt.Errorf("%s ends with weights %.16s, and %s with %.16s: they must be the same", row.what(), t.weights, rows[0].what(), first)
				}
				fmt.Fprintf(progress, "round %d of %d: %s: %.1f samples/s\n", round+1, f.Rounds, row.what(), t.samples())
			}
		}
		summarize(rows, runs)
		r.Rows = append(r.Rows, rows...)
	}
	r.note()
	return r, nil
}

func (w WorkersRow) what() string {
	if w.Workers == 1 {
		return w.Job + ", 1 worker"
	}
	return fmt.Sprintf("%s, %d worker(s), %s", w.Job, w.Workers, w.Road)
}

// summarize fills rows with medians of their runs, a run a round.
func summarize(rows []WorkersRow, runs [][]trainedRun) {
	one := slices.IndexFunc(rows, func(w WorkersRow) bool { return w.Workers == 1 })
	median := func(l []trainedRun, of func(trainedRun) float64) float64 {
		var v []float64
		for _, t := range l {
			v = append(v, of(t))
		}
		return measure.Median(v)
	}
	for i := range rows {
		w, l := &rows[i], runs[i]
		w.Runs, w.Steps, w.Batch = len(l), l[0].steps, l[0].batch
		w.StepMS = 1e3 * median(l, func(t trainedRun) float64 { return t.step })
		w.Samples, w.Ring = median(l, trainedRun.samples), median(l, func(t trainedRun) float64 { return t.ring })
		if one < 0 || i == one {
			continue
		}
		var ratios []float64
		for round, t := range l {
			ratios = append(ratios, t.samples()/runs[one][round].samples())
		}
		w.OverOne = measure.Median(ratios)
	}
}

// trainedRun is what one run showed.
type trainedRun struct {
	steps, batch int
	step         float64 // seconds, median
	ring         float64 // share of a step, median
	weights      string  // SHA-256
}

func (t trainedRun) samples() float64 { return float64(t.batch) / t.step }

// train runs a job once in dir, which is empty before and after.
func (f *WorkersOptions) train(ctx context.Context, w workload, row WorkersRow, dir string) (t trainedRun, err error) {
	self, err := os.Executable()
	if err != nil {
		return t, err
	}
	defer os.RemoveAll(dir)
	args := []string{"train", w.file, "--json", "--run-dir", dir, "--workers", strconv.Itoa(row.Workers), "--threads", strconv.Itoa(f.Threads)}
	for _, s := range w.set {
		args = append(args, "--set", s)
	}
	if row.Road != "" {
		args = append(args, "--set", "cluster.road="+row.Road)
	}
	cmd := exec.CommandContext(ctx, self, args...)
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	if err := cmd.Run(); err != nil {
		return t, fmt.Errorf("%w: %.2000s", err, strings.TrimSpace(stderr.String()))
	}
	for s := bufio.NewScanner(&out); s.Scan(); {
		var e struct {
			Event   string `json:"event"`
			Weights string `json:"model_sha256"`
		}
		if json.Unmarshal(s.Bytes(), &e) == nil && e.Event == "end" {
			t.weights = e.Weights
		}
	}
	m, err := os.Open(filepath.Join(dir, metricsFile))
	if err != nil {
		return t, err
	}
	defer m.Close()
	if t.weights == "" {
		return t, errors.New("its last line names no weights")
	}
	return t, t.read(m, row.Workers)
}

// read takes the medians of a metrics.jsonl, all of whose steps but a fifth
// must be of that many workers.
func (t *trainedRun) read(metrics io.Reader, workers int) error {
	var list []run.Metrics
	for d := json.NewDecoder(metrics); ; {
		var m run.Metrics
		if err := d.Decode(&m); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return fmt.Errorf("%s: %w", metricsFile, err)
		}
		list = append(list, m)
	}
	list = list[(len(list)+4)/5:]
	var steps, rings, samples []float64
	for _, m := range list {
		if m.World != workers || !(m.Time.Step > 0) {
			return fmt.Errorf("step %d took %v s on %d worker(s), want %d: something went wrong in between", m.Step, m.Time.Step, m.World, workers)
		}
		steps, rings = append(steps, m.Time.Step), append(rings, m.Time.Ring/m.Time.Step)
		samples = append(samples, m.SamplesSec*m.Time.Step)
	}
	if len(steps) == 0 {
		return errors.New("it has committed no step")
	}
	t.steps, t.step, t.ring = len(steps), measure.Median(steps), measure.Median(rings)
	t.batch = int(measure.Median(samples) + 0.5)
	return nil
}
