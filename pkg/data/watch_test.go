package data

import (
	"context"
	"errors"
	"fmt"
	"image/color"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
)

// folderOf writes a folder of n one-picture lines, two lines an episode, and returns it.
func folderOf(t *testing.T, n int) string {
	dir := t.TempDir()
	var b strings.Builder
	for i := range n {
		name := fmt.Sprintf("%d.png", i)
		if err := os.WriteFile(filepath.Join(dir, name), encodePNG(t, testPicture(8, 8, color.RGBA{byte(i), 9, 9, 255})), 0o644); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "{\"image\": %q, \"instruction\": \"pick number %d\", \"action\": [%d, 1], \"episode\": %d}\n", name, i%3, i, i/2)
	}
	if err := os.WriteFile(filepath.Join(dir, ManifestName), []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

var folderNeeds = models.Spec{pictures(3, 8, 8), words(0), acts(0)}

// TestLongOpeningIsWatched guards that each scan tells how far it is and ends
// soon after its context, for all kinds of files.
func TestLongOpeningIsWatched(t *testing.T) {
	for _, c := range []struct {
		cfg   job.Data
		needs models.Spec
		unit  string
	}{
		{of(job.Data{Kind: "folder", Path: folderOf(t, 6)}), folderNeeds, "lines"},
		{of(job.Data{Kind: "rlds", Path: filepath.Dir(tinyRLDS(t))}, "Camera", "image_0"), vlaNeeds, "records"},
	} {
		var last Progress
		d, err := OpenContext(context.Background(), c.cfg, c.needs, 1, ".", nil, Watch{Progress: func(p Progress) { last = p }})
		if err != nil {
			t.Fatal(err)
		}
		d.Close()
		if last.Unit != c.unit || last.Total < 1 || last.Done+1 < last.Total || last.Path != c.cfg.Path {
			t.Errorf("%s: the last progress is %+v", c.cfg.Kind, last)
		}
		ctx, cancel := context.WithCancel(context.Background())
		calls := 0
		_, err = OpenContext(ctx, c.cfg, c.needs, 1, ".", nil, Watch{Progress: func(Progress) { calls++; cancel() }})
		if !errors.Is(err, context.Canceled) || calls != 1 {
			t.Errorf("%s: after %d calls: %v", c.cfg.Kind, calls, err)
		}
	}
}
