package rollout

import (
	"bytes"
	"image"
	"image/gif"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The first episodes play beside one another in one file, and each has its own in a
// folder, under a name that says how it ended. Decoded again, the last frame has the
// colour of success.
func TestVideo(t *testing.T) {
	c, dir := untrained(t, plainTable), t.TempDir()
	record := func(path, policy string, n int) {
		rolled(t, c, Options{Episodes: n, Seed: 1, Policy: policy, Threads: 1, Out: path})
	}
	path := filepath.Join(dir, "two.gif")
	record(path, "expert", 2)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	g, err := gif.DecodeAll(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	if g.Config.Width != 2*(tileSide+2*border+gap)+gap || len(g.Image) < 5 || g.LoopCount != 0 {
		t.Errorf("%d×%d, %d frames", g.Config.Width, g.Config.Height, len(g.Image))
	}
	canvas := image.NewRGBA(g.Image[0].Rect)
	for _, m := range g.Image {
		for y := m.Rect.Min.Y; y < m.Rect.Max.Y; y++ {
			for x := m.Rect.Min.X; x < m.Rect.Max.X; x++ {
				canvas.Set(x, y, m.At(x, y))
			}
		}
	}
	if at := canvas.RGBAAt(gap+1, gap+1); max(int(at.R)-int(good.R), int(good.R)-int(at.R), int(good.G)-int(at.G), int(at.G)-int(good.G)) > 12 {
		t.Errorf("the last frame's border is %v, want about %v", at, good)
	}

	each := filepath.Join(dir, "each")
	record(each, "expert", 3)
	files, _ := filepath.Glob(filepath.Join(each, "*-done.png"))
	if len(files) != 3 || !strings.HasPrefix(filepath.Base(files[0]), "0000-") {
		t.Fatal(files)
	}
	if b, err = os.ReadFile(files[0]); err != nil {
		t.Fatal(err)
	}
	m, err := png.Decode(bytes.NewReader(b))
	if err != nil || m.Bounds().Dx() != 2*aloneSide+3*border+2*gap || !bytes.Contains(b, []byte("acTL")) {
		t.Error(err, m.Bounds())
	}
	for _, bad := range []string{filepath.Join(dir, "a.mp4"), path + "/x", files[0] + "/", dir + "/two.gif/"} {
		if _, err := newVideo(bad); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}
