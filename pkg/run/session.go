package run

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/vlaring/vlaring/internal/regular"
	"github.com/vlaring/vlaring/pkg/bulk"
	"github.com/vlaring/vlaring/pkg/cluster"
	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/tensor"
	"github.com/vlaring/vlaring/pkg/train"
	"github.com/vlaring/vlaring/pkg/worker"
)

// maxEnds is how many processes of one worker may end one after another, after
// they had taken part, while the job gets no further.
const maxEnds = 5

// session is a run from its first word on the screen until the job has ended: the
// parts that act, and what the coordinator tells them. Its methods that a
// cluster.Coordinator calls run on that one's loop, and wait for no disk, no
// process and no reader: recorder, screen and aside have goroutines of their own.
type session struct {
	*beginning
	voice

	rec      *recorder
	journal  *journal
	save     *saver
	offers   *offers
	eval     *evaluator
	upload   *uploader // nil: checkpoints stay here
	hear     *stops
	link     *link
	children *supervisor // once the job is this coordinator's
	host     string      // this machine, for members
	sinks    sinks       // that are told what is recorded
	finished bool        // the run has all of its steps
	trace    *tracer     // nil: none

	aside  *clerk               // tells children
	roll   atomic.Pointer[roll] // not told to children yet
	joined map[string]bool      // workers that scripts were told of
	slow   bool                 // a worker without the job's kind of products was named
	word   string               // for who asked for workers
}

// openSession begins what a run shows and keeps.
func openSession(ctx context.Context, b *beginning, hear *stops) (_ *session, err error) {
	if err := b.describe(); err != nil {
		return nil, err
	}
	if err := b.clearHistory(); err != nil {
		return nil, err
	}
	s := &session{beginning: b, hear: hear, joined: map[string]bool{}, host: "unknown"}
	if name, err := os.Hostname(); err == nil {
		s.host = name
	}
	var had history
	if s.rec, had, err = openRecorder(b.dir.path, b.job, b.start, b.dir.takeover && !b.plan.otherWorkers); err != nil {
		return nil, err
	}
	if had.torn > 0 {
		b.say("repaired", fmt.Sprintf("%s had %d torn line(s), which are left out", MetricsFile, had.torn), map[string]any{"file": MetricsFile, "lines": had.torn})
	}
	if n := had.lacks; n > 0 && !b.plan.otherWorkers { // the workers that had the reports have gone, too
		b.say("gap", fmt.Sprintf("%s has no lines of steps %d to %d: the coordinator ended before it had written them", MetricsFile, b.start-n+1, b.start),
			map[string]any{"file": MetricsFile, "from": b.start - n + 1, "to": b.start})
	}
	s.aside = newClerk()
	defer func() {
		if err != nil {
			s.close(ctx)
		}
	}()
	s.journal = openJournal(b.dir.path, b.opt.UI.Screen(b.start), b.start, b.opt.Version)
	s.Screen = s.journal
	if s.log, err = s.Log(); err != nil {
		return nil, err
	}
	s.rec.voice = s.voice
	about := About{Dir: b.dir.path, Job: b.job, Step: had.newest, Parameters: b.layout.Parameters(), Version: b.opt.Version}
	for _, sink := range b.opt.Sinks {
		s.sinks = append(s.sinks, newFollower(sink, about, s.voice))
	}
	s.rec.sinks = s.sinks
	if s.trace, err = openTrace(b.opt.Trace, s.log); err != nil {
		return nil, err
	}
	s.rec.trace = s.trace
	b.show(s.voice)

	s.upload = newUploader(b.mirror, b.dir.path, s.voice, b.job.Checkpoint.Wait, func() { s.save.retain() })
	s.offers = &offers{files: map[string]*os.File{}}
	eval := &evaluator{job: b.job, dir: b.dir, heldout: b.data.set.Heldout(), kept: b.keeping(), voice: s.voice, sinks: s.sinks}
	s.save = &saver{job: b.job, dir: b.dir, meta: b.data.meta, layout: b.layout, version: b.opt.Version, voice: s.voice, mean: s.rec.mean, eval: eval, upload: s.upload, offers: s.offers, trace: s.trace}
	eval.retain = s.save.retain
	if err = eval.open(ctx, b.start); err != nil {
		return nil, err
	}
	s.eval = eval
	s.sinks.start()
	s.upload.start()
	return s, nil
}

// close ends its parts, the last that was opened first.
func (s *session) close(ctx context.Context) {
	if s.link != nil {
		s.offers.withdraw(func(string) bool { return true })
		s.link.close()
	}
	if s.eval != nil {
		s.eval.finish(false)
	}
	s.upload.close(ctx, s.hear)
	s.aside.close(ctx)
	s.rec.close(ctx)
	s.sinks.close(ctx, s.finished)
	if err := s.trace.close(ctx); err != nil {
		s.log.Warn("the trace", zap.Error(err))
	}
	if s.journal != nil {
		s.journal.close(ctx)
	}
}

