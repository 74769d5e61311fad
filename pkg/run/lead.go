package run

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/vlaring/vlaring/internal/atomicfile"
	"github.com/vlaring/vlaring/internal/regular"
	"github.com/vlaring/vlaring/pkg/cluster"
	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/train"
)

// lead is what a coordinator does once the job is its own. Before, one that is
// turned away has been seen by nobody: it serves no blob, starts no worker, and
// its directory does not say that a run goes on.
func (r *Run) lead(coord *cluster.Coordinator, first *firstState, host string) (err error) {
	l := r.link
	if l.blobs, err = l.conn.Blobs(); err != nil {
		return err
	}
	if err := r.offerState(l, first); err != nil {
		return err
	}
	if err := r.offerTeacher(l); err != nil {
		return err
	}
	if err := r.offerDescription(l); err != nil {
		return err
	}
	if err := r.offerScans(l); err != nil {
		return err
	}
	feed, err := data.NewLocalFeed(r.dataset.Train(), train.Order(r.job, r.meta))
	if err != nil {
		return err
	}
	deliver := data.Deliver(feed, uint64(r.job.Train.Steps), r.job.Batch.Global/r.job.Batch.Micro) // to workers that do not hold the data
	if err := l.blobs.OfferFunc(data.DeliveryPrefix, deliver); err != nil {
		return err
	}
	undo, err := r.announce()
	if err != nil {
		return err
	}
	logs := filepath.Join(r.dir, "logs")
	if r.local > 0 {
		if err := os.MkdirAll(logs, 0o755); err != nil {
			undo() // the reason is the workers'
			return err
		}
	}
	r.children = newSupervisor(machineWorkers{logs, r.workerCommand}, tells{coord.Tell, func(text string) { r.log.Warn(text) }, func(text string) { r.log.Error(text) }},
		host, r.local, time.Duration(r.job.Cluster.Deadline), r.takeover)
	go r.watchDir()
	if r.local == 0 {
		r.view.Event("waiting", fmt.Sprintf("waiting for %d worker(s); on each machine: %s", r.job.Cluster.Workers, l.hint),
			map[string]any{"workers": r.job.Cluster.Workers, "url": l.url})
	}
	return nil
}

// workerCommand is the command of a local worker that joins this job.
func (r *Run) workerCommand(id string) *exec.Cmd {
	l := r.link
	p := Place{ID: id, Job: r.job.Name, URL: l.url, Own: l.broker != nil, Credentials: l.creds, Threads: r.threads, RescueDir: filepath.Join(r.dir, "rescue")}
	p.Credentials.TLS.Name = l.tlsName
	if l.broker != nil {
		p.Mesh = l.broker.RouteAddr()
	}
	return r.worker(p)
}

// announce has the run directory say that the run goes on, and of which job. If
// it cannot, or undo is called, the directory says what it said before.
func (r *Run) announce() (undo func() error, err error) {
	if err := writeAddress(r.dir, r.link); err != nil {
		return nil, err
	}
	path := filepath.Join(r.dir, OriginFile)
	was, err := regular.Read(path, 1<<20)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	undo = func() error {
		if was == nil {
			return os.Remove(path)
		}
		return atomicfile.Write(path, was, 0o644)
	}
	if err := writeOrigin(r.dir, Origin{r.jobPath, r.baseDir, StateRunning, r.start, r.meta.Fingerprint}); err != nil {
		return nil, err
	}
	if err := atomicfile.Write(filepath.Join(r.dir, JobCopy), r.job.YAML(), 0o644); err != nil {
		undo() // the reason is that of job.yaml
		return nil, err
	}
	return undo, nil
}

// conclude has the run directory say how the run ended.
func (r *Run) conclude(fin cluster.Finish) error {
	if err := r.lock.Check(); err != nil {
		return err
	}
	return writeOrigin(r.dir, Origin{r.jobPath, r.baseDir, fin.Outcome.String(), fin.Step, r.meta.Fingerprint})
}

// abandon has the run directory say that nobody goes on with the run, where the
// workers were ended with it: the next start need not look for them.
func (r *Run) abandon() {
	if r.lock.Check() == nil && r.children.alone() {
		step := r.start
		if r.last.Step > step {
			step = r.last.Step
		}
		writeOrigin(r.dir, Origin{r.jobPath, r.baseDir, StateAbandoned, step, r.meta.Fingerprint}) // if not, the next start looks for them
	}
}

// watchDir says, once a change, when the run directory is not where it was any
// more, and when it is back.
func (r *Run) watchDir() {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	said := ""
	for {
		select {
		case <-r.children.done:
			return
		case <-t.C:
		}
		is := ""
		if err := r.lock.Check(); err != nil {
			is = err.Error()
		}
		switch {
		case is == said:
		case is == "":
			r.log.Info("the run directory " + r.dir + " is back")
		default:
			r.log.Error("no checkpoint is stored until this is mended: " + is)
		}
		said = is
	}
}
