package frames

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"runtime"
	"testing"
)

// swscaleSums are of what ffmpeg 5.1 makes of noise on amd64, as PyAV and torchcodec
// do (-sws_flags bitexact): 32×16 pixels of yuv420p, by colour space and range. Two
// are made anew where there is an ffmpeg.
var swscaleSums = map[string]string{
	"smpte170m tv": "299271eecc782e66",
	"smpte170m pc": "0223fdca9f77ed71",
	"bt709 tv":     "daf351be608665af",
	"bt709 pc":     "3830b089ed940743",
	"smpte240m tv": "decad2e2d59fbe05",
	"smpte240m pc": "416d3cecdbdf6a87",
	"bt2020nc tv":  "e5d43b21da2cc7bb",
	"bt2020nc pc":  "6a5f7198a4fda16d",
	"fcc tv":       "52d128d464a74511",
	"fcc pc":       "d43b851167681afc",
}

// noise is a raw frame of yuv420p.
func noise(h, w int) []byte {
	rng := rand.New(rand.NewPCG(7, 7))
	b := make([]byte, layouts["yuv420p"].size(h, w))
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// Conversion is ffmpeg's own, to the byte, for every matrix and range.
func TestYUVIsSwscales(t *testing.T) {
	const h, w = 16, 32
	f, findErr := Find()
	for _, space := range []string{"smpte170m", "bt709", "smpte240m", "bt2020nc", "fcc"} {
		for _, r := range []string{"tv", "pc"} {
			c, err := newYUV("yuv420p", space, r == "pc")
			if err != nil {
				t.Fatal(err)
			}
			got := make([]byte, 3*h*w)
			c.convert(got, noise(h, w), h, w)
			name := space + " " + r
			if sum := fmt.Sprintf("%x", sha256.Sum256(got))[:16]; sum != swscaleSums[name] {
				t.Errorf("%s: %s, want %s", name, sum, swscaleSums[name])
			}
			if findErr != nil || runtime.GOARCH != "amd64" || name != "smpte170m tv" && name != "bt709 pc" {
				continue
			}
			cmd := exec.Command(f.Path, "-v", "error", "-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", fmt.Sprintf("%dx%d", w, h), "-i", "pipe:0",
				"-vf", fmt.Sprintf("setparams=range=%s:colorspace=%s", r, space), "-sws_flags", "bitexact", "-pix_fmt", "rgb24", "-f", "rawvideo", "pipe:1")
			cmd.Stdin = bytes.NewReader(noise(h, w))
			theirs, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(theirs, got) {
				t.Errorf("%s: ffmpeg %s gives other bytes: SHA-256 %.16x", name, f.Version, sha256.Sum256(theirs))
			}
		}
	}
}

// Every layout is the formula in reals, to 3 of 255, with chroma repeated; also where
// sides are odd.
func TestYUVLayouts(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for format, l := range layouts {
		for _, size := range [][2]int{{4, 6}, {5, 7}, {1, 1}, {2, 3}} {
			h, w := size[0], size[1]
			raw := make([]byte, l.size(h, w))
			for i := range raw {
				raw[i] = byte(40 + rng.IntN(160))
			}
			c, err := newYUV(format, "unknown", false)
			if err != nil {
				t.Fatal(err)
			}
			got := make([]byte, 3*h*w)
			c.convert(got, raw, h, w)
			for y := range h {
				for x := range w {
					var want [3]float64
					if l.rgb {
						for k := range want {
							want[k] = float64(raw[3*(y*w+x)+k])
						}
					} else {
						wide := (w + l.across - 1) / l.across
						at := y/l.down*wide + x/l.across
						u := float64(raw[h*w+at]) - 128
						v := float64(raw[(h*w+len(raw))/2+at]) - 128
						Y, scale := (float64(raw[y*w+x])-16)*255/219, 255/224.
						if l.full {
							Y, scale = float64(raw[y*w+x]), 1
						}
						want = [3]float64{Y + 1.402*scale*v, Y - (0.344136*u+0.714136*v)*scale, Y + 1.772*scale*u}
					}
					for k, v := range want {
						if d := float64(got[3*(y*w+x)+k]) - min(max(v, 0), 255); d > 3 || d < -3.5 {
							t.Fatalf("%s %d×%d, pixel %d %d, channel %d: %d, want %.1f", format, w, h, x, y, k, got[3*(y*w+x)+k], v)
						}
					}
				}
			}
		}
	}
}
