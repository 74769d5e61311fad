package run

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/vlaring/vlaring/internal/usage"
	"github.com/vlaring/vlaring/pkg/checkpoint"
	"github.com/vlaring/vlaring/pkg/cluster"
	"github.com/vlaring/vlaring/pkg/eval"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/train"
	"github.com/vlaring/vlaring/pkg/trained"
	"github.com/vlaring/vlaring/pkg/worker"
)

// beginning is what a run begins with: what it goes on from, its data, its first
// weights. begin fills it in; from then on it is only read.
type beginning struct {
	opt *Options
	job *job.Job
	dir *directory

	from   *checkpoint.Found // the checkpoint to go on from; nil: none
	start  uint64            // committed steps
	plan   plan              // what of an earlier coordinator's goes on
	data   openedData
	first  firstWeights // where no checkpoint is gone on from
	layout train.Layout // of the model's parameters

	teacher     *trained.Checkpoint // of job.Distill; its model is not kept
	teaches     string              // the file of its weights
	greeting    cluster.Welcome     // for each worker: the job and its data
	description []byte              // what of that is fetched

	mirror *mirror // of checkpoint.upload; nil: none

	oversight *overseer // of who has taken part

	early []func(Screen) // what there is to say before there is a screen
}

// begin finds out what a run in dir begins with, in an order that refuses cheaply
// first: what is wrong is said before the data is opened, which may take an hour,
// and before any worker starts. Nothing in the run directory changes but the
// index of the data, init.safetensors and teacher.safetensors. hear is how a request to stop ends it.
func begin(ctx context.Context, o *Options, dir *directory, hear *stops) (_ *beginning, err error) {
	b := &beginning{opt: o, job: o.Job, dir: dir}
	if err := b.findTeacher(); err != nil {
		return nil, err
	}
	if err := b.finishDisowning(); err != nil {
		return nil, err
	}
	if err := b.checkStore(ctx); err != nil {
		return nil, err
	}
	if err := b.resumeFrom(); err != nil {
		return nil, err
	}
	if err := b.peekInit(); err != nil {
		return nil, err
	}
	if err := b.openData(ctx, hear); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			b.close()
		}
	}()
	if err := b.checkTeacher(); err != nil {
		return nil, err
	}
	if err := b.fits(); err != nil {
		return nil, err
	}
	config, err := b.checkModel()
	if err != nil {
		return nil, err
	}
	if err := eval.CheckTargets(ctx, config, b.data.meta, b.data.set.Train(), "train"); err != nil {
		return nil, err
	}
	if err := eval.CheckTargets(ctx, config, b.data.meta, b.data.set.Heldout(), heldoutSplit); err != nil {
		return nil, err
	}
	return b, nil
}

func (b *beginning) close() { b.data.set.Close() }

// say says something as soon as there is a screen.
func (b *beginning) say(kind, text string, fields map[string]any) {
	b.early = append(b.early, func(v Screen) { v.Event(kind, text, fields) })
}

// resumeFrom finds the checkpoint to go on from; none is a start from the beginning.
func (b *beginning) resumeFrom() error {
	if !b.opt.Resume && !b.dir.takeover {
		return nil
	}
	was, odd, err := b.dir.prior()
	if err != nil {
		return err
	}
	if odd != nil {
		path := b.dir.at(JobCopy)
		b.say("prior", fmt.Sprintf("%s cannot be read, so what it says of the run counts for nothing: %v", path, odd), map[string]any{"file": path})
	}
	if b.plan, err = planOf(was, b.job, b.dir.takeover, b.opt.Resume); err != nil {
		return err
	}
	found, why, err := b.dir.newestGood(was, func(p checkpoint.Passed) {
		b.opt.UI.Line(p.String())
	})
	if found == nil || err != nil {
		return err
	}
	if was, err = jobOf(found, b.job.Kinds()); err != nil {
		return err
	}
	if err := sameRun(was, b.job); err != nil {
		return err
	}
	b.from, b.start = found, found.Manifest.Step
	b.sayBend(was)
	if why != "" {
		b.say("rescued", fmt.Sprintf("taking the state of step %d that was kept in %s: it verifies, and %s", b.start, found.Dir, why),
			map[string]any{"step": b.start, "path": found.Dir})
	}
	return nil
}

// sayBend says how a changed train.steps bends the learning rate.
func (b *beginning) sayBend(was *job.Job) {
	x, ok := train.ScheduleOf(b.job).Bends(train.ScheduleOf(was), b.start)
	if !ok || b.done() {
		return
	}
	b.say("schedule", fmt.Sprintf("train.steps is %d and was %d, which bends the learning rate: step %d: lr %.2e where the run so far would have %.2e",
		b.job.Train.Steps, was.Train.Steps, x.Step, x.Is, x.Was), map[string]any{"steps": b.job.Train.Steps, "steps_before": was.Train.Steps, "step": x.Step, "lr": x.Is, "lr_before": x.Was})
}

// done says whether all steps are stored already.
func (b *beginning) done() bool { return b.start >= uint64(b.job.Train.Steps) }

