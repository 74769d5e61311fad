package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/vlaring/vlaring/internal/plain"
	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/pkg/checkpoint"
	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/run"
	"github.com/vlaring/vlaring/pkg/train"
	"github.com/vlaring/vlaring/pkg/trained"
)

func newCheckpoint() *cobra.Command {
	return group(&cobra.Command{Use: "checkpoint", Short: "List, show, verify, prune and export checkpoints"},
		newCheckpointLs(), newCheckpointShow(), newCheckpointVerify(), newCheckpointPrune(), newCheckpointExport())
}

func newCheckpointLs() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "ls RUN-DIR", Short: "List a run's checkpoints, oldest first", Args: exactArgs("RUN-DIR"),
		RunE: func(c *cobra.Command, args []string) error {
			list, err := checkpoint.List(run.CheckpointsDir(args[0]))
			if err != nil {
				return err
			}
			if _, e := os.Stat(filepath.Join(args[0], run.OriginFile)); len(list) == 0 && e != nil && run.CheckpointsDir(args[0]) == args[0] {
				return trained.None(args[0])
			}
			if asJSON {
				return json.NewEncoder(c.OutOrStdout()).Encode(list)
			}
			w := tabwriter.NewWriter(c.OutOrStdout(), 0, 4, 2, ' ', 0)
			fmt.Fprintln(w, "STEP\tSIZE\tCREATED\tSTATE\tDIRECTORY")
			for _, e := range list {
				fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\n", e.Step, plain.Bytes(e.Size), e.Created.Format("2006-01-02 15:04:05"), e.State, e.Dir)
			}
			return w.Flush()
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON array")
	return c
}

func newCheckpointShow() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "show DIR", Short: "Show what a checkpoint holds", Args: exactArgs("DIR"),
		RunE: func(c *cobra.Command, args []string) error {
			dir, err := checkpointDir(args[0])
			if err != nil {
				return err
			}
			m, err := checkpoint.ReadManifest(dir)
			if err != nil {
				return err
			}
			out := c.OutOrStdout()
			if asJSON {
				return json.NewEncoder(out).Encode(m)
			}
			fmt.Fprintf(out, "%s\njob %s, step %d, next sample %d, seed %d\nsaved %s by %s with %s\n", dir, m.Job, m.Step, m.Cursor, m.Seed,
				m.Created.Format("2006-01-02 15:04:05"), m.Software, workers(m.World))
			for _, f := range m.Files {
				fmt.Fprintf(out, "%-24s %10s  sha256 %s\n", f.Name, plain.Bytes(f.Size), f.SHA256)
			}
			var meta data.Meta
			if err := json.Unmarshal(m.Data, &meta); len(m.Data) > 0 && err != nil {
				return fmt.Errorf("%s: data: %w", dir, err)
			}
			fmt.Fprint(out, meta.Text())
			f, err := safetensors.Open(filepath.Join(dir, train.ModelFile))
			if err != nil {
				return err
			}
			defer f.Close()
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
			o, err := safetensors.Open(filepath.Join(dir, train.OptimizerFile))
			if err != nil {
				return err
			}
			defer o.Close()
			if n := len(train.Averaged(o).Names()); n > 0 {
				fmt.Fprintf(out, "averaged weights (ema) of %d tensors in %s: what is used unless --weights raw is given\n", n, train.OptimizerFile)
			}
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print the manifest as JSON")
	return c
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

func newCheckpointVerify() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "verify DIR", Short: "Read every byte of a checkpoint, or of all of a run, and say what is wrong", Args: exactArgs("DIR"),
		RunE: func(c *cobra.Command, args []string) error {
			dirs := []string{args[0]}
			if list, err := checkpoint.List(run.CheckpointsDir(args[0])); err == nil && len(list) > 0 {
				dirs = nil
				for _, e := range list {
					dirs = append(dirs, e.Dir)
				}
			} else if !looksStored(args[0]) {
				return trained.None(args[0])
			}
			var bad error
			for _, d := range dirs {
				rep := checkpoint.Verify(d)
				if asJSON {
					if err := json.NewEncoder(c.OutOrStdout()).Encode(rep); err != nil {
						return err
					}
				} else if err := rep.Err(); err != nil {
					fmt.Fprintf(c.OutOrStdout(), "BAD  %v\n", err)
				} else {
					fmt.Fprintf(c.OutOrStdout(), "ok   %s: step %d, %s\n", d, rep.Step, plain.Bytes(rep.Bytes))
				}
				if err := rep.Err(); err != nil && bad == nil {
					bad = err
				}
			}
			return bad
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a checkpoint")
	return c
}
