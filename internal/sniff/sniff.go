// Package sniff says what a file is by its first bytes, for readers that were
// given another kind of file than they read: a pointer in place of what it
// points to, an error page in place of a download, a picture of another format.
//
//	if what := sniff.Instead(head, sniff.Tensors); what != "" {
//		return fmt.Errorf("%s: %s", path, what)
//	}
//
// A reader asks after its own check has failed, so that a wrong guess can only
// word a refusal, never cause one.
package sniff

import (
	"bytes"
	"encoding/binary"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/vlaring/vlaring/internal/octets"
)

// HeadSize is how many of a file's first bytes are looked at; fewer will do
// where the file has no more.
const HeadSize = 1024

// Kind is what a file is.
type Kind uint8

// The kinds. Unknown is whatever begins like none of the others.
const (
	Unknown Kind = iota
	Empty
	Zeros // nothing but zero bytes: a download or copy that broke off
	GitLFS
	GitAnnex
	LinkText // the path that a link holds, in place of the link
	HTML
	XML
	JSON
	ShardIndex // model.safetensors.index.json
	PlainText
	UTF16
	UTF32
	BOM // UTF-8 behind a byte order mark
	Gzip
	Bzip2
	XZ
	Zstd
	Zip
	SevenZip
	Tar
	TorchZip // torch.save
	Pickle   // torch.save before 1.6, pickle.dump
	NumPy
	NumPyZip
	HDF5
	Parquet
	Arrow
	GGUF
	Safetensors
	TFRecord
	PNG
	JPEG
	WebP
	BMP
	GIF
	TIFF
	HEIF
	AVIF
	JPEG2000
	JPEGXL
	PNM
	Video
	PDF
	Mangled // a PNG behind a transfer as text
)

// Want is what a reader reads.
type Want uint8

const (
	Tensors Want = iota // a safetensors file
	Picture             // a PNG or JPEG file
	Records             // a TFRecord file
	Text                // lines or JSON in UTF-8
	Shard               // a tar archive, perhaps compressed by gzip
)

// magics are the kinds that a fixed run of bytes tells; the first that fits counts.
var magics = [...]struct {
	at   int
	text string
	kind Kind
}{
	{0, "version https://git-lfs.", GitLFS}, {0, "version https://hawser.", GitLFS},
	{0, "/annex/objects/", GitAnnex}, {0, "../.git/annex/", GitAnnex}, {0, ".git/annex/", GitAnnex},
	{0, "\x89PNG\r\n\x1a\n", PNG}, {0, "\xff\xd8\xff", JPEG},
	{0, "\x89PNG\n", Mangled}, {0, "\x89PNG\r\r\n", Mangled}, {0, "\x89PNG\r\n\x1a\r\n", Mangled}, {0, "\x89PNG\r\n\x1a\x00", Mangled}, {0, "\x09PNG\r\n", Mangled}, {0, "\xef\xbf\xbdPNG", Mangled},
	{0, "GIF87a", GIF}, {0, "GIF89a", GIF},
	{0, "II*\x00", TIFF}, {0, "MM\x00*", TIFF}, {0, "II+\x00", TIFF}, {0, "MM\x00+", TIFF},
	{4, "ftypavif", AVIF}, {4, "ftypavis", AVIF},
	{4, "ftypheic", HEIF}, {4, "ftypheix", HEIF}, {4, "ftyphevc", HEIF}, {4, "ftypmif1", HEIF}, {4, "ftypmsf1", HEIF},
	{4, "ftyp", Video}, {0, "\x1aE\xdf\xa3", Video}, {8, "AVI LIST", Video}, {0, "OggS", Video},
	{8, "WEBPVP8", WebP},
	{0, "\x00\x00\x00\x0cjP  ", JPEG2000}, {0, "\xff\x4f\xff\x51", JPEG2000},
	{0, "\x00\x00\x00\x0cJXL ", JPEGXL}, {0, "\xff\x0a", JPEGXL},
	{0, "\x1f\x8b\x08", Gzip}, {0, "BZh", Bzip2}, {0, "\xfd7zXZ\x00", XZ}, {0, "\x28\xb5\x2f\xfd", Zstd}, {0, "7z\xbc\xaf\x27\x1c", SevenZip},
	{257, "ustar", Tar},
	{0, "\x93NUMPY", NumPy}, {0, "\x89HDF\r\n\x1a\n", HDF5}, {0, "PAR1", Parquet}, {0, "ARROW1\x00\x00", Arrow}, {0, "GGUF", GGUF}, {0, "%PDF-", PDF},
	{0, "\xff\xfe\x00\x00", UTF32}, {0, "\x00\x00\xfe\xff", UTF32}, {0, "\xff\xfe", UTF16}, {0, "\xfe\xff", UTF16}, {0, "\xef\xbb\xbf", BOM},
}

// Of says what a file is that begins with head, its first HeadSize bytes, or
// all of them where it is shorter.
func Of(head []byte) Kind {
	head = head[:min(len(head), HeadSize)]
	if len(head) == 0 {
		return Empty
	}
	for _, m := range magics {
		if len(head) >= m.at && bytes.HasPrefix(head[m.at:], []byte(m.text)) {
			return m.kind
		}
	}
	for _, f := range []func([]byte) Kind{zeros, archive, pickle, bmp, binaryLengths, wide, pnm, text} {
		if k := f(head); k != Unknown {
			return k
		}
	}
	return Unknown
}

