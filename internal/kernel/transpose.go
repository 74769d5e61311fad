package kernel

// Transpose writes dst[c·ld + r] = src[r·stride + c] for r < rows and c < cols.
// ld is a multiple of sixteen and at least rows; what lies between rows and ld
// in dst is overwritten too.
func Transpose(dst []float32, ld int, src []float32, stride, rows, cols int, ws *Workspace) {
	if rows == 0 || cols == 0 {
		return
	}
	if ld%lanes16 != 0 || ld < rows || len(dst) < cols*ld || stride < cols || len(src) < (rows-1)*stride+cols {
		panic(&ShapeError{Op: "transpose", Want: sprintf("%d×%d from stride %d into %d columns of %d", rows, cols, stride, cols, ld), Got: sprintf("src %d, dst %d", len(src), len(dst))})
	}
	if vec == nil {
		for r := range rows {
			for c := range cols {
				dst[c*ld+r] = src[r*stride+c]
			}
		}
		return
	}
	p := &ws.pack
	p.stride, p.steps, p.pitch = uintptr(stride)*4, uintptr(cols), uintptr(ld)*4
	for r := 0; r < rows; r += vec.lanes {
		p.src, p.dst, p.lanes = &src[r*stride], &dst[r], uintptr(min(vec.lanes, rows-r))
		vec.transpose(p)
	}
	ws.pack = packArgs{}
}
