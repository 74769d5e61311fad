package film

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"image"
	"image/color"
	"image/gif"
	"image/png"
	"os"
	"path/filepath"
	"testing"
)

// moving is a square that moves over stripes, in few colours; many: in more than a
// palette has.
func moving(many bool) Film {
	return Film{Frames: 5, Hold: func(k int) int { return 10 + k }, Draw: func(k int) *image.RGBA {
		m := image.NewRGBA(image.Rect(0, 0, 60, 40))
		for y := range 40 {
			for x := range 60 {
				c := color.RGBA{uint8(x / 10 * 40), 30, 200, 255}
				if many {
					c = color.RGBA{uint8(4 * x), uint8(6 * y), uint8(3*x + y), 255}
				}
				if x >= 7*k && x < 7*k+6 && y > 10 && y < 20 {
					c = color.RGBA{255, 255, 0, 255}
				}
				m.SetRGBA(x, y, c)
			}
		}
		return m
	}}
}

// played are the whole frames of a film, as a viewer of the file composes them.
func played(t *testing.T, path string) (frames []*image.RGBA, holds []int) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	canvas := image.NewRGBA(image.Rect(0, 0, 60, 40))
	put := func(m image.Image, at image.Point, hold int) {
		r := m.Bounds()
		for y := r.Min.Y; y < r.Max.Y; y++ {
			for x := r.Min.X; x < r.Max.X; x++ {
				canvas.Set(at.X+x-r.Min.X, at.Y+y-r.Min.Y, m.At(x, y))
			}
		}
		c := *canvas
		c.Pix = bytes.Clone(canvas.Pix)
		frames, holds = append(frames, &c), append(holds, hold)
	}
	if filepath.Ext(path) == ".gif" {
		g, err := gif.DecodeAll(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		for i, m := range g.Image {
			put(m, m.Rect.Min, g.Delay[i])
		}
		return frames, holds
	}
	// A frame of an animated PNG is read as a PNG of its own, of the chunks that it shares
	// and its pixels.
	var header, palette, control []byte
	sequence, promised := uint32(0), uint32(0)
	for rest := b[8:]; len(rest) > 0; {
		n := binary.BigEndian.Uint32(rest)
		kind, data, sum := string(rest[4:8]), rest[8:8+n], binary.BigEndian.Uint32(rest[8+n:])
		if crc32.ChecksumIEEE(rest[4:8+n]) != sum {
			t.Fatalf("chunk %s has a wrong checksum", kind)
		}
		rest = rest[12+n:]
		next := func() {
			if got := binary.BigEndian.Uint32(data); got != sequence {
				t.Fatalf("%s has the number %d, want %d", kind, got, sequence)
			}
			sequence++
		}
		switch kind {
		case "IHDR":
			header = data
		case "acTL":
			promised = binary.BigEndian.Uint32(data)
		case "PLTE":
			palette = data
		case "fcTL":
			next()
			control = data
		case "fdAT", "IDAT":
			if kind == "fdAT" {
				next()
				data = data[4:]
			}
			var one bytes.Buffer
			one.WriteString(signature)
			chunk(&one, "IHDR", append(bytes.Clone(control[4:12]), header[8:]...))
			chunk(&one, "PLTE", palette)
			chunk(&one, "IDAT", data)
			chunk(&one, "IEND", nil)
			m, err := png.Decode(&one)
			if err != nil {
				t.Fatal(err)
			}
			if den := binary.BigEndian.Uint16(control[22:]); den != 100 {
				t.Fatalf("a frame is shown in parts of 1/%d", den)
			}
			put(m, image.Pt(int(binary.BigEndian.Uint32(control[12:])), int(binary.BigEndian.Uint32(control[16:]))), int(binary.BigEndian.Uint16(control[20:])))
		}
	}
	if int(promised) != len(frames) {
		t.Fatalf("%d frames are promised, %d are there", promised, len(frames))
	}
	return frames, holds
}

// Both forms, read again, show what was drawn, for as long: exactly where a palette has
// all colours, else nearly; and what does not change is not written again.
func TestFilm(t *testing.T) {
	dir := t.TempDir()
	for _, many := range []bool{false, true} {
		f := moving(many)
		for _, name := range []string{"a.gif", "a.png"} {
			path := filepath.Join(dir, name)
			if err := Write(path, f); err != nil {
				t.Fatal(err)
			}
			frames, holds := played(t, path)
			if len(frames) != f.Frames {
				t.Fatalf("%s: %d frames", name, len(frames))
			}
			for k, m := range frames {
				want, off := f.Draw(k), 0
				for i, v := range want.Pix {
					off = max(off, int(v)-int(m.Pix[i]), int(m.Pix[i])-int(v))
				}
				if holds[k] != 10+k || off > 0 && !many || off > 32 {
					t.Errorf("%s, many %v, frame %d: shown for %d, off by up to %d", name, many, k, holds[k], off)
				}
			}
		}
	}
	still := moving(false)
	still.Draw = func(int) *image.RGBA { return moving(false).Draw(0) }
	still.Frames = 50
	size := func(f Film) int64 {
		path := filepath.Join(dir, "b.png")
		if err := Write(path, f); err != nil {
			t.Fatal(err)
		}
		s, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return s.Size()
	}
	long := size(still)
	still.Frames = 1
	if per := (long - size(still)) / 49; per > 120 {
		t.Errorf("a frame that changes nothing has %d bytes", per)
	}
	if Known("a.mp4") || !Known("a.PNG") || Write(filepath.Join(dir, "a.mp4"), still) == nil {
		t.Error("a form that is not known is written")
	}
}

// Lines are no wider than there is room, and hold all words in order; writing leaves ink.
func TestPen(t *testing.T) {
	p, err := NewPen(13)
	if err != nil {
		t.Fatal(err)
	}
	if l := p.Lines("push the red cube to the left of the blue ball", 120); len(l) < 2 || l[0] == "" {
		t.Error(l)
	}
	if l := p.Lines("a extraordinarilylongword b", 20); len(l) != 3 {
		t.Error(l)
	}
	m := image.NewRGBA(image.Rect(0, 0, 100, p.Height()))
	p.Write(m, image.Point{}, color.White, "push")
	ink := 0
	for i := 3; i < len(m.Pix); i += 4 {
		ink += int(m.Pix[i])
	}
	if ink < 255*40 || ink > 255*500 {
		t.Errorf("the word has ink for %d pixels", ink/255)
	}
}
