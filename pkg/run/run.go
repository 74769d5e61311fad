package run

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/vlaring/vlaring/internal/usage"
	"github.com/vlaring/vlaring/pkg/checkpoint"
	"github.com/vlaring/vlaring/pkg/cluster"
	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/eval"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/tensor"
	"github.com/vlaring/vlaring/pkg/train"
	"github.com/vlaring/vlaring/pkg/weights"
	"github.com/vlaring/vlaring/pkg/worker"
)

// maxEnds is how many processes of one worker may end one after another, after
// they had taken part, while the job gets no further.
const maxEnds = 5

// Run is one coordinator's run of a job.
type Run struct {
	job        *job.Job
	jobPath    string
	again      string // the command that resumes it
	baseDir    string
	dir        string
	resume     bool
	acceptData bool   // other data than the checkpoint's is meant
	check      string // the command that checks all of the data
	local      int
	threads    int
	server     Server
	worker     func(Place) *exec.Cmd
	version    string
	scans      *data.ScanDir
	ui         UI
	stop       chan string

	view       Screen
	log        *zap.Logger
	lock       *checkpoint.Lock
	store      *checkpoint.Disk
	spare      spareStore // beside it
	dataset    data.Dataset
	meta       data.Meta
	summary    data.Summary
	badSamples []data.Fault      // of those that opening looked at
	start      uint64            // committed steps at the start
	takeover   bool              // the run's coordinator died, and its workers may live
	plan       plan              // what of an earlier coordinator's goes on
	said       []func(Screen)    // what there was to say before there was a screen
	initFile   string            // with all first weights, where the seed does not decide
	transfer   *weights.Imported // how they were made of job.Init
	initOdd    *data.Finding     // what is odd about the init file; nil: nothing
	teacher    *Trained          // of job.Distill; its model is not kept
	metrics    *lines
	last       Metrics         // of the newest step
	word       string          // for who asked for workers
	joined     map[string]bool // workers that scripts were told of
	desk       *clerk          // writes metrics: of r.metrics
	leader     atomic.Pointer[cluster.Coordinator]
	noted      atomic.Uint64        // newest step whose line the disk has
	aside      *clerk               // starts processes
	roll       atomic.Pointer[roll] // not told to children yet
	children   *supervisor
	eval       *evaluator

	retaining sync.Mutex // one round of retention at a time
	fetching  fetching
	layout    train.Layout // of the model's parameters

	offered offered // files of the first state

	greeting    cluster.Welcome // with the job and its data
	description []byte          // what of that is fetched
	link        *link

	mu      sync.Mutex
	encrypt bool           // direct connections between workers, as NATS is
	base    uint64         // step of state
	state   []cluster.Blob // what workers without peers begin with
	loading bool           // somebody may be fetching it
	tally   tally
	futile  bool // all steps are done, and none made an update
	loss    *losses
}

