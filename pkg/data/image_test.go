package data

import (
	"bytes"
	"errors"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

func encodePNG(t testing.TB, m image.Image) []byte {
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func encodeJPEG(t testing.TB, m image.Image) []byte {
	var b bytes.Buffer
	if err := jpeg.Encode(&b, m, &jpeg.Options{Quality: 95}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// picture is a test image: a gradient with a block of one colour.
func testPicture(w, h int, c color.RGBA) *image.RGBA {
	m := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := 0; y < h; y++ {
		for x := 0; x < w; x++ {
			m.SetRGBA(x, y, color.RGBA{uint8(255 * x / w), uint8(255 * y / h), 90, 255})
			if x > w/3 && x < 2*w/3 && y > h/3 && y < 2*h/3 {
				m.SetRGBA(x, y, c)
			}
		}
	}
	return m
}

func TestDecodeImage(t *testing.T) {
	src := testPicture(20, 14, color.RGBA{200, 30, 60, 255})
	img, err := decodeImage(encodePNG(t, src))
	if err != nil || img.H != 14 || img.W != 20 {
		t.Fatal(img.H, img.W, err)
	}
	for i := 0; i < 20*14; i++ {
		if !bytes.Equal(img.RGB[3*i:3*i+3], src.Pix[4*i:4*i+3]) {
			t.Fatalf("pixel %d is %v, want %v", i, img.RGB[3*i:3*i+3], src.Pix[4*i:4*i+3])
		}
	}
	img, err = decodeImage(encodeJPEG(t, src))
	if err != nil || img.H != 14 || img.W != 20 {
		t.Fatal(img.H, img.W, err)
	}
	if d := int(img.RGB[0]) + int(img.RGB[1]); d > 30 {
		t.Errorf("JPEG: first pixel %v, expected nearly (0, 0, 90)", img.RGB[:3])
	}
	gray := image.NewGray(image.Rect(0, 0, 3, 2))
	gray.Pix[4] = 77
	for name, m := range map[string]image.Image{"gray": gray, "gray16": func() image.Image {
		m := image.NewGray16(image.Rect(0, 0, 3, 2))
		m.SetGray16(1, 1, color.Gray16{77<<8 | 200})
		return m
	}(), "palette": func() image.Image {
		m := image.NewPaletted(image.Rect(0, 0, 3, 2), color.Palette{color.RGBA{0, 0, 0, 255}, color.RGBA{77, 77, 77, 255}})
		m.SetColorIndex(1, 1, 1)
		return m
	}(), "transparent": func() image.Image {
		m := image.NewNRGBA(image.Rect(0, 0, 3, 2))
		m.SetNRGBA(1, 1, color.NRGBA{77, 77, 77, 255})
		m.SetNRGBA(0, 0, color.NRGBA{0, 0, 0, 200})
		return m
	}()} {
		img, err := decodeImage(encodePNG(t, m))
		if err != nil || !bytes.Equal(img.RGB[12:15], []byte{77, 77, 77}) || !bytes.Equal(img.RGB[:3], []byte{0, 0, 0}) {
			t.Errorf("%s: %v %v", name, img.RGB, err)
		}
	}
}

func TestBadImages(t *testing.T) {
	good := encodePNG(t, testPicture(8, 8, color.RGBA{1, 2, 3, 255}))
	jpg := encodeJPEG(t, testPicture(32, 32, color.RGBA{1, 2, 3, 255}))
	flipped := bytes.Clone(good)
	flipped[len(flipped)/2] ^= 0xff
	huge := bytes.Clone(good)
	huge[16], huge[17] = 0x7f, 0xff // width
	for name, c := range map[string]struct {
		b    []byte
		want string
	}{
		"empty":          {nil, "empty"},
		"text":           {[]byte("not a picture"), "neither PNG nor JPEG"},
		"truncated PNG":  {good[:len(good)/2], ""},
		"truncated JPEG": {jpg[:len(jpg)/2], ""},
		"header only":    {good[:10], ""},
		"flipped byte":   {flipped, ""},
		"huge":           {huge, ""},
	} {
		_, err := decodeImage(c.b)
		var ie *ImageError
		if !errors.As(err, &ie) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A header that lies about its size, with the right checksum, is stopped
	// before the pixels are allocated.
	big := encodePNG(t, image.NewPaletted(image.Rect(0, 0, 16384, 2100), color.Palette{color.Black, color.White}))
	if _, _, err := checkImage(big); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Error(err)
	}
}

// naive resizes in plain float64 straight from the definition.
func naive(pix []byte, h, w, c, ch, oh, ow, y, x int) float64 {
	weights := func(n, m, i int) (out []float64) {
		out = make([]float64, n)
		if m <= n {
			lo, hi := float64(i*n)/float64(m), float64((i+1)*n)/float64(m)
			for j := range out {
				out[j] = max(0, min(hi, float64(j+1))-max(lo, float64(j))) / (hi - lo)
			}
			return out
		}
		p := min(max((float64(i)+0.5)*float64(n)/float64(m)-0.5, 0), float64(n-1))
		j := int(p)
		out[j] = 1 - (p - float64(j))
		if j+1 < n {
			out[j+1] = p - float64(j)
		}
		return out
	}
	wy, wx := weights(h, oh, y), weights(w, ow, x)
	s := 0.0
	for j := range wy {
		for i := range wx {
			s += wy[j] * wx[i] * float64(pix[(j*w+i)*c+ch])
		}
	}
	return s / 255
}

func TestResizeAgainstNaive(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	mean, std := [3]float32{0.1, 0.2, 0.3}, [3]float32{0.5, 1, 2}
	for _, s := range [][4]int{{7, 5, 7, 5}, {8, 8, 4, 4}, {9, 7, 4, 3}, {3, 4, 9, 11}, {1, 1, 5, 5}, {5, 5, 1, 1}, {6, 10, 12, 5}, {2, 3, 3, 2}, {64, 64, 224, 224}, {17, 23, 16, 24}} {
		h, w, oh, ow := s[0], s[1], s[2], s[3]
		img := Image{RGB: make([]byte, 3*h*w), H: h, W: w}
		for i := range img.RGB {
			img.RGB[i] = byte(r.Uint32())
		}
		z, err := newResizer(3, oh, ow, mean, std)
		if err != nil {
			t.Fatal(err)
		}
		dst := make([]float32, 3*oh*ow)
		for again := 0; again < 2; again++ { // the second time with used scratch space
			if err := z.Apply(dst, img); err != nil {
				t.Fatal(err)
			}
		}
		for ch := 0; ch < 3; ch++ {
			for k := 0; k < 40; k++ {
				y, x := r.IntN(oh), r.IntN(ow)
				want := (naive(img.RGB, h, w, 3, ch, oh, ow, y, x) - float64(mean[ch])) / float64(std[ch])
				if got := float64(dst[(ch*oh+y)*ow+x]); math.Abs(got-want) > 1e-6 {
					t.Fatalf("%v channel %d (%d, %d): %v, want %v", s, ch, y, x, got, want)
				}
			}
		}
	}
}

// A picture that fits takes a short way; it must give the bits of the long one.
func TestResizeIdentityIsExact(t *testing.T) {
	img := Image{RGB: make([]byte, 3*256), H: 16, W: 16}
	for i := range img.RGB {
		img.RGB[i] = byte(i / 3)
	}
	z, _ := newResizer(3, 16, 16, imageMean, imageStd)
	dst := make([]float32, 3*256)
	if err := z.Apply(dst, img); err != nil {
		t.Fatal(err)
	}
	for i, v := range dst {
		if want := (share(uint64(i%256)*16*16, 16*16) - imageMean[0]) / imageStd[0]; v != want {
			t.Fatalf("value %d is %v, the long way gives %v", i, v, want)
		}
	}
	if dst[0] != -1 || dst[255] != 1 {
		t.Errorf("black is %v, white is %v", dst[0], dst[255])
	}
}

func TestResizeGrayAndErrors(t *testing.T) {
	z, err := newResizer(1, 1, 1, [3]float32{}, [3]float32{1, 1, 1})
	if err != nil {
		t.Fatal(err)
	}
	dst := make([]float32, 1)
	if err := z.Apply(dst, Image{RGB: []byte{255, 0, 0}, H: 1, W: 1}); err != nil || dst[0] != float32(76.0/255) {
		t.Errorf("red is %v grey, %v", dst[0]*255, err)
	}
	if err := z.Apply(dst, Image{RGB: []byte{1, 2}, H: 1, W: 1}); err == nil {
		t.Error("a picture with too few bytes was accepted")
	}
	if err := z.Apply(nil, Image{RGB: []byte{1, 2, 3}, H: 1, W: 1}); err == nil {
		t.Error("a destination of the wrong size was accepted")
	}
	for _, s := range [][3]int{{2, 4, 4}, {3, 0, 4}, {3, 4, 1 << 20}} {
		if _, err := newResizer(s[0], s[1], s[2], imageMean, imageStd); err == nil {
			t.Errorf("%v was accepted", s)
		}
	}
}
