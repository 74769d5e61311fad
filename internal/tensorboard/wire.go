package tensorboard

import (
	"encoding/binary"
	"errors"
	"io"
	"math"

	"github.com/vlaring/vlaring/internal/octets"
)

// message is a protobuf message that is being written.
type message []byte

// Kinds of a field on the wire.
const (
	varint  = 0
	fixed64 = 1
	sized   = 2
	fixed32 = 5
)

func (m message) key(field, kind int) message {
	return binary.AppendUvarint(m, uint64(field)<<3|uint64(kind))
}

func (m message) uint(field int, v uint64) message {
	return binary.AppendUvarint(m.key(field, varint), v)
}

func (m message) double(field int, v float64) message {
	return binary.LittleEndian.AppendUint64(m.key(field, fixed64), math.Float64bits(v))
}

func (m message) float(field int, v float32) message {
	return binary.LittleEndian.AppendUint32(m.key(field, fixed32), math.Float32bits(v))
}

func (m message) bytes(field int, b []byte) message {
	return append(binary.AppendUvarint(m.key(field, sized), uint64(len(b))), b...)
}

func (m message) text(field int, s string) message { return m.bytes(field, []byte(s)) }

func (m message) doubles(field int, v []float64) message { // packed
	m = binary.AppendUvarint(m.key(field, sized), uint64(8*len(v)))
	for _, x := range v {
		m = binary.LittleEndian.AppendUint64(m, math.Float64bits(x))
	}
	return m
}

// appendRecord frames an event.
func appendRecord(b []byte, event []byte) []byte {
	var size [8]byte
	binary.LittleEndian.PutUint64(size[:], uint64(len(event)))
	b = binary.LittleEndian.AppendUint32(append(b, size[:]...), masked(size[:]))
	return binary.LittleEndian.AppendUint32(append(b, event...), masked(event))
}

// masked is the sum that stands in a record: data that holds records is summed
// without the sums of its own cancelling it.
func masked(b []byte) uint32 {
	sum := octets.Sum(b)
	return (sum>>15 | sum<<17) + 0xa282ead8
}

// errRecord says that what follows is no whole record: a write was cut off, or the
// file is none of ours.
var errRecord = errors.New("no whole record")

// maxRecord bounds an event: a picture, in practice.
const maxRecord = 1 << 28

// nextRecord reads a record, and returns it with the event in it, in the memory of buf
// where that is enough. The error is io.EOF behind the last record.
func nextRecord(r io.Reader, buf []byte) (record, event []byte, err error) {
	const head, foot = 8 + 4, 4
	b := append(buf[:0], make([]byte, head)...)
	if n, err := io.ReadFull(r, b); err != nil {
		if n == 0 && errors.Is(err, io.EOF) {
			return nil, nil, io.EOF
		}
		return nil, nil, torn(err)
	}
	n := binary.LittleEndian.Uint64(b)
	if masked(b[:8]) != binary.LittleEndian.Uint32(b[8:]) || n > maxRecord {
		return nil, nil, errRecord
	}
	end := head + int(n)
	b = append(b, make([]byte, int(n)+foot)...)
	if _, err := io.ReadFull(r, b[head:]); err != nil {
		return nil, nil, torn(err)
	}
	if event = b[head:end]; masked(event) != binary.LittleEndian.Uint32(b[end:]) {
		return nil, nil, errRecord
	}
	return b, event, nil
}

// torn tells a file that ends within a record from a disk that does not read.
func torn(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errRecord
	}
	return err
}

// field is one field of a message: its number and, by its kind, a number or bytes.
type field struct {
	number, kind int
	value        uint64
	bytes        []byte
}

var errMessage = errors.New("no protobuf message")

// fields passes on each field of a message.
func fields(m []byte, each func(field) error) error {
	for len(m) > 0 {
		key, n := binary.Uvarint(m)
		if n <= 0 || key>>3 == 0 || key>>3 > 1<<29 {
			return errMessage
		}
		m = m[n:]
		f := field{number: int(key >> 3), kind: int(key & 7)}
		switch f.kind {
		case varint:
			if f.value, n = binary.Uvarint(m); n <= 0 {
				return errMessage
			}
		case fixed64:
			if n = 8; len(m) < n {
				return errMessage
			}
			f.value = binary.LittleEndian.Uint64(m)
		case fixed32:
			if n = 4; len(m) < n {
				return errMessage
			}
			f.value = uint64(binary.LittleEndian.Uint32(m))
		case sized:
			size, k := binary.Uvarint(m)
			if k <= 0 || size > uint64(len(m)-k) {
				return errMessage
			}
			f.bytes, n = m[k:k+int(size)], k+int(size)
		default:
			return errMessage
		}
		m = m[n:]
		if err := each(f); err != nil {
			return err
		}
	}
	return nil
}