// At is Of for a file of size bytes that r holds.
func At(r io.ReaderAt, size int64) Kind { return Of(Head(r, size)) }

// Head reads the first bytes of a file of size bytes, as many as Of looks at.
// What cannot be read is left out.
func Head(r io.ReaderAt, size int64) []byte {
	b := make([]byte, min(max(size, 0), HeadSize))
	n, _ := r.ReadAt(b, 0)
	return b[:n]
}

func zeros(head []byte) Kind {
	if len(head) >= 16 && len(bytes.Trim(head, "\x00")) == 0 {
		return Zeros
	}
	return Unknown
}

// archive tells the zip files by their first member: torch.save begins with
// NAME/data.pkl (or, of TorchScript, another member of that folder), numpy.savez
// with NAME.npy.
func archive(head []byte) Kind {
	if bytes.HasPrefix(head, []byte("PK\x05\x06")) {
		return Zip
	}
	if !bytes.HasPrefix(head, []byte("PK\x03\x04")) {
		return Unknown
	}
	if len(head) >= 30 {
		name := head[30:min(len(head), 30+int(binary.LittleEndian.Uint16(head[26:])))]
		switch {
		case bytes.HasSuffix(name, []byte("data.pkl")), bytes.HasSuffix(name, []byte("/byteorder")), bytes.HasSuffix(name, []byte("/version")):
			return TorchZip
		case bytes.HasSuffix(name, []byte(".npy")):
			return NumPyZip
		}
	}
	return Zip
}

// pickle: PROTO 2 to 5, then the opcode of a torch magic number, an object, a
// frame or a container.
func pickle(head []byte) Kind {
	if len(head) > 2 && head[0] == 0x80 && head[1] >= 2 && head[1] <= 5 && bytes.IndexByte([]byte("\x8a\x95\x8c}]ccX()KMJGNN\x89\x88B\x8eq"), head[2]) >= 0 {
		return Pickle
	}
	return Unknown
}

// bmp: "BM", then the file's length and four zeros, and the length of a header
// that exists.
func bmp(head []byte) Kind {
	if len(head) >= 18 && head[0] == 'B' && head[1] == 'M' && string(head[6:10]) == "\x00\x00\x00\x00" {
		switch binary.LittleEndian.Uint32(head[14:]) {
		case 12, 40, 52, 56, 64, 108, 124:
			return BMP
		}
	}
	return Unknown
}

// binaryLengths: the two formats that begin with a length. TFRecord checks its
// own; safetensors has a JSON object behind it.
func binaryLengths(head []byte) Kind {
	if len(head) >= 12 {
		c := octets.Sum(head[:8])
		if c>>15|c<<17 == binary.LittleEndian.Uint32(head[8:])-0xa282ead8 {
			return TFRecord
		}
	}
	if len(head) >= 10 && binary.LittleEndian.Uint64(head) <= 100_000_000 && head[8] == '{' && (head[9] == '"' || head[9] == '}') {
		return Safetensors
	}
	return Unknown
}

// wide: UTF-16 without a byte order mark, of text that begins in ASCII.
func wide(head []byte) Kind {
	n := min(len(head)&^1, 32)
	if n < 8 {
		return Unknown
	}
	var zero [2]int
	for i, c := range head[:n] {
		if c == 0 {
			zero[i&1]++
		} else if c >= 0x80 || c < 0x20 && c != '\n' && c != '\r' && c != '\t' {
			return Unknown
		}
	}
	if zero[0] == n/2 && zero[1] == 0 || zero[1] == n/2 && zero[0] == 0 {
		return UTF16
	}
	return Unknown
}

// pnm: P1 to P7, white space, and a number or a comment.
func pnm(head []byte) Kind {
	if len(head) > 3 && head[0] == 'P' && head[1] >= '1' && head[1] <= '7' && strings.IndexByte(" \t\r\n", head[2]) >= 0 &&
		(head[3] == '#' || head[3] >= '0' && head[3] <= '9' || head[1] == '7') {
		return PNM
	}
	return Unknown
}

// text tells pages and JSON from other text: UTF-8 without control characters.
func text(head []byte) Kind {
	if !printable(head) {
		return Unknown
	}
	t := bytes.TrimLeft(head, " \t\r\n")
	low := bytes.ToLower(t)
	has := func(s string) bool { return bytes.Contains(low, []byte(s)) }
	switch {
	case len(t) == 0:
		return PlainText
	case t[0] == '<' && (has("<!doctype html") || has("<html") || has("<head") || has("<body")):
		return HTML
	case bytes.HasPrefix(t, []byte("<?xml")), t[0] == '<' && len(t) > 1 && (low[1] >= 'a' && low[1] <= 'z' || low[1] == '!'):
		return XML
	case t[0] == '{' && has(`"weight_map"`):
		return ShardIndex
	case t[0] == '{', t[0] == '[':
		return JSON
	case bytes.HasPrefix(head, []byte("../")) && len(head) < HeadSize && !bytes.ContainsAny(head, " \t\r\n"):
		return LinkText
	}
	return PlainText
}

// printable says that head is UTF-8, possibly cut in its last character, and
// has no control characters but white space.
func printable(head []byte) bool {
	for i := 0; i < len(head); {
		r, n := utf8.DecodeRune(head[i:])
		if r == utf8.RuneError && n == 1 {
			return !utf8.FullRune(head[i:]) && i > 0
		}
		if r < 0x20 && r != '\n' && r != '\r' && r != '\t' && r != '\f' || r == 0x7f {
			return false
		}
		i += n
	}
	return true
}
