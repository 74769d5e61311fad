//go:build arm64 && !noasm

package kernel

// Advanced SIMD is part of every arm64 CPU. No kernel is written for it yet: the level runs the plain-Go code, and
// exists so that job scripts can name it.
func archLevels() []Level { return []Level{NEON} }
