package allreduce

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// A frame on the wire is a header of 64 bytes, little-endian, and a payload:
//
//	 0  "VLRG"
//	 4  u16 version, 1
//	 6  u8  kind: 1 data, 2 acknowledgement, 3 negative acknowledgement, 4 probe
//	 7  u8  pass: 0 reduce, 1 broadcast
//	 8  u64 generation
//	16  u64 step           data only, like bucket, chunk, offset, length and flags
//	24  u32 bucket
//	28  u32 chunk
//	32  u64 offset         of the chunk in the flat gradient, in elements;
//	                       acknowledgements: data frames consumed
//	40  u32 length         of the payload, in bytes
//	44  u16 flags
//	46  u16 sender's rank
//	48  u64 sequence       of the data frame on its link and pass, from 0;
//	                       acknowledgements: the next one that is expected
//	56  u32 zero
//	60  u32 CRC-32C of the frame with this field zero
//
// The payload is little-endian float32.
const (
	headerBytes  = 64
	frameMagic   = "VLRG"
	frameVersion = 1

	// MaxPayload bounds a chunk.
	MaxPayload = 1 << 20

	// MaxFrame is the longest frame that a Network must carry.
	MaxFrame = headerBytes + MaxPayload
)

type frameKind uint8

const (
	kindData frameKind = iota + 1
	kindAck
	kindNack
	kindProbe
)

// header is a decoded frame header.
type header struct {
	kind       frameKind
	pass       Pass
	generation uint64
	step       uint64
	bucket     uint32
	chunk      uint32
	offset     uint64
	length     uint32
	flags      Flags
	from       uint16
	seq        uint64
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// put writes the header of a frame whose payload is in place.
func (h *header) put(frame []byte) {
	le := binary.LittleEndian
	copy(frame, frameMagic)
	le.PutUint16(frame[4:], frameVersion)
	frame[6], frame[7] = byte(h.kind), byte(h.pass)
	le.PutUint64(frame[8:], h.generation)
	le.PutUint64(frame[16:], h.step)
	le.PutUint32(frame[24:], h.bucket)
	le.PutUint32(frame[28:], h.chunk)
	le.PutUint64(frame[32:], h.offset)
	le.PutUint32(frame[40:], h.length)
	le.PutUint16(frame[44:], uint16(h.flags))
	le.PutUint16(frame[46:], h.from)
	le.PutUint64(frame[48:], h.seq)
	le.PutUint64(frame[56:], 0)
	le.PutUint32(frame[60:], crc32.Checksum(frame, castagnoli))
}

// frameLength is the header and the length of a frame that put has written.
func frameLength(frame []byte) (header, int) {
	h := decodeHeader(frame)
	return h, headerBytes + int(h.length)
}

func decodeHeader(frame []byte) header {
	le := binary.LittleEndian
	return header{kind: frameKind(frame[6]), pass: Pass(frame[7]), generation: le.Uint64(frame[8:]), step: le.Uint64(frame[16:]),
		bucket: le.Uint32(frame[24:]), chunk: le.Uint32(frame[28:]), offset: le.Uint64(frame[32:]), length: le.Uint32(frame[40:]),
		flags: Flags(le.Uint16(frame[44:])), from: le.Uint16(frame[46:]), seq: le.Uint64(frame[48:])}
}

// noCRC stands for the checksum's own field.
var noCRC = make([]byte, 4)

var errNotFrame = errors.New("not a frame of this protocol")

// errCRC is a frame that is one, but not as it was sent.
var errCRC = errors.New("its checksum is wrong")

// parse decodes a frame from anyone. With errCRC the header is returned as it
// stands: it may be wrong, but says best where the frame came from.
func parse(frame []byte) (h header, payload []byte, err error) {
	if len(frame) < headerBytes || string(frame[:4]) != frameMagic {
		return h, nil, errNotFrame
	}
	le := binary.LittleEndian
	if v := le.Uint16(frame[4:]); v != frameVersion {
		return h, nil, fmt.Errorf("%w: version %d, want %d", errNotFrame, v, frameVersion)
	}
	h = decodeHeader(frame)
	sum := crc32.Update(crc32.Checksum(frame[:60], castagnoli), castagnoli, noCRC)
	if crc32.Update(sum, castagnoli, frame[headerBytes:]) != le.Uint32(frame[60:]) {
		return h, nil, errCRC
	}
	if h.kind < kindData || h.kind > kindProbe || h.pass >= passes || le.Uint32(frame[56:]) != 0 ||
		int(h.length) != len(frame)-headerBytes || h.length > MaxPayload || h.length%4 != 0 {
		return h, nil, errNotFrame
	}
	return h, frame[headerBytes:], nil
}
