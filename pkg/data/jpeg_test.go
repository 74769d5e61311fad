package data

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"image/color"
	"image/png"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/pkg/data/internal/tfrecord"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
)

// pillowFile is the file of a picture of tools/make_pictures.py.
func pillowFile(t testing.TB, name string) []byte {
	t.Helper()
	for _, c := range pillowCases(t) {
		if c.name == name {
			return bytes.Clone(c.file)
		}
	}
	t.Fatalf("there is no picture %s", name)
	return nil
}

// at is where the first segment with the marker stands.
func at(t *testing.T, file []byte, marker byte) int {
	t.Helper()
	i := bytes.Index(file, []byte{0xff, marker})
	if i < 0 {
		t.Fatalf("no marker %02x", marker)
	}
	return i
}

// without takes the segments with the marker out.
func without(t *testing.T, file []byte, marker byte) []byte {
	for bytes.Contains(file, []byte{0xff, marker}) {
		i := at(t, file, marker)
		n := 2 + int(binary.BigEndian.Uint16(file[i+2:]))
		file = append(file[:i:i], file[i+n:]...)
	}
	return file
}

// Whatever the decoder does not read is refused by a look at the header, in
// words that name it: each case changes a JPEG that is read.
func TestJPEGsThatAreRefused(t *testing.T) {
	frame := func(change func(sof []byte)) func([]byte) []byte {
		return func(b []byte) []byte { change(b[at(t, b, 0xc0):]); return b }
	}
	kind := func(marker byte) func([]byte) []byte { return frame(func(s []byte) { s[1] = marker }) }
	// A frame header is ff c0, length 2, precision 1, height 2, width 2, count 1, then number, factors, table of each.
	sampling := func(hv ...byte) func([]byte) []byte {
		return frame(func(s []byte) {
			for i, x := range hv {
				s[11+3*i] = x
			}
		})
	}
	for name, c := range map[string]struct {
		from   string
		change func([]byte) []byte
		want   string
	}{
		"12 bits":                 {"ycc420", frame(func(s []byte) { s[1], s[4] = 0xc1, 12 }), "a 12-bit JPEG; convert it to 8 bits: magick in.jpg -depth 8 out.png"},
		"16 bits":                 {"ycc420", frame(func(s []byte) { s[4] = 16 }), "a 16-bit JPEG"},
		"lossless":                {"ycc420", kind(0xc3), "a lossless JPEG, which is not read; convert it: magick in.jpg -depth 8 out.png"},
		"hierarchical":            {"ycc420", kind(0xc5), "a hierarchical JPEG"},
		"hierarchical, lossless":  {"ycc420", kind(0xc7), "a hierarchical, lossless JPEG"},
		"arithmetic":              {"ycc420", kind(0xc9), "a JPEG with arithmetic coding, which is not read; convert it: magick in.jpg -depth 8 out.png"},
		"arithmetic, progressive": {"ycc420", kind(0xca), "arithmetic coding"},
		"arithmetic, lossless":    {"ycc420", kind(0xcb), "a lossless JPEG with arithmetic coding"},
		"arithmetic, hierarchy":   {"ycc420", kind(0xcd), "a hierarchical JPEG with arithmetic coding"},
		"arithmetic conditioning": {"ycc420", func(b []byte) []byte { return append(b[:2:2], append([]byte("\xff\xcc\x00\x04\x00\x00"), b[2:]...)...) }, "arithmetic coding"},
		"JPEG-LS":                 {"ycc420", kind(0xf7), "JPEG-LS"},
		"4:1:0 upright":           {"ycc420", sampling(0x24, 0x11, 0x11), "the chroma subsampling 2×4, 1×1, 1×1"},
		"3 to 1":                  {"ycc420", sampling(0x31, 0x11, 0x11), "3×1, 1×1, 1×1"},
		"unequal chroma":          {"ycc420", sampling(0x22, 0x11, 0x21), "2×2, 1×1, 2×1"},
		"more chroma than luma":   {"ycc420", sampling(0x11, 0x21, 0x21), "1×1, 2×1, 2×1"},
		"12 blocks":               {"ycc420", sampling(0x42, 0x21, 0x21), "12 blocks"},
		"CMYK, K alone whole":     {"cmyk_halved", sampling(0x22, 0x11, 0x11, 0x11), "2×2, 1×1, 1×1, 1×1"},
		"CMYK, halved in width":   {"cmyk_halved", sampling(0x21, 0x11, 0x11, 0x21), "2×1, 1×1, 1×1, 2×1"},
		"no factor":               {"ycc420", sampling(0x02, 0x11, 0x11), "sampling factor"},
		"two components": {"ycc420", frame(func(s []byte) {
			copy(s[2:], []byte{0, 14, 8, 0, 29, 0, 37, 2, 1, 0x11, 0, 2, 0x11, 0, 0xff, 0xfe, 0, 2})
		}), "a JPEG of 2 components"},
		"no height": {"ycc420", frame(func(s []byte) { s[5], s[6] = 0, 0 }), "DNL"},
		"two frames": {"ycc420", func(b []byte) []byte {
			i := at(t, b, 0xc0)
			return append(b[:i:i], append(bytes.Clone(b[i:i+19]), b[i:]...)...)
		}, "two frame headers"},
		"no quantization":  {"ycc420", func(b []byte) []byte { return without(t, b, 0xdb) }, "quantization table 0 is missing"},
		"no frame":         {"ycc420", func(b []byte) []byte { return without(t, b, 0xc0) }, "a scan comes before the frame header"},
		"no scan":          {"ycc420", func(b []byte) []byte { return append(b[:at(t, b, 0xda):at(t, b, 0xda)], 0xff, 0xd9) }, "its end marker comes before any scan"},
		"no end":           {"ycc420", func(b []byte) []byte { return b[:len(b)-2] }, "a JPEG cut short: no end marker in its "},
		"Huffman table 3":  {"ycc420", func(b []byte) []byte { b[at(t, b, 0xda)+6] = 0x33; return b }, "Huffman table 3 is missing"},
		"unknown marker":   {"ycc420", func(b []byte) []byte { b[at(t, b, 0xdb)+1] = 0x02; return b }, "the unknown marker 02 at byte"},
		"number twice":     {"ycc420", frame(func(s []byte) { s[13] = s[10] }), "two components have the number 1"},
		"stranger in scan": {"ycc420", func(b []byte) []byte { b[at(t, b, 0xda)+5] = 9; return b }, "a scan has the component 9"},
		"too large":        {"ycc420", frame(func(s []byte) { s[5], s[6] = 0xff, 0xff }), "37×65535 pixels"},
	} {
		b := c.change(pillowFile(t, c.from))
		_, _, err := checkImage(b)
		var ie *ImageError
		if !errors.As(err, &ie) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if _, err := decodeImage(b); err == nil {
			t.Errorf("%s: it was decoded", name)
		}
	}
}

