package film

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"image/png"
)

// An animated PNG (PNG, third edition, 11.3.6) is a PNG of its first frame with more
// chunks. Each frame is encoded by image/png, and its parts are put together anew:
//
//	signature | IHDR | acTL | PLTE | fcTL 0 | IDAT | fcTL 1 | fdAT 2 | fcTL 3 | fdAT 4 | … | IEND

// The operations of a frame: what it covers stays, and it replaces what was there.
const (
	disposeNone = 0
	blendSource = 0
)

func encodePNG(b *bytes.Buffer, shots []shot) error {
	sequence := uint32(0)
	number := func() uint32 { sequence++; return sequence - 1 }
	for k, s := range shots {
		var one bytes.Buffer
		encoder := png.Encoder{CompressionLevel: png.BestCompression}
		if err := encoder.Encode(&one, s.Paletted); err != nil {
			return err
		}
		header, palette, pixels, err := parts(one.Bytes())
		if err != nil {
			return err
		}
		if k == 0 {
			b.WriteString(signature)
			chunk(b, "IHDR", header)
			chunk(b, "acTL", words(uint32(len(shots)), 0)) // repeated for ever
			chunk(b, "PLTE", palette)
		}
		r := s.Rect.Sub(shots[0].Rect.Min)
		control := words(number(), uint32(r.Dx()), uint32(r.Dy()), uint32(r.Min.X), uint32(r.Min.Y))
		control = binary.BigEndian.AppendUint16(control, uint16(s.hold))
		control = binary.BigEndian.AppendUint16(control, 100)
		chunk(b, "fcTL", append(control, disposeNone, blendSource))
		if k == 0 {
			chunk(b, "IDAT", pixels)
		} else {
			chunk(b, "fdAT", append(words(number()), pixels...))
		}
	}
	chunk(b, "IEND", nil)
	return nil
}

const signature = "\x89PNG\r\n\x1a\n"

// parts are the contents of a PNG's chunks.
func parts(file []byte) (header, palette, pixels []byte, err error) {
	for b := file[len(signature):]; len(b) >= 12; {
		n := binary.BigEndian.Uint32(b)
		data := b[8 : 8+n]
		switch string(b[4:8]) {
		case "IHDR":
			header = data
		case "PLTE":
			palette = data
		case "IDAT":
			pixels = append(pixels, data...)
		case "IEND":
		default:
			return nil, nil, nil, fmt.Errorf("a PNG with a chunk %q", b[4:8])
		}
		b = b[12+n:]
	}
	return header, palette, pixels, nil
}

// chunk writes one with its length and checksum.
func chunk(b *bytes.Buffer, kind string, data []byte) {
	b.Write(words(uint32(len(data))))
	from := b.Len()
	b.WriteString(kind)
	b.Write(data)
	b.Write(words(crc32.ChecksumIEEE(b.Bytes()[from:])))
}

func words(v ...uint32) (b []byte) {
	for _, x := range v {
		b = binary.BigEndian.AppendUint32(b, x)
	}
	return b
}
