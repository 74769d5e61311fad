package inspect

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/pkg/checkpoint"
	"github.com/vlaring/vlaring/pkg/data"
)

// videos is a copy of the data set with videos that pkg/data is tested with.
func videos(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "set")
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("..", "..", "pkg", "data", "testdata", "lerobot", "v3-video"))); err != nil {
		t.Fatal(err)
	}
	return dir
}

func imported(t *testing.T, arg string, from data.Import) (string, error) {
	t.Helper()
	var out bytes.Buffer
	err := Import(t.Context(), Options{Arg: arg, Threads: 1, Out: &out, Progress: &out}, from)
	return out.String(), err
}

// An import says what it takes and where, then that it is there; a second one that
// there is nothing to do; and the data can be checked then, not before.
func TestImport(t *testing.T) {
	if _, err := exec.LookPath("ffmpeg"); err != nil {
		t.Log("NOT TESTED: data import:", err)
		t.Skip("no ffmpeg")
	}
	dir := videos(t)
	check := func() error {
		return Check(t.Context(), Options{Arg: dir, Threads: 1, Out: &bytes.Buffer{}, Progress: &bytes.Buffer{}})
	}
	if err := check(); err == nil || !strings.Contains(err.Error(), "coordinator data import "+dir) {
		t.Errorf("before: %v", err)
	}
	out, err := imported(t, dir, data.Import{})
	if err != nil || !strings.Contains(out, "2 videos of 9 frames, at most 224 pixels a side: about 10.4 KiB in "+filepath.Join(dir, ".vlaring", "frames")) || !strings.Contains(out, "done: ") {
		t.Errorf("%s%v", out, err)
	}
	if out, err = imported(t, dir, data.Import{}); err != nil || !strings.Contains(out, "frames of all 2 videos are in ") {
		t.Errorf("again: %s%v", out, err)
	}
	if err := check(); err != nil {
		t.Errorf("after: %v", err)
	}
	// Somebody else is at work in the same store.
	lock, err := checkpoint.LockRunDir(filepath.Join(dir, ".vlaring", "frames"))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Unlock()
	if _, err = imported(t, dir, data.Import{Size: 8}); err == nil || !strings.Contains(err.Error(), "another import is at work there") {
		t.Errorf("two at once: %v", err)
	}
}

// A disk that has not got what the frames take, and a little more, is refused before
// anything is decoded.
func TestRoomForFrames(t *testing.T) {
	for _, c := range []struct {
		room checkpoint.Space
		fits bool
	}{
		{checkpoint.Space{}, true}, // which says nothing
		{checkpoint.Space{Bytes: 100<<20 + freeAfter, Known: true}, true},
		{checkpoint.Space{Bytes: 100<<20 + freeAfter - 1, Known: true}, false},
	} {
		err := fits("/data/frames", 100<<20, c.room)
		if (err == nil) != c.fits || err != nil && !strings.Contains(err.Error(), "/data/frames: 356.0 MiB are free there, and 356.0 MiB are needed") {
			t.Errorf("%+v: %v", c.room, err)
		}
	}
}