// Train is the whole run, in order.
func (r *Run) Train(ctx context.Context) (err error) {
	if err := tensor.CPUError(); err != nil {
		return usage.Wrap(err)
	}
	lock, err := r.openRunDir()
	if err != nil {
		return err
	}
	defer lock.Unlock()
	defer r.spare.close()
	r.lock = lock
	if err := r.findTeacher(); err != nil {
		return err
	}
	from, err := r.resumeFrom()
	if err != nil {
		return err
	}
	if err := r.peekInit(); err != nil {
		return err
	}
	if err := r.openData(ctx, from); err != nil {
		return err
	}
	defer r.dataset.Close()
	if err := r.checkTeacher(); err != nil {
		return err
	}
	if err := r.fits(); err != nil {
		return err
	}
	model, _, err := train.Build(r.job, r.meta)
	if err != nil {
		return err
	}
	config := model.Config()
	r.layout = train.LayoutOf(model.Params(), train.OptimizerOf(r.job).Slots(), r.job.Cluster.Optimizer == "sharded")
	err = r.checkInit(model)
	model.Close() // from here on the workers hold one
	if err != nil {
		return err
	}
	if err := eval.CheckTargets(ctx, config, r.meta, r.dataset.Train(), "train"); err != nil {
		return err
	}
	if err := eval.CheckTargets(ctx, config, r.meta, r.dataset.Heldout(), heldoutSplit); err != nil {
		return err
	}
	if r.start >= uint64(r.job.Train.Steps) {
		return r.nothingToDo(from)
	}
	if err := r.describe(); err != nil {
		return err
	}
	if err := r.clearHistory(); err != nil {
		return err
	}
	r.loss = newLosses(r.job.Checkpoint.Every)
	file, had, err := openMetrics(filepath.Join(r.dir, MetricsFile), r.start, r.takeover && !r.plan.otherWorkers, r.loss)
	if err != nil {
		return err
	}
	defer file.Close()
	if r.metrics, err = newLines(file); err != nil {
		return err
	}
	r.tally = had.tally
	if had.torn > 0 {
		r.early("repaired", fmt.Sprintf("%s had %d torn line(s), which are left out", MetricsFile, had.torn), map[string]any{"file": MetricsFile, "lines": had.torn})
	}
	if n := had.lacks; n > 0 && !r.plan.otherWorkers { // the workers that had the reports have gone, too
		r.early("gap", fmt.Sprintf("%s has no lines of steps %d to %d: the coordinator ended before it had written them", MetricsFile, r.start-n+1, r.start),
			map[string]any{"file": MetricsFile, "from": r.start - n + 1, "to": r.start})
	}
	r.desk, r.aside = newClerk(), newClerk()
	r.noted.Store(had.newest)
	defer func() { // what a full disk has not taken
		r.aside.close(ctx)
		if !r.desk.close(ctx) { // the disk hangs; workers keep what it has not taken
			return
		}
		if _, e := r.metrics.Write(nil); e != nil {
			r.log.Error(MetricsFile, zap.Error(e))
		}
	}()

	r.view = r.ui.Screen(r.start)
	if r.log, err = r.view.Log(); err != nil {
		return err
	}
	r.view.Saved(r.start)
	r.joined = map[string]bool{}
	r.view.Event("start", fmt.Sprintf("%s: %s model, %d parameters; %d training samples (%s); %d steps of %d samples in micro-batches of %d",
		r.job.Name, r.job.Model.Kind, r.layout.Parameters(), r.meta.Train, r.meta.Kind, r.job.Train.Steps, r.job.Batch.Global, r.job.Batch.Micro),
		map[string]any{"job": r.job.Name, "parameters": r.layout.Parameters(), "steps": r.job.Train.Steps, "start_step": r.start, "run_dir": r.dir})
	if r.start > 0 {
		r.view.Event("resume", fmt.Sprintf("resuming after step %d from %s", r.start, from.Dir), map[string]any{"step": r.start})
	}
	for _, say := range r.said {
		say(r.view)
	}
	if g, n := r.job.Batch.Global, r.meta.Train; g > n {
		samples := fmt.Sprintf("%d training samples: each", n)
		if n == 1 {
			samples = "1 training sample: it"
		}
		r.log.Warn(fmt.Sprintf("batch.global is %d and the data has %s is used %.3g times a step", g, samples, float64(g)/float64(n)))
	}
	if r.job.Cluster.Reduce == "fast" {
		r.log.Warn("cluster.reduce is fast: losses and weights depend on the number of workers, and on every loss or arrival of one; exact is what gives the same bits everywhere")
	}
	r.showData()
	r.showTransfer()
	r.showSpace()
	if err := r.openEvaluator(ctx); err != nil {
		return err
	}
	defer r.eval.finish(false)

	link, err := r.connect(ctx)
	if err != nil {
		return err
	}
	defer link.close()
	defer r.offered.withdraw(link, func(string) bool { return true })
	r.link = link
	first, err := r.openState(from)
	if err != nil {
		return err
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	ctx, cutOff := context.WithCancelCause(ctx)
	defer cutOff(nil)
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		select {
		case <-link.conn.Broken():
			cutOff(cutOffError{link.conn.Err()})
		case <-ended:
		}
	}()
	var coord *cluster.Coordinator
	coord = cluster.NewCoordinator(link.conn.Bus(), r.job.Name, host, os.Getpid(), cluster.Hooks{
		Lead:     func() error { return r.lead(coord, first, host) },
		Welcome:  r.welcome,
		StepDone: r.stepDone,
		Members:  r.showMembers,
		Save: func(ctx context.Context, step uint64, parts []*cluster.Offer) error {
			return r.save(ctx, link, step, parts)
		},
		Rewind:  func(ctx context.Context) (uint64, []cluster.Blob, error) { return r.rewind(link) },
		Note:    func(text string) { r.log.Info(text) },
		Warn:    func(text string) { r.log.Error(text) },
		Noted:   r.noted.Load,
		Scaled:  r.scaled,
		Dropped: func(id string) { r.aside.do(func() { r.children.dropped(id) }) },
		Status:  r.status,
	})
	go func() {
		for { // a second one ends the wait for a disk
			select {
			case reason := <-r.stop:
				coord.Tell(cluster.StopRequest{Reason: reason})
			case <-ended:
				return
			}
		}
	}()
	r.leader.Store(coord)
	var id [8]byte
	var secret [32]byte
	rand.Read(id[:])
	rand.Read(secret[:])
	k := r.job.Cluster
	fin, err := coord.Run(ctx, cluster.Config{Coordinator: hex.EncodeToString(id[:]), Job: train.JobHash(r.job, r.meta),
		Workers: k.Workers, MinWorkers: k.MinWorkers, MaxWorkers: k.MaxWorkers, Micro: r.job.Groups(),
		Steps: uint64(r.job.Train.Steps), StartStep: r.start, Stored: from != nil, State: first.blobs, Reported: had.newest, Takeover: r.takeover,
		Deadline: time.Duration(k.Deadline), JoinTimeout: time.Duration(k.JoinTimeout), StoreWait: time.Duration(r.job.Checkpoint.Wait), Straggler: cluster.StragglerPolicy(k.Straggler),
		Divergence: cluster.DivergencePolicy(k.Divergence), MaxDivergences: k.MaxDivergences, MaxEnds: maxEnds, Road: cluster.Road(k.Road), Secret: secret[:]})
	if r.children == nil { // another coordinator has the job, or its place could not be taken
		r.view.Close()
		return err
	}
	if err == nil && fin.Outcome == cluster.Superseded {
		r.children.leave()
		r.view.Close()
		return errors.New(fin.Reason)
	}
	if errors.Is(err, ErrHandover) || errors.As(err, new(cutOffError)) {
		r.children.leave()
		r.view.Close()
		return err
	}
	if err == nil && fin.Outcome == cluster.Failed && r.last.Step == 0 {
		fin.Reason += r.children.silent()
	}
	switch {
	case err != nil:
		r.children.wait(0)
	case !fin.Stored: // they are keeping the state, which takes as long as a checkpoint
		r.children.wait(saveStall)
	default:
		r.children.wait(10 * time.Second)
	}
	r.view.Close()
	if err != nil {
		r.abandon()
		return err
	}
	fin = r.allRefused(fin)
	if err := r.conclude(fin); err != nil { // after what the job has to say this is a detail
		r.log.Warn("the run directory does not say that the run has ended: the next start will look for its workers first", zap.Error(err))
	}
	return r.finish(ctx, fin)
}

