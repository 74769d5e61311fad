package safetensors

import (
	"bytes"
	"math"
	"strings"
	"testing"
)

// Every half and every bfloat16 comes back as itself, and every float32 half
// way between two of them, or a hair beside it, goes to the right one: the
// nearest, of two the even one.
func TestNarrowRounds(t *testing.T) {
	for _, c := range []struct {
		name     string
		round    func(float32) uint16
		widen    func(uint16) float32
		infinity uint16
	}{
		{"F16", toHalf, half, 0x7c00},
		{"BF16", toBF16, func(h uint16) float32 { return math.Float32frombits(uint32(h) << 16) }, 0x7f80},
	} {
		for h := range uint32(1 << 16) {
			h := uint16(h)
			v := c.widen(h)
			if v != v {
				if back := c.widen(c.round(v)); back == back {
					t.Fatalf("%s: NaN %#04x became %v", c.name, h, back)
				}
				continue
			}
			if got := c.round(v); got != h {
				t.Fatalf("%s: %#04x is %v, and came back as %#04x", c.name, h, v, got)
			}
			next := h + 1 // away from zero
			if h&0x7fff >= c.infinity-1 {
				continue
			}
			mid := float32((float64(v) + float64(c.widen(next))) / 2)
			if float64(mid) != (float64(v)+float64(c.widen(next)))/2 {
				continue // float32 cannot hold it
			}
			even := h
			if h&1 == 1 {
				even = next
			}
			inf := float32(math.Inf(int(1 - 2*int(h>>15))))
			for _, x := range []struct {
				v    float32
				want uint16
			}{{mid, even}, {math.Nextafter32(mid, 0), h}, {math.Nextafter32(mid, inf), next}} {
				if got := c.round(x.v); got != x.want {
					t.Fatalf("%s: %v (%#08x) became %#04x, want %#04x", c.name, x.v, math.Float32bits(x.v), got, x.want)
				}
			}
		}
	}
}

// What Narrow writes, Float32 reads.
func TestNarrowRoundTrip(t *testing.T) {
	x := []float32{0, 1, -2.5, 0x1p-24, 65504, float32(math.Inf(-1))}
	for _, dtype := range []string{"F32", "F16", "BF16"} {
		r, err := Narrow(dtype, x)
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := Write(&b, []Tensor{{"x", []int{2, 3}, r}}, map[string]string{"format": "pt"}); err != nil {
			t.Fatal(err)
		}
		f, err := Read(bytes.NewReader(b.Bytes()), int64(b.Len()), dtype)
		if err != nil {
			t.Fatal(err)
		}
		got, err := f.Float32("x")
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range got {
			if want := x[i]; v != want && !(dtype == "BF16" && i == 4 && v == 65536) { // 65504 has too many bits for it
				t.Errorf("%s: element %d is %v, want %v", dtype, i, v, want)
			}
		}
	}
	for dtype, v := range map[string]float32{"F16": 65520, "BF16": math.MaxFloat32} {
		if _, err := Narrow(dtype, []float32{1, -v}); err == nil || !strings.Contains(err.Error(), "element 1 is -") || !strings.Contains(err.Error(), dtype) {
			t.Errorf("%v as %s: error %v", v, dtype, err)
		}
	}
	if _, err := Narrow("I8", nil); err == nil {
		t.Error("narrowed to I8")
	}
}
