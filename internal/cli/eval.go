package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vlaring/vlaring/internal/plain"
	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/run"
	"github.com/vlaring/vlaring/pkg/train"
)

func newEval() *cobra.Command {
	var dir, path, split string
	var threads, samples int
	var asJSON, exits bool
	var plot string
	c := &cobra.Command{
		Use:   "eval --checkpoint DIR",
		Short: "Measure a checkpoint on the held-out split, or on other data",
		Long: `Measure a checkpoint on the held-out split of the data it was trained on: the
error of each degree of freedom in physical units, beside that of always
predicting the training mean. DIR is a checkpoint, or a run directory for its
newest one.

--data names where that data is here, or other data of the same features, such
as a test set: then all of it is measured, with the checkpoint's vocabulary and
statistics, unless --split says heldout or train, which divide it as the job does.

--exits measures a model with model.exits instead: error against latency, for
every exit and for thresholds of doubt that let each sample choose its depth.`,
		Example: "  coordinator eval --checkpoint runs/bridge\n  coordinator eval --checkpoint runs/bridge/checkpoints/step-00000100 --data /data/bridge --json",
		Args:    exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			if !slices.Contains([]string{"", "heldout", "train", "all"}, split) {
				return usagef("--split %q: want heldout, train or all", split)
			}
			m, err := openToMeasure(dir, path, split)
			if err != nil {
				return err
			}
			defer m.Close()
			if m.other != "" {
				fmt.Fprintln(c.ErrOrStderr(), m.other)
			}
			src, split, err := m.source(split)
			if err != nil {
				return err
			}
			if samples < 0 || samples > 0 && !exits {
				return usagef("--samples %d: want a number of samples from 1 with --exits, or none for all", samples)
			}
			if plot != "" && !exits {
				return usagef("--plot draws what --exits measures: give both")
			}
			if exits {
				rep, err := m.exits(c.Context(), src, split, threads, samples)
				if err != nil {
					return err
				}
				if plot != "" {
					if err := plotExits(plot, rep, fmt.Sprintf("%s, step %d: error against latency", m.Job.Name, m.Step)); err != nil {
						return err
					}
				}
				if asJSON {
					return json.NewEncoder(c.OutOrStdout()).Encode(rep)
				}
				fmt.Fprint(c.OutOrStdout(), exitsText(rep, split))
				return nil
			}
			rep, err := m.Evaluate(c.Context(), src, split, threads)
			if err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(c.OutOrStdout()).Encode(rep)
			}
			fmt.Fprint(c.OutOrStdout(), rep.Text())
			return nil
		},
	}
	fl := c.Flags()
	fl.StringVar(&dir, "checkpoint", "", "checkpoint directory, or run directory")
	fl.StringVar(&path, "data", "", "where the data is here, or other data of the same features (default: as in the job)")
	fl.StringVar(&split, "split", "", "heldout, train or all (default: heldout; all of other data)")
	fl.IntVar(&threads, "threads", runtime.GOMAXPROCS(0), "compute threads")
	fl.BoolVar(&asJSON, "json", false, "print one JSON object")
	fl.BoolVar(&exits, "exits", false, "measure the exits of a model with model.exits: error against latency")
	fl.IntVar(&samples, "samples", 0, "with --exits: the first so many samples alone, since they run one at a time; 0: all")
	fl.StringVar(&plot, "plot", "", "with --exits: PNG file to draw the table to")
	return c
}

// trained is a checkpoint that has been opened for use. Whoever opened it closes it.
type trained struct {
	*run.Trained
	set   data.Dataset // nil where no data was asked for
	other string       // what to say where set is not the checkpoint's data
}

// Close gives the model's memory back, and closes the data.
func (t *trained) Close() {
	t.Trained.Close()
	if t.set != nil {
		t.set.Close()
		t.set = nil
	}
}

// checkpointDir accepts a checkpoint, a checkpoints directory or a run directory.
func checkpointDir(dir string) (string, error) {
	if dir == "" {
		return "", usagef("--checkpoint DIR is missing: a directory such as runs/NAME/checkpoints/step-00000100, or runs/NAME for its newest")
	}
	return run.CheckpointDir(dir)
}

// loadTrained opens a checkpoint's model, verified, without its data.
func loadTrained(dir string) (*trained, error) {
	dir, err := checkpointDir(dir)
	if err != nil {
		return nil, err
	}
	t, err := run.Load(dir)
	if err != nil {
		return nil, err
	}
	return &trained{Trained: t}, nil
}

