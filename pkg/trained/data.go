package trained

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/vlaring/vlaring/internal/plain"
	"github.com/vlaring/vlaring/internal/s3url"
	"github.com/vlaring/vlaring/internal/usage"
	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/train"
)

// OpenData opens the data that the checkpoint was trained on: at path, or where its
// job says, from base on. scans keeps what was found in it; it may be nil.
func (c *Checkpoint) OpenData(base, path string, scans *data.ScanDir) (err error) {
	d := *c.Job
	if path != "" {
		if len(c.Meta.Sets) > 0 {
			return fmt.Errorf("the checkpoint was trained on a mixture, whose sets lie where its job says: leave --data out, or give --data-set NAME to say which of them %s is in place of", path)
		}
		if d.Data.Path == "" { // it is made from the job, and nothing would be read from path
			return fmt.Errorf("the checkpoint was trained on %s data, which is made and lies nowhere: leave --data out", d.Data.Kind)
		}
		if d.Data.Path, err = absolute(path); err != nil {
			return err
		}
	}
	if c.Set, err = train.OpenDataContext(context.Background(), &d, base, &c.Meta, data.Watch{Scans: scans}); err != nil {
		return fmt.Errorf("%w\n(--data says where the data is on this machine)", err)
	}
	return nil
}

// OfSet makes of a checkpoint that was trained on a mixture one of the set called
// name: what it is asked, measured on or exported with has that set's statistics. An
// empty name is no choice.
func (c *Checkpoint) OfSet(name string) error {
	if name == "" {
		return nil
	}
	i, err := c.Meta.SetOf(name)
	if err != nil {
		return usage.Errorf("--data-set: %w", err)
	}
	if m, ok := c.Job.Data.Options.(data.Mixture); ok {
		c.Job.Data = m.Sets[i].Data(c.Job.Data)
	}
	c.Meta = c.Meta.In(i)
	return nil
}

// oneSet refuses inputs of which nobody knows whose statistics count.
func (c *Checkpoint) oneSet() error {
	for _, f := range c.Model.Options().Wants().Inputs() {
		if _, err := c.Meta.SetOf(""); f.Normalise && err != nil {
			return usage.Errorf("%w (--data-set)", err)
		}
	}
	return nil
}

// OpenToMeasure is OpenData for a measurement, for which path may also hold other
// data of the same features. That is divided as the job says where split asks for
// a part of it, and not at all otherwise.
func (c *Checkpoint) OpenToMeasure(base, path, split string, scans *data.ScanDir) error {
	err := c.OpenData(base, path, scans)
	if len(c.Meta.Sets) > 0 && err != nil {
		return err
	}
	if errors.Is(err, data.ErrOtherData) && path == "" {
		return fmt.Errorf("%w\nto measure it on the data as it is now, name it as other data: --data %s", err, plain.ShellWord(job.Abs(base, c.Job.Data.Path)))
	}
	if err == nil || path == "" {
		return err
	}
	meta := c.Meta
	meta.Fingerprint = "" // what binds a resumed run to its data does not bind a measurement
	if c.Job.Data, err = otherData(c.Job.Data, path); err != nil {
		return err
	}
	if split == "" || split == "all" {
		c.Job.Data.Holdout = job.Holdout{}
	}
	if c.Set, err = train.OpenDataContext(context.Background(), c.Job, ".", &meta, data.Watch{Scans: scans}); err != nil {
		return fmt.Errorf("%s is not what the checkpoint was trained on, and to measure it there its features must be the same: %w", path, err)
	}
	c.Other = fmt.Sprintf("%s is other data (%s) than the checkpoint was trained on (%s): it is measured with the checkpoint's vocabulary and statistics",
		path, shortPrint(c.Set.Meta().Fingerprint), shortPrint(c.Meta.Fingerprint))
	return nil
}

// absolute is a path that a command was given, for a job; an address in an object
// store is one already.
func absolute(path string) (string, error) {
	if s3url.Is(path) {
		return path, nil
	}
	return filepath.Abs(path)
}

// otherData is the job's data section for the data at path, which may be of
// another kind.
func otherData(d job.Data, path string) (job.Data, error) {
	var err error
	if d.Path, err = absolute(path); err != nil {
		return d, err
	}
	found, err := data.Recognise(d.Path)
	if err != nil {
		return d, err
	}
	if kind := found.Data.Kind; kind != d.Kind {
		d.Kind, d.Options, d.Holdout = kind, data.Defaults(kind), job.Holdout{}
	}
	return d, nil
}

// shortPrint is the beginning of a fingerprint, enough to tell two apart.
func shortPrint(fingerprint string) string {
	_, hash, _ := strings.Cut(fingerprint, ":")
	return hash[:min(len(hash), 12)]
}

// Source is the part of the opened data to measure, and its name.
func (c *Checkpoint) Source(split string) (data.Source, string, error) {
	if split == "" {
		split = "heldout"
		if c.Other != "" {
			split = "all"
		}
	}
	src := map[string]data.Source{"heldout": c.Set.Heldout(), "train": c.Set.Train(), "all": data.Joined(c.Set.Train(), c.Set.Heldout())}[split]
	if src.Len() > 0 {
		return src, split, nil
	}
	for _, f := range c.Set.Findings() {
		if f.Kind == "empty_heldout" {
			return nil, "", fmt.Errorf("%s: there is nothing to measure; --split train or all measures what was trained on, --data another data set", f.What)
		}
	}
	return nil, "", fmt.Errorf("nothing of this data is held out (data.holdout of the job): there is nothing to measure; --split train or all measures what was trained on, --data another data set")
}