// Damage inside the coded pixels is found when they are decoded, and padding
// before a restart marker, which cameras leave, is none.
func TestDamagedPixels(t *testing.T) {
	end := func(b []byte, n int) []byte { return append(b[:len(b)-n:len(b)-n], 0xff, 0xd9) }
	for name, c := range map[string]struct {
		from   string
		change func([]byte) []byte
		want   string
	}{
		"pixels end early":              {"ycc420", func(b []byte) []byte { return end(b, 60) }, "a picture of 37×29 does not decode: the coded pixels end too early"},
		"progressive, pixels end early": {"progressive420", func(b []byte) []byte { return end(b, 20) }, "the coded pixels end too early"},
		"scans missing": {"progressive420", func(b []byte) []byte {
			i := at(t, b, 0xda) // the first scan, with the header of one component in place of its own
			return append(append(b[:i:i], "\xff\xda\x00\x08\x01\x01\x00\x00\x00\x01"...), append(bytes.Clone(b[i+14:i+14+bytes.Index(b[i+14:], []byte{0xff, 0xc4})]), 0xff, 0xd9)...)
		}, "no scan has the component 2"},
		"restart marker missing": {"restart420", func(b []byte) []byte {
			i := at(t, b, 0xd1)
			return append(b[:i:i], b[i+2:]...)
		}, "the restart marker d1 is missing at byte"},
		"no such code":      {"ycc420", func(b []byte) []byte { return fill(t, b, "\xff\x00") }, "the coded pixels have a code that is in no Huffman table"},
		"many coefficients": {"grey", func(b []byte) []byte { return fill(t, b, "\x0f\xff\x00\x2f") }, "does not decode"},
	} {
		b := c.change(pillowFile(t, c.from))
		if _, _, err := checkImage(b); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		_, err := decodeImage(b)
		var ie *ImageError
		if !errors.As(err, &ie) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	b := pillowFile(t, "restart420")
	want, err := decodeImage(b)
	if err != nil {
		t.Fatal(err)
	}
	i := at(t, b, 0xd0)
	got, err := decodeImage(append(append(b[:i:i], 0x3f, 0xff, 0x00), b[i:]...))
	if err != nil || !bytes.Equal(got.RGB, want.RGB) {
		t.Errorf("bytes before a restart marker: %v", err)
	}
}

// fill repeats s over all coded pixels of a JPEG of one scan.
func fill(t *testing.T, file []byte, s string) []byte {
	i := at(t, file, 0xda)
	i += 2 + int(binary.BigEndian.Uint16(file[i+2:]))
	n := len(file) - i - 2
	return append(append(file[:i:i], strings.Repeat(s, n/len(s))...), 0xff, 0xd9)
}

// A picture that was cut anywhere is found without decoding it.
func TestCutPicturesAreFoundAtOnce(t *testing.T) {
	for _, c := range pillowCases(t) {
		for n := range len(c.file) {
			if _, _, err := checkImage(c.file[:n]); err == nil {
				t.Fatalf("%s: the first %d of %d bytes pass", c.name, n, len(c.file))
			}
		}
		if _, _, err := checkImage(append(bytes.Clone(c.file), "what cameras leave behind"...)); err != nil {
			t.Errorf("%s with bytes behind its end: %v", c.name, err)
		}
	}
	p := pillowFile(t, "rgb16")
	for n, want := range map[int]string{len(p) - 40: `a PNG cut short: its chunk "IDAT" at byte 33 has`, len(p) - 5: "a PNG cut short: its"} {
		if _, _, err := checkImage(p[:n]); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%d bytes: %v, want %q", n, err, want)
		}
	}
}

