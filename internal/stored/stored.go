// Package stored says what lies where checkpoints are kept, of a directory of this
// machine and of an address in an object store alike: a list, one of them in full,
// and what is wrong with them.
package stored

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/vlaring/vlaring/internal/plain"
	"github.com/vlaring/vlaring/internal/s3url"
	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/internal/usage"
	"github.com/vlaring/vlaring/pkg/checkpoint"
	"github.com/vlaring/vlaring/pkg/checkpoint/bucket"
	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/run"
	"github.com/vlaring/vlaring/pkg/train"
	"github.com/vlaring/vlaring/pkg/trained"
)

// at is what dir names, and the checkpoints of it where it is a run's.
func at(ctx context.Context, dir string) (self, list checkpoint.Place, err error) {
	if !s3url.Is(dir) {
		return checkpoint.Local(dir), checkpoint.Local(run.CheckpointsDir(dir)), nil
	}
	if self, err = bucket.At(ctx, dir); err != nil {
		return self, self, usage.Wrap(err)
	}
	list = self.In("checkpoints")
	if _, err := list.Tree.ReadDir(list.Dir); errors.Is(err, fs.ErrNotExist) {
		list = self
	}
	return self, list, nil
}

// Listing is a run's checkpoints, oldest first.
type Listing []checkpoint.Entry

// List lists the checkpoints of the run, or in the directory, dir.
func List(ctx context.Context, dir string) (Listing, error) {
	self, place, err := at(ctx, dir)
	if err != nil {
		return nil, err
	}
	list, err := place.List()
	if err != nil {
		return nil, err
	}
	if len(list) == 0 && s3url.Is(dir) {
		return nil, fmt.Errorf("there is no checkpoint in %s, whole and with its manifest", self.Dir)
	}
	if _, e := os.Stat(filepath.Join(dir, run.OriginFile)); len(list) == 0 && e != nil && place.Dir == self.Dir {
		return nil, trained.None(dir)
	}
	return list, nil
}

// Text is the list for people.
func (l Listing) Text() string {
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "STEP\tSIZE\tCREATED\tSTATE\tDIRECTORY")
	for _, e := range l {
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\n", e.Step, plain.Bytes(e.Size), e.Created.Format("2006-01-02 15:04:05"), e.State, e.Dir)
	}
	w.Flush()
	return out.String()
}

// Shown is a checkpoint in full, as far as its manifest and headers say. None of the
// weights are read.
type Shown struct {
	checkpoint.Manifest
	place checkpoint.Place
}

// Show looks at the checkpoint that dir means: of a run, the newest. passed is told of
// those that do not verify.
func Show(ctx context.Context, dir string, passed func(checkpoint.Passed)) (*Shown, error) {
	place := checkpoint.Local(dir)
	if s3url.Is(dir) {
		self, list, err := at(ctx, dir)
		if err != nil {
			return nil, err
		}
		if place = self; !isStep(self.Dir) {
			if place, err = newest(list, passed); err != nil {
				return nil, err
			}
		}
	} else {
		found, odd, err := trained.Find(dir)
		for _, p := range odd {
			passed(p)
		}
		if err != nil {
			return nil, err
		}
		place.Dir = found
	}
	m, err := place.ReadManifest()
	if err != nil {
		return nil, err
	}
	return &Shown{m, place}, nil
}

func isStep(dir string) bool {
	_, ok := checkpoint.StepOf(path.Base(filepath.ToSlash(dir)))
	return ok
}

// newest is the newest complete checkpoint of a list, by manifests and sizes.
func newest(list checkpoint.Place, passed func(checkpoint.Passed)) (checkpoint.Place, error) {
	entries, err := list.List()
	if err != nil {
		return list, err
	}
	for i := len(entries) - 1; i >= 0; i-- {
		e := entries[i]
		if e.State == checkpoint.Complete {
			return list.In(checkpoint.DirName(e.Step)), nil
		}
		passed(checkpoint.Passed{Dir: e.Dir, Reason: e.Problem})
	}
	return list, fmt.Errorf("there is no checkpoint in %s, whole and with its manifest", list.Dir)
}

