package run

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/pkg/checkpoint"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/train"
)

// Of several stores the newest state that verifies and is of this computation
// is taken, whatever else lies about.
func TestNewestGood(t *testing.T) {
	base := t.TempDir()
	j, err := train.Kinds().Load("testdata/small.yaml", []string{"checkpoint.fallback_dir=" + filepath.Join(base, "spare")})
	if err != nil {
		t.Fatal(err)
	}
	other := *j
	other.Optimizer.LR = 0.5
	renamed := *j
	renamed.Name = "else"
	d := newDirectory(&Options{Job: j, Dir: filepath.Join(base, "a [run]*")})
	put := func(dir string, step uint64, as *job.Job, data string) string {
		t.Helper()
		disk, err := checkpoint.OpenDisk(dir)
		if err != nil {
			t.Fatal(err)
		}
		w, err := disk.Begin(step)
		if err != nil {
			t.Fatal(err)
		}
		f, err := w.Create("x", 3)
		if err != nil {
			t.Fatal(err)
		}
		f.Write([]byte("abc"))
		f.Close()
		if err := w.Commit(checkpoint.Manifest{Step: step, Job: as.Name, World: 1, Config: as.YAML(), Data: json.RawMessage(data)}); err != nil {
			t.Fatal(err)
		}
		return filepath.Join(dir, checkpoint.DirName(step))
	}
	own, rescue := filepath.Join(d.path, "checkpoints"), filepath.Join(d.path, "rescue")
	look := func(what string, step uint64, why bool, passed ...string) {
		t.Helper()
		var gone []string
		got, said, err := d.newestGood(j, func(p checkpoint.Passed) { gone = append(gone, p.Reason) })
		if err != nil || got == nil || got.Manifest.Step != step || (said != "") != why {
			t.Errorf("%s: it takes %+v because %q (%v), want step %d", what, got, said, err, step)
			return
		}
		for _, p := range passed {
			if !slices.ContainsFunc(gone, func(s string) bool { return strings.Contains(s, p) }) {
				t.Errorf("%s: it passed over %q, and nothing for %q", what, gone, p)
			}
		}
	}
	if got, _, err := d.newestGood(j, nil); got != nil || err != nil {
		t.Errorf("without any: %+v, %v", got, err)
	}
	put(rescue+"/w0", 5, j, "{}")
	look("only rescued", 5, true)
	put(own, 10, j, "{}")
	look("an own newer one", 10, false)
	bad := put(rescue+"/w1", 30, j, "{}")
	if err := os.WriteFile(filepath.Join(bad, "x"), []byte("abd"), 0o644); err != nil {
		t.Fatal(err)
	}
	put(rescue+"/w2", 20, j, "{ }")
	look("a damaged rescued one", 20, true)
	put(rescue+"/w3", 40, &other, "{}")
	put(rescue+"/w4", 41, &renamed, "{}")
	put(rescue+"/w5", 42, j, `{"other": 1}`)
	look("others'", 20, true, "optimizer.lr 0.001 in the run, 0.5 there", `job "else"`, "other data")
	put(filepath.Join(base, "spare", "small", "checkpoints"), 25, j, "{}")
	look("a fallback", 25, true)
	put(own, 60, j, "{}")
	look("an own newest one", 60, false)
}
