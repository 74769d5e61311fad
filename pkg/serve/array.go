package serve

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/vmihailenco/msgpack/v5"
	"github.com/vmihailenco/msgpack/v5/msgpcode"

	"github.com/vlaring/vlaring/pkg/trained"
)

// Limits on a message's structure; its size is Options.Message.
const (
	maxDepth = 6 // vla-eval's arrays have their shape in the sixth
	maxKeys  = 256
	maxList  = 1 << 16 // numbers of a list that is no array
)

// The keys by which numpy's arrays and scalars travel, of openpi-client's
// msgpack_numpy, binary, and of vla-eval, text; and vla-eval's for pictures.
const (
	arrayKey  = "__ndarray__"
	scalarKey = "__npgeneric__"
	imageKey  = "__image__"
)

// decodeMessage reads a message: a map whose values are texts, picture files as
// bytes, numbers, lists of numbers, arrays, or maps of these.
func decodeMessage(b []byte) (fields, error) {
	r := bytes.NewReader(b)
	v, err := (&decoder{msgpack.NewDecoder(r), r}).value(0)
	switch {
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return nil, errors.New("the message ends early")
	case err != nil:
		return nil, err
	case r.Len() > 0:
		return nil, fmt.Errorf("the message has %d bytes behind its end", r.Len())
	}
	m, ok := v.(fields)
	if !ok {
		return nil, fmt.Errorf("the message is a %s; want a map", kindOf(v))
	}
	return m, nil
}

// fields are a map's, in its order.
type fields []field

type field struct {
	key   string
	value any // nil, bool, float64, string, []byte, []any, fields
}

func (m fields) find(key string) any {
	if i := slices.IndexFunc(m, func(f field) bool { return f.key == key }); i >= 0 {
		return m[i].value
	}
	return nil
}

func kindOf(v any) string {
	switch v.(type) {
	case nil:
		return "nil"
	case bool, float64:
		return "number"
	case string:
		return "text"
	case []byte:
		return "byte string"
	case []any:
		return "list"
	}
	return "map"
}

// decoder reads a message, of which left is what has not been read.
type decoder struct {
	*msgpack.Decoder
	left *bytes.Reader
}

// octets reads a text or a byte string. How long it is the message only says: memory is
// made for what is there.
func (d *decoder) octets() ([]byte, error) {
	n, err := d.DecodeBytesLen()
	if err != nil {
		return nil, err
	}
	if n > d.left.Len() {
		return nil, io.ErrUnexpectedEOF
	}
	b := make([]byte, n)
	return b, d.ReadFull(b)
}

// value reads one.
func (d *decoder) value(depth int) (any, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("maps and lists are nested deeper than %d", maxDepth)
	}
	c, err := d.PeekCode()
	if err != nil {
		return nil, err
	}
	switch {
	case c == msgpcode.Nil:
		return nil, d.DecodeNil()
	case c == msgpcode.True || c == msgpcode.False:
		b, err := d.DecodeBool()
		if b {
			return 1.0, err
		}
		return 0.0, err
	case msgpcode.IsString(c):
		b, err := d.octets()
		return string(b), err
	case msgpcode.IsBin(c):
		return d.octets()
	case msgpcode.IsFixedArray(c) || c == msgpcode.Array16 || c == msgpcode.Array32:
		n, err := d.DecodeArrayLen()
		if err == nil && n > maxList {
			err = fmt.Errorf("a list of %d; want at most %d", n, maxList)
		}
		list := []any{} // grows with what is there
		for i := 0; i < n && err == nil; i++ {
			var v any
			v, err = d.value(depth + 1)
			list = append(list, v)
		}
		return list, err
	case msgpcode.IsFixedMap(c) || c == msgpcode.Map16 || c == msgpcode.Map32:
		return d.fields(depth)
	case msgpcode.IsExt(c):
		return nil, errors.New("an extension type; want maps, texts, bytes and numbers")
	case c == msgpcode.Uint64:
		v, err := d.DecodeUint64()
		return float64(v), err
	}
	return d.DecodeFloat64() // integers too
}

