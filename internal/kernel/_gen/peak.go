package main

import (
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// peak writes the loop that measures what the multipliers can do: n rounds of as many independent multiply-adds as fit, on
// registers alone.
func peak(g *gen, v isa) {
	name := "peak" + v.name
	g.begin(name, name+" runs n rounds of 2·mr independent vector multiply-adds.", param{"n", "int"})
	n := reg.RAX
	g.arg("n", n)
	for i := range 2*v.mr + 2 {
		v.zero(g, v.vec(i))
	}
	g.align(64)
	g.Label("loop")
	for i := range 2 * v.mr {
		g.VFMADD231PS(v.vec(2*v.mr), v.vec(2*v.mr+1), v.vec(i))
	}
	g.SUBQ(operand.Imm(1), n)
	g.JNZ(operand.LabelRef("loop"))
	g.VZEROUPPER()
	g.RET()
}
