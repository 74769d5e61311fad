package data

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"io"
	"strings"
)

// jpegHead is what stands before a JPEG's first scan: enough to refuse, when
// the data is opened, whatever the decoder would refuse in the middle of a
// training, and to know how the decoded planes become RGB.
type jpegHead struct {
	h, w        int
	frame       byte // 0xc0 baseline, 0xc1 extended, 0xc2 progressive
	comp        []jpegComponent
	jfif        bool
	adobe       int // colour transform of the Adobe marker, -1 without one
	orientation int // EXIF: 1 upright, 0 not said
	scan        int // where the first scan's marker stands
	noHuffman   bool
}

type jpegComponent struct {
	id, h, v, quant byte // sampling factors h, v: samples in a unit of the picture
}

// The marker bytes that are looked at.
const (
	mSOF0, mSOF2, mDHT = 0xc0, 0xc2, 0xc4
	mRST0, mRST7       = 0xd0, 0xd7
	mEOI, mSOS, mDQT   = 0xd9, 0xda, 0xdb
	mAPP0, mAPP1       = 0xe0, 0xe1
	mAPP14, mAPP15     = 0xee, 0xef
	mCOM               = 0xfe
)

const toPNG = "convert it: magick in.jpg -depth 8 out.png"

// jpegKind names a kind of JPEG that is not read by the marker that tells it.
func jpegKind(marker byte) string {
	switch marker {
	case 0xc3:
		return "a lossless JPEG"
	case 0xc5, 0xc6, 0xde:
		return "a hierarchical JPEG"
	case 0xc7:
		return "a hierarchical, lossless JPEG"
	case 0xc9, 0xca, 0xcc:
		return "a JPEG with arithmetic coding"
	case 0xcb:
		return "a lossless JPEG with arithmetic coding"
	case 0xcd, 0xce, 0xcf:
		return "a hierarchical JPEG with arithmetic coding"
	case 0xf7:
		return "JPEG-LS, another format than JPEG"
	}
	return ""
}

// readJPEG reads a JPEG's segments up to its first scan, passing over stray
// bytes between them as the decoder does, and looks for the end marker.
func readJPEG(file []byte) (*jpegHead, error) {
	j := &jpegHead{adobe: -1}
	var quant [4]bool
	var huff [2][4]bool // DC, AC
	at := 2
	for {
		for at < len(file) && file[at] != 0xff {
			at++
		}
		for at < len(file) && file[at] == 0xff {
			at++
		}
		if at >= len(file) {
			return nil, fmt.Errorf("a JPEG cut short: its %d bytes end before its pixels begin", len(file))
		}
		marker := file[at]
		at++
		if marker == 0 || marker >= mRST0 && marker <= mRST7 {
			continue
		}
		if marker == mEOI {
			return nil, errors.New("a JPEG without pixels: its end marker comes before any scan")
		}
		if at+2 > len(file) || at+max(2, int(file[at])<<8+int(file[at+1])) > len(file) {
			return nil, fmt.Errorf("a JPEG cut short: the segment %02x at byte %d goes beyond the file's %d bytes", marker, at-2, len(file))
		}
		n := int(file[at])<<8 + int(file[at+1])
		if n < 2 {
			return nil, fmt.Errorf("a damaged JPEG: the segment %02x at byte %d has the length %d", marker, at-2, n)
		}
		seg := file[at+2 : at+n]
		switch {
		case marker >= mSOF0 && marker <= mSOF2:
			if err := j.readFrame(marker, seg); err != nil {
				return nil, err
			}
		case marker == mDHT:
			for len(seg) >= 17 { // class and number, 16 counts, the values
				if c, t := seg[0]>>4, seg[0]&15; c < 2 && t < 4 {
					huff[c][t] = true
				}
				values := 0
				for _, k := range seg[1:17] {
					values += int(k)
				}
				seg = seg[min(len(seg), 17+values):]
			}
		case marker == mDQT:
			for len(seg) >= 65 { // precision and number, 64 values of 1 or 2 bytes
				if t := seg[0] & 15; t < 4 {
					quant[t] = true
				}
				seg = seg[min(len(seg), 65+64*int(seg[0]>>4&1)):]
			}
		case marker == mAPP0:
			j.jfif = j.jfif || len(seg) >= 14 && string(seg[:5]) == "JFIF\x00"
		case marker == mAPP1:
			if tiff, ok := bytes.CutPrefix(seg, []byte("Exif\x00\x00")); ok && j.orientation == 0 {
				j.orientation = exifOrientation(tiff)
			}
		case marker == mAPP14:
			if len(seg) >= 12 && string(seg[:5]) == "Adobe" {
				j.adobe = int(seg[11])
			}
		case marker == mSOS:
			j.scan = at - 2
			if err := j.readScan(seg, quant, huff); err != nil {
				return nil, err
			}
			// No pixels hold the end marker: 0xff is followed by 0 in them.
			if bytes.LastIndex(file[at:], []byte{0xff, mEOI}) < 0 {
				return nil, fmt.Errorf("a JPEG cut short: no end marker in its %d bytes; copy or download it again", len(file))
			}
			return j, nil
		case jpegKind(marker) != "":
			return nil, fmt.Errorf("%s, which is not read; %s", jpegKind(marker), toPNG)
		case marker == mCOM || marker > mAPP0 && marker <= mAPP15 || marker == 0xdd:
		default:
			return nil, fmt.Errorf("a damaged JPEG: the unknown marker %02x at byte %d", marker, at-2)
		}
		at += n
	}
}

