// Package tfrecord reads TFRecord files and the tf.train.Example messages in
// them, without TensorFlow and without protobuf code. All bytes are untrusted.
//
//	u64 length · u32 masked CRC-32C of the 8 length bytes · data · u32 masked CRC-32C of the data
//
// The smallest use:
//
//	r := tfrecord.NewReader(file, size, path)
//	for {
//		payload, offset, err := r.Next() // io.EOF at the end
//		…
//		ex, err := tfrecord.Parse(payload)
//		floats, err := ex["steps/action"].Floats(payload)
//	}
package tfrecord

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/vlaring/vlaring/internal/octets"
)

// maxRecord is the largest record that is read: 1 GiB.
const maxRecord = 1 << 30

// ErrDamaged is wrapped by every error about a file's framing.
var ErrDamaged = errors.New("damaged TFRecord file")

// RecordError says which record of which file is damaged, and how.
type RecordError struct {
	File   string
	Record int   // from 0
	Offset int64 // of the record's first byte
	What   string
	Passed bool // the record's end is known: Next may be called again for the one after it
}

func (e *RecordError) Error() string {
	return fmt.Sprintf("%s: record %d at byte %d: %s", e.File, e.Record, e.Offset, e.What)
}

// Unwrap makes errors.Is(err, ErrDamaged) true.
func (e *RecordError) Unwrap() error { return ErrDamaged }

// maskedCRC is the checksum of the format: CRC-32C, rotated and offset so that
// a file that holds checksums still checks well.
func maskedCRC(b []byte) uint32 {
	c := octets.Sum(b)
	return (c>>15 | c<<17) + 0xa282ead8
}

// Reader reads the records of one file in order.
type Reader struct {
	r      *bufio.Reader
	size   int64 // of the file
	file   string
	record int
	offset int64
	buf    []byte
}

// NewReader reads from r a file of size bytes; name is for messages.
func NewReader(r io.Reader, size int64, name string) *Reader {
	return &Reader{r: bufio.NewReaderSize(r, 1<<16), size: size, file: name}
}

// Next returns the next record's data, valid until the following call, and the
// data's offset in the file; io.EOF after the last record. A length is believed
// only once its checksum is right and the file is long enough for it.
func (r *Reader) Next() (data []byte, offset int64, err error) {
	bad := func(format string, a ...any) ([]byte, int64, error) {
		return nil, 0, &RecordError{r.file, r.record, r.offset, fmt.Sprintf(format, a...), false}
	}
	var head [12]byte
	switch n, err := io.ReadFull(r.r, head[:]); {
	case err == io.EOF:
		return nil, 0, io.EOF
	case err == io.ErrUnexpectedEOF:
		return bad("the file ends %d bytes into the 12-byte header: it is truncated", n)
	case err != nil:
		return nil, 0, fmt.Errorf("%s: record %d at byte %d: %w", r.file, r.record, r.offset, err)
	}
	if got, want := maskedCRC(head[:8]), binary.LittleEndian.Uint32(head[8:]); got != want {
		return bad("the checksum of its length is %08x, the file says %08x", got, want)
	}
	length := binary.LittleEndian.Uint64(head[:8])
	if length > maxRecord {
		return bad("it has %d bytes; at most %d are read", length, maxRecord)
	}
	if left := r.size - r.offset - 16; int64(length) > left {
		return bad("it has %d bytes, but only %d are left in the file: it is truncated", length, max(left, 0))
	}
	n := int(length) + 4
	if cap(r.buf) < n {
		r.buf = make([]byte, n)
	}
	r.buf = r.buf[:n]
	if got, err := io.ReadFull(r.r, r.buf); err != nil {
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return bad("the file ends %d bytes into its %d bytes of data: it is truncated", got, length)
		}
		return nil, 0, fmt.Errorf("%s: record %d at byte %d: %w", r.file, r.record, r.offset, err)
	}
	data = r.buf[:length]
	at := r.offset
	r.offset += 16 + int64(length)
	r.record++
	if got, want := maskedCRC(data), binary.LittleEndian.Uint32(r.buf[length:]); got != want {
		return nil, 0, &RecordError{r.file, r.record - 1, at, fmt.Sprintf("the checksum of its %d bytes of data is %08x, the file says %08x", length, got, want), true}
	}
	return data, at + 12, nil
}

// Append appends a record to dst, as a writer of test files needs.
func Append(dst, data []byte) []byte {
	head := binary.LittleEndian.AppendUint64(nil, uint64(len(data)))
	dst = binary.LittleEndian.AppendUint32(append(dst, head...), maskedCRC(head))
	dst = append(dst, data...)
	return binary.LittleEndian.AppendUint32(dst, maskedCRC(data))
}
