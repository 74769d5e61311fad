package tensor

import "math"

// Values in [-1, 1] as one of n bins of equal width. Bin k is
// [-1 + 2k/n, -1 + 2(k+1)/n); what lies outside belongs to the first or the last.

type bins struct {
	x, valid *Var
	n        int
	labels   *Ints
}

// Bins says which of n bins each value of x [.., A] is in, and -1 where it does
// not count: valid is as in L1. Forward writes the labels anew each time.
func (t *Tape) Bins(x, valid *Var, n int) *Ints {
	need(n >= 1, "Bins", "a bin or more", n)
	need(valid == nil || valid.Size() == x.Rows(), "Bins", sprint("flags for ", x.Rows(), " rows"), varShape(valid))
	o := &bins{x: x, valid: valid, n: n, labels: t.Ints(x.Shape...)}
	t.record(o, nil, []*Var{x, valid})
	return o.labels
}

func (o *bins) needs() []*Var         { return nil }
func (o *bins) kind() string          { return "loss" }
func (o *bins) flops() (int64, int64) { return 0, 0 }
func (o *bins) backward(*Tape)        {}

func (o *bins) forward(*Tape) {
	cols := o.x.Cols()
	for i, v := range o.x.Data {
		k := math.Floor(float64((float64(v) + 1) * float64(o.n) / 2))
		k = min(max(k, 0), float64(o.n-1))
		switch {
		case o.valid != nil && o.valid.Data[i/cols] == 0 || k != k:
			o.labels.Data[i] = -1 // a value that is no number is no target either
		default:
			o.labels.Data[i] = int32(k)
		}
	}
}

type binCentres struct {
	logits, y *Var
}

// BinCentres is the centre of the likeliest bin of each value, the first of
// equals: logits [.., n] → [..], without a gradient.
func (t *Tape) BinCentres(logits *Var) *Var {
	need(len(logits.Shape) > 1, "BinCentres", "[.., n]", logits.Shape)
	o := &binCentres{logits: logits, y: t.newVar(logits.Shape[:len(logits.Shape)-1], false)}
	t.record(o, o.y, []*Var{logits})
	return o.y
}

func (o *binCentres) needs() []*Var         { return nil }
func (o *binCentres) kind() string          { return "loss" }
func (o *binCentres) flops() (int64, int64) { return 0, 0 }
func (o *binCentres) backward(*Tape)        {}

func (o *binCentres) forward(*Tape) {
	n := o.logits.Cols()
	for i := range o.y.Data {
		best := 0
		row := o.logits.Data[i*n : (i+1)*n]
		for k, v := range row {
			if v > row[best] {
				best = k
			}
		}
		o.y.Data[i] = float32(float64(2*best+1)/float64(n) - 1)
	}
}
