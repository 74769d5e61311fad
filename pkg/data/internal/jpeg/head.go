// Package jpeg decodes JPEG files to the pixels of libjpeg, bit for bit: its
// inverse DCT (islow), its upsampling of chroma (fancy), its colours, and inks
// as Pillow turns them to RGB. That is what Pillow, and all that is built on
// libjpeg with its defaults, gives. All of it is integer arithmetic.
//
//	h, err := jpeg.Read(file) // refuses what is not read, and files that were cut
//	rgb, err := h.RGB(file)   // refuses damage inside the coded pixels
package jpeg

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Head is what stands before a JPEG's first scan: enough to refuse whatever is
// not read without decoding it, and to know how its planes become RGB.
type Head struct {
	H, W        int  // pixels
	Orientation int  // EXIF: 1 upright, 0 not said
	frame       byte // 0xc0 baseline, 0xc1 extended, 0xc2 progressive
	comp        []component
	jfif        bool
	adobe       int // colour transform of the Adobe marker, -1 without one
	scan        int // where the first scan's marker stands
	state       state
}

type component struct {
	id, h, v, quant byte // sampling factors h, v: samples in a unit of the picture
}

// The marker bytes that are looked at.
const (
	mSOF0, mSOF2, mDHT = 0xc0, 0xc2, 0xc4
	mRST0, mRST7       = 0xd0, 0xd7
	mEOI, mSOS         = 0xd9, 0xda
	mDQT, mDRI         = 0xdb, 0xdd
	mAPP0, mAPP1       = 0xe0, 0xe1
	mAPP14, mAPP15     = 0xee, 0xef
	mCOM               = 0xfe
)

const toPNG = "convert it: magick in.jpg -depth 8 out.png"