// readFrame reads SOF0, 1 or 2: precision, size and components.
func (j *jpegHead) readFrame(marker byte, seg []byte) error {
	if j.comp != nil {
		return errors.New("a damaged JPEG: it has two frame headers")
	}
	if len(seg) < 6 || len(seg) != 6+3*int(seg[5]) {
		return errors.New("a damaged JPEG: its frame header has the wrong length")
	}
	if seg[0] != 8 {
		return fmt.Errorf("a %d-bit JPEG; convert it to 8 bits: magick in.jpg -depth 8 out.png", seg[0])
	}
	j.frame, j.h, j.w = marker, int(seg[1])<<8+int(seg[2]), int(seg[3])<<8+int(seg[4])
	if j.h == 0 {
		return fmt.Errorf("a JPEG that gives its height behind its pixels (DNL), which is not read; %s", toPNG)
	}
	for s := seg[6:]; len(s) > 0; s = s[3:] {
		j.comp = append(j.comp, jpegComponent{id: s[0], h: s[1] >> 4, v: s[1] & 15, quant: s[2]})
	}
	for i, c := range j.comp {
		if c.h < 1 || c.h > 4 || c.v < 1 || c.v > 4 || c.quant > 3 {
			return errors.New("a damaged JPEG: a component has no possible sampling factor or quantization table")
		}
		for _, o := range j.comp[:i] {
			if o.id == c.id {
				return fmt.Errorf("a damaged JPEG: two components have the number %d", c.id)
			}
		}
	}
	if n := len(j.comp); n != 1 && n != 3 && n != 4 {
		return fmt.Errorf("a JPEG of %d components, which is not read; %s", n, toPNG)
	}
	if !j.sampled() {
		var s []string
		for _, c := range j.comp {
			s = append(s, fmt.Sprintf("%d×%d", c.h, c.v))
		}
		return fmt.Errorf("a JPEG with the chroma subsampling %s (horizontal × vertical factors of its components), which is not read; %s", strings.Join(s, ", "), toPNG)
	}
	return nil
}

// sampled says that the decoder has the components' sampling factors: 4:4:4,
// 4:4:0, 4:2:2, 4:2:0, 4:1:1 and 4:1:0, both chroma alike; of four components
// the second and third whole or halved both ways.
func (j *jpegHead) sampled() bool {
	c := j.comp
	for _, c := range c {
		if c.h == 3 || c.v == 3 {
			return false
		}
	}
	switch len(c) {
	case 3:
		return c[0].v < 4 && c[0].h%c[1].h == 0 && c[0].v%c[1].v == 0 && c[1].h == c[2].h && c[1].v == c[2].v
	case 4:
		return c[0].h == c[0].v && c[0].h < 4 && c[1].h == 1 && c[1].v == 1 && c[2].h == 1 && c[2].v == 1 && c[3].h == c[0].h && c[3].v == c[0].v
	}
	return true // one component: its factors mean nothing
}

