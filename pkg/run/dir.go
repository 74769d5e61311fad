package run

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/vlaring/vlaring/internal/atomicfile"
	"github.com/vlaring/vlaring/internal/regular"
	"github.com/vlaring/vlaring/internal/usage"
	"github.com/vlaring/vlaring/pkg/checkpoint"
	"github.com/vlaring/vlaring/pkg/cluster"
	"github.com/vlaring/vlaring/pkg/job"
)

// directory is a run directory, which holds all that a run leaves behind. While
// it is open it is locked: one coordinator at a time has it.
//
//	job.yaml         the resolved job                       JobCopy
//	run.json         where the job file was, how it ended   OriginFile
//	broker.json      where the server is                    AddressFile
//	metrics.jsonl    a line a committed step                MetricsFile
//	eval.jsonl       a line a measured checkpoint           EvalFile
//	checkpoints/     the store
//	rescue/WORKER/   stores of workers that were left alone
//	logs/WORKER.log  what local workers say
//	data-HASH.index  an index of the data
//	scans/           what was found in the data's files
type directory struct {
	path    string
	baseDir string // where the job's relative paths start
	jobPath string
	job     *job.Job

	lock     *checkpoint.Lock
	store    *checkpoint.Disk
	spare    spareStore // beside it
	takeover bool       // the run's coordinator died, and its workers may live
	data     string     // fingerprint of what was read last; empty: unknown
}

// newDirectory returns one that is not open: nothing is made or read.
func newDirectory(o *Options) *directory {
	return &directory{path: o.Dir, baseDir: o.BaseDir, jobPath: o.JobPath, job: o.Job}
}

// open makes and locks the run directory, and refuses one that holds a run
// already unless it is to be resumed.
func (d *directory) open(resume bool) (err error) {
	if err := os.MkdirAll(d.path, 0o755); err != nil {
		if to, lerr := os.Readlink(d.path); lerr == nil {
			return usage.Errorf("the run directory %s is a link to %s, which cannot be used as a directory: %v\nmend the link, or choose another directory with --run-dir", d.path, to, err)
		}
		return fmt.Errorf("making the run directory %s: %w\nchoose another with --run-dir", d.path, err)
	}
	if d.lock, err = checkpoint.LockRunDir(d.path); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			d.lock.Unlock()
		}
	}()
	if d.store, err = checkpoint.OpenDisk(d.at("checkpoints")); err != nil {
		return err
	}
	o, err := ReadOrigin(d.path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	d.takeover = err == nil && o.State == StateRunning
	d.data = o.Data
	if !resume && !d.takeover {
		if _, err := os.Stat(d.at(JobCopy)); err == nil {
			return usage.Errorf("the run directory %s already holds a run: continue it with --resume, or choose another with --run-dir", d.path)
		}
	}
	return nil
}

func (d *directory) close() {
	d.spare.close()
	d.lock.Unlock()
}

// at is the path of a file in it.
func (d *directory) at(name string) string { return filepath.Join(d.path, name) }

// prior is the job that the run directory was last used for; nil where there is
// none. odd says why what there is counts for nothing.
func (d *directory) prior() (was *job.Job, odd, err error) {
	b, err := regular.Read(d.at(JobCopy), 1<<20)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	was, odd = d.job.Kinds().Parse(d.at(JobCopy), b, nil) // of another release, or torn: nothing can be said of it
	return was, odd, nil
}

// Prior is the job of the run in dir: that of its copy, or of the newest checkpoint
// where there is no copy; nil where neither can be read.
func Prior(dir string, kinds job.Kinds) *job.Job {
	path := filepath.Join(dir, JobCopy)
	if b, err := regular.Read(path, 1<<20); err == nil {
		if j, err := kinds.Parse(path, b, nil); err == nil {
			return j
		}
	}
	store := filepath.Join(dir, "checkpoints")
	entries, _ := checkpoint.List(store)
	for _, e := range slices.Backward(entries) {
		at := filepath.Join(store, checkpoint.DirName(e.Step))
		if man, err := checkpoint.ReadManifest(at); err == nil {
			if j, err := jobOf(&checkpoint.Found{Dir: at, Manifest: man}, kinds); err == nil {
				return j
			}
		}
	}
	return nil
}

// stores are the stores that a run looks for checkpoints in, its own first.
func (d *directory) stores() []string {
	dirs := []string{d.at("checkpoints")}
	if s := d.spareDir(); s != "" {
		dirs = append(dirs, filepath.Join(s, "checkpoints"))
	}
	kept, _ := filepath.Glob(filepath.Join(globQuote(d.path), "rescue", "*")) // the pattern is sound
	return append(dirs, kept...)
}

// checkpoint is where the checkpoint of a step is: in the run directory, unless
// only another store has it.
func (d *directory) checkpoint(step uint64) string {
	own := filepath.Join(d.at("checkpoints"), checkpoint.DirName(step))
	if isDir(own) {
		return own
	}
	for _, dir := range d.stores() {
		if c := filepath.Join(dir, checkpoint.DirName(step)); isDir(c) {
			return c
		}
	}
	return own
}

// newest is the step of the newest complete checkpoint in any store.
func (d *directory) newest() (step uint64, found bool) {
	for _, dir := range d.stores() {
		entries, err := checkpoint.List(dir)
		for _, e := range entries {
			if err == nil && e.State == checkpoint.Complete {
				step, found = max(step, e.Step), true
			}
		}
	}
	return step, found
}

// announce has the run directory say that the run goes on from a step, of which
// job, on which data and where its server is. If it cannot, or undo is called,
// the directory says what it said before.
func (d *directory) announce(server Address, step uint64, data string) (undo func() error, err error) {
	if err := writeAddress(d.path, server); err != nil {
		return nil, err
	}
	path := d.at(OriginFile)
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
	if err := d.says(StateRunning, step, data); err != nil {
		return nil, err
	}
	if err := atomicfile.Write(d.at(JobCopy), d.job.YAML(), 0o644); err != nil {
		undo() // the reason is that of job.yaml
		return nil, err
	}
	return undo, nil
}

func (d *directory) says(state string, step uint64, data string) error {
	return writeOrigin(d.path, Origin{d.jobPath, d.baseDir, state, step, data})
}

// conclude has the run directory say how the run ended.
func (d *directory) conclude(fin cluster.Finish, data string) error {
	if err := d.lock.Check(); err != nil {
		return err
	}
	return d.says(fin.Outcome.String(), fin.Step, data)
}

// abandon has the run directory say that nobody goes on with the run, after a
// step: the next start need not look for workers. If it cannot, that one does.
func (d *directory) abandon(step uint64, data string) {
	if d.lock.Check() == nil {
		d.says(StateAbandoned, step, data)
	}
}

// setAside renames a file of a run directory that holds something, to a name
// with a number that is free, and returns that; empty where there is nothing.
func setAside(dir, name string) (string, error) {
	path := filepath.Join(dir, name)
	i, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) || err == nil && i.Mode().IsRegular() && i.Size() == 0 {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	ext := filepath.Ext(name)
	for n := 1; ; n++ {
		to := fmt.Sprintf("%s-%d%s", name[:len(name)-len(ext)], n, ext)
		if _, err := os.Lstat(filepath.Join(dir, to)); errors.Is(err, os.ErrNotExist) {
			if err := os.Rename(path, filepath.Join(dir, to)); err != nil {
				return "", err
			}
			return to, atomicfile.SyncDir(dir)
		} else if err != nil {
			return "", err
		}
	}
}
