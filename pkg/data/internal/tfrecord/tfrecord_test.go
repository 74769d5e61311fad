package tfrecord

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
)

// Bytes from the TensorBoard event format, whose records are framed alike:
// "brain.Event:2" at wall time 1.0, and a scalar.
const golden = "1800000000000000a37f4b2209000000000000f03f1a0d627261696e2e4576656e743a3286bf577a" +
	"1a00000000000000129bd82d09000000000000004010072a0d0a0b0a046c6f7373150000003fc33fc24a"

func readAll(b []byte) (out [][]byte, err error) {
	r := NewReader(bytes.NewReader(b), int64(len(b)), "file")
	for {
		d, off, err := r.Next()
		if err == io.EOF {
			return out, nil
		}
		if err != nil {
			return out, err
		}
		if !bytes.Equal(b[off:off+int64(len(d))], d) {
			return out, fmt.Errorf("offset %d is not where the data is", off)
		}
		out = append(out, bytes.Clone(d))
	}
}

func TestGoldenRecords(t *testing.T) {
	if c := maskedCRC([]byte("123456789")); c != 0xc78ab0e5 {
		t.Errorf("masked CRC-32C of 123456789 is %08x, want c78ab0e5", c)
	}
	file, _ := hex.DecodeString(golden)
	rec, err := readAll(file)
	if err != nil || len(rec) != 2 || len(rec[0]) != 24 || len(rec[1]) != 26 {
		t.Fatalf("%d records, %v", len(rec), err)
	}
	var again []byte
	for _, r := range rec {
		again = Append(again, r)
	}
	if !bytes.Equal(again, file) {
		t.Error("Append does not write what Next read")
	}
}

// Whatever byte is flipped and wherever the file is cut, the right record is named.
func TestDamageIsNamed(t *testing.T) {
	file, _ := hex.DecodeString(golden)
	for i := range file {
		b := bytes.Clone(file)
		b[i] ^= 0x10
		_, err := readAll(b)
		want, offset := 0, int64(0)
		if i >= 40 {
			want, offset = 1, 40
		}
		var re *RecordError
		if !errors.As(err, &re) || !errors.Is(err, ErrDamaged) || re.Record != want || re.Offset != offset {
			t.Fatalf("byte %d flipped: %v", i, err)
		}
		if !strings.Contains(err.Error(), fmt.Sprintf("file: record %d at byte %d: ", want, offset)) {
			t.Fatalf("byte %d flipped: %v", i, err)
		}
	}
	for n := 1; n < len(file); n++ {
		_, err := readAll(file[:n])
		if n == 40 { // a whole first record
			if err != nil {
				t.Fatalf("cut to %d: %v", n, err)
			}
			continue
		}
		if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "truncated") {
			t.Fatalf("cut to %d: %v", n, err)
		}
	}
}

func TestExampleRoundTrip(t *testing.T) {
	var b Builder
	b.Strings("text", []byte("a"), nil, []byte("ccc"))
	b.Floats("f", 1.5, -2)
	b.Ints("i", 0, -1, 1<<40)
	b.Floats("none")
	rec := b.Record()
	ex, err := Parse(rec)
	if err != nil || len(ex) != 4 {
		t.Fatal(ex, err)
	}
	s, err := ex["text"].Strings(rec)
	if err != nil || len(s) != 3 || string(s[0].Of(rec)) != "a" || s[1].Len != 0 || string(s[2].Of(rec)) != "ccc" {
		t.Error(s, err)
	}
	if f, err := ex["f"].Floats(rec); err != nil || !slices.Equal(f, []float32{1.5, -2}) {
		t.Error(f, err)
	}
	if i, err := ex["i"].Ints(rec); err != nil || !slices.Equal(i, []int64{0, -1, 1 << 40}) {
		t.Error(i, err)
	}
	if f, err := ex["none"].Floats(rec); err != nil || len(f) != 0 {
		t.Error(f, err)
	}
	if _, err := ex["text"].Floats(rec); err == nil || !strings.Contains(err.Error(), "bytes values, expected float32") {
		t.Error(err)
	}
	if _, err := ex["f"].Ints(rec); err == nil {
		t.Error("floats were read as ints")
	}
	if _, err := ex["i"].Strings(rec); err == nil {
		t.Error("ints were read as strings")
	}
}

