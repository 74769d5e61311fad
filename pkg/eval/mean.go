package eval

// mean is a mean in the making: a sum and the count of what it is the sum of,
// apart until the end. A mean of the means of batches would depend on how a split
// is cut into batches; one division at the end does not.
type mean struct {
	sum   float64
	count int
}

// add takes the sum of n values. The conversions keep any compiler from fusing a
// product in sum with the addition.
func (m *mean) add(sum float64, n int) {
	m.sum = float64(m.sum + float64(sum))
	m.count += n
}

// of is the mean, and 0 where nothing counts.
func (m mean) of() float64 { return m.sum / float64(max(m.count, 1)) }
