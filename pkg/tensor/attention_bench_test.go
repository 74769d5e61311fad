package tensor

import "testing"

func BenchmarkAttention(b *testing.B) {
	for _, c := range []struct {
		name       string
		b, n, h, d int
	}{{"vit8x197x8x64", 8, 197, 8, 64}, {"text8x8x8x64", 8, 8, 8, 64}, {"small32x17x4x32", 32, 17, 4, 32}, {"long1x700x8x64", 1, 700, 8, 64}} {
		rt := NewRuntime(1)
		ps := NewParams()
		ps.Seal()
		t := NewTape(rt, ps)
		x := t.Input(c.b, c.n, 3*c.h*c.d)
		t.NeedGrad(x)
		out := t.Attention(x, c.h, Mask{}, 0.1)
		l := t.MSE(out, t.Input(out.Shape...))
		t.Seal()
		ps.BindGrads(nil)
		copy(x.Data, draw("x", len(x.Data)))
		t.SetStep(1, 1, make([]uint64, c.b), true)
		f, bw := t.ops[0].(*attention).flops()
		b.Run(c.name+"/forward", func(b *testing.B) {
			for b.Loop() {
				t.Forward()
			}
			b.ReportMetric(float64(f)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
		})
		b.Run(c.name+"/backward", func(b *testing.B) {
			for b.Loop() {
				t.Backward(l)
			}
			b.ReportMetric(float64(bw)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
		})
		t.Close()
		rt.Close()
	}
}
