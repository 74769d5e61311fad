package cli

import (
	"encoding/json"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/internal/picture"
	"github.com/vlaring/vlaring/internal/view"
)

// The reference text's two demonstrations, by its own numbers.
func TestShowMasks(t *testing.T) {
	t.Parallel()
	code, out, errs := call(t, bin.coordinator, "show", "masks", "--json")
	if code != 0 {
		t.Fatalf("exit code %d\n%s", code, errs)
	}
	var m view.Masks
	if err := json.Unmarshal([]byte(out), &m); err != nil {
		t.Fatal(err)
	}
	if m.Length != 5 || len(m.LookAhead) != 5 || m.PadToken != 0 || len(m.Padding) != 2 {
		t.Fatalf("%+v", m)
	}
	for q, row := range m.LookAhead { // torch.triu(torch.ones(5, 5), diagonal=1) == 0
		for k, v := range row {
			if v != (k <= q) {
				t.Errorf("look-ahead[%d][%d] is %v", q, k, v)
			}
		}
	}
	for i, want := range [][]bool{{true, true, true, true, false, false}, {true, true, false, false, false, false}} {
		p := m.Padding[i]
		if !slices.Equal(p.Visible, want) {
			t.Errorf("padding of %v: %v, want %v", p.Tokens, p.Visible, want)
		}
		for q, row := range p.Combined {
			for k, v := range row {
				if v != (k <= q && want[k]) {
					t.Errorf("combined[%d][%d] of %v is %v", q, k, p.Tokens, v)
				}
			}
		}
	}
	code, out, _ = call(t, bin.coordinator, "show", "masks", "--length", "2", "--tokens", "7,0")
	if code != 0 || !strings.Contains(out, "0          True  False\n  1          True  True\n") || !strings.Contains(out, "7       0") {
		t.Errorf("exit code %d\n%s", code, out)
	}
}

func decodePNG(t *testing.T, path string) image.Image {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m, err := png.Decode(f)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return m
}

// At position 0 every sine is 0 and every cosine 1: the picture's first column
// is striped in the two colours that the bar gives these values.
func TestShowPositional(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "pe.png")
	code, out, errs := call(t, bin.coordinator, "show", "positional", "--out", path, "--d-model", "8", "--positions", "10", "--json")
	if code != 0 {
		t.Fatalf("exit code %d\n%s", code, errs)
	}
	var r struct{ Width, Height, Positions int }
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatal(err)
	}
	m := decodePNG(t, path)
	if b := m.Bounds(); b.Dx() != r.Width || b.Dy() != r.Height || r.Positions != 10 {
		t.Errorf("the picture is %v, the report %+v", b, r)
	}
	// Walk down inside the first column, which begins right of the axis.
	one, zero := picture.RedBlue[len(picture.RedBlue)-1], picture.RedBlue[5]
	stripes := 0
	var before any
	for y := range m.Bounds().Dy() {
		c := m.At(100, y)
		if (c == one || c == zero) && c != before {
			stripes++
			before = c
		}
	}
	if stripes != 8 {
		t.Errorf("the first column has %d stripes, want sine and cosine of 4 frequencies", stripes)
	}
}

func TestShowRefuses(t *testing.T) {
	t.Parallel()
	nowhere := filepath.Join(t.TempDir(), "no", "pe.png")
	for name, c := range map[string]struct {
		args []string
		code int
		want string
	}{
		"what":        {[]string{"show", "mask"}, exitUsage, `"mask"`},
		"no out":      {[]string{"show", "positional"}, exitUsage, "--out"},
		"odd width":   {[]string{"show", "positional", "--out", nowhere, "--d-model", "7"}, exitUsage, "odd"},
		"no position": {[]string{"show", "positional", "--out", nowhere, "--positions", "0"}, exitUsage, "--positions 0"},
		"directory":   {[]string{"show", "positional", "--out", nowhere}, exitFailed, nowhere},
		"length":      {[]string{"show", "masks", "--length", "0"}, exitUsage, "--length 0"},
		"token":       {[]string{"show", "masks", "--tokens", "3 x"}, exitUsage, `"x"`},
	} {
		t.Run(name, func(t *testing.T) {
			code, _, errs := call(t, bin.coordinator, c.args...)
			if code != c.code || !strings.Contains(errs, c.want) {
				t.Errorf("exit code %d, want %d with %q in the message:\n%s", code, c.code, c.want, errs)
			}
		})
	}
}
