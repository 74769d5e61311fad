package safetensors

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// rule is the fixture's: see tools/make_safetensors_fixture.py.
func rule(n int) []int64 {
	out := make([]int64, n)
	for i := range out {
		out[i] = int64(i*37%101 - 50)
	}
	return out
}

func eighths(n int) []float32 {
	out := make([]float32, n)
	for i, v := range rule(n) {
		out[i] = float32(v) / 8
	}
	return out
}

var (
	halfBits  = []uint16{0x0000, 0x8000, 0x0001, 0x03ff, 0x0400, 0x3c00, 0xc000, 0x7bff, 0x7c00, 0xfc00, 0x7e01}
	brainBits = []uint16{0x0000, 0x8000, 0x0001, 0x3f80, 0xc000, 0x7f80, 0xff80, 0x7fc1}
)

const oddName = "quote\" \\ tab\t é 漢 \u2028 <&> \x01\x7f"

func le16(x []uint16) []byte {
	var b []byte
	for _, v := range x {
		b = binary.LittleEndian.AppendUint16(b, v)
	}
	return b
}

func fixture() []Tensor {
	tokens := rule(6)
	for i := range tokens {
		tokens[i] <<= 40
	}
	mask := make([]uint8, 7)
	for i, v := range rule(7) {
		mask[i] = uint8(v + 50)
	}
	return []Tensor{
		{"layers.0.weight", []int{3, 5}, eighths(15)},
		{"layers.0.bias", []int{5}, eighths(5)},
		{"scalar", nil, []float32{-6.25}},
		{"empty", []int{0, 4}, []float32{}},
		{"double", []int{2, 2}, []float64{-6.25, -1.625, 3, -5}},
		{"tokens", []int{2, 3}, tokens},
		{"small", []int{3}, []int32{-50, -13, 24}},
		{"mask", []int{7}, mask},
		{"flags", []int{3}, []bool{true, false, true}},
		{"half", []int{len(halfBits)}, Raw{"F16", le16(halfBits)}},
		{"brain", []int{len(brainBits)}, Raw{"BF16", le16(brainBits)}},
		{oddName, []int{1}, []uint8{5}},
	}
}

const reference = "testdata/reference.safetensors"

// The writer's bytes are those of the reference library, whatever the order
// the tensors are given in.
func TestWriteEqualsReference(t *testing.T) {
	want, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	tensors := fixture()
	for range 5 {
		rand.Shuffle(len(tensors), func(i, j int) { tensors[i], tensors[j] = tensors[j], tensors[i] })
		var got bytes.Buffer
		if err := Write(&got, tensors, map[string]string{"format": "pt"}); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Bytes(), want) {
			t.Fatalf("bytes differ from the reference library's:\n%q\n%q", got.Bytes(), want)
		}
		if v, err := NewView(tensors, map[string]string{"format": "pt"}); err != nil || v.Size() != int64(len(want)) {
			t.Fatalf("its View has %v bytes, %v, want %d", v.Size(), err, len(want))
		}
	}
}

