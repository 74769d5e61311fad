//go:build !noasm

package octets

import "golang.org/x/sys/cpu"

// folds is whether this CPU multiplies polynomials in registers of 512 bits, and the
// operating system keeps those.
var folds = cpu.X86.HasAVX512F && cpu.X86.HasAVX512VPCLMULQDQ

// fold folds blocks of foldBytes from p on into f, one after the other.
//
//	for each block: f = f·x^(8·foldBytes) + block, of each sixteen bytes of f by themselves
//
//go:noescape
func fold(f *[foldBytes]byte, p *byte, blocks int, by *[2]uint64)
