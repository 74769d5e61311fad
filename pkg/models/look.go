package models

import "math"

// Head returns the map of one head for one sample: [T, T], query by key. It is
// a part of Data.
func (l LayerAttention) Head(b, h int) []float32 {
	n := l.T * l.T
	return l.Data[(b*l.H+h)*n:][:n:n]
}

// LooksAt returns, for each query of a map [n, n], the key with the greatest
// weight, the first of several; -1 where the query sees nothing.
func LooksAt(w []float32, n int) []int {
	at := make([]int, n)
	for q := range at {
		at[q] = -1
		most := float32(0)
		for k, v := range w[q*n : (q+1)*n] {
			if v > most {
				most, at[q] = v, k
			}
		}
	}
	return at
}

// Entropy returns -Σ w·ln w of each query of a map [n, n], in nats: 0 where it
// looks at one key alone, ln n where it looks at all alike.
func Entropy(w []float32, n int) []float64 {
	e := make([]float64, n)
	for q := range e {
		for _, v := range w[q*n : (q+1)*n] {
			if v > 0 {
				e[q] -= float64(v) * math.Log(float64(v))
			}
		}
	}
	return e
}

// Distance returns how far each query of a map [n, n] looks: the mean of
// between(q, k) under its weights. Pairs for which between is negative do not
// count; a query without any other pair has NaN.
func Distance(w []float32, n int, between func(q, k int) float64) []float64 {
	out := make([]float64, n)
	for q := range out {
		sum, weight := 0.0, 0.0
		for k, v := range w[q*n : (q+1)*n] {
			if d := between(q, k); d >= 0 {
				sum, weight = sum+float64(v)*d, weight+float64(v)
			}
		}
		out[q] = sum / weight // 0/0 is NaN
	}
	return out
}

// Rollout returns what each position of a stack's result is made of, [T, T]:
// attention rollout (Abnar and Zuidema 2020, arXiv 2005.00928). The layers'
// maps, averaged over heads and mixed half and half with the identity of the
// residual path, are multiplied through:
//
//	Ã = (Ā + 1)/2, rows to sum 1        R = Ã_last · … · Ã_0
//
// layers are one stack's, the first first, all of the same T; b is the sample.
func Rollout(layers []LayerAttention, b int) []float32 {
	n := layers[0].T
	r := make([]float64, n*n)
	for i := range n {
		r[i*n+i] = 1
	}
	a, next := make([]float64, n*n), make([]float64, n*n)
	for _, l := range layers {
		clear(a)
		for h := range l.H {
			for i, v := range l.Head(b, h) {
				a[i] += float64(v) / float64(l.H)
			}
		}
		for q := range n {
			row, sum := a[q*n:(q+1)*n], 0.0
			row[q]++
			for _, v := range row {
				sum += v
			}
			for k := range row {
				row[k] /= sum
			}
		}
		clear(next)
		for q := range n {
			for k, v := range a[q*n : (q+1)*n] {
				for j, x := range r[k*n : (k+1)*n] {
					next[q*n+j] += v * x
				}
			}
		}
		r, next = next, r
	}
	out := make([]float32, n*n)
	for i, v := range r {
		out[i] = float32(v)
	}
	return out
}