// kind names a kind of JPEG that is not read by the marker that tells it.
func kind(marker byte) string {
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

// state is what segments set for the scans that follow them.
type state struct {
	quant   [4]*[64]int32 // in the order of the file (zigzag)
	huff    [2][4]*table  // DC, AC
	restart int           // units between restart markers, 0: none
}

// set reads a DHT, DQT or DRI segment; of others it knows nothing.
func (s *state) set(marker byte, seg []byte) error {
	switch marker {
	case mDHT:
		return tables(seg, &s.huff)
	case mDQT:
		for len(seg) > 0 {
			wide, n := int(seg[0]>>4), seg[0]&15
			if wide > 1 || n > 3 || len(seg) < 1+64<<wide {
				return errors.New("a damaged JPEG: a quantization table has the wrong length")
			}
			q := new([64]int32)
			for i := range q {
				if q[i] = int32(seg[1+i]); wide > 0 {
					q[i] = int32(seg[1+2*i])<<8 | int32(seg[2+2*i])
				}
			}
			s.quant[n], seg = q, seg[1+64<<wide:]
		}
	case mDRI:
		if len(seg) != 2 {
			return errors.New("a damaged JPEG: its restart interval has the wrong length")
		}
		s.restart = int(seg[0])<<8 | int(seg[1])
	}
	return nil
}

// table is a Huffman table, of T.81 K.3 where the file has none: frames of
// motion JPEG leave them out.
func (s *state) table(class int, n byte) (*table, error) {
	if n > 3 || s.huff[class][n] == nil && n > 1 {
		return nil, fmt.Errorf("a damaged JPEG: Huffman table %d is missing", n)
	}
	if s.huff[class][n] == nil {
		var std [2][4]*table
		if err := tables([]byte(standard), &std); err != nil {
			return nil, err
		}
		s.huff[class][n] = std[class][n]
	}
	return s.huff[class][n], nil
}

// next finds the next marker from at on, passing over stray bytes, and its
// segment; after is what follows. SOI, EOI and RST have no segment.
func next(file []byte, at int) (marker byte, seg []byte, after int, err error) {
	for {
		for at < len(file) && file[at] != 0xff {
			at++
		}
		for at < len(file) && file[at] == 0xff {
			at++
		}
		if at >= len(file) {
			return 0, nil, 0, fmt.Errorf("a JPEG cut short: its %d bytes end before its pixels do; copy or download it again", len(file))
		}
		marker = file[at]
		at++
		if marker == 0 || marker >= mRST0 && marker <= mRST7 {
			continue
		}
		if marker == mEOI {
			return marker, nil, at, nil
		}
		n := 2
		if at+2 <= len(file) {
			n = int(file[at])<<8 + int(file[at+1])
		}
		if n < 2 {
			return 0, nil, 0, fmt.Errorf("a damaged JPEG: the segment %02x at byte %d has the length %d", marker, at-2, n)
		}
		if at+n > len(file) {
			return 0, nil, 0, fmt.Errorf("a JPEG cut short: the segment %02x at byte %d goes beyond the file's %d bytes; copy or download it again", marker, at-2, len(file))
		}
		return marker, file[at+2 : at+n], at + n, nil
	}
}

// Read reads a JPEG's segments up to its first scan and looks for the end
// marker. An error names what is not read, or what is damaged.
func Read(file []byte) (*Head, error) {
	j := &Head{adobe: -1}
	if len(file) < 2 || file[0] != 0xff || file[1] != 0xd8 {
		return nil, errors.New("not a JPEG")
	}
	for at := 2; ; {
		marker, seg, after, err := next(file, at)
		if err != nil {
			return nil, err
		}
		switch {
		case marker == mEOI:
			return nil, errors.New("a JPEG without pixels: its end marker comes before any scan")
		case marker >= mSOF0 && marker <= mSOF2:
			err = j.readFrame(marker, seg)
		case marker == mDHT || marker == mDQT || marker == mDRI:
			err = j.state.set(marker, seg)
		case marker == mAPP0:
			j.jfif = j.jfif || len(seg) >= 14 && string(seg[:5]) == "JFIF\x00"
		case marker == mAPP1:
			if tiff, ok := bytes.CutPrefix(seg, []byte("Exif\x00\x00")); ok && j.Orientation == 0 {
				j.Orientation = Orientation(tiff)
			}
		case marker == mAPP14:
			if len(seg) >= 12 && string(seg[:5]) == "Adobe" {
				j.adobe = int(seg[11])
			}
		case marker == mSOS:
			if _, err := j.readScan(&j.state, seg); err != nil {
				return nil, err
			}
			// No pixels hold the end marker: 0xff is followed by 0 in them.
			if bytes.LastIndex(file[after:], []byte{0xff, mEOI}) < 0 {
				return nil, fmt.Errorf("a JPEG cut short: no end marker in its %d bytes; copy or download it again", len(file))
			}
			j.scan = after - len(seg) - 4
			return j, nil
		case kind(marker) != "":
			err = fmt.Errorf("%s, which is not read; %s", kind(marker), toPNG)
		case marker == mCOM || marker > mAPP0 && marker <= mAPP15:
		default:
			err = fmt.Errorf("a damaged JPEG: the unknown marker %02x at byte %d", marker, after-len(seg)-4)
		}
		if err != nil {
			return nil, err
		}
		at = after
	}
}

// readFrame reads SOF0, 1 or 2: precision, size and components.
func (j *Head) readFrame(marker byte, seg []byte) error {
	if j.comp != nil {
		return errors.New("a damaged JPEG: it has two frame headers")
	}
	if len(seg) < 6 || len(seg) != 6+3*int(seg[5]) {
		return errors.New("a damaged JPEG: its frame header has the wrong length")
	}
	if seg[0] != 8 {
		return fmt.Errorf("a %d-bit JPEG; convert it to 8 bits: magick in.jpg -depth 8 out.png", seg[0])
	}
	j.frame, j.H, j.W = marker, int(seg[1])<<8+int(seg[2]), int(seg[3])<<8+int(seg[4])
	if j.H == 0 {
		return fmt.Errorf("a JPEG that gives its height behind its pixels (DNL), which is not read; %s", toPNG)
	}
	for s := seg[6:]; len(s) > 0; s = s[3:] {
		j.comp = append(j.comp, component{id: s[0], h: s[1] >> 4, v: s[1] & 15, quant: s[2]})
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

// sampled says that the components have sampling factors in use, which tests
// hold to libjpeg: 4:4:4, 4:4:0, 4:2:2, 4:2:0, 4:1:1 and 4:1:0, both chroma alike;
// of four components the second and third whole or halved both ways.
func (j *Head) sampled() bool {
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

// scanHead is an SOS segment.
type scanHead struct {
	comp         []scanComponent
	from, to     int  // zigzag places
	before, left uint // successive approximation: bits not known before and after this scan
}

type scanComponent struct {
	index  int // into Head.comp
	dc, ac *table
}

// readScan reads an SOS segment, with the tables that it needs.
func (j *Head) readScan(s *state, seg []byte) (*scanHead, error) {
	if j.comp == nil {
		return nil, errors.New("a damaged JPEG: a scan comes before the frame header")
	}
	if len(seg) < 6 || len(seg) != 4+2*int(seg[0]) || int(seg[0]) > len(j.comp) {
		return nil, errors.New("a damaged JPEG: a scan's header has the wrong length")
	}
	tail := seg[len(seg)-3:]
	h := &scanHead{to: 63}
	if j.progressive() {
		h.from, h.to, h.before, h.left = int(tail[0]), int(tail[1]), uint(tail[2]>>4), uint(tail[2]&15)
		if h.from > h.to || h.to > 63 || h.from == 0 && h.to > 0 || h.from > 0 && seg[0] > 1 || h.left > 13 || h.before > 0 && h.before != h.left+1 {
			return nil, errors.New("a damaged JPEG: a scan's header has impossible bounds")
		}
	}
	blocks := 0
	for c := seg[1 : len(seg)-3]; len(c) > 0; c = c[2:] {
		i := slices.IndexFunc(j.comp, func(x component) bool { return x.id == c[0] })
		if i < 0 {
			return nil, fmt.Errorf("a damaged JPEG: a scan has the component %d, the frame header has not", c[0])
		}
		if slices.ContainsFunc(h.comp, func(x scanComponent) bool { return x.index == i }) {
			return nil, fmt.Errorf("a damaged JPEG: a scan has the component %d twice", c[0])
		}
		blocks += int(j.comp[i].h) * int(j.comp[i].v)
		if q := j.comp[i].quant; s.quant[q] == nil {
			return nil, fmt.Errorf("a damaged JPEG: quantization table %d is missing", q)
		}
		sc := scanComponent{index: i}
		var err error
		if h.from == 0 && h.before == 0 {
			sc.dc, err = s.table(0, c[1]>>4)
		}
		if err == nil && h.to > 0 {
			sc.ac, err = s.table(1, c[1]&15)
		}
		if err != nil {
			return nil, err
		}
		h.comp = append(h.comp, sc)
	}
	if seg[0] > 1 && blocks > 10 {
		return nil, fmt.Errorf("a JPEG with %d blocks in a unit, which may have 10, so that it is not read; %s", blocks, toPNG)
	}
	return h, nil
}

func (j *Head) progressive() bool { return j.frame == mSOF2 }

// rgb says whether three components are red, green and blue. The rules are
// libjpeg's (default_decompress_parms).
func (j *Head) rgb() bool {
	if j.jfif {
		return false
	}
	if j.adobe >= 0 {
		return j.adobe == 0
	}
	return j.comp[0].id == 'R' && j.comp[1].id == 'G' && j.comp[2].id == 'B'
}

// Orientation finds the orientation, 1 to 8, in EXIF data, which is a TIFF header
// and a directory of 12-byte entries; 0 where it is not said.
func Orientation(tiff []byte) int {
	if len(tiff) < 8 {
		return 0
	}
	var order binary.ByteOrder = binary.BigEndian
	if tiff[0] == 'I' {
		order = binary.LittleEndian
	}
	at := int64(order.Uint32(tiff[4:]))
	if at+2 > int64(len(tiff)) {
		return 0
	}
	entries := tiff[at+2:]
	for range order.Uint16(tiff[at:]) {
		if len(entries) < 12 {
			break
		}
		if order.Uint16(entries) == 0x0112 {
			if o := int(order.Uint16(entries[8:])); o >= 1 && o <= 8 {
				return o
			}
			break
		}
		entries = entries[12:]
	}
	return 0
}
