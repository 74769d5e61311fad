package serve

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/vlaring/vlaring/pkg/trained"
)

// fixture is a message of testdata, which tools/openpi_fixture.py has written with
// openpi's own client.
func fixture(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name+".msgpack"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// decodeObservation reads a message as openpi's side does.
func decodeObservation(b []byte) (trained.Observation, error) {
	h, err := new(openpiSession).hear(b)
	return h.ask, err
}

// TestObservationsOfTheClient guards that each form in which openpi's client packs a
// value is read to the very numbers.
func TestObservationsOfTheClient(t *testing.T) {
	pixels := make([]byte, 18) // [2, 3, 3]
	for i := range pixels {
		pixels[i] = byte(i)
	}
	planes := make([]byte, 18) // [3, 2, 3]
	shares := make([]float64, 18)
	for c := range 3 {
		for i := range 6 {
			planes[6*c+i] = pixels[3*i+c]
			shares[6*c+i] = float64(float32(pixels[3*i+c]) / 255)
		}
	}
	state := []float64{0.5, -1.25, 3}
	numbers := func(x ...float64) trained.Given { return trained.Given{Floats: x, Shape: []int{len(x)}} }
	for name, want := range map[string]trained.Observation{
		"hwc": {"observation.images.corner": {Bytes: pixels, Shape: []int{2, 3, 3}}, "observation.state": numbers(state...), "prompt": {Text: "open the drawer"}},
		"chw_float": {"observation/images/corner": {Floats: shares, Shape: []int{3, 2, 3}}, "observation/state": numbers(state...),
			"prompt": {Text: "öffne"}},
		"nested": {"images/corner": {Bytes: planes, Shape: []int{3, 2, 3}}, "state": numbers(state...), "task": {Text: "x"}},
		"numbers": {"i1": numbers(-1, 2), "i2": numbers(-300), "i4": {Floats: []float64{1, -70000}, Shape: []int{2, 1}}, "i8": numbers(1 << 40), "u2": numbers(65535),
			"bool": numbers(1, 0), "scalar": numbers(0.25), "whole": numbers(-7), "float": numbers(1.5), "int": numbers(200), "empty": {Floats: []float64{}, Shape: []int{0, 3}}},
		"file":    {"image": {File: []byte("\x89PNG...")}, "flag": numbers(1)},
		"half":    {"a": numbers(1.5)},
		"strided": {"a": {Bytes: []byte{6, 3, 0, 15, 12, 9}, Shape: []int{2, 3}}},
	} {
		got, err := decodeObservation(fixture(t, name))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n%v\nwant\n%v", name, got, want)
		}
	}
	for name, want := range map[string]string{
		"big_endian": `"a": an array of dtype ">f4"; want integers of 8 to 64 bits or floats of 16 to 64, little-endian`,
		"text_array": `"a": an array of dtype "<U1"`,
		"nothing":    `"a": is nil; want a text, numbers or an array`,
		"list":       "the message is a list; want a map",
	} {
		if _, err := decodeObservation(fixture(t, name)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", name, err, want)
		}
	}
}

// TestAnswerIsTheClients guards that an answer is, byte for byte, what openpi's
// packer makes of it.
func TestAnswerIsTheClients(t *testing.T) {
	got, err := encodeReply(trained.Chunk{0.5, -1, 2, 0.1}, []int{2, 2}, told{nil, []string{"prompt: training had no cup"}, 1500 * time.Microsecond, 2250 * time.Microsecond})
	if want := fixture(t, "answer"); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%v\n%q\nwant\n%q", err, got, want)
	}
}

