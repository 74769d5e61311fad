//go:build !unix

package tensor

import "github.com/vlaring/vlaring/internal/kernel"

type region struct{}

func (*region) release() {}

func floats(n int) ([]float32, *region) { return kernel.AlignedFloats(n), &region{} }

func discardPages([]float32) (lo, hi int) { return 0, 0 }
