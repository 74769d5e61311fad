//go:build !unix

package kernel

import "testing"

// guarded returns n floats; this system's pages are not protected.
func guarded(_ testing.TB, n int) []float32 { return make([]float32, n) }
