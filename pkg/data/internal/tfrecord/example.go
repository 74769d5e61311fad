package tfrecord

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Kind is the type of a feature's values.
type Kind uint8

const (
	Empty  Kind = iota // a feature without values
	Bytes              // byte strings: text, images
	Floats             // float32
	Ints               // int64, also bool
)

func (k Kind) String() string { return [...]string{"empty", "bytes", "float32", "int64"}[k] }

// Example is a tf.train.Example: features by name. Its values stay in the
// record; a feature only knows where.
//
//	Example   { 1: Features }
//	Features  { 1: repeated map entry { 1: name, 2: Feature } }
//	Feature   { 1: BytesList | 2: FloatList | 3: Int64List }, each { 1: repeated value }
type Example map[string]Feature

// Feature is one feature's list, as spans of the record that Parse was given.
type Feature struct {
	Kind Kind
	list Span
}

// Span is a run of bytes of a record.
type Span struct{ Off, Len int }

// Of returns the bytes of s in record.
func (s Span) Of(record []byte) []byte { return record[s.Off : s.Off+s.Len] }

// Parse finds the features of a record. As in protobuf, a repeated name keeps
// its last value and unknown fields are passed over.
func Parse(record []byte) (Example, error) {
	ex := Example{}
	err := fields(record, Span{0, len(record)}, func(num int, wire int, features Span, _ uint64) error {
		if num != 1 || wire != 2 {
			return nil
		}
		return fields(record, features, func(num, wire int, entry Span, _ uint64) error {
			if num != 1 || wire != 2 {
				return nil
			}
			var name string
			var f Feature
			err := fields(record, entry, func(num, wire int, v Span, _ uint64) error {
				switch {
				case num == 1 && wire == 2:
					name = string(v.Of(record))
				case num == 2 && wire == 2:
					return fields(record, v, func(num, wire int, list Span, _ uint64) error {
						if num >= 1 && num <= 3 && wire == 2 {
							f = Feature{Kind(num), list}
						}
						return nil
					})
				}
				return nil
			})
			if err != nil {
				return fmt.Errorf("feature %q: %w", name, err)
			}
			ex[name] = f
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("not a tf.train.Example: %w", err)
	}
	return ex, nil
}

// Strings returns where the feature's byte strings lie in record.
func (f Feature) Strings(record []byte) ([]Span, error) {
	if f.Kind == Empty {
		return nil, nil
	}
	if f.Kind != Bytes {
		return nil, fmt.Errorf("it holds %v values, expected byte strings", f.Kind)
	}
	var out []Span
	err := fields(record, f.list, func(num, wire int, v Span, _ uint64) error {
		if num == 1 && wire == 2 {
			out = append(out, v)
		}
		return nil
	})
	return out, err
}

// Floats returns the feature's float32 values, packed or not.
func (f Feature) Floats(record []byte) ([]float32, error) {
	if f.Kind == Empty {
		return nil, nil
	}
	if f.Kind != Floats {
		return nil, fmt.Errorf("it holds %v values, expected float32", f.Kind)
	}
	var out []float32
	err := fields(record, f.list, func(num, wire int, v Span, x uint64) error {
		switch {
		case num == 1 && wire == 2:
			if v.Len%4 != 0 {
				return fmt.Errorf("packed float32 values of %d bytes", v.Len)
			}
			for b := v.Of(record); len(b) > 0; b = b[4:] {
				out = append(out, math.Float32frombits(binary.LittleEndian.Uint32(b)))
			}
		case num == 1 && wire == 5:
			out = append(out, math.Float32frombits(uint32(x)))
		}
		return nil
	})
	return out, err
}

// Numbers returns the feature's values as float32, of a feature that holds
// int64 values or, where ints is false, float32.
func (f Feature) Numbers(record []byte, ints bool) ([]float32, error) {
	if !ints {
		return f.Floats(record)
	}
	v, err := f.Ints(record)
	out := make([]float32, len(v))
	for i, x := range v {
		out[i] = float32(x)
	}
	return out, err
}

// Ints returns the feature's int64 values, packed or not.
func (f Feature) Ints(record []byte) ([]int64, error) {
	if f.Kind == Empty {
		return nil, nil
	}
	if f.Kind != Ints {
		return nil, fmt.Errorf("it holds %v values, expected int64", f.Kind)
	}
	var out []int64
	err := fields(record, f.list, func(num, wire int, v Span, x uint64) error {
		switch {
		case num == 1 && wire == 2:
			for b := v.Of(record); len(b) > 0; {
				x, n := binary.Uvarint(b)
				if n <= 0 {
					return fmt.Errorf("a broken varint among the packed int64 values")
				}
				out, b = append(out, int64(x)), b[n:]
			}
		case num == 1 && wire == 0:
			out = append(out, int64(x))
		}
		return nil
	})
	return out, err
}

// fields calls f for each field of the protobuf message that lies at s: v is
// the content of a length-delimited field (wire type 2), x the value of the
// others.
func fields(record []byte, s Span, f func(num, wire int, v Span, x uint64) error) error {
	pos, end := s.Off, s.Off+s.Len
	for pos < end {
		tag, n := binary.Uvarint(record[pos:end])
		if n <= 0 || tag>>3 == 0 || tag>>3 > 1<<29-1 {
			return fmt.Errorf("a broken field tag at byte %d", pos)
		}
		at := pos
		pos += n
		var v Span
		var x uint64
		switch tag & 7 {
		case 0:
			if x, n = binary.Uvarint(record[pos:end]); n <= 0 {
				return fmt.Errorf("a broken varint at byte %d", at)
			}
			pos += n
		case 1:
			if end-pos < 8 {
				return fmt.Errorf("field at byte %d runs past its message", at)
			}
			x = binary.LittleEndian.Uint64(record[pos:])
			pos += 8
		case 2:
			l, n := binary.Uvarint(record[pos:end])
			if n <= 0 || l > uint64(end-pos-n) {
				return fmt.Errorf("field at byte %d runs past its message", at)
			}
			v = Span{pos + n, int(l)}
			pos += n + int(l)
		case 5:
			if end-pos < 4 {
				return fmt.Errorf("field at byte %d runs past its message", at)
			}
			x = uint64(binary.LittleEndian.Uint32(record[pos:]))
			pos += 4
		default:
			return fmt.Errorf("field at byte %d has wire type %d", at, tag&7)
		}
		if err := f(int(tag>>3), int(tag&7), v, x); err != nil {
			return err
		}
	}
	return nil
}
