package safetensors

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
)

// Every type that Python writes is read as float32 to the bit that PyTorch's
// Tensor.to(torch.float32) gives, whole and in pieces of any size.
func TestValuesEqualPyTorch(t *testing.T) {
	f, err := Open("testdata/dtypes.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const suffix = " as float32"
	types := map[string]bool{}
	for _, name := range f.Names() {
		if strings.HasSuffix(name, suffix) {
			continue
		}
		info, _ := f.Tensor(name)
		types[info.DType] = true
		want, err := f.Float32(name + suffix)
		if err != nil {
			t.Fatal(err)
		}
		for size := 1; size <= len(want); size++ {
			got := make([]float32, len(want))
			for at := 0; at < len(got); at += size {
				if err := f.Values(name, at, got[at:min(at+size, len(got))]); err != nil {
					t.Fatal(err)
				}
			}
			for i := range want {
				if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
					t.Errorf("%s, %d at a time: value %d is %v, PyTorch has %v", info.DType, size, i, got[i], want[i])
				}
			}
		}
	}
	for _, d := range Numbers() {
		if !types[d] {
			t.Errorf("the fixture has no %s", d)
		}
	}
}

func TestValuesRefused(t *testing.T) {
	f, err := Open("testdata/dtypes.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n := make([]float32, 4)
	for _, c := range []struct {
		name string
		from int
		says string
	}{{"bool", 0, "has 3 elements, and [0, 4) were asked for"}, {"uint8", 2, "[2, 6)"}, {"uint8", -1, "[-1, 3)"}, {"no", 0, `has no tensor "no"`}} {
		if err := f.Values(c.name, c.from, n); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s from %d: %v", c.name, c.from, err)
		}
	}
	for _, at := range []int64{-1, 2} { // "bool" has 3 bytes
		if err := f.Raw("bool", at, make([]byte, 2)); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("has 3 bytes, and [%d, %d) were asked for", at, at+2)) {
			t.Errorf("raw bytes from %d: %v", at, err)
		}
	}
	if _, err := f.Int64("uint64"); err == nil || !strings.Contains(err.Error(), "the value at [3] is 9223372586610589696, beyond int64") {
		t.Errorf("a uint64 beyond int64: %v", err)
	}
}

func TestIndex(t *testing.T) {
	i := Info{Shape: []int{2, 3, 4}}
	for e := range 24 {
		if got := i.Index(e); !slices.Equal(got, []int{e / 12, e / 4 % 3, e % 4}) {
			t.Errorf("element %d is at %v", e, got)
		}
	}
	if got := (Info{}).Index(0); len(got) != 0 {
		t.Errorf("a scalar's element is at %v", got)
	}
}
