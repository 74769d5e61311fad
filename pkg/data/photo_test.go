package data

import (
	"image/color"
	"testing"

	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
)

// A picture goes to a model and comes back the same, in colour and in grey; values
// that are no picture's are stretched to one.
func TestPhoto(t *testing.T) {
	meta := Meta{Spec: models.Spec{pictures(3, 2, 2)}, ImageMean: imageMean, ImageStd: imageStd}
	c, err := NewCollator(meta)
	if err != nil {
		t.Fatal(err)
	}
	rgb := []byte{0, 10, 255, 7, 8, 9, 200, 100, 50, 255, 255, 254}
	b := models.NewBatch(1, meta.Spec)
	if err := c.Collate([]Sample{{Values: []Value{{Image: Image{RGB: rgb, H: 2, W: 2}}}}}, b); err != nil {
		t.Fatal(err)
	}
	m := Photo(meta, meta.Spec[0].Shape, b.Floats(models.Images))
	for i := range 4 {
		if got, want := m.At(i%2, i/2), (color.RGBA{rgb[3*i], rgb[3*i+1], rgb[3*i+2], 255}); got != want {
			t.Errorf("pixel %d is %v, want %v", i, got, want)
		}
	}
	for _, c := range []struct {
		meta  Meta
		x     []float32
		first uint8
		last  uint8
	}{
		{Meta{}, []float32{-1, 1}, 0, 255},                                        // nobody has said: -1 to 1
		{Meta{ImageStd: [3]float32{1, 1, 1}}, []float32{0, 1}, 0, 255},            // as they are
		{Meta{ImageStd: [3]float32{1, 1, 1}}, []float32{0.2, 0.4}, 51, 102},       // and never stretched where they are a picture
		{Meta{ImageStd: [3]float32{1, 1, 1}}, []float32{0, 255}, 0, 255},          // bytes as floats
		{Meta{ImageStd: [3]float32{1, 1, 1}}, []float32{-2, 2, 0, 1}[:2], 0, 255}, // normalised by somebody
	} {
		m := Photo(c.meta, []int{1, 1, 2}, c.x)
		if a, b := m.At(0, 0), m.At(1, 0); a != (color.RGBA{c.first, c.first, c.first, 255}) || b != (color.RGBA{c.last, c.last, c.last, 255}) {
			t.Errorf("%v becomes %v and %v", c.x, a, b)
		}
	}
}

// Samples to look at are of different episodes, the first of them the first frame of
// its own, and each is where it says; none is held out or left out.
func TestGlimpses(t *testing.T) {
	for name, c := range map[string]job.Data{
		"rlds":   of(job.Data{Kind: "rlds", Path: tinyRLDS(t), Holdout: job.Holdout{Episodes: []int{1}}}, "Camera", "image_0"),
		"folder": of(job.Data{Kind: "folder", Path: folderOf(t, 9)}, "FileKeys", FileKeys{Skip: []int{0, 3}}),
	} {
		d, err := Open(c, folderNeeds, 1, ".", nil)
		if err != nil {
			t.Fatal(name, err)
		}
		defer d.Close()
		seen := map[int64]bool{}
		l := d.Glimpses(3)
		if len(l) != 3 || name == "rlds" && (l[0].Frame != 0 || l[2].Frame == 0) {
			t.Errorf("%s: %+v", name, l)
		}
		for _, g := range l {
			x, err := d.Train().Sample(g.Index)
			if err != nil {
				t.Fatal(err)
			}
			at := d.(*Set).about.place(g.ID)
			if seen[g.Episode] || x.ID != uint64(g.ID) || *at.Episode != g.Episode || at.Frame != nil && *at.Frame != g.Frame || name == "rlds" && g.Episode == 1 {
				t.Errorf("%s: %+v is %+v", name, g, at)
			}
			seen[g.Episode] = true
		}
		if l := d.Glimpses(1000); len(l) < 3 || len(l) > 1000 || l[len(l)-1].Episode == l[0].Episode {
			t.Errorf("%s: of many: %d", name, len(l))
		}
	}
}
