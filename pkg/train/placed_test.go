package train

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/vlaring/vlaring/pkg/data"
)

// An error about a key says where that stands, and names it once beside the place.
func TestPlaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j.yaml")
	if err := os.WriteFile(path, []byte("name: a\ndata:\n  kind: lerobot\n  path: x\n  wordings: w.json\n  cameras: [front, wrist]\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	of := func(key, text string) error {
		return fmt.Errorf("lerobot data: %w", &data.KeyError{Key: key, Err: errors.New(text)})
	}
	for _, c := range []struct {
		err  error
		set  []string
		want string
	}{
		{of("data.wordings", "data.wordings: no file"), nil, path + ":5:13: lerobot data: data.wordings: no file"},
		{of("data.wordings", "data.wordings: no file"), []string{"data.wordings=x"}, "--set data.wordings=x: lerobot data: data.wordings: no file"},
		{of("data.cameras[1]", "data.cameras[1] is unknown"), nil, path + ":6:20: lerobot data: data.cameras[1] is unknown"},
		{of("data.path", "nothing there"), nil, path + ":4:9: data.path: lerobot data: nothing there"},
		{of("data.camera", "data.camera is not set"), nil, path + ": lerobot data: data.camera is not set"},
		{errors.New("data.path is gone"), nil, "data.path is gone"},
	} {
		if got := Placed(c.err, path, c.set); got.Error() != c.want {
			t.Errorf("%v\nwant %s", got, c.want)
		}
	}
	if Placed(nil, path, nil) != nil {
		t.Error("no error became one")
	}
}