// cutOffError ends a coordinator that can never be heard on its server again.
// Its workers cannot be told, and live.
type cutOffError struct{ err error }

func (e cutOffError) Error() string {
	return e.err.Error() + "\nthe workers live on: cure this and give the same command again, and the job goes on where it was; else each keeps its state in its rescue directory after cluster.orphan_timeout"
}

// finish says how the job ended, and how good the model is.
func (r *Run) finish(ctx context.Context, fin cluster.Finish) error {
	dir := r.checkpointDir(fin.Step)
	hash := ""
	if fin.Stored {
		m, err := checkpoint.ReadManifest(dir)
		if err != nil {
			return err
		}
		hash = m.File(train.ModelFile).SHA256
	}
	fields := map[string]any{"outcome": fin.Outcome.String(), "step": fin.Step, "reason": fin.Reason, "refused_steps": r.tally.refused}
	if hash != "" {
		fields["checkpoint"], fields["model_sha256"] = dir, hash
	}
	if fin.Outcome == cluster.Done {
		r.view.Event("end", fmt.Sprintf("done: %d steps; weights in %s\nmodel.safetensors sha256 %s", fin.Step, dir, hash), fields)
		r.eval.finish(true)
		if r.meta.Heldout > 0 {
			err := r.evaluateLast(ctx, dir)
			r.sayRefused()
			return err
		}
		r.sayRefused()
		return nil
	}
	r.view.Script("end", fields)
	if r.futile {
		return errors.New(fin.Reason)
	}
	r.sayRefused()
	again := r.again
	if strings.Contains(fin.Reason, AcceptFlag) { // a sample that has to be repaired or left out
		again += " " + AcceptFlag
	}
	return endError(fin, "resume with: "+again, r.Newest())
}