// Writers other than TensorFlow may leave lists unpacked.
func TestUnpackedLists(t *testing.T) {
	list := []byte{0x0d, 0, 0, 0x80, 0x3f, 0x0d, 0, 0, 0, 0x40} // two fixed32
	ints := []byte{0x08, 3, 0x08, 4}
	var b Builder
	b.add("f", Floats, list)
	b.add("i", Ints, ints)
	rec := b.Record()
	ex, err := Parse(rec)
	if err != nil {
		t.Fatal(err)
	}
	if f, err := ex["f"].Floats(rec); err != nil || !slices.Equal(f, []float32{1, 2}) {
		t.Error(f, err)
	}
	if i, err := ex["i"].Ints(rec); err != nil || !slices.Equal(i, []int64{3, 4}) {
		t.Error(i, err)
	}
}

func TestBrokenExamples(t *testing.T) {
	for name, b := range map[string][]byte{
		"past end":    {0x0a, 0x05, 1},
		"zero field":  {0x02, 0x00},
		"group":       {0x0b},
		"cut varint":  {0x08, 0x80},
		"inner":       {0x0a, 0x02, 0x0a, 0x7f},
		"huge length": {0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f},
	} {
		if _, err := Parse(b); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	if ex, err := Parse(nil); err != nil || len(ex) != 0 {
		t.Error("an empty message is an empty Example")
	}
}

func FuzzRecords(f *testing.F) {
	file, _ := hex.DecodeString(golden)
	f.Add(file)
	f.Add(file[:30])
	f.Fuzz(func(t *testing.T, b []byte) {
		rec, err := readAll(b)
		if err != nil {
			return
		}
		var again []byte
		for _, r := range rec {
			again = Append(again, r)
		}
		if !bytes.Equal(again, b) {
			t.Fatal("an accepted file is not what its records make")
		}
	})
}

func FuzzExample(f *testing.F) {
	var b Builder
	b.Strings("text", []byte("a"), nil)
	b.Floats("f", 1)
	b.Ints("i", -1)
	f.Add(b.Record())
	f.Add([]byte{0x0a, 0x05, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		ex, err := Parse(b)
		if err != nil {
			return
		}
		var again Builder // what was read, written again, reads the same
		for name, f := range ex {
			if s, err := f.Strings(b); err == nil {
				var v [][]byte
				for _, s := range s {
					v = append(v, s.Of(b))
				}
				again.Strings(name, v...)
			} else if v, err := f.Floats(b); err == nil {
				again.Floats(name, v...)
			} else if v, err := f.Ints(b); err == nil {
				again.Ints(name, v...)
			} else {
				return
			}
		}
		record := again.Record()
		twin, err := Parse(record)
		if err != nil || len(twin) != len(ex) {
			t.Fatalf("%d features became %d: %v", len(ex), len(twin), err)
		}
		for name, f := range ex {
			if a, b := values(f, b), values(twin[name], record); a != b {
				t.Fatalf("feature %q: %s became %s", name, a, b)
			}
		}
	})
}

// values are what a feature of a record holds, as text: bits of floats, so that NaN
// equals itself.
func values(f Feature, record []byte) string {
	if s, err := f.Strings(record); err == nil {
		var out []string
		for _, s := range s {
			out = append(out, fmt.Sprintf("%q", s.Of(record)))
		}
		return fmt.Sprint("strings ", out)
	}
	if v, err := f.Floats(record); err == nil {
		var out []uint32
		for _, x := range v {
			out = append(out, math.Float32bits(x))
		}
		return fmt.Sprint("floats ", out)
	}
	v, err := f.Ints(record)
	return fmt.Sprint("ints ", v, err)
}