// Other formats are named whatever the file is called, in every source's words.
func TestOtherFormatsAreNamed(t *testing.T) {
	pad := strings.Repeat("\x00", 40)
	for name, head := range map[string]string{
		"a WebP picture": "RIFF\x24\x00\x00\x00WEBPVP8 " + pad, "a BMP picture": "BM\x8a\x00\x00\x00\x00\x00\x00\x00\x36\x00\x00\x00\x28\x00\x00\x00" + pad, "as a BMP picture does": "BM" + strings.Repeat(" ", 60),
		"a GIF picture": "GIF89a" + pad, "a TIFF picture": "II*\x00" + pad, "an AVIF picture": "\x00\x00\x00\x20ftypavif" + pad, "a HEIC picture": "\x00\x00\x00\x20ftypheic" + pad, "a JPEG XL picture": "\xff\x0a" + pad,
	} {
		dir := t.TempDir()
		write(t, dir, "a.png", []byte(head))
		write(t, dir, ManifestName, []byte(`{"image": "a.png", "instruction": "go", "action": [1, 2, 3, 4, 5, 6, 7]}`))
		_, err := Open(of(job.Data{Kind: "folder", Path: dir}), vlaNeeds, 1, "", nil)
		for _, want := range []string{":1: ", `image "a.png"`, "neither PNG nor JPEG", name, "save it as PNG or JPEG"} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %q", name, err, want)
			}
		}
	}
}