// fields reads a map.
func (d *decoder) fields(depth int) (any, error) {
	n, err := d.DecodeMapLen()
	if err == nil && n > maxKeys {
		err = fmt.Errorf("a map of %d keys; want at most %d", n, maxKeys)
	}
	m := fields{}
	for i := 0; i < n && err == nil; i++ {
		var key, value any
		if key, err = d.value(maxDepth); err != nil { // no maps, no lists
			break
		}
		f := field{}
		switch k := key.(type) {
		case string:
			f.key = k
		case []byte:
			f.key = string(k)
		default:
			return nil, fmt.Errorf("a key is a %s; want a text", kindOf(key))
		}
		if value, err = d.value(depth + 1); err != nil {
			return nil, fmt.Errorf("%.80q: %w", f.key, err)
		}
		f.value = value
		m = append(m, f)
	}
	return m, err
}

// without is the map less a key, and whether that was there and true.
func (m fields) without(key string) (fields, bool) {
	i := slices.IndexFunc(m, func(f field) bool { return f.key == key })
	if i < 0 {
		return m, false
	}
	g, err := given(m[i].value)
	return slices.Concat(m[:i], m[i+1:]), err == nil && len(g.Floats) == 1 && g.Floats[0] != 0
}

// observe adds the map's values to o. The keys of maps within it are joined by
// slashes, behind prefix; called says what a value of such a name is to be called,
// empty: it is left out.
func (m fields) observe(o trained.Observation, prefix string, called func(name string) string) error {
	for _, f := range m {
		name := prefix + f.key
		if in, ok := f.value.(fields); ok && !in.packed() {
			if err := in.observe(o, name+"/", called); err != nil {
				return err
			}
			continue
		}
		as := called(name)
		if as == "" {
			continue
		}
		if _, twice := o[as]; twice {
			return fmt.Errorf("%.80q is there twice", as)
		}
		g, err := given(f.value)
		if err != nil {
			return fmt.Errorf("%.80q: %w", name, err)
		}
		o[as] = g
	}
	return nil
}

// packed says that the map is one value: an array, a scalar or a picture.
func (m fields) packed() bool {
	return m.find(arrayKey) != nil || m.find(scalarKey) != nil || m.find(imageKey) != nil
}

// given is one value as an observation has it.
func given(v any) (g trained.Given, err error) {
	switch v := v.(type) {
	case string:
		return trained.Given{Text: v}, nil
	case []byte:
		return trained.Given{File: v}, nil
	case float64:
		return trained.Given{Floats: []float64{v}, Shape: []int{1}}, nil
	case []any:
		g.Floats, g.Shape = make([]float64, len(v)), []int{len(v)}
		for i, x := range v {
			n, ok := x.(float64)
			if !ok {
				return g, fmt.Errorf("a list with a %s at %d; want numbers, or an array", kindOf(x), i)
			}
			g.Floats[i] = n
		}
		return g, nil
	case fields:
		switch {
		case v.find(imageKey) != nil:
			return v.image()
		case v.find(arrayKey) != nil:
			return v.array()
		}
		return given(v.find("data"))
	}
	return g, fmt.Errorf("is %s; want a text, numbers or an array", kindOf(v))
}

// image reads one of vla-eval's pictures: a file, or an array.
func (m fields) image() (g trained.Given, err error) {
	switch form, _ := m.find("format").(string); form {
	case "raw":
		return m.array()
	case "png", "jpeg":
		data, ok := m.find("data").([]byte)
		if !ok || len(data) == 0 {
			return g, errors.New("a picture wants data (bytes)")
		}
		return trained.Given{File: data}, nil
	default:
		return g, fmt.Errorf("a picture of format %.20q; want png, jpeg or raw", form)
	}
}

