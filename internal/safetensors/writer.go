package safetensors

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"os"
	"sort"
	"strconv"
	"unicode/utf8"

	"github.com/vlaring/vlaring/internal/octets"
)

// Tensor is one tensor to write. Data is row-major and one of []float32 (F32),
// []float64 (F64), []int64 (I64), []int32 (I32), []uint8 (U8), []bool (BOOL)
// or [Raw]; its length is the product of Shape.
type Tensor struct {
	Name  string
	Shape []int
	Data  any
}

// Raw is a tensor's little-endian bytes, of any type of the format.
type Raw struct {
	DType string
	Bytes []byte
}

// View is a safetensors file over tensors in memory: header and data appear as
// one run of bytes, converted as they are read. It keeps the tensors' slices,
// which must not change while it is used, and copies nothing. Methods are safe
// for concurrent use.
type View struct {
	prefix []byte // length and header
	parts  []part // by offset, without empty ones
	size   int64
}

// part is one tensor's place in the file.
type part struct {
	begin, end int64
	elem       int64 // bytes of an element
	data       any
}

var (
	_ io.ReaderAt = (*View)(nil)
	_ io.WriterTo = (*View)(nil)
)

// NewView lays the tensors out as the reference library does: by type, then by
// name, metadata first in the header, header padded with spaces to a multiple
// of 8. The order of tensors and of metadata does not show in the bytes. Nil
// or empty metadata are left out.
func NewView(tensors []Tensor, metadata map[string]string) (*View, error) {
	type entry struct {
		Tensor
		dtype string
		rank  int
		size  int64
	}
	entries := make([]entry, len(tensors))
	seen := make(map[string]bool, len(tensors))
	for i, t := range tensors {
		typ, bytes, err := typeOf(t.Data)
		if err != nil {
			return nil, fmt.Errorf("tensor %q: %w", t.Name, err)
		}
		want, err := byteSize(typ, t.Shape)
		for _, d := range t.Shape {
			if d < 0 {
				err = fmt.Errorf("shape %v has a negative dimension", t.Shape)
			}
		}
		switch {
		case err != nil:
			return nil, fmt.Errorf("tensor %q: %w", t.Name, err)
		case want != bytes:
			return nil, fmt.Errorf("tensor %q: %s of shape %v takes %d bytes, and the data has %d", t.Name, typ, t.Shape, want, bytes)
		case t.Name == metadataKey:
			return nil, fmt.Errorf("a tensor cannot be called %s", metadataKey)
		case !utf8.ValidString(t.Name):
			return nil, fmt.Errorf("tensor name %q is not UTF-8", t.Name)
		case seen[t.Name]:
			return nil, fmt.Errorf("tensor %q is given twice", t.Name)
		}
		seen[t.Name] = true
		rank, _, _ := dtype(typ)
		entries[i] = entry{t, typ, rank, want}
	}
	sort.Slice(entries, func(i, j int) bool {
		a, b := &entries[i], &entries[j]
		return a.rank > b.rank || a.rank == b.rank && a.Name < b.Name
	})

	head := make([]byte, 8, 8+64*len(entries))
	head = append(head, '{')
	if len(metadata) > 0 {
		keys := make([]string, 0, len(metadata))
		for k, v := range metadata {
			if !utf8.ValidString(k) || !utf8.ValidString(v) {
				return nil, fmt.Errorf("metadata %q is not UTF-8", k)
			}
			keys = append(keys, k)
		}
		sort.Strings(keys)
		head = append(head, `"`+metadataKey+`":{`...)
		for i, k := range keys {
			if i > 0 {
				head = append(head, ',')
			}
			head = appendString(append(appendString(head, k), ':'), metadata[k])
		}
		head = append(head, "},"...)
	}
	v := &View{}
	at := int64(0)
	for i := range entries {
		e := &entries[i]
		head = append(appendString(head, e.Name), `:{"dtype":"`+e.dtype+`","shape":[`...)
		for j, d := range e.Shape {
			if j > 0 {
				head = append(head, ',')
			}
			head = strconv.AppendInt(head, int64(d), 10)
		}
		head = append(head, `],"data_offsets":[`...)
		head = append(strconv.AppendInt(head, at, 10), ',')
		head = append(strconv.AppendInt(head, at+e.size, 10), "]},"...)
		if e.size > 0 {
			_, bits, _ := dtype(e.dtype)
			if _, ok := e.Data.(Raw); ok {
				bits = 8
			}
			v.parts = append(v.parts, part{at, at + e.size, bits / 8, e.Data})
		}
		at += e.size
	}
	if head[len(head)-1] == ',' {
		head = head[:len(head)-1]
	}
	head = append(head, '}')
	for len(head)%8 != 0 {
		head = append(head, ' ')
	}
	if len(head)-8 > maxHeader {
		return nil, fmt.Errorf("the header of %d tensors takes %d bytes, and the format allows %d", len(tensors), len(head)-8, maxHeader)
	}
	binary.LittleEndian.PutUint64(head, uint64(len(head)-8))
	v.prefix, v.size = head, int64(len(head))+at
	return v, nil
}

