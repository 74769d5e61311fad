package kernel

// runGeneric is the plain-Go Gemm: a 4×2 tile of C stays in registers, so that eight chains hide each other's latency.
func (g *Gemm) runGeneric(m0, m1, n0, n1 int) {
	for i := m0; i < m1; i += 4 {
		rows := min(4, m1-i)
		j := n0
		if rows == 4 {
			for ; j+2 <= n1; j += 2 {
				g.generic4x2(i, j)
			}
		}
		for ; j < n1; j++ {
			for r := i; r < i+rows; r++ {
				g.genericChain(r, j)
			}
		}
	}
}

// genericChain is the definition of Gemm, for one element.
func (g *Gemm) genericChain(i, j int) {
	c := g.start(i, j)
	a, b := i*g.ARow, j*g.BCol
	for k := 0; k < g.K; k++ {
		c = fma32(g.A[a], g.B[b], c)
		a += g.ACol
		b += g.BRow
	}
	g.finish(i, j, c)
}

func (g *Gemm) generic4x2(i, j int) {
	c00, c01 := g.start(i, j), g.start(i, j+1)
	c10, c11 := g.start(i+1, j), g.start(i+1, j+1)
	c20, c21 := g.start(i+2, j), g.start(i+2, j+1)
	c30, c31 := g.start(i+3, j), g.start(i+3, j+1)
	ka, kb := i*g.ARow, j*g.BCol
	a, b, row, col := g.A, g.B, g.ARow, g.BCol
	var p, s float64 // fma32 by hand: the compiler does not inline it
	for k := 0; k < g.K; k++ {
		a0, a1, a2, a3 := float64(a[ka]), float64(a[ka+row]), float64(a[ka+2*row]), float64(a[ka+3*row])
		b0, b1 := float64(b[kb]), float64(b[kb+col])
		p = a0 * b0
		if s = p + float64(c00); halfway(s) {
			s = sumToOdd(p, c00)
		}
		c00 = float32(s)
		p = a0 * b1
		if s = p + float64(c01); halfway(s) {
			s = sumToOdd(p, c01)
		}
		c01 = float32(s)
		p = a1 * b0
		if s = p + float64(c10); halfway(s) {
			s = sumToOdd(p, c10)
		}
		c10 = float32(s)
		p = a1 * b1
		if s = p + float64(c11); halfway(s) {
			s = sumToOdd(p, c11)
		}
		c11 = float32(s)
		p = a2 * b0
		if s = p + float64(c20); halfway(s) {
			s = sumToOdd(p, c20)
		}
		c20 = float32(s)
		p = a2 * b1
		if s = p + float64(c21); halfway(s) {
			s = sumToOdd(p, c21)
		}
		c21 = float32(s)
		p = a3 * b0
		if s = p + float64(c30); halfway(s) {
			s = sumToOdd(p, c30)
		}
		c30 = float32(s)
		p = a3 * b1
		if s = p + float64(c31); halfway(s) {
			s = sumToOdd(p, c31)
		}
		c31 = float32(s)
		ka += g.ACol
		kb += g.BRow
	}
	g.finish(i, j, c00)
	g.finish(i, j+1, c01)
	g.finish(i+1, j, c10)
	g.finish(i+1, j+1, c11)
	g.finish(i+2, j, c20)
	g.finish(i+2, j+1, c21)
	g.finish(i+3, j, c30)
	g.finish(i+3, j+1, c31)
}