// openTrained also opens the data, at path where it is given.
func openTrained(dir, path string) (*trained, error) {
	t, err := loadTrained(dir)
	if err != nil {
		return nil, err
	}
	if err := t.openData(path); err != nil {
		t.Close()
		return nil, err
	}
	return t, nil
}

// openData opens the data that the checkpoint was trained on.
func (t *trained) openData(path string) (err error) {
	base, d := t.BaseDir(), *t.Job
	if path != "" {
		if d.Data.Path == "" { // it is made from the job, and nothing would be read from path
			return fmt.Errorf("the checkpoint was trained on %s data, which is made and lies nowhere: leave --data out", d.Data.Kind)
		}
		if d.Data.Path, err = filepath.Abs(path); err != nil {
			return err
		}
	}
	if t.set, err = train.OpenDataContext(context.Background(), &d, base, &t.Meta, data.Watch{Scans: scanDir()}); err != nil {
		return fmt.Errorf("%w\n(--data says where the data is on this machine)", err)
	}
	return nil
}

// openToMeasure is openTrained for a measurement, for which path may also hold
// other data of the same features. That is divided as the job says where split
// asks for a part of it, and not at all otherwise.
func openToMeasure(dir, path, split string) (*trained, error) {
	t, err := loadTrained(dir)
	if err != nil {
		return nil, err
	}
	if err := t.openToMeasure(path, split); err != nil {
		t.Close()
		return nil, err
	}
	return t, nil
}

func (t *trained) openToMeasure(path, split string) error {
	err := t.openData(path)
	if errors.Is(err, data.ErrOtherData) && path == "" {
		return fmt.Errorf("%w\nto measure it on the data as it is now, name it as other data: --data %s", err, plain.ShellWord(t.DataPath()))
	}
	if err == nil || path == "" {
		return err
	}
	meta := t.Meta
	meta.Fingerprint = "" // what binds a resumed run to its data does not bind a measurement
	if t.Job.Data, err = otherData(t.Job.Data, path); err != nil {
		return err
	}
	if split == "" || split == "all" {
		t.Job.Data.Holdout = job.Holdout{}
	}
	if t.set, err = train.OpenDataContext(context.Background(), t.Job, ".", &meta, data.Watch{Scans: scanDir()}); err != nil {
		return fmt.Errorf("%s is not what the checkpoint was trained on, and to measure it there its features must be the same: %w", path, err)
	}
	t.other = fmt.Sprintf("%s is other data (%s) than the checkpoint was trained on (%s): it is measured with the checkpoint's vocabulary and statistics",
		path, shortPrint(t.set.Meta().Fingerprint), shortPrint(t.Meta.Fingerprint))
	return nil
}

// otherData is the job's data section for the data at path, which may be of
// another kind.
func otherData(d job.Data, path string) (job.Data, error) {
	var err error
	if d.Path, err = filepath.Abs(path); err != nil {
		return d, err
	}
	found, err := data.Recognise(d.Path)
	if err != nil {
		return d, err
	}
	if kind := found[0].Data.Kind; kind != d.Kind {
		d.Kind, d.Options, d.Holdout = kind, data.Defaults(kind), job.Holdout{}
	}
	return d, nil
}

// shortPrint is the beginning of a fingerprint, enough to tell two apart.
func shortPrint(fingerprint string) string {
	_, hash, _ := strings.Cut(fingerprint, ":")
	return hash[:min(len(hash), 12)]
}

// source is the part of the opened data to measure, and its name.
func (t *trained) source(split string) (data.Source, string, error) {
	if split == "" {
		split = "heldout"
		if t.other != "" {
			split = "all"
		}
	}
	src := map[string]data.Source{"heldout": t.set.Heldout(), "train": t.set.Train(), "all": data.Joined(t.set.Train(), t.set.Heldout())}[split]
	if src.Len() > 0 {
		return src, split, nil
	}
	for _, f := range t.set.Findings() {
		if f.Kind == "empty_heldout" {
			return nil, "", fmt.Errorf("%s: there is nothing to measure; --split train or all measures what was trained on, --data another data set", f.What)
		}
	}
	return nil, "", fmt.Errorf("nothing of this data is held out (data.holdout of the job): there is nothing to measure; --split train or all measures what was trained on, --data another data set")
}