func TestReadReference(t *testing.T) {
	f, err := Open(reference)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if !slices.IsSorted(f.Names()) || len(f.Names()) != len(fixture()) {
		t.Errorf("Names() = %q", f.Names())
	}
	if f.Metadata()["format"] != "pt" || len(f.Metadata()) != 1 {
		t.Errorf("Metadata() = %v", f.Metadata())
	}
	if i, ok := f.Tensor("layers.0.weight"); !ok || i.DType != "F32" || !slices.Equal(i.Shape, []int{3, 5}) || i.Begin != 100 || i.End != 160 {
		t.Errorf("Tensor(layers.0.weight) = %+v, %v", i, ok)
	}
	floats := map[string][]float32{"layers.0.weight": eighths(15), "layers.0.bias": eighths(5), "scalar": {-6.25}, "empty": {},
		"double": {-6.25, -1.625, 3, -5}}
	inf := float32(math.Inf(1))
	floats["half"] = []float32{0, float32(math.Copysign(0, -1)), 0x1p-24, 1023 * 0x1p-24, 0x1p-14, 1, -2, 65504, inf, -inf, math.Float32frombits(0x7fc02000)}
	floats["brain"] = []float32{0, float32(math.Copysign(0, -1)), math.Float32frombits(1 << 16), 1, -2, inf, -inf, math.Float32frombits(0x7fc10000)}
	for name, want := range floats {
		got, err := f.Float32(name)
		if err != nil || !slices.EqualFunc(got, want, func(a, b float32) bool { return math.Float32bits(a) == math.Float32bits(b) }) {
			t.Errorf("Float32(%s) = %v, %v, want %v", name, got, err, want)
		}
	}
	ints := map[string][]int64{"small": {-50, -13, 24}, "flags": {1, 0, 1}, oddName: {5}, "mask": {0, 37, 74, 10, 47, 84, 20}}
	for _, v := range rule(6) {
		ints["tokens"] = append(ints["tokens"], v<<40)
	}
	for name, want := range ints {
		if got, err := f.Int64(name); err != nil || !slices.Equal(got, want) {
			t.Errorf("Int64(%q) = %v, %v, want %v", name, got, err, want)
		}
	}
	if got, err := f.Uint8("mask"); err != nil || !slices.Equal(got, []uint8{0, 37, 74, 10, 47, 84, 20}) {
		t.Errorf("Uint8(mask) = %v, %v", got, err)
	}

	for _, c := range []struct{ call, want string }{
		{"missing", `has no tensor "nope"`},
		{"type", `tensor "tokens" is I64, want one of [F32 F16 BF16 F64]`},
		{"length", `tensor "scalar" has 1 elements [], and the destination 2`},
		{"inttype", `tensor "scalar" is F32, want one of [I64`},
	} {
		switch c.call {
		case "missing":
			_, err = f.Float32("nope")
		case "type":
			_, err = f.Float32("tokens")
		case "length":
			err = f.Float32Into("scalar", make([]float32, 2))
		case "inttype":
			_, err = f.Int64("scalar")
		}
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), reference) {
			t.Errorf("%s: %v, want %q", c.call, err, c.want)
		}
	}
}

