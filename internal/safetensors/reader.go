package safetensors

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/vlaring/vlaring/internal/regular"
	"github.com/vlaring/vlaring/internal/sniff"
)

// File is an open safetensors file whose header was checked whole, or the parts
// of a sharded one as if they were one file. Tensors are read on demand. Its
// methods are safe for concurrent use if the io.ReaderAt is.
type File struct {
	name  string
	parts []source
	in    map[string]int // place in parts of the one that a tensor lies in; nil: all in the first
	size  int64
	h     *header
}

// source is one file of those that hold the tensors.
type source struct {
	r     io.ReaderAt
	start int64 // of the data in r
	data  int64 // bytes
	c     io.Closer
}

// part returns the file that a tensor lies in.
func (f *File) part(name string) source { return f.parts[f.in[name]] }

// Open opens and checks the file at path.
func Open(path string) (*File, error) {
	f, size, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	out, err := Read(f, size, path)
	if err != nil {
		f.Close()
		return nil, err
	}
	out.parts[0].c = f
	return out, nil
}

// openRegular opens a regular file.
func openRegular(path string) (*os.File, int64, error) {
	if st, err := os.Stat(path); err == nil && st.IsDir() {
		return nil, 0, fmt.Errorf("%s is a folder: name the .safetensors file in it", path)
	}
	return regular.Open(path)
}

// Read checks the safetensors file of size bytes that r holds; name stands for
// it in errors. A file that breaks the format gives a *FormatError. r must
// stay readable while the File is used.
func Read(r io.ReaderAt, size int64, name string) (*File, error) {
	f, err := read(r, size)
	var bad *FormatError
	if errors.As(err, &bad) {
		bad.File = name
		if bad.Tensor == "" {
			bad.Instead = instead(r, size)
		}
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	f.name = name
	return f, nil
}

// instead says what a file is that is no safetensors file, where that is known.
func instead(r io.ReaderAt, size int64) string {
	if indexed(r, size) {
		return "it is " + sniff.ShardIndex.String() + ", whose parts stand beside it"
	}
	return sniff.Instead(sniff.Head(r, size), sniff.Tensors)
}

// indexed tells the index of a sharded file by its content: metadata may stand
// before what counts.
func indexed(r io.ReaderAt, size int64) bool {
	k := sniff.At(r, size)
	return k == sniff.ShardIndex || k == sniff.JSON && bytes.Contains(headOf(r, size, 1<<16), []byte(`"weight_map"`))
}

// headOf reads the first n bytes, or what there is of them.
func headOf(r io.ReaderAt, size, n int64) []byte {
	b := make([]byte, min(size, n))
	got, _ := r.ReadAt(b, 0)
	return b[:got]
}

func read(r io.ReaderAt, size int64) (*File, error) {
	if size < 8 {
		return nil, fileError("it has %d bytes, too few for the 8 of the header's length", size)
	}
	var prefix [8]byte
	if err := readFull(r, prefix[:], 0); err != nil {
		return nil, err
	}
	n := binary.LittleEndian.Uint64(prefix[:])
	if n > maxHeader {
		return nil, fileError("its header claims %d bytes, and %d are allowed", n, maxHeader)
	}
	if int64(n) > size-8 {
		return nil, fileError("its header claims %d bytes and the file has %d after the length: it is cut off; download or copy it again", n, size-8)
	}
	raw := make([]byte, n)
	if err := readFull(r, raw, 8); err != nil {
		return nil, err
	}
	h, err := parseHeader(raw, size-8-int64(n))
	if err != nil {
		return nil, err
	}
	return &File{parts: []source{{r: r, start: 8 + int64(n), data: size - 8 - int64(n)}}, size: size, h: h}, nil
}

func readFull(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("reading %d bytes at %d: %w", len(p), off, err)
}

// Close closes what Open or OpenModel opened.
func (f *File) Close() error {
	var first error
	for _, p := range f.parts {
		if p.c == nil {
			continue
		}
		if err := p.c.Close(); first == nil {
			first = err
		}
	}
	return first
}

// Name is what the file is called in errors.
func (f *File) Name() string { return f.name }

// Size is the length of the whole file in bytes, of a sharded one that of all parts.
func (f *File) Size() int64 { return f.size }

// EndsInZeros is how many bytes of zeros the tensors end in, those of a sharded
// file's last part, and whether they are many, as after a copy that broke off
// into reserved space.
func (f *File) EndsInZeros() (n int64, many bool) {
	p := f.parts[len(f.parts)-1]
	buf := make([]byte, 1<<16)
	for n < p.data {
		b := buf[:min(int64(len(buf)), p.data-n)]
		if readFull(p.r, b, p.start+p.data-n-int64(len(b))) != nil {
			return 0, false // whoever reads the tensors is told
		}
		left := len(bytes.TrimRight(b, "\x00"))
		n += int64(len(b) - left)
		if left > 0 {
			break
		}
	}
	return n, n >= 1<<16 && n >= p.data/16
}

// Sharded says that the tensors come from the parts of a sharded file.
func (f *File) Sharded() bool { return f.in != nil }

// Names lists the tensors, sorted by name. The caller must not change it.
func (f *File) Names() []string { return f.h.names }

// Tensor describes one tensor; false if the file does not have it.
func (f *File) Tensor(name string) (Info, bool) {
	i, ok := f.h.tensors[name]
	return i, ok
}

// Under is a view of the tensors whose names begin with prefix, under what follows
// it. It reads f, and closing either closes both.
func (f *File) Under(prefix string) *File {
	v := &File{name: f.name, parts: f.parts, size: f.size, h: &header{tensors: map[string]Info{}, metadata: f.h.metadata}}
	if f.in != nil {
		v.in = map[string]int{}
	}
	for _, name := range f.h.names {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			i := f.h.tensors[name]
			i.Name = rest
			v.h.names, v.h.tensors[rest] = append(v.h.names, rest), i
			if f.in != nil {
				v.in[rest] = f.in[name]
			}
		}
	}
	return v
}