// open opens the header of one of its files.
func (s *Shown) open(name string) (*safetensors.File, io.Closer, error) {
	f, err := s.place.Tree.Open(s.place.Tree.Join(s.place.Dir, name))
	if err != nil {
		return nil, nil, err
	}
	size, err := f.Size()
	if err == nil {
		var file *safetensors.File
		if file, err = safetensors.Read(f, size, s.place.Tree.Join(s.place.Dir, name)); err == nil {
			return file, f, nil
		}
	}
	f.Close()
	return nil, nil, err
}

// Text writes it for people.
func (s *Shown) Text(out io.Writer) error {
	m := s.Manifest
	fmt.Fprintf(out, "%s\njob %s, step %d, next sample %d, seed %d\nsaved %s by %s with %s\n", s.place.Dir, m.Job, m.Step, m.Cursor, m.Seed,
		m.Created.Format("2006-01-02 15:04:05"), m.Software, plain.Workers(m.World))
	for _, f := range m.Files {
		fmt.Fprintf(out, "%-24s %10s  sha256 %s\n", f.Name, plain.Bytes(f.Size), f.SHA256)
	}
	var meta data.Meta
	if err := json.Unmarshal(m.Data, &meta); len(m.Data) > 0 && err != nil {
		return fmt.Errorf("%s: data: %w", s.place.Dir, err)
	}
	fmt.Fprint(out, meta.Text())
	f, model, err := s.open(train.ModelFile)
	if err != nil {
		return err
	}
	defer model.Close()
	total := 0
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	for _, name := range f.Names() {
		t, _ := f.Tensor(name)
		n := 1
		for _, d := range t.Shape {
			n *= d
		}
		total += n
		fmt.Fprintf(w, "  %s\t%s\t%v\n", name, t.DType, t.Shape)
	}
	w.Flush()
	fmt.Fprintf(out, "%d parameters in %d tensors\n", total, len(f.Names()))
	o, moments, err := s.open(train.OptimizerFile)
	if err != nil {
		return err
	}
	defer moments.Close()
	if n := len(train.Averaged(o).Names()); n > 0 {
		fmt.Fprintf(out, "averaged weights (ema) of %d tensors in %s: what is used unless --weights raw is given\n", n, train.OptimizerFile)
	}
	return nil
}

// Verify reads every byte of the checkpoint dir, or of all of the run dir, and hands
// out a report of each. The error is that of the first that is bad.
func Verify(ctx context.Context, dir string, each func(checkpoint.Report) error) error {
	self, list, err := at(ctx, dir)
	if err != nil {
		return err
	}
	places := []checkpoint.Place{self}
	if entries, err := list.List(); err == nil && len(entries) > 0 {
		places = nil
		for _, e := range entries {
			places = append(places, list.In(checkpoint.DirName(e.Step)))
		}
	} else if errors.Is(err, checkpoint.ErrAway) {
		return err
	} else if s3url.Is(dir) && !isStep(self.Dir) {
		return fmt.Errorf("there is no checkpoint in %s, whole and with its manifest", self.Dir)
	} else if !s3url.Is(dir) && !looksStored(dir) {
		return trained.None(dir)
	}
	var bad error
	for _, p := range places {
		rep := p.Verify()
		if err := each(rep); err != nil {
			return err
		}
		if err := rep.Err(); err != nil && bad == nil {
			bad = err
		}
	}
	return bad
}

// looksStored is whether dir is, or was, a checkpoint: what is wrong with it is
// worth saying. Of any other directory all that is wrong is the path.
func looksStored(dir string) bool {
	if _, err := os.Stat(dir); err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	if strings.HasPrefix(filepath.Base(dir), "step-") {
		return true
	}
	for _, name := range []string{checkpoint.ManifestFile, train.ModelFile} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return true
		}
	}
	return false
}

// VerifyText is a report's line for people.
func VerifyText(rep checkpoint.Report) string {
	if err := rep.Err(); err != nil {
		return fmt.Sprintf("BAD  %v\n", err)
	}
	return fmt.Sprintf("ok   %s: step %d, %s\n", rep.Dir, rep.Step, plain.Bytes(rep.Bytes))
}
