// Package audit computes steps of a run again, from the checkpoint before them, and
// compares what comes out with what the run has recorded. The bits of a job are the
// same on any machine, so anybody can check anybody's run.
//
//	r, err := audit.Run(ctx, audit.Options{Dir: "runs/bridge", Step: 180, Kinds: train.Kinds(), Threads: 2})
//	fmt.Print(r.Text())
//	err = r.Err() // a *Difference where the record does not hold
//
// What is compared of each step: the checksum of the weights, loss, gradient norm,
// learning rate and number of targets, to the last bit; and of a step that has a
// checkpoint of its own, the SHA-256 of its weights. The checksum is CRC-32C: it finds
// another computation, and is no seal against somebody who forges one.
package audit

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/vlaring/vlaring/internal/plain"
	"github.com/vlaring/vlaring/internal/regular"
	"github.com/vlaring/vlaring/internal/s3url"
	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/internal/usage"
	"github.com/vlaring/vlaring/pkg/allreduce"
	"github.com/vlaring/vlaring/pkg/checkpoint"
	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/run"
	"github.com/vlaring/vlaring/pkg/tensor"
	"github.com/vlaring/vlaring/pkg/train"
	"github.com/vlaring/vlaring/pkg/trained"
	"github.com/vlaring/vlaring/pkg/weights"
	"github.com/vlaring/vlaring/pkg/worker"
)

// Options say what is to be checked.
type Options struct {
	Dir     string // run directory
	Step    uint64 // the last step to check
	From    uint64 // the first one; 0: Step. Those between its checkpoint and it are checked too
	Data    string // where the data is here; empty: as in the job
	Kinds   job.Kinds
	Threads int
	Scans   *data.ScanDir
}

// Report is what came out.
type Report struct {
	Run        string      `json:"run"`
	Job        string      `json:"job"`
	Checkpoint string      `json:"checkpoint"` // that was gone on from; empty: the job's first weights
	First      uint64      `json:"first"`      // step that was compared
	Last       uint64      `json:"last"`
	Seconds    float64     `json:"seconds"`
	Weights    string      `json:"weights"`                // after the last step, as recomputed
	SHA256     string      `json:"model_sha256,omitempty"` // of the last step's checkpoint, where there is one: also as recomputed
	Holds      bool        `json:"holds"`
	Difference *Difference `json:"difference,omitempty"`  // the first one
	Passed     []string    `json:"passed_over,omitempty"` // checkpoints that do not verify, and why
	NoWeights  int         `json:"no_weights,omitempty"`  // steps of a release that recorded no checksum of the weights
}

// Difference is where a record does not hold.
type Difference struct {
	Step       uint64 `json:"step"`
	What       string `json:"what"`
	Recorded   string `json:"recorded"`
	Recomputed string `json:"recomputed"`
}

func (d *Difference) Error() string {
	return fmt.Sprintf("the record does not hold: step %d has %s %s recorded, and %s comes out here", d.Step, d.What, d.Recorded, d.Recomputed)
}

// Err is the Difference as an error; nil where the record holds.
func (r *Report) Err() error {
	if r.Difference != nil {
		return r.Difference
	}
	return nil
}

// Text is the report for people.
func (r *Report) Text() string {
	from := "the job's first weights"
	if r.Checkpoint != "" {
		from = r.Checkpoint
	}
	s := ""
	for _, p := range r.Passed {
		s += "passed over " + p + "\n"
	}
	s += fmt.Sprintf("%s, steps %d to %d, computed again from %s (%.1f s)\n", r.Job, r.First, r.Last, from, r.Seconds)
	if d := r.Difference; d != nil {
		return s + fmt.Sprintf("DIFFERS from step %d on: %s\n  recorded    %s\n  recomputed  %s\n", d.Step, d.What, d.Recorded, d.Recomputed)
	}
	s += fmt.Sprintf("HOLDS: weights %s after step %d, and of each step loss, gradient norm and learning rate, to the last bit\n", r.Weights, r.Last)
	if r.SHA256 != "" {
		s += fmt.Sprintf("model.safetensors sha256 %s, as in the checkpoint of step %d\n", r.SHA256, r.Last)
	}
	if r.NoWeights > 0 {
		s += fmt.Sprintf("%d of the steps were recorded without a checksum of the weights, by an older release\n", r.NoWeights)
	}
	return s
}

// Run checks steps of a run. An error says why they cannot be checked, and what would
// help; that they differ stands in the Report.
func Run(ctx context.Context, o Options) (*Report, error) {
	if o.Step == 0 {
		return nil, usage.Errorf("--step K is missing: the step to check, from 1 to the newest in metrics.jsonl")
	}
	if o.From == 0 {
		o.From = o.Step
	}
	if o.From > o.Step {
		return nil, usage.Errorf("--from-step %d comes after --step %d: give the first step, then the last", o.From, o.Step)
	}
	b, err := find(&o)
	if err != nil {
		return nil, err
	}
	r := &Report{Run: o.Dir, Job: b.job.Name, Checkpoint: b.dir, First: b.start + 1, Last: o.Step, Passed: b.passed}
	began := time.Now()
	if err := b.recompute(ctx, &o, r); err != nil {
		return nil, err
	}
	r.Seconds, r.Holds = time.Since(began).Seconds(), r.Difference == nil
	return r, nil
}