// Stop asks the coordinator to stop the job; asking again changes nothing.
func (r *Run) Stop(reason string) {
	select {
	case r.stop <- reason:
	default:
	}
}

// WaitsForDisk says whether the last state waits for a disk that does not take it.
func (r *Run) WaitsForDisk() bool {
	c := r.leader.Load()
	return c != nil && c.WaitsForDisk()
}

// Newest is what can be resumed from, in words.
func (r *Run) Newest() string {
	step, found := uint64(0), false
	for _, dir := range r.storeDirs() {
		entries, err := checkpoint.List(dir)
		for _, e := range entries {
			if err == nil && e.State == checkpoint.Complete {
				step, found = max(step, e.Step), true
			}
		}
	}
	if found {
		return fmt.Sprintf("the newest checkpoint is of step %d\nresume with: %s", step, r.again)
	}
	return "no checkpoint was stored, so there is nothing to go on from\nstart again with: " + r.again
}

// welcome is the job, for an accepted worker.
func (r *Run) welcome(*cluster.Join) *cluster.Welcome {
	r.mu.Lock()
	defer r.mu.Unlock()
	w := r.greeting
	w.BaseDir, w.StartStep, w.State, w.Encrypt = r.baseDir, r.base, r.state, r.encrypt
	return &w
}

// describe makes what workers are told of the job and its data, once for all of
// them. It is put on offer where it is large.
func (r *Run) describe() error {
	d, err := worker.Describe(r.job, r.meta)
	if err != nil {
		return err
	}
	r.description = d.Into(&r.greeting)
	return nil
}

// offerDescription serves what does not fit the answer to a join.
func (r *Run) offerDescription(l *link) error {
	b := r.greeting.Description
	if b == nil {
		return nil
	}
	return l.blobs.Offer(b.Name, b.Size, b.SHA256, bytes.NewReader(r.description))
}

// roll is who is a member in which phase.
type roll struct {
	phase   cluster.Phase
	members []cluster.Member
}

func (r *Run) showMembers(p cluster.Phase, members []cluster.Member) {
	r.view.Members(p, members)
	r.mu.Lock()
	r.loading = p == cluster.Gathering || slices.ContainsFunc(members, func(m cluster.Member) bool { return m.Status == cluster.Loading })
	r.mu.Unlock()
	if r.roll.Swap(&roll{p, members}) == nil { // else it is still to be told
		r.aside.do(func() {
			l := r.roll.Swap(nil)
			r.children.told(l.phase, l.members)
		})
	}
	r.fetching.members(members)
	for _, m := range members {
		key := fmt.Sprint(m.Worker, " ", m.PID)
		if !r.joined[key] {
			r.joined[key] = true
			r.view.Script("joined", map[string]any{"worker": m.Worker, "host": m.Host, "pid": m.PID, "threads": m.Threads, "cpu": m.CPU})
		}
	}
}

