package kernel

func (g *Gemm) runVector(v *vectorOps, m0, m1, n0, n1 int, ws *Workspace) {
	g.runGeneric(m0, m1, n0, n1)
}
