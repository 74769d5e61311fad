package tfrecord

import (
	"encoding/binary"
	"math"
)

// Builder writes a tf.train.Example, for tests and fixtures. The zero value is
// an empty Example; features come out in the order in which they were added.
type Builder struct{ features []byte }

// Strings adds a feature of byte strings.
func (b *Builder) Strings(name string, v ...[]byte) {
	var list []byte
	for _, s := range v {
		list = field(list, 1, s)
	}
	b.add(name, Bytes, list)
}

// Floats adds a feature of float32 values, packed.
func (b *Builder) Floats(name string, v ...float32) {
	var packed []byte
	for _, x := range v {
		packed = binary.LittleEndian.AppendUint32(packed, math.Float32bits(x))
	}
	b.add(name, Floats, field(nil, 1, packed))
}

// Ints adds a feature of int64 values, packed.
func (b *Builder) Ints(name string, v ...int64) {
	var packed []byte
	for _, x := range v {
		packed = binary.AppendUvarint(packed, uint64(x))
	}
	b.add(name, Ints, field(nil, 1, packed))
}

// Record returns the Example's bytes.
func (b *Builder) Record() []byte { return field(nil, 1, b.features) }

func (b *Builder) add(name string, k Kind, list []byte) {
	entry := field(field(nil, 1, []byte(name)), 2, field(nil, int(k), list))
	b.features = field(b.features, 1, entry)
}

// field appends a length-delimited protobuf field.
func field(dst []byte, num int, v []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(num)<<3|2)
	return append(binary.AppendUvarint(dst, uint64(len(v))), v...)
}