func TestInt64Types(t *testing.T) {
	view, err := NewView([]Tensor{
		{"i8", []int{2}, Raw{"I8", []byte{0x80, 0x7f}}},
		{"i16", []int{1}, Raw{"I16", []byte{0, 0x80}}},
		{"u16", []int{1}, Raw{"U16", []byte{0, 0x80}}},
		{"u32", []int{1}, Raw{"U32", []byte{0, 0, 0, 0x80}}},
		{"u64", []int{1}, Raw{"U64", []byte{1, 0, 0, 0, 0, 0, 0, 0}}},
		{"big", []int{2}, Raw{"U64", []byte{1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0x80}}},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	f, err := Read(view, view.Size(), "ints")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]int64{"i8": {-128, 127}, "i16": {-32768}, "u16": {32768}, "u32": {1 << 31}, "u64": {1}} {
		if got, err := f.Int64(name); err != nil || !slices.Equal(got, want) {
			t.Errorf("Int64(%s) = %v, %v, want %v", name, got, err, want)
		}
	}
	if _, err := f.Int64("big"); err == nil || !strings.Contains(err.Error(), "the value at [1] is 9223372036854775810, beyond int64") {
		t.Errorf("Int64(big): %v", err)
	}
}

// file builds a file from its parts; n < 0 takes the header's own length.
func file(n int64, head string, data int) []byte {
	if n < 0 {
		n = int64(len(head))
	}
	b := binary.LittleEndian.AppendUint64(nil, uint64(n))
	return append(append(b, head...), make([]byte, data)...)
}

// Every rejection of formats.md 2.9, by its own message.
func TestRejects(t *testing.T) {
	const w = `"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}`
	for _, c := range []struct {
		name string
		file []byte
		want string
	}{
		{"empty", nil, "it is an empty file"},
		{"short", make([]byte, 7), "it has 7 bytes, too few"},
		{"header too large", file(maxHeader+1, "{}", 0), "claims 100000001 bytes, and 100000000 are allowed"},
		{"header length beyond int64", append(bytes.Repeat([]byte{0xff}, 8), "{}"...), "claims 18446744073709551615 bytes"},
		{"header beyond file", file(3, "{}", 0), "claims 3 bytes and the file has 2"},
		{"no header", file(0, "", 0), "does not start with '{'"},
		{"array", file(-1, "[]", 0), "does not start with '{'"},
		{"leading space", file(-1, " {}", 0), "does not start with '{'"},
		{"not UTF-8", file(-1, "{\"\xff\":1}", 0), "not UTF-8"},
		{"not JSON", file(-1, "{"+w, 8), "not JSON"},
		{"trailing comma", file(-1, "{"+w+",}", 8), "not JSON"},
		{"half surrogate", file(-1, `{"\ud800":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`, 8), "half of a \\u surrogate pair"},
		{"text after header", file(-1, "{"+w+"} x", 8), `goes on after its JSON object, with "x"`},
		{"NUL after header", file(-1, "{"+w+"}\x00", 8), "goes on after its JSON object"},
		{"tensor twice", file(-1, "{"+w+","+w+"}", 8), `tensor "w": is in the header twice`},
		{"field twice", file(-1, `{"w":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}}`, 8), `has "dtype" twice`},
		{"metadata twice", file(-1, `{"__metadata__":{},"__metadata__":{}}`, 0), "__metadata__ twice"},
		{"metadata key twice", file(-1, `{"__metadata__":{"a":"","a":""}}`, 0), `__metadata__ has "a" twice`},
		{"metadata number", file(-1, `{"__metadata__":{"a":1}}`, 0), `the value of "a" is not a string`},
		{"metadata list", file(-1, `{"__metadata__":[]}`, 0), "where an object was expected"},
		{"tensor is a number", file(-1, `{"w":1}`, 0), "where an object was expected"},
		{"unknown dtype", file(-1, `{"w":{"dtype":"F33","shape":[2],"data_offsets":[0,8]}}`, 8), `tensor "w": unknown dtype "F33"`},
		{"dtype no string", file(-1, `{"w":{"dtype":1,"shape":[2],"data_offsets":[0,8]}}`, 8), "dtype is not a string"},
		{"no dtype", file(-1, `{"w":{"shape":[2],"data_offsets":[0,8]}}`, 8), "has no dtype"},
		{"no shape", file(-1, `{"w":{"dtype":"F32","data_offsets":[0,8]}}`, 8), "has no shape"},
		{"no offsets", file(-1, `{"w":{"dtype":"F32","shape":[2]}}`, 8), "has no data_offsets"},
		{"shape no list", file(-1, `{"w":{"dtype":"F32","shape":2,"data_offsets":[0,8]}}`, 8), "shape is not a list"},
		{"fraction in shape", file(-1, `{"w":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}}`, 8), "shape holds 2.0"},
		{"string in shape", file(-1, `{"w":{"dtype":"F32","shape":["2"],"data_offsets":[0,8]}}`, 8), "shape holds 2, want whole numbers"},
		{"negative dimension", file(-1, `{"w":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}}`, 8), "shape holds -2"},
		{"huge dimension", file(-1, `{"w":{"dtype":"F32","shape":[9223372036854775808],"data_offsets":[0,8]}}`, 8), "shape holds 9223372036854775808"},
		{"one offset", file(-1, `{"w":{"dtype":"F32","shape":[2],"data_offsets":[8]}}`, 8), "data_offsets has 1 numbers"},
		{"backward offsets", file(-1, `{"w":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}`, 8), "end at 0, before their beginning at 8"},
		{"hole at start", file(-1, `{"w":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}`, 12), "leaves a hole"},
		{"hole", file(-1, `{`+w+`,"x":{"dtype":"U8","shape":[2],"data_offsets":[9,11]}}`, 11), `tensor "x": its data begin at 9, which leaves a hole`},
		{"overlap", file(-1, `{`+w+`,"x":{"dtype":"U8","shape":[2],"data_offsets":[7,9]}}`, 9), `tensor "x": its data begin at 7, inside`},
		{"same place", file(-1, `{`+w+`,"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`, 8), `tensor "x": its data begin at 0, inside`},
		{"product overflow", file(-1, `{"w":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}}`, 8), "overflows"},
		{"bytes overflow", file(-1, `{"w":{"dtype":"F64","shape":[4611686018427387904],"data_offsets":[0,8]}}`, 8), "overflows"},
		{"half bytes", file(-1, `{"w":{"dtype":"F4","shape":[3],"data_offsets":[0,2]}}`, 2), "3 elements of F4 do not fill whole bytes"},
		{"size and shape", file(-1, `{"w":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}`, 8), "F32 of shape [3] takes 12 bytes, but its data_offsets [0, 8] hold 8"},
		{"cut off", file(-1, "{"+w+"}", 7), "need 8 bytes of data and the file has 7"},
		{"trailing bytes", file(-1, "{"+w+"}", 9), "1 bytes follow the last tensor"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Read(bytes.NewReader(c.file), int64(len(c.file)), "bad.safetensors")
			var bad *FormatError
			if !errors.As(err, &bad) || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "bad.safetensors: ") {
				t.Errorf("error %v, want a *FormatError with %q", err, c.want)
			}
		})
	}
}

