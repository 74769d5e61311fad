package job_test

import (
	"os"
	"path/filepath"
	"testing"
)

// A mistake that shows only when the data is open is still placed in the file.
func TestWhere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j.yaml")
	if err := os.WriteFile(path, []byte("name: a\nmodel: {kind: vit, channels: 4}\ndata:\n  kind: tensors\n  path: x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path, key string
		set       []string
		want      string
	}{
		{path, "model.channels", nil, path + ":2:30: model.channels: "},
		{path, "data.path", nil, path + ":5:9: data.path: "},
		{path, "model.channels", []string{"model.channels=5"}, "--set model.channels=5: model.channels: "},
		{path, "model.image_size", nil, path + ": model.image_size: "},
		{path + ".gone", "model.channels", nil, "model.channels: "},
	} {
		if got := kinds.Where(c.path, c.set, c.key).String(); got != c.want {
			t.Errorf("%s is at %q, want %q", c.key, got, c.want)
		}
	}
}
