package run

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/vlaring/vlaring/pkg/bulk"
	"github.com/vlaring/vlaring/pkg/checkpoint"
	"github.com/vlaring/vlaring/pkg/cluster"
	"github.com/vlaring/vlaring/pkg/train"
	"github.com/vlaring/vlaring/pkg/worker"
)

// A checkpoint whose second file is gone is an error, and its first one is closed.
func TestOpenStateThatIsNotWhole(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, train.ModelFile), []byte("weights"), 0o644); err != nil {
		t.Fatal(err)
	}
	if s, err := openState(&checkpoint.Found{Dir: dir}, ""); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("opened %+v, %v", s, err)
	}
}

// What was put on offer once may be put on offer again, as a rewind does; what
// is withdrawn can be fetched no more.
func TestOffersAreReplaced(t *testing.T) {
	ctx := t.Context()
	net := bulk.NewMemory()
	o := &offers{blobs: net.Join(cluster.CoordinatorName), files: map[string]*os.File{}}
	path := filepath.Join(t.TempDir(), "first.safetensors")
	for _, text := range []string{"one", "two"} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		s, err := openState(nil, path)
		if err != nil {
			t.Fatal(err)
		}
		if err := o.put(s); err != nil {
			t.Fatal(err)
		}
		step, state := o.current()
		if step != 0 || len(state) != 1 {
			t.Fatalf("on offer are %v of step %d", state, step)
		}
		if b, err := net.Join("w0").Get(ctx, cluster.CoordinatorName, state[0].Name, 1<<20); err != nil || string(b) != text {
			t.Errorf("fetched %q, %v, want %q", b, err, text)
		}
	}
	o.withdraw(func(string) bool { return true })
	if len(o.files) > 0 {
		t.Errorf("still open: %v", o.files)
	}
	if _, err := net.Join("w1").Get(ctx, cluster.CoordinatorName, worker.StateBlobName(train.ModelFile, 0), 1<<20); !errors.Is(err, bulk.ErrUnknown) {
		t.Errorf("what was withdrawn: %v", err)
	}
}
