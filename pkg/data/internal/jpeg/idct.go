package jpeg

// The inverse DCT of libjpeg's jidctint.c ("islow"), of Loeffler, Ligtenberg and
// Moschytz: constants in units of 2⁻¹³, columns to units of ¼, then rows.
const (
	f0298 = 2446  // 0.298631336
	f0390 = 3196  // 0.390180644
	f0541 = 4433  // 0.541196100
	f0765 = 6270  // 0.765366865
	f0899 = 7373  // 0.899976223
	f1175 = 9633  // 1.175875602
	f1501 = 12299 // 1.501321110
	f1847 = 15137 // 1.847759065
	f1961 = 16069 // 1.961570560
	f2053 = 16819 // 2.053119869
	f2562 = 20995 // 2.562915447
	f3072 = 25172 // 3.072711026
)

// inverse writes the 8×8 samples of the coefficients b to out, whose lines are
// stride bytes apart. b is used up.
func inverse(b *block, out []byte, stride int) {
	for x := range 8 {
		c := b[x:]
		if c[8]|c[16]|c[24]|c[32]|c[40]|c[48]|c[56] == 0 {
			v := c[0] << 2
			c[0], c[8], c[16], c[24], c[32], c[40], c[48], c[56] = v, v, v, v, v, v, v, v
			continue
		}
		const half = 1 << 10
		e0, e1, e2, e3, o0, o1, o2, o3 := butterfly(c[0], c[8], c[16], c[24], c[32], c[40], c[48], c[56])
		c[0], c[56] = (e0+o0+half)>>11, (e0-o0+half)>>11
		c[8], c[48] = (e1+o1+half)>>11, (e1-o1+half)>>11
		c[16], c[40] = (e2+o2+half)>>11, (e2-o2+half)>>11
		c[24], c[32] = (e3+o3+half)>>11, (e3-o3+half)>>11
	}
	for y := range 8 {
		r := b[8*y : 8*y+8 : 8*y+8]
		o := out[y*stride : y*stride+8 : y*stride+8]
		const half = 1<<17 + 128<<18 // and the middle grey
		e0, e1, e2, e3, o0, o1, o2, o3 := butterfly(r[0], r[1], r[2], r[3], r[4], r[5], r[6], r[7])
		o[0], o[7] = clip((e0+o0+half)>>18), clip((e0-o0+half)>>18)
		o[1], o[6] = clip((e1+o1+half)>>18), clip((e1-o1+half)>>18)
		o[2], o[5] = clip((e2+o2+half)>>18), clip((e2-o2+half)>>18)
		o[3], o[4] = clip((e3+o3+half)>>18), clip((e3-o3+half)>>18)
	}
}

// butterfly is one dimension: sample i is (e+o) of i, sample 7−i is (e−o) of i,
// times 2¹³.
func butterfly(c0, c1, c2, c3, c4, c5, c6, c7 int32) (e0, e1, e2, e3, o0, o1, o2, o3 int32) {
	z := (c2 + c6) * f0541
	t2, t3 := z-c6*f1847, z+c2*f0765
	t0, t1 := (c0+c4)<<13, (c0-c4)<<13
	e0, e1, e2, e3 = t0+t3, t1+t2, t1-t2, t0-t3

	z1, z2, z3, z4 := c7+c1, c5+c3, c7+c3, c5+c1
	z5 := (z3 + z4) * f1175
	z1, z2, z3, z4 = -z1*f0899, -z2*f2562, z5-z3*f1961, z5-z4*f0390
	o3, o2, o1, o0 = c7*f0298+z1+z3, c5*f2053+z2+z4, c3*f3072+z2+z3, c1*f1501+z1+z4
	return e0, e1, e2, e3, o0, o1, o2, o3
}
