package data

import (
	"encoding/binary"
	"encoding/hex"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
)

// What a Scan keeps of a safetensors file: for each tensor that was looked through,
// all of whose values are finite, its range.
//
//	uvarint tensors × (uvarint length, name  f32 least  f32 most)   by name
//
// Rows are read without a checksum later, so a worker's file must have the time of
// the coordinator's, or it is hashed as a whole.

// recallTensors returns the SHA-256 of a file in hex, as the Scan knows it or by
// reading it whole, and what is to be called once all of it was found good.
func (o *Opening) recallTensors(t *tensorFile) (sum string, keep func() error, err error) {
	scan, err := o.scanFiles(filepath.Dir(t.path), NewFingerprint("scan of tensors").Add("features", o.wanted()))
	if err != nil {
		return "", nil, err
	}
	o.ranges = map[string]valueRange{}
	k, err := scan.recall(t.path, "", true)
	if err != nil {
		return "", nil, err
	}
	if k != nil {
		if r, ok := rangesOf(k.memo); ok {
			o.ranges = r
			return hex.EncodeToString(k.content[:]), func() error { scan.keep(); return nil }, nil
		}
	}
	info, err := os.Stat(t.path)
	if err != nil {
		return "", nil, err
	}
	if sum, err = o.hashFile(t.path); err != nil {
		return "", nil, err
	}
	return sum, func() error {
		err := scan.remember(t.path, "", stampOf(info), sum, rangesMemo(o.ranges), 0)
		scan.keep()
		return err
	}, nil
}

func rangesMemo(ranges map[string]valueRange) []byte {
	b := binary.AppendUvarint(nil, uint64(len(ranges)))
	for _, name := range slices.Sorted(maps.Keys(ranges)) {
		b = append(binary.AppendUvarint(b, uint64(len(name))), name...)
		for _, v := range []float32{ranges[name].lo, ranges[name].hi} {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
		}
	}
	return b
}

func rangesOf(memo []byte) (map[string]valueRange, bool) {
	r, out := &memoReader{b: memo}, map[string]valueRange{}
	for range r.int() {
		name := string(r.take(r.int()))
		out[name] = valueRange{lo: math.Float32frombits(r.uint32()), hi: math.Float32frombits(r.uint32())}
		if r.short {
			return nil, false
		}
	}
	return out, len(r.b) == 0
}
