package natsbus

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/vlaring/vlaring/internal/octets"
	"github.com/vlaring/vlaring/pkg/bulk"
)

// Blobs on the wire. A request is a NATS request on the owner's blob subject:
//
//	 0  "VLBQ"
//	 4  u16 version, 1
//	 6  u16 length of the name, 1 to 256
//	 8  u64 offset of the wanted chunk in the blob
//	16  u32 wanted length, 1 to 512 KiB; the last chunk is what there is
//	20  u32 CRC-32C of the request with this field zero
//	24  name, UTF-8
//
// and a reply is
//
//	 0  "VLBR"
//	 4  u16 version, 1
//	 6  u16 status: 0 here it is, 1 no blob of this name, 2 the owner has failed,
//	    3 the request makes no sense
//	 8  u64 length of the whole blob
//	16  u64 offset, as requested
//	24  u32 length of the payload
//	28  u32 CRC-32C of the reply with this field zero
//	32  32 bytes: SHA-256 of the whole blob, zero where the owner knows none
//	64  payload: bytes of the blob from offset on; unless the status is 0, an
//	    explanation in UTF-8
//
// All little-endian. Length and hash are those of the same incarnation of the
// blob as the payload: by them the receiver knows chunks that belong together.
const (
	blobVersion  = 1
	requestMagic = "VLBQ"
	replyMagic   = "VLBR"
	requestBytes = 24
	replyBytes   = 64
)

type blobStatus uint16

const (
	blobOK blobStatus = iota
	blobUnknown
	blobFailed
	blobBadRequest
)

type blobRequest struct {
	name   string
	offset int64
	length int
}

type blobReply struct {
	status blobStatus
	total  int64
	offset int64
	sha256 [32]byte
	data   []byte
}

var errWire = errors.New("not a message of this protocol")

// checksum is the CRC of b with the four bytes at i taken as zero.
func checksum(b []byte, i int) uint32 {
	var zero [4]byte
	return octets.AddSum(octets.AddSum(octets.Sum(b[:i]), zero[:]), b[i+4:])
}

func (q blobRequest) encode() []byte {
	b := make([]byte, requestBytes, requestBytes+len(q.name))
	le := binary.LittleEndian
	copy(b, requestMagic)
	le.PutUint16(b[4:], blobVersion)
	le.PutUint16(b[6:], uint16(len(q.name)))
	le.PutUint64(b[8:], uint64(q.offset))
	le.PutUint32(b[16:], uint32(q.length))
	b = append(b, q.name...)
	le.PutUint32(b[20:], checksum(b, 20))
	return b
}

// head checks what both messages begin with.
func head(b []byte, magic string, size, crc int) error {
	if len(b) < size || string(b[:4]) != magic {
		return fmt.Errorf("%w: %d bytes that begin with %.4q, want %s", errWire, len(b), b[:min(4, len(b))], magic)
	}
	le := binary.LittleEndian
	if v := le.Uint16(b[4:]); v != blobVersion {
		return fmt.Errorf("%w: version %d, want %d", errWire, v, blobVersion)
	}
	if checksum(b, crc) != le.Uint32(b[crc:]) {
		return fmt.Errorf("%w: its checksum is wrong", errWire)
	}
	return nil
}

func decodeRequest(b []byte) (q blobRequest, err error) {
	if err := head(b, requestMagic, requestBytes, 20); err != nil {
		return q, err
	}
	le := binary.LittleEndian
	offset, length := le.Uint64(b[8:]), le.Uint32(b[16:])
	if int(le.Uint16(b[6:])) != len(b)-requestBytes || offset > bulk.MaxBytes || length < 1 || length > bulk.ChunkBytes {
		return q, fmt.Errorf("%w: name of %d bytes in %d, %d bytes at %d", errWire, le.Uint16(b[6:]), len(b)-requestBytes, length, offset)
	}
	q = blobRequest{string(b[requestBytes:]), int64(offset), int(length)}
	return q, bulk.ValidName(q.name)
}

// seal completes a reply in place: buf is replyBytes of room and then the payload.
func (r blobReply) seal(buf []byte) {
	le := binary.LittleEndian
	copy(buf, replyMagic)
	le.PutUint16(buf[4:], blobVersion)
	le.PutUint16(buf[6:], uint16(r.status))
	le.PutUint64(buf[8:], uint64(r.total))
	le.PutUint64(buf[16:], uint64(r.offset))
	le.PutUint32(buf[24:], uint32(len(buf)-replyBytes))
	copy(buf[32:], r.sha256[:])
	le.PutUint32(buf[28:], checksum(buf, 28))
}

// decodeReply decodes a reply, whose data alias b.
func decodeReply(b []byte) (r blobReply, err error) {
	if err := head(b, replyMagic, replyBytes, 28); err != nil {
		return r, err
	}
	le := binary.LittleEndian
	total, offset, length := le.Uint64(b[8:]), le.Uint64(b[16:]), int(le.Uint32(b[24:]))
	r = blobReply{status: blobStatus(le.Uint16(b[6:])), total: int64(total), offset: int64(offset), data: b[replyBytes:]}
	copy(r.sha256[:], b[32:])
	if length != len(r.data) || length > bulk.ChunkBytes || total > bulk.MaxBytes || offset > bulk.MaxBytes || r.status > blobBadRequest ||
		r.status == blobOK && (offset > total || uint64(length) > total-offset) {
		return r, fmt.Errorf("%w: status %d, %d bytes at %d of %d", errWire, r.status, len(r.data), offset, total)
	}
	return r, nil
}