func TestAccepts(t *testing.T) {
	for name, b := range map[string][]byte{
		"nothing":           file(-1, "{}", 0),
		"spaces":            file(-1, "{} \n\t ", 0),
		"zero size":         file(-1, `{"a":{"dtype":"F32","shape":[0,9223372036854775807,9],"data_offsets":[0,0]},"b":{"dtype":"U8","shape":[],"data_offsets":[0,1]}}`, 1),
		"unknown member":    file(-1, `{"a":{"x":[{"y":[1]}],"dtype":"U8","shape":[],"data_offsets":[0,1]}}`, 1),
		"packed":            file(-1, `{"a":{"dtype":"F6_E2M3","shape":[4],"data_offsets":[0,3]}}`, 3),
		"surrogate pair":    file(-1, `{"\ud83d\ude00":{"dtype":"U8","shape":[],"data_offsets":[0,1]}}`, 1),
		"escaped no pair":   file(-1, `{"\\ud800":{"dtype":"U8","shape":[],"data_offsets":[0,1]}}`, 1),
		"any order in JSON": file(-1, `{"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]},"a":{"data_offsets":[0,1],"shape":[1],"dtype":"BOOL"}}`, 3),
	} {
		if _, err := Read(bytes.NewReader(b), int64(len(b)), name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A view read in pieces of any size and place is the file.
func TestViewReadAt(t *testing.T) {
	v, err := NewView(fixture(), map[string]string{"b": "2", "a": "1"})
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	if n, err := v.WriteTo(&buf); err != nil || n != v.Size() || n != int64(buf.Len()) {
		t.Fatalf("WriteTo = %d, %v, size %d", n, err, v.Size())
	}
	whole := buf.Bytes()
	for off := range len(whole) + 2 {
		for _, n := range []int{0, 1, 3, 8, 9, 64, len(whole)} {
			got := make([]byte, n+8)
			for i := range got {
				got[i] = 0xaa // guards
			}
			m, err := v.ReadAt(got[4:4+n], int64(off))
			want := whole[min(off, len(whole)):min(off+n, len(whole))]
			if m != len(want) || !bytes.Equal(got[4:4+m], want) || (err == io.EOF) != (m < n) {
				t.Fatalf("ReadAt(%d bytes at %d) = %d, %v", n, off, m, err)
			}
			for _, g := range append(got[:4:4], got[4+n:]...) {
				if g != 0xaa {
					t.Fatalf("ReadAt(%d bytes at %d) wrote outside", n, off)
				}
			}
		}
	}
	if _, err := v.ReadAt(nil, -1); err == nil {
		t.Error("ReadAt(-1) gave no error")
	}
}

// Tensors longer than one piece, and every bit pattern, come back as they were.
func TestRoundTrip(t *testing.T) {
	big := make([]float32, 1<<18+3)
	for i := range big {
		big[i] = math.Float32frombits(uint32(i) * 0x9e3779b9) // signalling NaNs among them
	}
	path := filepath.Join(t.TempDir(), "x.safetensors")
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(Write(out, []Tensor{{"big", []int{len(big)}, big}, {"pad", []int{1}, []uint8{1}}}, nil), out.Close()); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got, err := f.Float32("big")
	if err != nil {
		t.Fatal(err)
	}
	for i := range big {
		if math.Float32bits(got[i]) != math.Float32bits(big[i]) {
			t.Fatalf("element %d: %x, want %x", i, math.Float32bits(got[i]), math.Float32bits(big[i]))
		}
	}
	raw, err := f.Bytes("pad")
	if err != nil || raw.Size() != 1 {
		t.Fatalf("Bytes(pad): %v, %v", raw, err)
	}
	if err := os.Truncate(path, 100); err != nil { // behind its back
		t.Fatal(err)
	}
	if _, err := f.Float32("big"); !errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(err.Error(), `tensor "big"`) {
		t.Errorf("read of a file cut while open: %v", err)
	}
}

// Every half that there is, against the definition.
func TestHalf(t *testing.T) {
	for h := range 1 << 16 {
		exp, frac := h>>10&31, float64(h&0x3ff)
		var want float64
		switch exp {
		case 31:
			want = math.Inf(1)
			if frac > 0 {
				want = math.NaN()
			}
		case 0:
			want = frac * 0x1p-24
		default:
			want = math.Ldexp(1+frac/1024, exp-15)
		}
		if h>>15 == 1 {
			want = math.Copysign(want, -1)
		}
		got := half(uint16(h))
		if math.IsNaN(want) != math.IsNaN(float64(got)) || !math.IsNaN(want) && math.Float64bits(float64(got)) != math.Float64bits(want) {
			t.Fatalf("half(%#04x) = %v, want %v", h, got, want)
		}
	}
}

func TestWriteRefuses(t *testing.T) {
	for _, c := range []struct {
		t    []Tensor
		want string
	}{
		{[]Tensor{{"w", []int{3}, []float32{1, 2}}}, `tensor "w": F32 of shape [3] takes 12 bytes, and the data has 8`},
		{[]Tensor{{"w", []int{-1}, []float32{}}}, "negative dimension"},
		{[]Tensor{{"w", nil, 7}}, "cannot write data of type int"},
		{[]Tensor{{"w", nil, Raw{"F33", nil}}}, `unknown dtype "F33"`},
		{[]Tensor{{"__metadata__", nil, []float32{1}}}, "cannot be called __metadata__"},
		{[]Tensor{{"\xff", nil, []float32{1}}}, "not UTF-8"},
		{[]Tensor{{"w", nil, []float32{1}}, {"w", nil, []float32{1}}}, `"w" is given twice`},
	} {
		if _, err := NewView(c.t, nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: error %v, want %q", c.t, err, c.want)
		}
	}
	if _, err := NewView(nil, map[string]string{"a": "\xff"}); err == nil {
		t.Error("metadata that are not UTF-8 were accepted")
	}
}

func TestOpenMissing(t *testing.T) {
	if _, err := Open(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Open of a missing file: %v", err)
	}
	if _, err := Open(t.TempDir()); err == nil || !strings.Contains(err.Error(), "is a folder") {
		t.Errorf("Open of a directory: %v", err)
	}
}

// FuzzRead: nothing makes the reader panic or take much memory, and what it
// accepts, our writer writes back so that it reads the same.
func FuzzRead(f *testing.F) {
	if b, err := os.ReadFile(reference); err == nil {
		f.Add(b)
	}
	f.Add(file(-1, "{}", 0))
	f.Add(file(-1, `{"__metadata__":{"a":"b"},"w":{"dtype":"F4","shape":[2,1],"data_offsets":[0,1]}}  `, 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := Read(bytes.NewReader(b), int64(len(b)), "fuzz")
		if err != nil {
			return
		}
		var again []Tensor
		for _, name := range file.Names() {
			i, _ := file.Tensor(name)
			r, err := file.Bytes(name)
			if err != nil {
				t.Fatal(err)
			}
			raw, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			again = append(again, Tensor{name, i.Shape, Raw{i.DType, raw}})
			file.Float32(name)
			file.Int64(name)
		}
		v, err := NewView(again, file.Metadata())
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		back, err := Read(v, v.Size(), "again")
		if err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
		if !slices.Equal(back.Names(), file.Names()) {
			t.Fatalf("names %q became %q", file.Names(), back.Names())
		}
	})
}
