package allreduce

import (
	"bytes"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"math"
	"testing"

	"github.com/vlaring/vlaring/internal/octets"
)

// golden is a data frame as version 2 writes it. It must never change: members
// of one job may run different builds.
const golden = "564c5247" + "0200" + "01" + "81" + // magic, version, data, broadcast and to be acknowledged
	"0807060504030201" + "1817161514131211" + // generation, step
	"24232221" + "34333231" + "4847464544434241" + // bucket, chunk, offset
	"08000000" + "0300" + "5251" + "6867666564636261" + // length, flags, sender, sequence
	"74737271" + "c130343e" + // transmission, CRC-32C
	"0000803f" + "000000c0" // 1, -2

func goldenHeader() header {
	return header{kind: kindData, pass: Broadcast, ask: true, generation: 0x0102030405060708, step: 0x1112131415161718, bucket: 0x21222324, chunk: 0x31323334,
		offset: 0x4142434445464748, length: 8, flags: FlagStop | FlagCheckpoint, from: 0x5152, seq: 0x6162636465666768, number: 0x71727374}
}

func goldenFrame() []byte {
	h := goldenHeader()
	frame := make([]byte, headerBytes+8)
	octets.Put(frame[headerBytes:], []float32{1, -2})
	h.put(frame)
	return frame
}

func TestGoldenFrame(t *testing.T) {
	frame := goldenFrame()
	if got := hex.EncodeToString(frame); got != golden {
		t.Fatalf("got  %s\nwant %s", got, golden)
	}
	h, payload, err := parse(frame)
	if err != nil || h != goldenHeader() {
		t.Errorf("parsed as %+v, %v", h, err)
	}
	got := make([]float32, 2)
	if octets.Get(got, payload); got[0] != 1 || got[1] != -2 {
		t.Errorf("payload %v", got)
	}
	// The checksum by its definition: over the frame with its field zero.
	plain := append([]byte(nil), frame...)
	clear(plain[60:64])
	if sum := crc32.Checksum(plain, crc32.MakeTable(0x82f63b78)); !bytes.Equal(frame[60:64], []byte{byte(sum), byte(sum >> 8), byte(sum >> 16), byte(sum >> 24)}) {
		t.Errorf("checksum %x, want %x", frame[60:64], sum)
	}
}

// A slot is used again: what it held before must not show.
func TestPutOverwritesTheWholeHeader(t *testing.T) {
	frame := bytes.Repeat([]byte{0xEE}, headerBytes+8)
	octets.Put(frame[headerBytes:], []float32{1, -2})
	h := goldenHeader()
	h.put(frame)
	if !bytes.Equal(frame, goldenFrame()) {
		t.Error("a frame depends on what lay in its slot")
	}
}

func TestEveryFlippedBitIsFound(t *testing.T) {
	frame := goldenFrame()
	for bit := range 8 * len(frame) {
		frame[bit/8] ^= 1 << (bit % 8)
		if _, _, err := parse(frame); err == nil {
			t.Errorf("bit %d of byte %d flipped: not found", bit%8, bit/8)
		}
		frame[bit/8] ^= 1 << (bit % 8)
	}
	for n := range frame {
		if _, _, err := parse(frame[:n]); err == nil {
			t.Errorf("cut to %d bytes: not found", n)
		}
	}
}

func TestParseRefusesImpossibleHeaders(t *testing.T) {
	for name, change := range map[string]func(*header){
		"kind 0":        func(h *header) { h.kind = 0 },
		"kind 5":        func(h *header) { h.kind = 5 },
		"pass 2":        func(h *header) { h.pass = passes },
		"length short":  func(h *header) { h.length = 4 },
		"length long":   func(h *header) { h.length = math.MaxUint32 },
		"length uneven": func(h *header) { h.length = 7 },
	} {
		h := goldenHeader()
		change(&h)
		frame := goldenFrame()
		h.put(frame) // with a good checksum
		if _, _, err := parse(frame); !errors.Is(err, errNotFrame) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(goldenFrame())
	f.Add([]byte{})
	f.Add([]byte(frameMagic))
	f.Add(make([]byte, headerBytes))
	cut := goldenFrame()
	f.Add(cut[:headerBytes])
	f.Fuzz(func(t *testing.T, frame []byte) {
		h, payload, err := parse(frame)
		if err != nil {
			if payload != nil {
				t.Error("a refused frame has a payload")
			}
			return
		}
		again := append([]byte(nil), frame...)
		clear(again[:headerBytes])
		h.put(again)
		if !bytes.Equal(again, frame) || len(payload) != int(h.length) {
			t.Errorf("not the frame that was parsed:\n%x\n%x", frame, again)
		}
	})
}