// lead leads the job until it ends, and then its workers out.
func (s *session) lead(ctx context.Context, hear *stops, leader *atomic.Pointer[cluster.Coordinator]) (cluster.Finish, error) {
	first, err := openState(s.from, s.first.file)
	if err != nil {
		return cluster.Finish{}, err
	}
	ctx, cutOff := context.WithCancelCause(ctx)
	defer cutOff(nil)
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		select {
		case <-s.link.conn.Broken():
			cutOff(cutOffError{s.link.conn.Err()})
		case <-ended:
		}
	}()
	var coord *cluster.Coordinator
	var arrived func(*cluster.Report)
	if s.trace != nil {
		arrived = s.trace.arrived
	}
	coord = cluster.NewCoordinator(s.link.conn.Bus(), s.job.Name, s.host, os.Getpid(), cluster.Hooks{
		Arrived:  arrived,
		Lead:     func() error { return s.takeLead(coord, first) },
		Welcome:  s.welcome,
		StepDone: s.rec.stepDone,
		Noted:    s.rec.noted.Load,
		Members:  s.members,
		Save:     s.save.save,
		Disown:   func(_ context.Context, after uint64, r cluster.Record) error { return s.disown(after, r) },
		Keep:     s.keep,
		Rewind:   func(context.Context) (uint64, []cluster.Blob, error) { return s.offers.rewind(s.dir, s.firstAgain) },
		Note:     func(text string) { s.log.Info(text) },
		Warn:     func(text string) { s.log.Error(text) },
		Scaled:   s.scaled,
		Dropped:  func(id string) { s.aside.do(func() { s.children.dropped(id) }) },
		Expel: func(id string) {
			if s.link.broker != nil {
				s.link.broker.Expel(id)
			}
		},
		Status: s.status,
	})
	go func() {
		for { // a second one ends the wait for a disk
			select {
			case reason := <-hear.reasons:
				coord.Tell(cluster.StopRequest{Reason: reason})
			case <-ended:
				return
			}
		}
	}()
	leader.Store(coord)
	fin, err := coord.Run(ctx, s.config(first))
	return s.dismiss(fin, err)
}

// draw fills b with random bytes; a test may want to know which.
var draw = func(b []byte) { rand.Read(b) }

// config is what the coordinator is to know of the job.
func (s *session) config(first *firstState) cluster.Config {
	var id [8]byte
	var secret [32]byte
	rand.Read(id[:])
	draw(secret[:])
	k := s.job.Cluster
	return cluster.Config{Coordinator: hex.EncodeToString(id[:]), Job: train.JobHash(s.job, s.data.meta),
		Workers: k.Workers, MinWorkers: k.MinWorkers, MaxWorkers: k.MaxWorkers, Micro: s.job.Groups(),
		Steps: uint64(s.job.Train.Steps), StartStep: s.start, Stored: s.from != nil, State: first.blobs, Reported: s.rec.noted.Load(), Takeover: s.dir.takeover,
		Deadline: time.Duration(k.Deadline), JoinTimeout: time.Duration(k.JoinTimeout), StoreWait: time.Duration(s.job.Checkpoint.Wait), Straggler: cluster.StragglerPolicy(k.Straggler),
		Divergence: cluster.DivergencePolicy(k.Divergence), MaxDivergences: k.MaxDivergences, MaxEnds: maxEnds, Road: train.WayOf(s.job), Secret: secret[:],
		Verify: k.Verify, Record: s.record()}
}

// takeLead is what a coordinator does once the job is its own. Before, one that is
// turned away has been seen by nobody: it serves no blob, starts no worker, and
// its directory does not say that a run goes on.
func (s *session) takeLead(coord *cluster.Coordinator, first *firstState) error {
	if err := s.serve(first); err != nil {
		return err
	}
	undo, err := s.dir.announce(s.link.address(), s.start, s.data.meta.Fingerprint)
	if err != nil {
		return err
	}
	logs := s.dir.at("logs")
	if s.opt.Local > 0 {
		if err := os.MkdirAll(logs, 0o755); err != nil {
			undo() // the reason is the workers'
			return err
		}
	}
	s.children = newSupervisor(machineWorkers{logs, s.workerCommand}, tells{coord.Tell, func(text string) { s.log.Warn(text) }, func(text string) { s.log.Error(text) }},
		s.host, s.opt.Local, time.Duration(s.job.Cluster.Deadline), s.dir.takeover)
	for id := range s.record().Out {
		s.children.dropped(id)
	}
	go s.watchDir()
	if s.opt.Local == 0 {
		s.Event("waiting", fmt.Sprintf("waiting for %d worker(s); on each machine: %s", s.job.Cluster.Workers, s.link.hint),
			map[string]any{"workers": s.job.Cluster.Workers, "url": s.link.url})
	}
	return nil
}

// serve puts on offer what workers fetch from the coordinator: the first state, a
// teacher, what does not fit a welcome, what was found in the data's files, and
// the samples for those that do not hold them. Workers of a coordinator that died may
// ask at once: they are answered when all of it is there.
func (s *session) serve(first *firstState) error {
	return s.link.openBlobs(func(blobs bulk.Blobs) error { return s.stock(blobs, first) })
}

