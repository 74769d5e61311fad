package kernel

// AdamArgs are the scalars of one optimizer step, computed in float64 and
// rounded once. The assembly reads it by offset.
type AdamArgs struct {
	GradScale float32 // clipping factor
	Decay     float32 // 1 - lr·wd; 1 for none
	L2        float32 // added to the gradient times the weight; 0 for none
	Beta1     float32
	Beta2     float32
	Rest1     float32 // 1 - beta1
	Rest2     float32 // 1 - beta2
	StepSize  float32 // lr / (1 - beta1^t)
	RootBias2 float32 // √(1 - beta2^t)
	Eps       float32
}

// adamChunk bounds the elements of one call of assembly: seven streams of
// memory take ten times as long as a sum.
const adamChunk = 1 << 14

// Adam updates weights p and moments m, v from the gradient g, as PyTorch's
// single-tensor AdamW does, with the multiply-adds fused.
func Adam(p, g, m, v []float32, a *AdamArgs) {
	g, m, v = g[:len(p)], m[:len(p)], v[:len(p)]
	if row != nil {
		f := row.adam
		if a.L2 != 0 {
			f = row.adamL2
		}
		for i := 0; i < len(p); i += adamChunk {
			f(&p[i], &g[i], &m[i], &v[i], a, min(adamChunk, len(p)-i))
		}
		return
	}
	for i := range p {
		d := float32(g[i] * a.GradScale)
		if a.L2 != 0 {
			d = fma32(p[i], a.L2, d)
		}
		m[i] = fma32(d, a.Rest1, float32(m[i]*a.Beta1))
		v[i] = fma32(float32(d*d), a.Rest2, float32(v[i]*a.Beta2))
		den := float32(sqrt32(v[i])/a.RootBias2) + a.Eps
		p[i] = fma32(-a.StepSize, float32(m[i]/den), float32(p[i]*a.Decay))
	}
}
