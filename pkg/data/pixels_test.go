package data

import (
	"io"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/internal/safetensors"
)

// pillowCase is a picture and the pixels that Pillow 13.0 with libjpeg-turbo 3.2
// gives for it; see tools/make_pictures.py.
type pillowCase struct {
	name      string
	file, rgb []byte
	h, w      int
}

func pillowCases(t testing.TB) (out []pillowCase) {
	t.Helper()
	f, err := safetensors.Open("testdata/pictures/pillow.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	read := func(name string) []byte {
		r, err := f.Bytes(name)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for _, n := range f.Names() {
		if name, ok := strings.CutSuffix(n, "/file"); ok {
			rgb, _ := f.Tensor(name + "/rgb")
			out = append(out, pillowCase{name, read(n), read(name + "/rgb"), rgb.Shape[0], rgb.Shape[1]})
		}
	}
	if len(out) < 58 {
		t.Fatalf("%d pictures", len(out))
	}
	return out
}

// apart is how far pixels are from Pillow's, in units of 0..255.
type apart struct {
	mean float64 // of all channels
	max  [3]int  // by channel
}

func compare(got, want []byte) (a apart) {
	for i, g := range got {
		d := int(g) - int(want[i])
		d = max(d, -d)
		a.mean += float64(d) / float64(len(got))
		a.max[i%3] = max(a.max[i%3], d)
	}
	return a
}

// TestPixelsOfPillow holds decodeImage to the pixels of Pillow, which it gives
// exactly but for 16-bit greyscale. -v prints the differences.
func TestPixelsOfPillow(t *testing.T) {
	for _, c := range pillowCases(t) {
		img, err := decodeImage(c.file)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if c.w != img.W || c.h != img.H {
			t.Errorf("%s: %d×%d, Pillow's %d×%d", c.name, img.W, img.H, c.w, c.h)
			continue
		}
		if c.name == "depth16" { // Pillow cuts at 255; TensorFlow and OpenCV take the upper byte, as we do
			n := float64(c.w*c.h - 1)
			for i, v := range img.RGB {
				if want := byte(int(300+3700*float64(i/3)/n) >> 8); v != want || c.rgb[i] != 255 {
					t.Fatalf("depth16: value %d is %d, want %d; Pillow's is %d", i, v, want, c.rgb[i])
				}
			}
			continue
		}
		d := compare(img.RGB, c.rgb)
		t.Logf("%-22s mean %.3f, most R %d G %d B %d", c.name, d.mean, d.max[0], d.max[1], d.max[2])
		if d.mean > 0 {
			t.Errorf("%s: %+v from Pillow's pixels", c.name, d)
		}
	}
}

// BenchmarkDecodeImage decodes a camera's picture of 4:2:0 and a PNG.
func BenchmarkDecodeImage(b *testing.B) {
	for _, c := range pillowCases(b) {
		if c.name == "video-001.q50.420" || c.name == "ycc444" || c.name == "rgba" {
			b.Run(c.name, func(b *testing.B) {
				b.SetBytes(int64(3 * c.w * c.h))
				for b.Loop() {
					if _, err := decodeImage(c.file); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
