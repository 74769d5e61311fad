package run

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vlaring/vlaring/pkg/checkpoint"
	"github.com/vlaring/vlaring/pkg/job"
)

// newestGood is the newest checkpoint that verifies, of all the stores that this
// run may have left one in; nil where there is none. A state that is kept
// elsewhere than in the run directory's checkpoints counts where it is of the
// same computation as the run so far, was, which may be nil for unknown. What is
// not used, though it is newer, goes to passed. Where it is not a checkpoint of the
// run directory, why says why it was taken.
func (d *directory) newestGood(was *job.Job, passed func(checkpoint.Passed)) (best *checkpoint.Found, why string, err error) {
	d.mergeShares(passed)
	dirs := d.stores()
	own, err := checkpoint.LatestGood(dirs[0])
	damaged := len(own.Passed)
	for _, p := range own.Passed {
		passed(p)
	}
	best = &own
	switch {
	case errors.Is(err, checkpoint.ErrNone):
		best = nil
	case err != nil:
		return nil, "", err
	}
	for _, dir := range dirs[1:] {
		entries, err := checkpoint.List(dir)
		if errors.Is(err, os.ErrNotExist) || err == nil && (len(entries) == 0 || best != nil && entries[len(entries)-1].Step <= best.Manifest.Step) {
			continue
		}
		found, err := checkpoint.LatestGood(dir)
		if err == nil && best != nil && found.Manifest.Step <= best.Manifest.Step {
			continue // its newer ones do not verify
		}
		if err == nil {
			err = d.ownState(was, best, &found)
		}
		if err != nil {
			passed(checkpoint.Passed{Dir: dir, Reason: err.Error()})
			continue
		}
		best = &found
	}
	if best == nil && damaged > 0 {
		return nil, "", fmt.Errorf("no checkpoint in %s verifies: start anew with another --run-dir, or restore one", d.path)
	}
	if best != nil && best != &own {
		why = "there is no checkpoint in " + dirs[0]
		if own.Dir != "" {
			why = fmt.Sprintf("the newest checkpoint in %s is of step %d", dirs[0], own.Manifest.Step)
		}
		if s := d.spareDir(); s != "" && filepath.Dir(filepath.Dir(best.Dir)) == s {
			d.spare.open(s) // so that it is cleared once a newer one is stored; if not, it stays
		}
	}
	return best, why, nil
}

// mergeShares makes checkpoints of shares that workers have kept apart (see
// checkpoint.Share), the newest that can be made, in a store among the rescued ones.
func (d *directory) mergeShares(passed func(checkpoint.Passed)) {
	shares := checkpoint.Shares(d.stores()[1:])
	into := d.at(filepath.Join("rescue", "merged"))
	for _, step := range slices.Backward(slices.Sorted(maps.Keys(shares))) {
		if isDir(filepath.Join(into, checkpoint.DirName(step))) || isDir(filepath.Join(d.at("checkpoints"), checkpoint.DirName(step))) {
			return
		}
		store, err := checkpoint.OpenDisk(into)
		if err == nil {
			err = store.Merge(shares[step])
		}
		if err == nil {
			return
		}
		passed(checkpoint.Passed{Dir: shares[step][0].Dir, Reason: err.Error()})
	}
}

// ownState says why a state that was kept elsewhere is not this run's.
func (d *directory) ownState(was *job.Job, best, found *checkpoint.Found) error {
	if found.Manifest.Job != d.job.Name {
		return fmt.Errorf("it is of job %q", found.Manifest.Job)
	}
	j, err := jobOf(found, d.job.Kinds())
	if err != nil {
		return err
	}
	if was == nil {
		was = d.job
	}
	if diff := changes(was.Result(), j.Result()); len(diff) > 0 {
		return fmt.Errorf("it is of another computation: %s %s in the run, %s there", diff[0].key, orNone(diff[0].was), orNone(diff[0].is))
	}
	if best != nil && !sameJSON(best.Manifest.Data, found.Manifest.Data) {
		return errors.New("it was computed on other data")
	}
	return nil
}

// sameJSON says whether two documents hold the same, however they are laid out.
func sameJSON(a, b json.RawMessage) bool {
	var x, y bytes.Buffer
	return json.Compact(&x, a) == nil && json.Compact(&y, b) == nil && bytes.Equal(x.Bytes(), y.Bytes())
}

// globQuote is a path that a pattern of filepath.Glob takes as it is.
func globQuote(path string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(path)
}