func TestFindingsOfPictures(t *testing.T) {
	dir := t.TempDir()
	var m bytes.Buffer
	for i, b := range [][]byte{pillowFile(t, "ycc420"), pillowFile(t, "exif6"), pillowFile(t, "exif3"), pillowFile(t, "depth16"), pillowFile(t, "rgb16"), encodePNG(t, testPicture(8, 8, color.RGBA{1, 2, 3, 255}))} {
		write(t, dir, fmt.Sprint(i), b)
		fmt.Fprintf(&m, `{"image": "%d", "instruction": "go", "action": [%d, 0, 0, 0, 0, 0, 0]}`+"\n", i, i)
	}
	write(t, dir, ManifestName, m.Bytes())
	d, err := Open(of(job.Data{Kind: "folder", Path: dir}), vlaNeeds, 1, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for kind, want := range map[string]string{
		"exif_orientation": `2 of 6 pictures have an EXIF orientation that is not upright (the first is 6, of "1"); they are used as they are stored, as Pillow and TensorFlow use them (OpenCV turns them); "magick mogrify -auto-orient" turns them for good`,
		"deep_greyscale":   `1 of 6 pictures are 16-bit greyscale, of which the upper 8 bits are used: the first, "3", has 300 to 4000, which become 1 to 15; if they are depth, scale the range that counts to 0 to 255 (8 bits) or 0 to 65535 before training`,
	} {
		if got := findingsOf(d, kind); len(got) != 1 || got[0] != want {
			t.Errorf("%s: %q, want %q", kind, got, want)
		}
	}
	if d, err := Open(of(job.Data{Kind: "folder", Path: wordsFolder(t)}), models.Spec{pictures(3, 8, 8), acts(0)}, 1, "", nil); err != nil || len(findingsOf(d, "exif_orientation"))+len(findingsOf(d, "deep_greyscale")) > 0 {
		t.Error(err, d.Findings())
	}
}

// The same of a TFRecord, where the place is an episode's step.
func TestFindingsOfRecordedPictures(t *testing.T) {
	dir := copyDir(t, tinyRLDS(t))
	var b tfrecord.Builder
	b.Ints("steps/is_first", 1, 0)
	b.Floats("steps/action", make([]float32, 14)...)
	b.Strings("steps/language_instruction", []byte("go"), []byte("go"))
	b.Strings("steps/observation/image_0", pillowFile(t, "exif6"), pillowFile(t, "depth16"))
	write(t, dir, "tiny-train.tfrecord-00000-of-00002", tfrecord.Append(tfrecord.Append(nil, tinyEpisode(t, 0, 2)), b.Record()))
	d, err := Open(of(job.Data{Kind: "rlds", Path: dir}, "Camera", "image_0"), vlaNeeds, 1, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for kind, want := range map[string]string{
		"exif_orientation": "1 of 14 pictures have an EXIF orientation that is not upright (the first is 6, of tiny-train.tfrecord-00000-of-00002 episode 1 step 0)",
		"deep_greyscale":   "1 of 14 pictures are 16-bit greyscale, of which the upper 8 bits are used: the first, tiny-train.tfrecord-00000-of-00002 episode 1 step 1, has 300 to 4000",
	} {
		if got := findingsOf(d, kind); len(got) != 1 || !strings.HasPrefix(got[0], want) {
			t.Errorf("%s: %q, want %q", kind, got, want)
		}
	}
}

// FuzzDecodeImage: nothing panics; sizes are as the head says; and what the head
// passes is not refused later for its kind, only for damage.
func FuzzDecodeImage(f *testing.F) {
	for _, c := range pillowCases(f) {
		if len(c.file) < 2500 {
			f.Add(c.file)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, w, err := checkImage(b)
		if err != nil || h*w > 1<<14 {
			return
		}
		img, err := decodeImage(b)
		if err == nil && (len(img.RGB) != 3*h*w || img.H != h || img.W != w) {
			t.Fatal("the size is wrong")
		}
		var p png.UnsupportedError
		late := err != nil && strings.Contains(err.Error(), "not read") && !strings.Contains(err.Error(), "blocks in a unit") // a later scan's
		if late || errors.As(err, &p) {
			t.Fatalf("found too late: %v", err)
		}
	})
}
