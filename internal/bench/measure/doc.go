// Package measure times the kernels and operations of package tensor beside
// what the machine can do: the rate of its fused multiply-adds on registers,
// and of its memory. It is what the bench commands print.
//
//	rt := tensor.NewRuntime(1)
//	defer rt.Close()
//	b := measure.New(rt)
//	for _, p := range measure.Products("default", 8) {
//		for _, o := range measure.Orientations() {
//			g := b.Gemm(p.Shape(o), o, measure.Float32, 300*time.Millisecond)
//			fmt.Println(p.Name, o, g.Rate, g.Share)
//		}
//	}
//
// Other load on the machine, and the clock, move a measurement and its ceiling
// alike; so a share of the peak is taken of a peak measured right beside the
// run, and medians of several are reported. Of one thread the share is given by
// CPU time too, which does not count what other programs were given meanwhile:
// on a quiet machine the two agree.
package measure
