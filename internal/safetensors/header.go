package safetensors

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"sort"
	"strconv"
	"unicode/utf8"
)

// maxHeader is the largest header, in bytes, that the format allows.
const maxHeader = 100_000_000

// metadataKey is the one header key that is no tensor.
const metadataKey = "__metadata__"

// FormatError refuses a file that breaks the format.
type FormatError struct {
	File    string
	Tensor  string // empty: the fault is not in one tensor
	Problem string
	Instead string // what the file is, and what to do, where it is known to be no safetensors file at all
}

func (e *FormatError) Error() string {
	if e.Tensor != "" {
		return fmt.Sprintf("%s: tensor %s: %s", e.File, clip(strconv.Quote(e.Tensor)), clip(e.Problem))
	}
	if e.Instead != "" {
		return fmt.Sprintf("%s: not a safetensors file: %s", e.File, e.Instead)
	}
	return fmt.Sprintf("%s: not a valid safetensors file: %s", e.File, clip(e.Problem))
}

// clip shortens what a file says of itself, so that no message fills a screen.
func clip(text string) string {
	const most = 600
	if r := []rune(text); len(r) > most {
		return string(r[:most/2]) + "…" + string(r[len(r)-most/2:])
	}
	return text
}

// Info describes one tensor of a file.
type Info struct {
	Name       string
	DType      string // F32, I64, U8, … as the format spells them
	Shape      []int  // empty: a scalar
	Begin, End int64  // bytes, from the start of the data (after the header)
}

// Elements is the product of the shape.
func (i Info) Elements() int {
	n := 1
	for _, d := range i.Shape {
		n *= d
	}
	return n
}

// header is a parsed and checked header.
type header struct {
	tensors  map[string]Info
	names    []string // sorted
	metadata map[string]string
}

// tensorError and fileError are filled with the file's name by their caller.
func tensorError(tensor, format string, args ...any) error {
	return &FormatError{Tensor: tensor, Problem: fmt.Sprintf(format, args...)}
}

func fileError(format string, args ...any) error { return tensorError("", format, args...) }

// parseHeader checks everything that the format demands of a header whose data
// is dataSize bytes.
func parseHeader(raw []byte, dataSize int64) (*header, error) {
	if len(raw) == 0 || raw[0] != '{' {
		return nil, fileError("the header does not start with '{'")
	}
	if !utf8.Valid(raw) {
		return nil, fileError("the header is not UTF-8")
	}
	if loneSurrogate(raw) {
		return nil, fileError("the header is not JSON: it has half of a \\u surrogate pair")
	}
	h := &header{tensors: map[string]Info{}}
	p := parser{dec: json.NewDecoder(bytes.NewReader(raw))}
	p.dec.UseNumber()
	if err := p.object(func(key string) error {
		if key == metadataKey {
			if h.metadata != nil {
				return fileError("the header has %s twice", metadataKey)
			}
			var err error
			h.metadata, err = p.metadata()
			return err
		}
		if _, ok := h.tensors[key]; ok {
			return tensorError(key, "is in the header twice")
		}
		info, err := p.info(key)
		h.tensors[key] = info
		return err
	}); err != nil {
		return nil, err
	}
	if rest := bytes.TrimLeft(raw[p.dec.InputOffset():], " \t\r\n"); len(rest) > 0 {
		return nil, fileError("the header goes on after its JSON object, with %q", rest[:min(len(rest), 16)])
	}
	for name := range h.tensors {
		h.names = append(h.names, name)
	}
	sort.Strings(h.names)
	return h, h.checkLayout(dataSize)
}

// loneSurrogate reports a \ud800…\udfff escape that is not a pair, which Go's
// decoder would replace silently, so that two names could become one.
func loneSurrogate(raw []byte) bool {
	unit := func(i int) uint64 { // the \uXXXX at i, 0 if there is none
		if i+6 > len(raw) || raw[i] != '\\' || raw[i+1] != 'u' {
			return 0
		}
		v, _ := strconv.ParseUint(string(raw[i+2:i+6]), 16, 16)
		return v
	}
	for i := bytes.IndexByte(raw, '\\'); i >= 0 && i < len(raw); i++ {
		if raw[i] != '\\' {
			continue
		}
		switch u := unit(i); {
		case u >= 0xd800 && u < 0xdc00:
			if v := unit(i + 6); v < 0xdc00 || v > 0xdfff {
				return true
			}
			i += 11
		case u >= 0xdc00 && u <= 0xdfff:
			return true
		default:
			i++ // the escaped character
		}
	}
	return false
}

// checkLayout holds the tensors to lying one after the other from the first to
// the last byte of the data, each as long as its type and shape say.
func (h *header) checkLayout(dataSize int64) error {
	byOffset := make([]Info, 0, len(h.names))
	for _, name := range h.names {
		byOffset = append(byOffset, h.tensors[name])
	}
	sort.SliceStable(byOffset, func(i, j int) bool {
		a, b := byOffset[i], byOffset[j]
		return a.Begin < b.Begin || a.Begin == b.Begin && a.End < b.End
	})
	at := int64(0)
	for _, t := range byOffset {
		if t.End < t.Begin {
			return tensorError(t.Name, "data_offsets end at %d, before their beginning at %d", t.End, t.Begin)
		}
		if t.Begin > at {
			return tensorError(t.Name, "its data begin at %d, which leaves a hole after the tensor before it, that ends at %d", t.Begin, at)
		}
		if t.Begin < at {
			return tensorError(t.Name, "its data begin at %d, inside the tensor before it, that ends at %d", t.Begin, at)
		}
		want, err := byteSize(t.DType, t.Shape)
		if err != nil {
			return tensorError(t.Name, "%v", err)
		}
		if t.End-t.Begin != want {
			return tensorError(t.Name, "%s of shape %v takes %d bytes, but its data_offsets [%d, %d] hold %d", t.DType, t.Shape, want, t.Begin, t.End, t.End-t.Begin)
		}
		at = t.End
	}
	if at > dataSize {
		return fileError("the tensors need %d bytes of data and the file has %d: it is cut off; download or copy it again", at, dataSize)
	}
	if at < dataSize {
		return fileError("%d bytes follow the last tensor", dataSize-at)
	}
	return nil
}