// Metadata is the free-form text of the header, nil if it has none.
func (f *File) Metadata() map[string]string { return f.h.metadata }

// Bytes returns a reader over a tensor's raw little-endian bytes.
func (f *File) Bytes(name string) (*io.SectionReader, error) {
	i, err := f.info(name)
	if err != nil {
		return nil, err
	}
	p := f.part(name)
	return io.NewSectionReader(p.r, p.start+i.Begin, i.End-i.Begin), nil
}

func (f *File) info(name string) (Info, error) {
	i, ok := f.h.tensors[name]
	if !ok {
		return i, fmt.Errorf("%s has no tensor %q", f.name, name)
	}
	return i, nil
}

// Float32 reads a tensor as float32, row-major. F32 keeps every bit, F16 and
// BF16 widen exactly, F64 rounds to nearest even. Other types are an error.
func (f *File) Float32(name string) ([]float32, error) {
	i, err := f.info(name)
	if err != nil {
		return nil, err
	}
	if err := f.wantType(i, "F32", "F16", "BF16", "F64"); err != nil {
		return nil, err
	}
	dst := make([]float32, i.Elements())
	return dst, f.Float32Into(name, dst)
}

// Float32Into is Float32 into dst, whose length must be the tensor's.
func (f *File) Float32Into(name string, dst []float32) error {
	i, err := f.info(name)
	if err != nil {
		return err
	}
	if err := f.wantType(i, "F32", "F16", "BF16", "F64"); err != nil {
		return err
	}
	if n := i.Elements(); n != len(dst) {
		return fmt.Errorf("%s: tensor %q has %d elements %v, and the destination %d", f.name, name, n, i.Shape, len(dst))
	}
	return f.pieces(i, func(at int, b []byte) { decode(dst[at:], i.DType, b) })
}

// Int64 reads a tensor of whole numbers: any of the I and U types, and BOOL as
// 0 and 1. A U64 beyond int64 is an error.
func (f *File) Int64(name string) ([]int64, error) {
	i, err := f.info(name)
	if err != nil {
		return nil, err
	}
	if err := f.wantType(i, "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL"); err != nil {
		return nil, err
	}
	dst := make([]int64, i.Elements())
	tooLarge := -1
	err = f.pieces(i, func(at int, b []byte) {
		le := binary.LittleEndian
		switch i.DType {
		case "I64", "U64":
			for j := range len(b) / 8 {
				v := int64(le.Uint64(b[8*j:]))
				if dst[at+j] = v; v < 0 && i.DType == "U64" && tooLarge < 0 {
					tooLarge = at + j
				}
			}
		case "I32":
			for j := range len(b) / 4 {
				dst[at+j] = int64(int32(le.Uint32(b[4*j:])))
			}
		case "U32":
			for j := range len(b) / 4 {
				dst[at+j] = int64(le.Uint32(b[4*j:]))
			}
		case "I16":
			for j := range len(b) / 2 {
				dst[at+j] = int64(int16(le.Uint16(b[2*j:])))
			}
		case "U16":
			for j := range len(b) / 2 {
				dst[at+j] = int64(le.Uint16(b[2*j:]))
			}
		case "I8":
			for j, v := range b {
				dst[at+j] = int64(int8(v))
			}
		default:
			for j, v := range b {
				dst[at+j] = int64(v)
			}
		}
	})
	if err != nil {
		return nil, err
	}
	if tooLarge >= 0 {
		return nil, fmt.Errorf("%s: tensor %q: the value at %v is %d, beyond int64", f.name, name, i.Index(tooLarge), uint64(dst[tooLarge]))
	}
	return dst, nil
}

// Uint8 reads a tensor of bytes: U8, or BOOL as 0 and 1.
func (f *File) Uint8(name string) ([]uint8, error) {
	i, err := f.info(name)
	if err != nil {
		return nil, err
	}
	if err := f.wantType(i, "U8", "BOOL"); err != nil {
		return nil, err
	}
	dst := make([]uint8, i.Elements())
	return dst, f.pieces(i, func(at int, b []byte) { copy(dst[at:], b) })
}

func (f *File) wantType(i Info, types ...string) error {
	for _, t := range types {
		if i.DType == t {
			return nil
		}
	}
	return fmt.Errorf("%s: tensor %q is %s, want one of %v", f.name, i.Name, i.DType, types)
}

// pieces reads a tensor's bytes in order, whole elements at a time; at is the
// index of the piece's first element.
func (f *File) pieces(i Info, use func(at int, b []byte)) error {
	const most = 1 << 20 // a multiple of every element's size
	_, bits, _ := dtype(i.DType)
	p := f.part(i.Name)
	buf := make([]byte, min(most, i.End-i.Begin))
	for off := i.Begin; off < i.End; off += most {
		b := buf[:min(most, i.End-off)]
		if err := readFull(p.r, b, p.start+off); err != nil {
			return fmt.Errorf("%s: tensor %q: %w", f.name, i.Name, err)
		}
		use(int((off-i.Begin)*8/bits), b)
	}
	return nil
}