// readScan reads the first SOS: its components, and whether their tables are there.
func (j *jpegHead) readScan(seg []byte, quant [4]bool, huff [2][4]bool) error {
	if j.comp == nil {
		return errors.New("a damaged JPEG: a scan comes before the frame header")
	}
	if len(seg) < 6 || len(seg) != 4+2*int(seg[0]) || int(seg[0]) > len(j.comp) {
		return errors.New("a damaged JPEG: its first scan's header has the wrong length")
	}
	blocks := 0
	ac := j.frame != mSOF2 || seg[len(seg)-3] > 0 // progressive: DC or AC
	dc := j.frame != mSOF2 || !ac
	for s := seg[1 : len(seg)-3]; len(s) > 0; s = s[2:] {
		var c *jpegComponent
		for i := range j.comp {
			if j.comp[i].id == s[0] {
				c = &j.comp[i]
			}
		}
		if c == nil {
			return fmt.Errorf("a damaged JPEG: its first scan has the component %d, its frame header has not", s[0])
		}
		blocks += int(c.h) * int(c.v)
		if !quant[c.quant] {
			return fmt.Errorf("a damaged JPEG: quantization table %d is missing", c.quant)
		}
		for class, t := range [2]byte{s[1] >> 4, s[1] & 15} {
			if class == 0 && !dc || class == 1 && !ac {
				continue
			}
			if t > 3 || j.frame == mSOF0 && t > 1 || t > 1 && !huff[class][t] {
				return fmt.Errorf("a damaged JPEG: Huffman table %d is missing", t)
			}
			j.noHuffman = j.noHuffman || !huff[class][t]
		}
	}
	if seg[0] > 1 && blocks > 10 {
		return fmt.Errorf("a JPEG with %d blocks in a unit, which may have 10, so that it is not read; %s", blocks, toPNG)
	}
	return nil
}

// rgb says whether three components are red, green and blue. The rules are
// libjpeg's (default_decompress_parms).
func (j *jpegHead) rgb() bool {
	if j.jfif {
		return false
	}
	if j.adobe >= 0 {
		return j.adobe == 0
	}
	return j.comp[0].id == 'R' && j.comp[1].id == 'G' && j.comp[2].id == 'B'
}

// stream is the file as the decoder gets it. A marker before the first scan
// makes it give the planes as they are coded, without its own colours: JFIF for
// three components, Adobe's "no transform" for four. Frames of motion JPEG
// leave out the Huffman tables: then the standard ones go before all else.
func (j *jpegHead) stream(file []byte) io.Reader {
	head, mark := file[:2], ""
	if j.noHuffman {
		head = append(bytes.Clone(head), standardHuffman...)
	}
	switch len(j.comp) {
	case 3:
		mark = "\xff\xe0\x00\x07JFIF\x00"
	case 4:
		mark = "\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00"
	}
	return io.MultiReader(bytes.NewReader(head), bytes.NewReader(file[2:j.scan]), strings.NewReader(mark), bytes.NewReader(file[j.scan:]))
}

// decode decodes the file that j heads to H·W·3 bytes of RGB.
func (j *jpegHead) decode(file []byte) ([]byte, error) {
	m, err := jpeg.Decode(j.stream(file))
	if err != nil {
		return nil, err
	}
	if b := m.Bounds(); b.Dx() != j.w || b.Dy() != j.h {
		return nil, fmt.Errorf("the pixels are %d×%d", b.Dx(), b.Dy())
	}
	switch m := m.(type) {
	case *image.Gray:
		return grayRGB(m.Pix, m.Stride, 1, j.w, j.h), nil
	case *image.YCbCr:
		hr, vr := int(j.comp[0].h/j.comp[1].h), int(j.comp[0].v/j.comp[1].v)
		p := []plane{newPlane(m.Y, m.YStride, j.w, j.h, 1, 1), newPlane(m.Cb, m.CStride, j.w, j.h, hr, vr), newPlane(m.Cr, m.CStride, j.w, j.h, hr, vr)}
		if j.rgb() {
			return mergePlanes(p, j.w, j.h, mergeRGB), nil
		}
		return mergePlanes(p, j.w, j.h, mergeYCC), nil
	case *image.CMYK:
		r := int(j.comp[0].h)
		p := []plane{inkPlane(m, 0, 1), inkPlane(m, 1, r), inkPlane(m, 2, r), inkPlane(m, 3, 1)}
		if j.adobe > 0 {
			return mergePlanes(p, j.w, j.h, mergeYCCK), nil
		}
		return mergePlanes(p, j.w, j.h, mergeCMYK), nil
	}
	return nil, fmt.Errorf("the decoder gave a %T", m)
}