func (r *Run) stepDone(reports []*cluster.Report) {
	m := Combine(reports, r.job.Batch.Global)
	r.last = m
	r.mu.Lock()
	r.loss.add(m.Step, m.Loss, m.Targets, m.Refused != "")
	r.tally.add(m.Step, m.Refused)
	r.mu.Unlock()
	if m.Refused != "" {
		r.log.Warn("no update was made", zap.Uint64("step", m.Step), zap.String("reason", m.Refused))
	}
	r.desk.do(func() {
		err := WriteMetrics(r.metrics, m)
		if err == nil {
			r.noted.Store(m.Step)
		}
		over, trouble := r.metrics.news(err)
		if trouble != nil {
			r.log.Error(MetricsFile+" cannot be written; training goes on, and this is said once", zap.Error(trouble))
		}
		if over != "" {
			r.log.Info(MetricsFile + ": " + over)
		}
	})
	r.view.Step(m)
}

// openRunDir makes and locks the run directory, and refuses one that holds a
// run already unless it is to be resumed.
func (r *Run) openRunDir() (*checkpoint.Lock, error) {
	if err := os.MkdirAll(r.dir, 0o755); err != nil {
		if to, lerr := os.Readlink(r.dir); lerr == nil {
			return nil, usage.Errorf("the run directory %s is a link to %s, which cannot be used as a directory: %v\nmend the link, or choose another directory with --run-dir", r.dir, to, err)
		}
		return nil, fmt.Errorf("making the run directory %s: %w\nchoose another with --run-dir", r.dir, err)
	}
	lock, err := checkpoint.LockRunDir(r.dir)
	if err != nil {
		return nil, err
	}
	if r.store, err = checkpoint.OpenDisk(filepath.Join(r.dir, "checkpoints")); err != nil {
		lock.Unlock()
		return nil, err
	}
	o, err := ReadOrigin(r.dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		lock.Unlock()
		return nil, err
	}
	r.takeover = err == nil && o.State == StateRunning
	r.plan.data = o.Data
	if !r.resume && !r.takeover {
		if _, err := os.Stat(filepath.Join(r.dir, JobCopy)); err == nil {
			lock.Unlock()
			return nil, usage.Errorf("the run directory %s already holds a run: continue it with --resume, or choose another with --run-dir", r.dir)
		}
	}
	return lock, nil
}

// resumeFrom finds the checkpoint to go on from; nil is a start from the beginning.
func (r *Run) resumeFrom() (*checkpoint.Found, error) {
	if !r.resume && !r.takeover {
		return nil, nil
	}
	was, err := r.prior()
	if err != nil {
		return nil, err
	}
	data := r.plan.data
	if r.plan, err = planOf(was, r.job, r.takeover, r.resume); err != nil {
		return nil, err
	}
	r.plan.data = data
	found, why, err := r.newestGood(was, func(p checkpoint.Passed) {
		r.ui.Line(fmt.Sprintf("passed over checkpoint %s: %s", p.Dir, p.Reason))
	})
	if found == nil || err != nil {
		return nil, err
	}
	if was, err = jobOf(found); err != nil {
		return nil, err
	}
	if err := sameRun(was, r.job); err != nil {
		return nil, err
	}
	r.sayBend(was, found.Manifest.Step)
	if why != "" {
		r.early("rescued", fmt.Sprintf("taking the state of step %d that was kept in %s: it verifies, and %s", found.Manifest.Step, found.Dir, why),
			map[string]any{"step": found.Manifest.Step, "path": found.Dir})
	}
	r.start = found.Manifest.Step
	return found, nil
}

// AcceptFlag is what a command has to go on with changed data. An error of a
// sample that has to be repaired or left out first names it.
const AcceptFlag = "--accept-data-change"
