package data

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"reflect"
	"testing"

	"github.com/vlaring/vlaring/internal/octets"
)

func wireSamples() []Sample {
	return []Sample{
		{ID: 1 << 40, Origin: "a.jsonl:3", Values: []Value{{Image: Image{Encoded: []byte{1, 2, 3}}}, {Ints: []int32{5, 0, -1}}, {Floats: []float32{1.5, float32(math.Inf(-1)), math.SmallestNonzeroFloat32}}}},
		{Values: make([]Value, 3)},
		{ID: 2, Values: []Value{{Image: Image{RGB: []byte{9, 8, 7}, H: 1, W: 1}}, {Ints: []int32{math.MaxInt32}}, {Floats: []float32{0.1}}, {Floats: []float32{-0.2, 3}}}},
		{ID: 3, Epoch: 1 << 33, Set: 2, Values: []Value{{Floats: []float32{1, 2, 3, 4}, Image: Image{H: 2, W: 2}}}},
		{ID: 4, Values: []Value{}},
	}
}

func TestCodecRoundTrip(t *testing.T) {
	for _, in := range [][]Sample{wireSamples(), {}} {
		b := EncodeSamples([]byte("before"), 77, 3, in)
		step, m, out, err := DecodeSamples(b[6:])
		if err != nil || step != 77 || m != 3 || len(out) != len(in) {
			t.Fatal(step, m, len(out), err)
		}
		for i := range in {
			if !reflect.DeepEqual(in[i], out[i]) {
				t.Errorf("sample %d: got %+v, want %+v", i, out[i], in[i])
			}
		}
	}
}

// Every flipped bit and every cut is found.
func TestCodecFindsDamage(t *testing.T) {
	b := EncodeSamples(nil, 1, 2, wireSamples())
	for i := range b {
		for bit := 0; bit < 8; bit++ {
			c := bytes.Clone(b)
			c[i] ^= 1 << bit
			if _, _, _, err := DecodeSamples(c); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("byte %d bit %d: %v", i, bit, err)
			}
		}
	}
	for n := range b {
		if _, _, _, err := DecodeSamples(b[:n]); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("cut to %d: %v", n, err)
		}
	}
	if _, _, _, err := DecodeSamples(append(bytes.Clone(b), 0)); !errors.Is(err, ErrCorrupt) {
		t.Fatal(err)
	}
}

// reseal makes the checksum right again, so that what is behind it is tested.
func reseal(b []byte) []byte {
	binary.LittleEndian.PutUint32(b[len(b)-4:], octets.Sum(b[:len(b)-4]))
	return b
}

func TestCodecLimits(t *testing.T) {
	b := EncodeSamples(nil, 1, 2, wireSamples())
	first := codecHeader + codecSample + len("a.jsonl:3") // feature of the first sample
	for name, f := range map[string]func(b []byte){
		"count too large":  func(b []byte) { binary.LittleEndian.PutUint32(b[20:], math.MaxUint32) },
		"count too small":  func(b []byte) { binary.LittleEndian.PutUint32(b[20:], 1) },
		"origin too long":  func(b []byte) { binary.LittleEndian.PutUint32(b[codecHeader+20:], math.MaxUint32) },
		"many features":    func(b []byte) { binary.LittleEndian.PutUint32(b[first-4:], math.MaxUint32) },
		"no such form":     func(b []byte) { binary.LittleEndian.PutUint32(b[first:], 5) },
		"nothing in it":    func(b []byte) { binary.LittleEndian.PutUint32(b[first:], formNothing) },
		"huge picture":     func(b []byte) { binary.LittleEndian.PutUint32(b[first+4:], 1<<30) },
		"length too large": func(b []byte) { binary.LittleEndian.PutUint32(b[first+12:], math.MaxUint32) },
		"version":          func(b []byte) { b[4] = 2 },
	} {
		c := bytes.Clone(b)
		f(c)
		if _, _, _, err := DecodeSamples(reseal(c)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzDecodeSamples(f *testing.F) {
	f.Add(EncodeSamples(nil, 1, 2, wireSamples()))
	f.Add(EncodeSamples(nil, 0, 0, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < codecHeader+4 {
			return
		}
		b = reseal(bytes.Clone(b))
		step, m, s, err := DecodeSamples(b)
		if err != nil {
			return
		}
		if !bytes.Equal(EncodeSamples(nil, step, m, s), b) {
			t.Fatal("what was accepted does not encode to the same bytes")
		}
	})
}
