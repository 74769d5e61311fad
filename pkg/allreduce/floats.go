package allreduce

import (
	"encoding/binary"
	"math"
	"unsafe"
)

// littleEndian says whether float32 lie in memory as they do on the wire.
var littleEndian = func() bool {
	x := uint16(1)
	return *(*byte)(unsafe.Pointer(&x)) == 1
}()

// decode fills dst from a payload of 4·len(dst) bytes.
func decode(dst []float32, payload []byte) {
	if littleEndian {
		if len(dst) > 0 {
			copy(unsafe.Slice((*byte)(unsafe.Pointer(&dst[0])), 4*len(dst)), payload)
		}
		return
	}
	decodePortable(dst, payload)
}

func decodePortable(dst []float32, payload []byte) {
	for i := range dst {
		dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(payload[4*i:]))
	}
}

// encode fills a payload from src.
func encode(payload []byte, src []float32) {
	if littleEndian {
		if len(src) > 0 {
			copy(payload, unsafe.Slice((*byte)(unsafe.Pointer(&src[0])), 4*len(src)))
		}
		return
	}
	encodePortable(payload, src)
}

func encodePortable(payload []byte, src []float32) {
	for i, x := range src {
		binary.LittleEndian.PutUint32(payload[4*i:], math.Float32bits(x))
	}
}
