package tensor

import "math"

// Losses of chunks: some of a sample's steps may lie past its episode's end, and
// do not count.

type chunkLoss struct {
	Loss
	pred, target *Var
	valid        *Var // nil: all rows count
	squared      bool
}

// L1 returns the mean of |pred-target| over the rows that count, [.., A]. valid
// has a number for each row, 0 where it does not count; nil: all do. No gradient
// flows to target, and where pred is target there is none.
func (t *Tape) L1(pred, target, valid *Var) *Loss {
	return t.chunkLoss("L1", &chunkLoss{pred: pred, target: target, valid: valid})
}

// ChunkMSE is L1 with (pred-target)². Without valid, MSE is as good and faster.
func (t *Tape) ChunkMSE(pred, target, valid *Var) *Loss {
	return t.chunkLoss("ChunkMSE", &chunkLoss{pred: pred, target: target, valid: valid, squared: true})
}

func (t *Tape) chunkLoss(name string, o *chunkLoss) *Loss {
	need(o.pred.Size() == o.target.Size() && o.pred.Cols() == o.target.Cols(), name, sprint("two of ", o.pred.Shape), o.target.Shape)
	need(!o.target.root().grad, name, "a target that needs no gradient", o.target.Shape)
	need(o.valid == nil || o.valid.Size() == o.pred.Rows() && !o.valid.root().grad, name, sprint("flags for ", o.pred.Rows(), " rows"), varShape(o.valid))
	o.nominal = o.pred.Size()
	if o.valid != nil {
		o.by = o.valid
	}
	o.share = func(i, n int) (float64, int) { return o.rows(i*o.pred.Rows()/n, (i+1)*o.pred.Rows()/n) }
	t.record(o, nil, []*Var{o.pred, o.target, o.valid})
	return &o.Loss
}

func (o *chunkLoss) kind() string          { return "loss" }
func (o *chunkLoss) flops() (int64, int64) { return 0, 0 }

func (o *chunkLoss) counts(row int) bool { return o.valid == nil || o.valid.Data[row] != 0 }

func (o *chunkLoss) forward(*Tape) { o.set(o.rows(0, o.pred.Rows())) }

// rows is the sum and the count of rows [lo, hi).
func (o *chunkLoss) rows(lo, hi int) (sum float64, count int) {
	n := o.pred.Cols()
	for r := lo; r < hi; r++ {
		if !o.counts(r) {
			continue
		}
		count += n
		for i := r * n; i < (r+1)*n; i++ {
			d := float64(o.pred.Data[i]) - float64(o.target.Data[i])
			if o.squared {
				sum += float64(d * d)
			} else {
				sum += math.Abs(d)
			}
		}
	}
	return sum, count
}

func (o *chunkLoss) backward(*Tape) {
	if !o.active || !o.pred.root().grad {
		return
	}
	acc := o.pred.accumulate()
	n, s := o.pred.Cols(), float32(o.weight/float64(o.nominal))
	if o.squared {
		s = float32(o.weight * 2 / float64(o.nominal))
	}
	for i, p := range o.pred.Data {
		g := float32(0)
		if o.counts(i / n) {
			switch d := p - o.target.Data[i]; {
			case o.squared:
				g = float32(d * s)
			case d > 0:
				g = s
			case d < 0:
				g = -s
			case d != d:
				g = d // what is not finite is found in the gradient
			}
		}
		if acc {
			g = o.pred.Grad[i] + g
		}
		o.pred.Grad[i] = g
	}
}