// begun is what is gone on from, and what came out then.
type begun struct {
	job      *job.Job
	meta     *data.Meta // nil: to be measured
	base     string     // where the job's relative paths start
	start    uint64     // committed steps
	dir      string     // the checkpoint; empty: none
	recorded map[uint64]run.Metrics
	passed   []string
	sha256   string // of the weights of the checkpoint of the last step; empty: there is none
}

// find finds the checkpoint before a step, the job that computed it, and the record.
func find(o *Options) (*begun, error) {
	origin, err := run.ReadOrigin(o.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is no run directory: it has no %s\ngive one such as runs/NAME", o.Dir, run.OriginFile)
	}
	if err != nil {
		return nil, err
	}
	b := &begun{base: origin.BaseDir, recorded: map[uint64]run.Metrics{}}
	lines, err := run.ReadMetrics(o.Dir)
	if err != nil {
		return nil, err
	}
	newest := uint64(0)
	for _, m := range lines {
		b.recorded[m.Step], newest = m, max(newest, m.Step)
	}
	if _, ok := b.recorded[o.Step]; !ok {
		return nil, fmt.Errorf("step %d is not in %s, whose newest is %d: choose one that is with --step", o.Step, filepath.Join(o.Dir, run.MetricsFile), newest)
	}
	entries, err := checkpoint.List(filepath.Join(o.Dir, "checkpoints"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	slices.SortFunc(entries, func(x, y checkpoint.Entry) int { return int(x.Step) - int(y.Step) })
	var after *checkpoint.Manifest // of the oldest checkpoint that was made with the steps in question
	for _, e := range entries {
		man, err := checkpoint.ReadManifest(e.Dir)
		switch {
		case err != nil:
		case e.Step < o.From:
			if verr := checkpoint.Verify(e.Dir).Err(); verr != nil {
				b.passed = append(b.passed, verr.Error())
				continue
			}
			b.start, b.dir, b.meta = e.Step, e.Dir, new(data.Meta)
			if err := json.Unmarshal(man.Data, b.meta); err != nil {
				return nil, fmt.Errorf("%s: manifest: data: %w", e.Dir, err)
			}
		case e.Step >= o.Step && after == nil:
			after = &man
			if e.Step == o.Step {
				b.sha256 = man.File(train.ModelFile).SHA256
			}
		}
	}
	if b.job, err = jobOf(o, after); err != nil {
		return nil, err
	}
	if b.job.Cluster.Reduce == "fast" {
		return nil, errors.New("cluster.reduce is fast, so the bits are those of the number of workers: steps of such a run cannot be checked")
	}
	if b.meta == nil && after != nil { // the statistics and vocabulary that the run went by
		b.meta = new(data.Meta)
		if err := json.Unmarshal(after.Data, b.meta); err != nil {
			return nil, fmt.Errorf("the manifest of step %d: data: %w", after.Step, err)
		}
	}
	return b, nil
}

// jobOf is the job that computed a step: of the first checkpoint since, or the run's.
func jobOf(o *Options, after *checkpoint.Manifest) (*job.Job, error) {
	if after != nil {
		return o.Kinds.Parse(fmt.Sprintf("the manifest of step %d", after.Step), after.Config, nil)
	}
	path := filepath.Join(o.Dir, run.JobCopy)
	text, err := regular.Read(path, 1<<20)
	if err != nil {
		return nil, err
	}
	return o.Kinds.Parse(path, text, nil)
}

// recompute takes the steps again, as a world of one, until one differs.
func (b *begun) recompute(ctx context.Context, o *Options, r *Report) error {
	d := *b.job
	if s3url.Is(o.Data) {
		d.Data.Path = o.Data
	} else if o.Data != "" {
		var err error
		if d.Data.Path, err = filepath.Abs(o.Data); err != nil {
			return err
		}
	}
	set, err := train.OpenDataContext(ctx, &d, b.base, b.meta, data.Watch{Scans: o.Scans})
	if err != nil {
		return fmt.Errorf("a step is computed from its samples, and the data is not here as it was: %w\nbring it back, or say where it is with --data", err)
	}
	defer set.Close()
	meta := set.Meta()
	model, opt, err := train.Build(b.job, meta)
	if err != nil {
		return err
	}
	defer model.Close()
	opt.Sharded, opt.Verify = false, false // one rank holds all of it; the bits are the same
	if opt.Distill, err = b.teacher(o, meta); err != nil {
		return err
	}
	if b.dir == "" {
		if err := b.begin(ctx, o, model); err != nil {
			return err
		}
	}
	rt := tensor.NewRuntime(max(o.Threads, 1))
	defer rt.Close()
	t, err := train.NewTrainer(rt, model, opt, func(uint64, string) {})
	if err != nil {
		return err
	}
	if b.dir != "" {
		if err := b.restore(t); err != nil {
			return err
		}
	}
	feed, err := data.NewLocalFeed(set.Train(), train.Order(b.job, meta))
	if err != nil {
		return err
	}
	const ahead = 4
	in, err := data.NewPrefetcher(feed, meta, b.job.Batch.Micro, ahead, data.Range{Start: b.start, End: o.Step, Hi: b.job.Batch.Global / b.job.Batch.Micro})
	if err != nil {
		return err
	}
	defer in.Close()
	ring := allreduce.NewSolo(rt.Fold)
	defer ring.Close()
	for t.CommittedStep() < o.Step {
		res, err := t.Step(ctx, ring, 0, b.job.Groups(), in, func() allreduce.Flags { return 0 })
		if err != nil {
			return err
		}
		step := t.CommittedStep()
		r.Weights = t.WeightsSum()
		was, ok := b.recorded[step]
		if !ok {
			continue // a coordinator ended before it had written the line
		}
		if was.Weights == "" {
			r.NoWeights++
		}
		if r.Difference = differ(was, &res, r.Weights); r.Difference != nil {
			r.Last = step
			return nil
		}
	}
	if b.sha256 == "" {
		return nil
	}
	parts, err := t.Part(0, 1, nil)
	if err != nil {
		return err
	}
	for _, p := range parts {
		if p.File == train.ModelFile {
			sum := sha256.Sum256(p.Data)
			r.SHA256 = hex.EncodeToString(sum[:])
		}
	}
	if r.SHA256 != b.sha256 {
		r.Difference = &Difference{o.Step, "the SHA-256 of model.safetensors", b.sha256, r.SHA256}
	}
	return nil
}

// differ is the first of a step's figures that is not as recorded; nil: none.
func differ(was run.Metrics, is *train.Result, sum string) *Difference {
	number := func(x float64) string { return strconv.FormatFloat(x, 'g', -1, 64) }
	for _, f := range [][3]string{
		{"refused", was.Refused, is.Refused},
		{"loss", number(was.Loss), number(is.Loss)},
		{"targets", strconv.Itoa(was.Targets), strconv.Itoa(is.Targets)},
		{"gradient norm", number(was.GradNorm), number(is.GradNorm)},
		{"learning rate", number(was.LR), number(is.LR)},
		{"weights", was.Weights, sum},
	} {
		if f[1] != f[2] && (f[0] != "weights" || was.Weights != "") {
			return &Difference{was.Step, f[0], f[1], f[2]}
		}
	}
	return nil
}

// restore gives a trainer the state of the checkpoint.
func (b *begun) restore(t *train.Trainer) error {
	model, err := safetensors.Open(filepath.Join(b.dir, train.ModelFile))
	if err != nil {
		return err
	}
	defer model.Close()
	moments, err := safetensors.Open(filepath.Join(b.dir, train.OptimizerFile))
	if err != nil {
		return err
	}
	defer moments.Close()
	return t.Restore(b.start, model, moments, "")
}

// begin gives a model the job's first weights.
func (b *begun) begin(ctx context.Context, o *Options, model *models.Model) error {
	in := b.job.Init
	if in.Path == "" {
		model.Init(b.job.Seed)
		return nil
	}
	path := filepath.Join(o.Dir, "init.safetensors") // put together by the run
	_, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) && len(in.Map) == 0 && !in.Partial && in.Weights != job.Average {
		if path, err = run.LocalInit(ctx, in, b.base, func(string) {}); err != nil {
			return fmt.Errorf("the run's first weights: %w", err)
		}
	}
	f, err := safetensors.OpenModel(path)
	if err != nil {
		return fmt.Errorf("there is no checkpoint before step %d, and the run's first weights are not here: %w\naudit a later step, or bring them back", o.From, err)
	}
	defer f.Close()
	return weights.LoadFirst(model.Params(), f)
}

// teacher is the job's teacher; nil where there is none.
func (b *begun) teacher(o *Options, meta data.Meta) (*models.Distillation, error) {
	d := b.job.Distill
	if !d.Active() {
		return nil, nil
	}
	path := filepath.Join(o.Dir, worker.TeacherFile)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		dir, _, err := trained.Find(job.Abs(b.base, d.Teacher)) // its bytes are compared below
		if err != nil {
			return nil, fmt.Errorf("the run's teacher is not here: %w", err)
		}
		path = filepath.Join(dir, train.ModelFile)
	}
	f, _, err := regular.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return nil, err
	}
	if sum := hex.EncodeToString(h.Sum(nil)); sum != d.SHA256 {
		return nil, fmt.Errorf("%s has SHA-256 %s, and the run's teacher %s: bring that one back", plain.ShellWord(path), sum, d.SHA256)
	}
	w, err := safetensors.Open(path)
	if err != nil {
		return nil, err
	}
	defer w.Close()
	return train.Distill(b.job, meta, w)
}
