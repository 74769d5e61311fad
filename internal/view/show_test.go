package view

import (
	"testing"

	"github.com/vlaring/vlaring/pkg/models"
)

// A query sees what came before, and no padding; True is visible.
func TestMasksText(t *testing.T) {
	golden(t, "masks.txt", NewMasks(2, 0, false, [][]int32{{7, 5, 0}}).Text())
	if m := NewMasks(1, -1, false, [][]int32{{0, 0}}); !m.Padding[0].Visible[0] || !m.Padding[0].Combined[1][0] {
		t.Errorf("without padding: %+v", m.Padding)
	}
	if m := NewMasks(1, 9, true, [][]int32{{7, 9, 9}}); !m.Padding[0].Visible[1] || m.Padding[0].Visible[2] || !m.Padding[0].Combined[2][1] {
		t.Errorf("padding that ends a row: %+v", m.Padding)
	}
}

// The picture has a position a column and a dimension a row.
func TestPositional(t *testing.T) {
	enc, err := models.NewPositionalEncoding(4, 3)
	if err != nil {
		t.Fatal(err)
	}
	w, h := Positional(enc, 4, 3).Size()
	if w < 960 || h < 640 {
		t.Errorf("%d×%d pixels", w, h)
	}
}