// nothingToDo says that the run has all steps that are asked for, and which of
// the keys that were given anew have no effect for that reason. What the store of
// checkpoint.upload lacks is brought there.
func (b *beginning) nothingToDo(ctx context.Context, hear *stops) error {
	was, err := jobOf(b.from, b.job.Kinds())
	if err != nil {
		return err
	}
	text := fmt.Sprintf("%s: step %d of %d is already stored in %s: nothing to do (raise train.steps to go on)", b.job.Name, b.start, b.job.Train.Steps, b.dir.path)
	var keys []string
	for _, c := range changes(was, b.job) {
		keys = append(keys, c.key)
	}
	if len(keys) > 0 {
		text += "\nwithout effect: " + strings.Join(keys, ", ") + ", which differ from the run's"
	}
	v := b.opt.UI.Screen(b.start)
	for _, say := range b.early {
		say(v)
	}
	v.Event("end", text, map[string]any{"outcome": "nothing to do", "step": b.start, "steps": b.job.Train.Steps, "reason": "all steps are stored already",
		"checkpoint": b.from.Dir, "model_sha256": b.from.Manifest.File(train.ModelFile).SHA256, "ignored": append([]string{}, keys...)})
	log, err := v.Log()
	if err != nil {
		return err
	}
	u := newUploader(b.mirror, b.dir.path, voice{v, log}, b.job.Checkpoint.Wait, func() {}) // retention is the next run's that stores something
	u.start()
	u.close(ctx, hear)
	return nil
}

// describe makes what workers are told of the job and its data, once for all of
// them. It is put on offer where it is large.
func (b *beginning) describe() error {
	d, err := worker.Describe(b.job, b.data.meta)
	if err != nil {
		return err
	}
	b.description = d.Into(&b.greeting)
	return nil
}

// clearHistory sets aside what another computation left in the run directory:
// a run that begins anew must not go on in its lines.
func (b *beginning) clearHistory() error {
	otherData := b.start == 0 && b.dir.data != "" && b.dir.data != b.data.meta.Fingerprint // beyond a checkpoint a change is accepted by a flag
	if otherData && b.dir.takeover && !b.opt.Resume {
		return usage.Errorf("the run was left unfinished, its workers may live on, and the data is not what they have read\nbring the data back to go on where they are; or add --resume to begin anew with the data as it is")
	}
	b.plan.otherWorkers = b.plan.otherWorkers || otherData
	if b.plan.otherWorkers && b.dir.takeover {
		b.say("refuses", fmt.Sprintf("workers that live on from before compute the job as it was: they are refused and keep their state in %s", filepath.Join(b.dir.path, "rescue")), nil)
	}
	if b.start > 0 || len(b.plan.otherResult) == 0 && !b.plan.unknown && !otherData {
		return nil
	}
	why := "it is not known of which job"
	switch {
	case otherData:
		why = "of other data"
	case !b.plan.unknown:
		why = "of another computation: " + strings.ReplaceAll(strings.TrimSpace(listed(b.plan.otherResult)), "\n  ", "; ")
	}
	for _, name := range []string{MetricsFile, EvalFile, EventsFile} {
		to, err := setAside(b.dir.path, name)
		if err != nil {
			return fmt.Errorf("setting aside %s, which is %s: %w", name, why, err)
		}
		if to != "" {
			b.say("aside", fmt.Sprintf("%s is set aside as %s (%s)", name, to, why), map[string]any{"file": name, "as": to})
		}
	}
	return nil
}

// show says what the run begins with, on a screen.
func (b *beginning) show(v voice) {
	j, meta := b.job, b.data.meta
	v.Saved(b.start)
	v.Event("start", fmt.Sprintf("%s: %s model, %d parameters; %d training samples (%s); %d steps of %d samples in micro-batches of %d",
		j.Name, j.Model.Kind, b.layout.Parameters(), meta.Train, meta.Kind, j.Train.Steps, j.Batch.Global, j.Batch.Micro),
		map[string]any{"job": j.Name, "parameters": b.layout.Parameters(), "steps": j.Train.Steps, "start_step": b.start, "run_dir": b.dir.path})
	if b.start > 0 {
		v.Event("resume", fmt.Sprintf("resuming after step %d from %s", b.start, b.from.Dir), map[string]any{"step": b.start})
	}
	for _, say := range b.early {
		say(v)
	}
	if g, n := j.Batch.Global, meta.Train; g > n {
		samples := fmt.Sprintf("%d training samples: each", n)
		if n == 1 {
			samples = "1 training sample: it"
		}
		v.log.Warn(fmt.Sprintf("batch.global is %d and the data has %s is used %.3g times a step", g, samples, float64(g)/float64(n)))
	}
	if text := train.EndsUnseen(j, meta); text != "" {
		v.log.Warn(text)
	}
	if j.Cluster.Reduce == "fast" {
		v.log.Warn("cluster.reduce is fast: losses and weights depend on the number of workers, and on every loss or arrival of one; exact is what gives the same bits everywhere")
	}
	b.data.show(v, b.start, b.opt.Check)
	b.first.show(v, j.Init.Path)
	b.showSpace(v)
}
