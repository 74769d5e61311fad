package kernel

// RMSRow writes y = x·rstd·gamma, where rstd is 1/√(mean x² + eps), and returns rstd.
func RMSRow(y, x, gamma []float32, eps float32) (rstd float32) {
	y, gamma = y[:len(x)], gamma[:len(x)]
	rstd = 1 / sqrt32(float32(Dot(x, x)/float32(len(x)))+eps)
	Scale(y, x, rstd)
	Multiply(y, y, gamma)
	return rstd
}

// RMSRowBackward writes dx = rstd·(g - xhat·mean(g·xhat)), where g = dy·gamma and xhat = x·rstd. dx may be dy; xhat is
// scratch of the same length.
func RMSRowBackward(dx, dy, x, gamma []float32, rstd float32, xhat []float32) {
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
