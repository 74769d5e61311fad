package main

import (
	"log"
	"slices"
	"strings"

	"github.com/mmcloughlin/avo/ir"
	"github.com/mmcloughlin/avo/operand"
)

// wordPrefix begins the names of the constants that word makes.
const wordPrefix = "word"

// embedded are the instructions of AVX-512 that read one word of memory as a whole vector of it.
var embedded = []string{
	"VADDPS", "VSUBPS", "VMULPS", "VDIVPS", "VMINPS", "VMAXPS", "VCMPPS", "VRANGEPS", "VANDPS", "VORPS",
	"VFMADD213PS", "VFMADD231PS", "VFNMADD231PS", "VPADDD", "VPSUBD", "VPANDD", "VPORD", "VPTERNLOGD",
}

// broadcast makes every constant of an AVX-512 file one word in memory, which instructions repeat over the vector as they read it: that
// costs nothing. As vectors they would have to lie on cache lines, because a load across two of them takes twice as long; but the linker
// gives no more than 32 bytes, so it is up to chance, link by link, whether a kernel that is mostly polynomials has two thirds of its speed.
func broadcast(file *ir.File) {
	for _, s := range file.Sections {
		switch s := s.(type) {
		case *ir.Global:
			if strings.HasPrefix(s.Symbol.Name, wordPrefix) {
				s.Data, s.Size = s.Data[:1], 4
			}
		case *ir.Function:
			for _, i := range s.Instructions() {
				embed(i)
			}
		}
	}
}

func embed(i *ir.Instruction) {
	if !slices.ContainsFunc(i.Operands, func(o operand.Op) bool {
		m, ok := o.(operand.Mem)
		return ok && strings.HasPrefix(m.Symbol.Name, wordPrefix)
	}) {
		return
	}
	switch {
	case strings.HasSuffix(i.Opcode, "SS"): // reads one word as it is
	case i.Opcode == "VMOVUPS":
		i.Opcode = "VBROADCASTSS"
	case slices.Contains(embedded, i.Opcode):
		i.Suffixes = append([]string{"BCST"}, i.Suffixes...)
	default:
		log.Fatalf("no %s of a constant of one word", i.Opcode)
	}
}