// Size is the length of the file in bytes.
func (v *View) Size() int64 { return v.size }

// DataStart is the length of the file's header: where its data begins.
func (v *View) DataStart() int64 { return int64(len(v.prefix)) }

// ReadAt is the file's io.ReaderAt.
func (v *View) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("safetensors: read at %d", off)
	}
	n := 0
	if off < int64(len(v.prefix)) {
		n = copy(p, v.prefix[off:])
	}
	at := off + int64(n) - int64(len(v.prefix)) // in the data
	i := sort.Search(len(v.parts), func(i int) bool { return v.parts[i].end > at })
	for ; n < len(p) && i < len(v.parts); i++ {
		part := &v.parts[i]
		m := int(min(int64(len(p)-n), part.end-at))
		part.read(p[n:n+m], at-part.begin)
		n, at = n+m, at+int64(m)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// WriteTo writes the whole file.
func (v *View) WriteTo(w io.Writer) (int64, error) {
	buf := make([]byte, min(1<<20, v.size))
	for off := int64(0); off < v.size; {
		n, err := v.ReadAt(buf[:min(int64(len(buf)), v.size-off)], off)
		if n == 0 {
			return off, err
		}
		m, err := w.Write(buf[:n])
		off += int64(m)
		if err != nil {
			return off, err
		}
	}
	return v.size, nil
}

// Write writes the file that NewView lays out.
func Write(w io.Writer, tensors []Tensor, metadata map[string]string) error {
	v, err := NewView(tensors, metadata)
	if err != nil {
		return err
	}
	_, err = v.WriteTo(w)
	return err
}

func typeOf(data any) (dtype string, bytes int64, err error) {
	switch d := data.(type) {
	case []float32:
		return "F32", 4 * int64(len(d)), nil
	case []float64:
		return "F64", 8 * int64(len(d)), nil
	case []int64:
		return "I64", 8 * int64(len(d)), nil
	case []int32:
		return "I32", 4 * int64(len(d)), nil
	case []uint8:
		return "U8", int64(len(d)), nil
	case []bool:
		return "BOOL", int64(len(d)), nil
	case Raw:
		return d.DType, int64(len(d.Bytes)), nil
	}
	return "", 0, fmt.Errorf("cannot write data of type %T", data)
}

// read fills dst with the part's bytes from off on, which the part has.
func (t *part) read(dst []byte, off int64) {
	if d, ok := t.data.(Raw); ok {
		copy(dst, d.Bytes[off:])
		return
	}
	// Elements that dst holds only a piece of, at either end, go through edge.
	var edge [8]byte
	first := off / t.elem
	if cut := off % t.elem; cut > 0 {
		t.encode(edge[:t.elem], first)
		dst = dst[copy(dst, edge[cut:t.elem]):]
		first++
	}
	whole := int64(len(dst)) / t.elem
	t.encode(dst[:whole*t.elem], first)
	if tail := dst[whole*t.elem:]; len(tail) > 0 {
		t.encode(edge[:t.elem], first+whole)
		copy(tail, edge[:t.elem])
	}
}

// encode writes the elements from first on that fill dst.
func (t *part) encode(dst []byte, first int64) {
	le, n := binary.LittleEndian, int64(len(dst))/t.elem
	switch d := t.data.(type) {
	case []float32:
		octets.Put(dst, d[first:first+n])
	case []float64:
		for i, x := range d[first : first+n] {
			le.PutUint64(dst[8*i:], math.Float64bits(x))
		}
	case []int64:
		for i, x := range d[first : first+n] {
			le.PutUint64(dst[8*i:], uint64(x))
		}
	case []int32:
		for i, x := range d[first : first+n] {
			le.PutUint32(dst[4*i:], uint32(x))
		}
	case []uint8:
		copy(dst, d[first:first+n])
	case []bool:
		for i, x := range d[first : first+n] {
			dst[i] = 0
			if x {
				dst[i] = 1
			}
		}
	}
}

// appendString appends s as JSON the way serde_json does: quote, backslash and
// control characters are escaped and nothing else.
func appendString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for i := range len(s) {
		c := s[i]
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c >= 0x20:
			b = append(b, c)
		case c == '\b':
			b = append(b, `\b`...)
		case c == '\t':
			b = append(b, `\t`...)
		case c == '\n':
			b = append(b, `\n`...)
		case c == '\f':
			b = append(b, `\f`...)
		case c == '\r':
			b = append(b, `\r`...)
		default:
			b = append(b, `\u00`...)
			b = append(b, hex[c>>4], hex[c&15])
		}
	}
	return append(b, '"')
}

// WriteFile writes the same to a file, which it makes or empties.
func WriteFile(path string, tensors []Tensor, metadata map[string]string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := Write(f, tensors, metadata); err != nil {
		f.Close()
		return fmt.Errorf("%s: %w", path, err)
	}
	return f.Close()
}