// TestMessagesThatAreRefused guards the limits, and messages that are no observation.
func TestMessagesThatAreRefused(t *testing.T) {
	pack := func(v any) []byte {
		b, err := msgpack.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	array := func(data []byte, dtype string, shape ...any) map[string]any {
		return map[string]any{"a": map[string]any{"__ndarray__": true, "data": data, "dtype": dtype, "shape": shape}}
	}
	many := map[string]any{}
	for i := range maxKeys + 1 {
		many[strings.Repeat("k", i+1)] = i
	}
	deep := any("x")
	for range maxDepth + 2 {
		deep = map[string]any{"in": deep}
	}
	whole := fixture(t, "hwc")
	for name, c := range map[string]struct {
		message []byte
		want    string
	}{
		"empty":            {nil, "the message ends early"},
		"cut":              {whole[:len(whole)-3], "the message ends early"},
		"more behind":      {append(bytes.Clone(whole), 1), "1 bytes behind its end"},
		"many keys":        {pack(many), "a map of 257 keys; want at most 256"},
		"deep":             {pack(deep), "nested deeper than 6"},
		"a list's promise": {[]byte{0x81, 0xa1, 'a', 0xdd, 0xff, 0xff, 0xff, 0xff}, "a list of"},
		"a map's promise":  {[]byte{0xdf, 0xff, 0xff, 0xff, 0xff}, "a map of"},
		"bytes' promise":   {[]byte{0x81, 0xa1, 'a', 0xc6, 0xff, 0xff, 0xff, 0xff}, "the message ends early"},
		"a number as key":  {[]byte{0x81, 0x01, 0x01}, "a key is a number"},
		"an extension":     {[]byte{0x81, 0xa1, 'a', 0xd4, 0x01, 0x01}, "an extension type"},
		"twice":            {[]byte{0x82, 0xa1, 'a', 0x01, 0xa1, 'a', 0x01}, `"a" is there twice`},
		"too few bytes":    {pack(array(make([]byte, 7), "<f4", 2)), "has 7 bytes of data; want 8"},
		"a huge shape":     {pack(array([]byte{}, "|u1", 1<<31, 1<<31)), "an array of shape"},
		"a negative shape": {pack(array([]byte{}, "|u1", -1)), "an array of shape"},
		"a broken shape":   {pack(array([]byte{}, "|u1", "x")), "an array of shape"},
		"without data":     {pack(map[string]any{"a": map[string]any{"__ndarray__": true}}), "an array wants data (bytes), dtype"},
		"texts in a list":  {pack(map[string]any{"a": []string{"x"}}), `"a": a list with a text at 0`},
	} {
		if _, err := decodeObservation(c.message); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
}

// FuzzObservation guards that no message brings the decoder down, and that what it
// reads has as many values as its shape says.
func FuzzObservation(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.msgpack")
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := decodeObservation(b)
		if err != nil {
			return
		}
		for name, g := range o {
			n := 1
			for _, d := range g.Shape {
				n *= d
			}
			if g.Shape != nil && len(g.Bytes)+len(g.Floats) != n || n > math.MaxInt32 {
				t.Errorf("%q: %d values of shape %v", name, len(g.Bytes)+len(g.Floats), g.Shape)
			}
		}
	})
}

// A message of a few bytes that says it has gigabytes costs no more than it has.
func TestPretendedLengths(t *testing.T) {
	for name, b := range map[string][]byte{
		"byte string": {0x81, 0xa1, 'a', 0xc6, 0xff, 0xff, 0xff, 0xff, 1, 2},
		"text":        {0x81, 0xa1, 'a', 0xdb, 0xff, 0xff, 0xff, 0xff, 'x'},
		"key":         {0x81, 0xdb, 0xa4, 0x74, 0x79, 0x70, 'x'},
		"by itself":   {0xc6, 0xa4, 0x74, 0x79, 0x70},
		"short one":   {0x81, 0xa1, 'a', 0xc4, 3, 1, 2},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		m, err := decodeMessage(b)
		runtime.ReadMemStats(&after)
		if err == nil || !strings.Contains(err.Error(), "ends early") {
			t.Errorf("%s: %v, %v", name, m, err)
		}
		if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
			t.Errorf("%s: %d bytes of memory for a message of %d", name, n, len(b))
		}
	}
}