// byteSize is what a tensor of the type and shape takes.
func byteSize(typ string, shape []int) (int64, error) {
	_, bits, ok := dtype(typ)
	if !ok {
		return 0, fmt.Errorf("unknown dtype %q", typ)
	}
	n := int64(1)
	for _, d := range shape { // left to right, as the reference multiplies
		if d > 0 && n > math.MaxInt64/int64(d) {
			return 0, fmt.Errorf("shape %v overflows", shape)
		}
		n *= int64(d)
	}
	if n > math.MaxInt64/bits {
		return 0, fmt.Errorf("shape %v overflows", shape)
	}
	if n*bits%8 != 0 {
		return 0, fmt.Errorf("%d elements of %s do not fill whole bytes", n, typ)
	}
	return n * bits / 8, nil
}

// parser walks the header's JSON. It never recurses, so depth costs nothing.
type parser struct{ dec *json.Decoder }

func (p *parser) next() (json.Token, error) {
	t, err := p.dec.Token()
	if err == io.EOF {
		err = errors.New("it ends in the middle")
	}
	if err != nil {
		return nil, fileError("the header is not JSON: %v", err)
	}
	return t, nil
}

// object reads an object and calls member at each key, with the value next.
func (p *parser) object(member func(key string) error) error {
	if t, err := p.next(); err != nil {
		return err
	} else if t != json.Delim('{') {
		return fileError("the header has %v where an object was expected", t)
	}
	for {
		t, err := p.next()
		if err != nil {
			return err
		}
		key, ok := t.(string)
		if !ok {
			return nil // '}': the decoder lets nothing else through
		}
		if err := member(key); err != nil {
			return err
		}
	}
}

func (p *parser) metadata() (map[string]string, error) {
	m := map[string]string{}
	err := p.object(func(key string) error {
		if _, ok := m[key]; ok {
			return fileError("%s has %q twice", metadataKey, key)
		}
		t, err := p.next()
		if err != nil {
			return err
		}
		s, ok := t.(string)
		if !ok {
			return fileError("%s: the value of %q is not a string", metadataKey, key)
		}
		m[key] = s
		return nil
	})
	return m, err
}

// info reads one tensor's entry. Unknown members are passed over, as the
// reference does.
func (p *parser) info(name string) (Info, error) {
	info := Info{Name: name}
	seen := map[string]bool{}
	err := p.object(func(key string) error {
		if seen[key] {
			return tensorError(name, "has %q twice", key)
		}
		seen[key] = true
		switch key {
		case "dtype":
			t, err := p.next()
			if err != nil {
				return err
			}
			s, ok := t.(string)
			if !ok {
				return tensorError(name, "dtype is not a string")
			}
			if _, _, ok := dtype(s); !ok {
				return tensorError(name, "unknown dtype %q", s)
			}
			info.DType = s
			return nil
		case "shape":
			dims, err := p.integers(name, "shape", math.MaxInt)
			for _, d := range dims {
				info.Shape = append(info.Shape, int(d))
			}
			return err
		case "data_offsets":
			o, err := p.integers(name, "data_offsets", math.MaxInt64)
			if err != nil {
				return err
			}
			if len(o) != 2 {
				return tensorError(name, "data_offsets has %d numbers, want 2", len(o))
			}
			info.Begin, info.End = o[0], o[1]
			return nil
		}
		return p.skip()
	})
	if err != nil {
		return info, err
	}
	for _, key := range [...]string{"dtype", "shape", "data_offsets"} {
		if !seen[key] {
			return info, tensorError(name, "has no %s", key)
		}
	}
	return info, nil
}

func (p *parser) integers(tensor, key string, most int64) ([]int64, error) {
	if t, err := p.next(); err != nil {
		return nil, err
	} else if t != json.Delim('[') {
		return nil, tensorError(tensor, "%s is not a list", key)
	}
	var out []int64
	for {
		t, err := p.next()
		if err != nil {
			return nil, err
		}
		if t == json.Delim(']') {
			return out, nil
		}
		num, ok := t.(json.Number)
		if !ok {
			return nil, tensorError(tensor, "%s holds %v, want whole numbers", key, t)
		}
		n, err := strconv.ParseUint(string(num), 10, 64)
		if err != nil || n > uint64(most) {
			return nil, tensorError(tensor, "%s holds %s, want whole numbers from 0 to %d", key, num, most)
		}
		out = append(out, int64(n))
	}
}

// skip passes over one value of any form.
func (p *parser) skip() error {
	for depth := 0; ; {
		t, err := p.next()
		if err != nil {
			return err
		}
		switch t {
		case json.Delim('{'), json.Delim('['):
			depth++
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
		if depth == 0 {
			return nil
		}
	}
}
