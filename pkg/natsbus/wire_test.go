package natsbus

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/pkg/bulk"
)

func sealed(r blobReply) []byte {
	b := append(make([]byte, replyBytes), r.data...)
	r.seal(b)
	return b
}

// TestWireGolden pins the bytes: both ends of a transfer may be of different builds.
func TestWireGolden(t *testing.T) {
	got := hex.EncodeToString(blobRequest{"ab", 0x80000, bulk.ChunkBytes}.encode())
	if want := "564c425101000200" + "0000080000000000" + "00000800" + requestCRC + "6162"; got != want {
		t.Errorf("request\n got %s\nwant %s", got, want)
	}
	got = hex.EncodeToString(sealed(blobReply{status: blobOK, total: 5, offset: 3, sha256: [32]byte{0xAA, 31: 0xBB}, data: []byte{1, 2}}))
	if want := "564c425201000000" + "0500000000000000" + "0300000000000000" + "02000000" + replyCRC + "aa" + strings.Repeat("00", 30) + "bb" + "0102"; got != want {
		t.Errorf("reply\n got %s\nwant %s", got, want)
	}
}

// From an independent bitwise CRC-32C over the bytes above with the field zero.
const (
	requestCRC = "bd3faf66"
	replyCRC   = "ae13a62e"
)

// TestWireDamage flips every bit of both messages.
func TestWireDamage(t *testing.T) {
	request := blobRequest{"name", 1 << 20, 1}.encode()
	reply := sealed(blobReply{total: 9, offset: 2, data: []byte("seven..")})
	for i := range len(request) * 8 {
		b := bytes.Clone(request)
		b[i/8] ^= 1 << (i % 8)
		if q, err := decodeRequest(b); !errors.Is(err, errWire) {
			t.Errorf("request with bit %d flipped: %+v, %v", i, q, err)
		}
	}
	for i := range len(reply) * 8 {
		b := bytes.Clone(reply)
		b[i/8] ^= 1 << (i % 8)
		if r, err := decodeReply(b); !errors.Is(err, errWire) {
			t.Errorf("reply with bit %d flipped: %+v, %v", i, r, err)
		}
	}
	for n := range reply {
		if _, err := decodeReply(reply[:n]); !errors.Is(err, errWire) {
			t.Errorf("reply cut to %d bytes: %v", n, err)
		}
	}
}

// TestWireLimits: well-sealed messages that lie.
func TestWireLimits(t *testing.T) {
	for _, q := range []blobRequest{{"", 0, 1}, {strings.Repeat("n", bulk.MaxName+1), 0, 1}, {"\xff", 0, 1}, {"n", -1, 1}, {"n", bulk.MaxBytes + 1, 1}, {"n", 0, 0}, {"n", 0, bulk.ChunkBytes + 1}} {
		if _, err := decodeRequest(q.encode()); err == nil {
			t.Errorf("request %.40q at %d, %d bytes was taken", q.name, q.offset, q.length)
		}
	}
	for _, r := range []blobReply{
		{total: 1, data: []byte("ab")}, {total: 2, offset: 1, data: []byte("ab")}, {total: -1, data: []byte("a")}, {total: 1, offset: 2},
		{total: 1, offset: -1, data: []byte("a")}, {status: 4}, {total: bulk.MaxBytes + 1}, {total: bulk.MaxBytes, data: make([]byte, bulk.ChunkBytes+1)},
	} {
		if _, err := decodeReply(sealed(r)); !errors.Is(err, errWire) {
			t.Errorf("reply of status %d, %d bytes at %d of %d: %v", r.status, len(r.data), r.offset, r.total, err)
		}
	}
}

// reseal makes the checksum right, so that fuzzing gets past it.
func reseal(b []byte, size, crc int) []byte {
	b = bytes.Clone(b)
	if len(b) >= size {
		sum := checksum(b, crc)
		b[crc], b[crc+1], b[crc+2], b[crc+3] = byte(sum), byte(sum>>8), byte(sum>>16), byte(sum>>24)
	}
	return b
}

func FuzzDecodeRequest(f *testing.F) {
	f.Add(blobRequest{"snapshot/1/model.safetensors", 1 << 20, bulk.ChunkBytes}.encode())
	f.Add([]byte(requestMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		decodeRequest(b)
		b = reseal(b, requestBytes, 20)
		q, err := decodeRequest(b)
		if err != nil {
			return
		}
		if !bytes.Equal(q.encode(), b) {
			t.Errorf("%+v is not what %x says", q, b)
		}
	})
}

func FuzzDecodeReply(f *testing.F) {
	f.Add(sealed(blobReply{total: 9, offset: 2, sha256: [32]byte{1}, data: []byte("seven..")}))
	f.Add(sealed(blobReply{status: blobFailed, data: []byte("why")}))
	f.Fuzz(func(t *testing.T, b []byte) {
		decodeReply(b)
		b = reseal(b, replyBytes, 28)
		r, err := decodeReply(b)
		if err != nil {
			return
		}
		if !bytes.Equal(sealed(r), b) {
			t.Errorf("%+v is not what %x says", r, b)
		}
	})
}
