package allreduce

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/vlaring/vlaring/internal/octets"
)

// A frame on the wire is a header of 64 bytes, little-endian, and a payload:
//
//	 0  "VLRG"
//	 4  u16 version, 2
//	 6  u8  kind: 1 data, 2 acknowledgement, 3 negative acknowledgement, 4 probe
//	 7  u8  pass: 0 reduce, 1 broadcast; with 128: to be acknowledged at once
//	 8  u64 generation
//	16  u64 step           data only, like bucket, chunk, offset, length and flags
//	24  u32 bucket         acknowledgements: microseconds since the newest transmission came
//	28  u32 chunk          acknowledgements: data frames that came in two transmissions
//	32  u64 offset         of the chunk in the flat gradient, in elements;
//	                       acknowledgements: data frames consumed
//	40  u32 length         of the payload, in bytes
//	44  u16 flags
//	46  u16 sender's rank
//	48  u64 sequence       of the data frame on its link and pass, from 0;
//	                       acknowledgements: the next one that is expected
//	56  u32 transmission   of data and probes, on their link and pass, from 1 in
//	                       the order of sending: a frame that is sent again has
//	                       a new one; acknowledgements: the newest that came, or 0
//	60  u32 CRC-32C of the frame with this field zero
//
// The payload of data is little-endian float32, or bfloat16 where the job says
// so (cluster.wire). That of an acknowledgement is
// at most 32 pairs of u32: ranges of data frames that came beyond the next one
// expected, ascending, each its distance from that one and its length. With 32
// pairs there may be more.
const (
	headerBytes  = 64
	spanBytes    = 8
	askBit       = 128
	frameMagic   = "VLRG"
	frameVersion = 2

	// MaxPayload bounds a chunk.
	MaxPayload = 1 << 20

	// MaxFrame is the longest frame that a Network must carry.
	MaxFrame = headerBytes + MaxPayload
)

// FrameBytes is the length of a frame with a chunk of so many bytes.
func FrameBytes(chunk int) int { return headerBytes + chunk }

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
	ask        bool // to be acknowledged at once
	generation uint64
	step       uint64
	bucket     uint32
	chunk      uint32
	offset     uint64
	length     uint32
	flags      Flags
	from       uint16
	seq        uint64
	number     uint32 // of the transmission
}

// put writes the header of a frame whose payload is in place.
func (h *header) put(frame []byte) {
	le := binary.LittleEndian
	copy(frame, frameMagic)
	le.PutUint16(frame[4:], frameVersion)
	frame[6], frame[7] = byte(h.kind), byte(h.pass)
	if h.ask {
		frame[7] |= askBit
	}
	le.PutUint64(frame[8:], h.generation)
	le.PutUint64(frame[16:], h.step)
	le.PutUint32(frame[24:], h.bucket)
	le.PutUint32(frame[28:], h.chunk)
	le.PutUint64(frame[32:], h.offset)
	le.PutUint32(frame[40:], h.length)
	le.PutUint16(frame[44:], uint16(h.flags))
	le.PutUint16(frame[46:], h.from)
	le.PutUint64(frame[48:], h.seq)
	le.PutUint32(frame[56:], h.number)
	le.PutUint32(frame[60:], 0)
	le.PutUint32(frame[60:], octets.Sum(frame))
}

// frameLength is the header and the length of a frame that put has written.
func frameLength(frame []byte) (header, int) {
	h := decodeHeader(frame)
	return h, headerBytes + int(h.length)
}

func decodeHeader(frame []byte) header {
	le := binary.LittleEndian
	return header{kind: frameKind(frame[6]), pass: Pass(frame[7] &^ askBit), ask: frame[7]&askBit != 0, generation: le.Uint64(frame[8:]), step: le.Uint64(frame[16:]),
		bucket: le.Uint32(frame[24:]), chunk: le.Uint32(frame[28:]), offset: le.Uint64(frame[32:]), length: le.Uint32(frame[40:]),
		flags: Flags(le.Uint16(frame[44:])), from: le.Uint16(frame[46:]), seq: le.Uint64(frame[48:]), number: le.Uint32(frame[56:])}
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
	sum := octets.AddSum(octets.Sum(frame[:60]), noCRC)
	if octets.AddSum(sum, frame[headerBytes:]) != le.Uint32(frame[60:]) {
		return h, nil, errCRC
	}
	if h.kind < kindData || h.kind > kindProbe || h.pass >= passes ||
		int(h.length) != len(frame)-headerBytes || h.length > MaxPayload || h.length%2 != 0 ||
		h.kind == kindProbe && h.length != 0 || (h.kind == kindAck || h.kind == kindNack) && (h.length > maxRanges*spanBytes || h.length%spanBytes != 0) {
		return h, nil, errNotFrame
	}
	return h, frame[headerBytes:], nil
}

// putSpans writes ranges of data frames, as distances from seq.
func putSpans(payload []byte, seq uint64, ranges []span) {
	for i, r := range ranges {
		binary.LittleEndian.PutUint32(payload[spanBytes*i:], uint32(r.lo-seq))
		binary.LittleEndian.PutUint32(payload[spanBytes*i+4:], uint32(r.hi-r.lo))
	}
}

// spans appends the ranges of an acknowledgement.
func spans(ranges []span, seq uint64, payload []byte) []span {
	for ; len(payload) >= spanBytes; payload = payload[spanBytes:] {
		lo := seq + uint64(binary.LittleEndian.Uint32(payload))
		ranges = append(ranges, span{lo, lo + uint64(binary.LittleEndian.Uint32(payload[4:]))})
	}
	return ranges
}