// array reads a numpy array.
func (m fields) array() (g trained.Given, err error) {
	var dtype string
	switch v := m.find("dtype").(type) {
	case string:
		dtype = v
	case []byte:
		dtype = string(v)
	}
	data, ok := m.find("data").([]byte)
	list, isList := m.find("shape").([]any)
	if !ok || !isList || dtype == "" {
		return g, errors.New("an array wants data (bytes), dtype (a text such as <f4) and shape (a list)")
	}
	size, read := reading(dtype)
	if read == nil {
		return g, fmt.Errorf("an array of dtype %.20q; want integers of 8 to 64 bits or floats of 16 to 64, little-endian", dtype)
	}
	n := 1
	for _, x := range list {
		d, ok := x.(float64)
		if !ok || d < 0 || d != math.Trunc(d) || d > math.MaxInt32 || d > 0 && n > math.MaxInt32/int(d) {
			return g, fmt.Errorf("an array of shape %.100v", list)
		}
		g.Shape, n = append(g.Shape, int(d)), n*int(d)
	}
	if n*size != len(data) {
		return g, fmt.Errorf("an array of shape %v and dtype %s has %d bytes of data; want %d", g.Shape, dtype, len(data), n*size)
	}
	if dtype[1:] == "u1" {
		g.Bytes = data
		return g, nil
	}
	g.Floats = make([]float64, n)
	for i := range g.Floats {
		g.Floats[i] = read(data[i*size:])
	}
	return g, nil
}

// reading is the size of an array's elements and how one is read; nil: not at all.
func reading(dtype string) (size int, read func(b []byte) float64) {
	le := binary.LittleEndian
	switch dtype {
	case "|u1", "|b1", "<u1", "<b1":
		return 1, func(b []byte) float64 { return float64(b[0]) }
	case "|i1", "<i1":
		return 1, func(b []byte) float64 { return float64(int8(b[0])) }
	case "<u2":
		return 2, func(b []byte) float64 { return float64(le.Uint16(b)) }
	case "<i2":
		return 2, func(b []byte) float64 { return float64(int16(le.Uint16(b))) }
	case "<u4":
		return 4, func(b []byte) float64 { return float64(le.Uint32(b)) }
	case "<i4":
		return 4, func(b []byte) float64 { return float64(int32(le.Uint32(b))) }
	case "<u8":
		return 8, func(b []byte) float64 { return float64(le.Uint64(b)) }
	case "<i8":
		return 8, func(b []byte) float64 { return float64(int64(le.Uint64(b))) }
	case "<f2":
		return 2, func(b []byte) float64 { return half(le.Uint16(b)) }
	case "<f4":
		return 4, func(b []byte) float64 { return float64(math.Float32frombits(le.Uint32(b))) }
	case "<f8":
		return 8, func(b []byte) float64 { return math.Float64frombits(le.Uint64(b)) }
	}
	return 0, nil
}

// half is a float of 16 bits: sign, 5 of exponent, 10 of fraction.
func half(b uint16) float64 {
	exponent, fraction := int(b>>10&31), float64(b&1023)
	x := math.Ldexp(fraction, -24) // subnormal, or zero
	switch {
	case exponent == 31 && fraction != 0:
		return math.NaN()
	case exponent == 31:
		x = math.Inf(1)
	case exponent > 0:
		x = math.Ldexp(1024+fraction, exponent-25)
	}
	if b>>15 == 1 {
		return -x
	}
	return x
}

// binaryKeys and textKeys write the keys of an array, as openpi-client and as
// vla-eval read them.
func binaryKeys(e *msgpack.Encoder, key string) error { return e.EncodeBytes([]byte(key)) }

func textKeys(e *msgpack.Encoder, key string) error { return e.EncodeString(key) }

// encodeArray writes float32 values as numpy's array of that shape.
func encodeArray(e *msgpack.Encoder, key func(*msgpack.Encoder, string) error, x []float32, shape []int) error {
	data := make([]byte, 0, 4*len(x))
	for _, v := range x {
		data = binary.LittleEndian.AppendUint32(data, math.Float32bits(v))
	}
	return errors.Join(e.EncodeMapLen(4),
		key(e, arrayKey), e.EncodeBool(true),
		key(e, "data"), e.EncodeBytes(data),
		key(e, "dtype"), e.EncodeString("<f4"),
		key(e, "shape"), e.Encode(shape))
}
