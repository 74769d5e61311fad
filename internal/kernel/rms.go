package kernel

// RMS writes y = x·rstd·gamma for each of len(rstd) rows of x, len(gamma) elements each,
// one behind the other. rstd, which it writes, is 1/√(mean x² + eps).
func RMS(y, x, gamma, rstd []float32, eps float32) {
	n, rows := len(gamma), len(rstd)
	y, x = y[:rows*n], x[:rows*n]
	for r := 0; r < rows; r++ {
		at := r * n
		if row != nil && row.rmsFour != nil && r+4 <= rows && n > 0 {
			row.rmsFour(&y[at], &x[at], &gamma[0], &rstd[r], n, float32(n), eps)
			r += 3
			continue
		}
		rstd[r] = rmsRow(y[at:at+n], x[at:at+n], gamma, eps)
	}
}

// rmsRow is RMS of one row. It returns rstd.
func rmsRow(y, x, gamma []float32, eps float32) (rstd float32) {
	y, gamma = y[:len(x)], gamma[:len(x)]
	rstd = 1 / sqrt32(float32(Dot(x, x)/float32(len(x)))+eps)
	Scale(y, x, rstd)
	Multiply(y, y, gamma)
	return rstd
}

// RMSBackward writes dx = rstd·(g - xhat·mean(g·xhat)), where g = dy·gamma and xhat = x·rstd,
// for each of the rows of RMS. dx may be dy; scratch has the length of a row.
func RMSBackward(dx, dy, x, gamma, rstd, scratch []float32) {
	n, rows := len(gamma), len(rstd)
	dx, dy, x = dx[:rows*n], dy[:rows*n], x[:rows*n]
	for r := 0; r < rows; r++ {
		at := r * n
		if row != nil && row.rmsBackFour != nil && r+4 <= rows && n > 0 {
			row.rmsBackFour(&dx[at], &dy[at], &x[at], &gamma[0], &rstd[r], n, float32(n))
			r += 3
			continue
		}
		rmsRowBackward(dx[at:at+n], dy[at:at+n], x[at:at+n], gamma, rstd[r], scratch)
	}
}

// rmsRowBackward is RMSBackward of one row; xhat is scratch.
func rmsRowBackward(dx, dy, x, gamma []float32, rstd float32, xhat []float32) {
	dx, x, gamma, xhat = dx[:len(dy)], x[:len(dy)], gamma[:len(dy)], xhat[:len(dy)]
	Scale(xhat, x, rstd)
	Multiply(dx, dy, gamma)
	AddScaled(dx, xhat, -(Dot(dx, xhat) / float32(len(dy))))
	Scale(dx, dx, rstd)
}

// UnitRow writes y = x/max(‖x‖, least), and returns ‖x‖.
func UnitRow(y, x []float32, least float32) (length float32) {
	length = sqrt32(Dot(x, x))
	Divide(y[:len(x)], x, max(length, least))
	return length
}

// UnitRowBackward writes dx = (dy - y·(y·dy))/‖x‖, of y and ‖x‖ of UnitRow; dy/least
// where x was shorter than that. dx may be dy.
func UnitRowBackward(dx, dy, y []float32, length, least float32) {
	dx, y = dx[:len(dy)], y[:len(dy)]
	if length < least {
		Divide(dx, dy, least)
		return
	}
	along := Dot(y, dy)
	copy(dx, dy)
	AddScaled(dx, y, -along)
	Divide(dx, dx, length)
}