func (s *session) stock(blobs bulk.Blobs, first *firstState) error {
	s.offers.blobs, s.save.blobs = blobs, blobs
	if err := s.offers.put(first); err != nil {
		return err
	}
	if s.teacher != nil {
		f, size, err := regular.Open(s.teaches)
		if err != nil {
			return err
		}
		if err := blobs.Offer(worker.TeacherFile, size, s.job.Distill.SHA256, f); err != nil {
			return err
		}
	}
	if b := s.greeting.Description; b != nil {
		if err := blobs.Offer(b.Name, b.Size, b.SHA256, bytes.NewReader(s.description)); err != nil {
			return err
		}
	}
	if err := blobs.OfferFunc(worker.ScanPrefix, s.data.scan); err != nil {
		return err
	}
	feed, err := data.NewLocalFeed(s.data.set.Train(), train.Order(s.job, s.data.meta))
	if err != nil {
		return err
	}
	return blobs.OfferFunc(data.DeliveryPrefix, data.Deliver(feed, uint64(s.job.Train.Steps), s.job.Batch.Global/s.job.Batch.Micro))
}

// welcome is the job, for an accepted worker.
func (s *session) welcome(*cluster.Join) *cluster.Welcome {
	w := s.greeting
	w.BaseDir, w.Encrypt, w.Trace = s.dir.baseDir, s.link.encrypt, s.trace != nil
	w.StartStep, w.State = s.offers.current()
	return &w
}

// roll is who is a member in which phase.
type roll struct {
	phase   cluster.Phase
	members []cluster.Member
}

// members is told who takes part, in which phase of the job.
func (s *session) members(p cluster.Phase, members []cluster.Member) {
	s.Members(p, members)
	s.offers.members(p, members)
	if s.roll.Swap(&roll{p, members}) == nil { // else it is still to be told
		s.aside.do(func() {
			l := s.roll.Swap(nil)
			s.children.told(l.phase, l.members)
		})
	}
	s.save.fetching.members(members)
	for _, m := range members {
		key := fmt.Sprint(m.Worker, " ", m.PID)
		if !s.joined[key] {
			s.joined[key] = true
			s.Script("joined", map[string]any{"worker": m.Worker, "host": m.Host, "pid": m.PID, "threads": m.Threads, "cpu": m.CPU})
			s.nameSlow(m)
		}
	}
}

// nameSlow says of the first worker without AMX that products of bfloat16 take it
// longer than those of float32, where the job has them.
func (s *session) nameSlow(m cluster.Member) {
	if s.slow || !s.job.BF16() || m.CPU == tensor.AMX {
		return
	}
	s.slow = true
	s.log.Warn(fmt.Sprintf("worker %s has no AMX (its CPU level is %s): products of bfloat16 take longer there than those of float32, with the same bits; precision: float32 is faster on such CPUs", m.Worker, m.CPU))
}

// dismiss lets the local workers go as the job's end wants it: they live on where
// another coordinator has the job or is to have it, and otherwise leave, or are
// killed once they have had the time that they need.
func (s *session) dismiss(fin cluster.Finish, err error) (cluster.Finish, error) {
	defer s.Close()
	if s.children == nil { // another coordinator has the job, or its place could not be taken
		return fin, err
	}
	if err == nil && fin.Outcome == cluster.Superseded {
		err = errors.New(fin.Reason)
		s.children.leave()
		return fin, err
	}
	if errors.Is(err, ErrHandover) || errors.As(err, new(cutOffError)) {
		s.children.leave()
		return fin, err
	}
	if err == nil && fin.Outcome == cluster.Failed && s.rec.last.Step == 0 {
		fin.Reason += s.children.silent()
	}
	switch {
	case err != nil:
		s.children.wait(0)
	case !fin.Stored: // they are keeping the state, which takes as long as a checkpoint
		s.children.wait(saveStall)
	default:
		s.children.wait(10 * time.Second)
	}
	if err != nil && s.children.alone() {
		s.dir.abandon(max(s.start, s.rec.last.Step), s.data.meta.Fingerprint)
	}
	return fin, err
}

// cutOffError ends a coordinator that can never be heard on its server again.
// Its workers cannot be told, and live.
type cutOffError struct{ err error }

func (e cutOffError) Error() string {
	return e.err.Error() + "\nthe workers live on: cure this and give the same command again, and the job goes on where it was; else each keeps its state in its rescue directory after cluster.orphan_timeout"
}

// watchDir says, once a change, when the run directory is not where it was any
// more, and when it is back.
func (s *session) watchDir() {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	said := ""
	for {
		select {
		case <-s.children.done:
			return
		case <-t.C:
		}
		is := ""
		if err := s.dir.lock.Check(); err != nil {
			is = err.Error()
		}
		switch {
		case is == said:
		case is == "":
			s.log.Info("the run directory " + s.dir.path + " is back")
		default:
			s.log.Error("no checkpoint is stored until this is mended: " + is)
		}
		said = is
	}
}