// inkPlane takes channel c out of a decoded CMYK picture, as it was coded: the
// decoder gave 255 minus the coded value, and repeated each r×r times.
func inkPlane(m *image.CMYK, c, r int) plane {
	p := newPlane(nil, 0, m.Rect.Dx(), m.Rect.Dy(), r, r)
	p.stride = p.w
	p.pix = make([]byte, p.w*p.h)
	for y := range p.h {
		in := m.Pix[y*r*m.Stride+c:]
		for x := range p.w {
			p.pix[y*p.w+x] = 255 - in[4*x*r]
		}
	}
	return p
}

// standardHuffman is the DHT segment of the tables of T.81 K.3: the marker, the
// length, and for DC 0, DC 1, AC 0 and AC 1 the number, 16 counts and the values.
const standardHuffman = "\xff\xc4\x01\xa2" +
	"\x00" + "\x00\x01\x05\x01\x01\x01\x01\x01\x01\x00\x00\x00\x00\x00\x00\x00" + standardDC +
	"\x01" + "\x00\x03\x01\x01\x01\x01\x01\x01\x01\x01\x01\x00\x00\x00\x00\x00" + standardDC +
	"\x10" + "\x00\x02\x01\x03\x03\x02\x04\x03\x05\x05\x04\x04\x00\x00\x01\x7d" +
	"\x01\x02\x03\x00\x04\x11\x05\x12\x21\x31\x41\x06\x13\x51\x61\x07\x22\x71\x14\x32\x81\x91\xa1\x08\x23\x42\xb1\xc1\x15\x52\xd1\xf0" +
	"\x24\x33\x62\x72\x82\x09\x0a\x16\x17\x18\x19\x1a\x25\x26\x27\x28\x29\x2a\x34\x35\x36\x37\x38\x39\x3a\x43\x44\x45\x46\x47\x48\x49" +
	"\x4a\x53\x54\x55\x56\x57\x58\x59\x5a\x63\x64\x65\x66\x67\x68\x69\x6a\x73\x74\x75\x76\x77\x78\x79\x7a\x83\x84\x85\x86\x87\x88\x89" +
	"\x8a\x92\x93\x94\x95\x96\x97\x98\x99\x9a\xa2\xa3\xa4\xa5\xa6\xa7\xa8\xa9\xaa\xb2\xb3\xb4\xb5\xb6\xb7\xb8\xb9\xba\xc2\xc3\xc4\xc5" +
	"\xc6\xc7\xc8\xc9\xca\xd2\xd3\xd4\xd5\xd6\xd7\xd8\xd9\xda\xe1\xe2\xe3\xe4\xe5\xe6\xe7\xe8\xe9\xea\xf1\xf2\xf3\xf4\xf5\xf6\xf7\xf8" +
	"\xf9\xfa" +
	"\x11" + "\x00\x02\x01\x02\x04\x04\x03\x04\x07\x05\x04\x04\x00\x01\x02\x77" +
	"\x00\x01\x02\x03\x11\x04\x05\x21\x31\x06\x12\x41\x51\x07\x61\x71\x13\x22\x32\x81\x08\x14\x42\x91\xa1\xb1\xc1\x09\x23\x33\x52\xf0" +
	"\x15\x62\x72\xd1\x0a\x16\x24\x34\xe1\x25\xf1\x17\x18\x19\x1a\x26\x27\x28\x29\x2a\x35\x36\x37\x38\x39\x3a\x43\x44\x45\x46\x47\x48" +
	"\x49\x4a\x53\x54\x55\x56\x57\x58\x59\x5a\x63\x64\x65\x66\x67\x68\x69\x6a\x73\x74\x75\x76\x77\x78\x79\x7a\x82\x83\x84\x85\x86\x87" +
	"\x88\x89\x8a\x92\x93\x94\x95\x96\x97\x98\x99\x9a\xa2\xa3\xa4\xa5\xa6\xa7\xa8\xa9\xaa\xb2\xb3\xb4\xb5\xb6\xb7\xb8\xb9\xba\xc2\xc3" +
	"\xc4\xc5\xc6\xc7\xc8\xc9\xca\xd2\xd3\xd4\xd5\xd6\xd7\xd8\xd9\xda\xe2\xe3\xe4\xe5\xe6\xe7\xe8\xe9\xea\xf2\xf3\xf4\xf5\xf6\xf7\xf8" +
	"\xf9\xfa"

const standardDC = "\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b"
