package tensor

import "github.com/vlaring/vlaring/internal/kernel"

// NarrowBF16 rounds src to bfloat16, to nearest with ties to even; NaN stays
// NaN. dst is as long as src. It is for what travels in half the bytes.
func NarrowBF16(dst []uint16, src []float32) { kernel.NarrowBF16(dst, src) }

// WidenBF16 turns bfloat16 into float32, exactly.
func WidenBF16(dst []float32, src []uint16) { kernel.WidenBF16(dst, src) }
