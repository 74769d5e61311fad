package trained

import (
	"os"
	"path/filepath"
	"testing"
)

// Where there is no checkpoint to open, the first line says why and the last
// what to give or do.
func TestNoCheckpoint(t *testing.T) {
	dir := t.TempDir()
	empty, run, bad := filepath.Join(dir, "empty"), filepath.Join(dir, "run"), filepath.Join(dir, "bad")
	for _, d := range []string{empty, filepath.Join(run, "checkpoints"), filepath.Join(bad, "checkpoints", "step-00000005"), filepath.Join(bad, "checkpoints", "step-00000010")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(run, "run.json"), []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	give := "\ngive a checkpoint such as runs/NAME/checkpoints/step-00000100, or a run directory for its newest"
	for path, want := range map[string]string{
		filepath.Join(dir, "nowhere"): "there is no " + filepath.Join(dir, "nowhere") + give,
		empty:                         empty + " is neither a checkpoint nor a run directory" + give,
		run:                           "the run in " + run + " has stored no checkpoint yet\ncoordinator status " + run + " says how far it is",
		bad:                           bad + " holds no checkpoint that verifies\nwhat is wrong with the newest: coordinator checkpoint verify " + filepath.Join(bad, "checkpoints", "step-00000010"),
	} {
		if _, _, err := Find(path); err == nil || err.Error() != want {
			t.Errorf("%v\nwant %s", err, want)
		}
	}
}
