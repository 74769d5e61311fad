package tensor

import (
	"github.com/vlaring/vlaring/pkg/tensor/internal/kernel"
)

// Loss is a scalar at the end of a tape.
type Loss struct {
	value  float64
	active bool    // this Backward begins here, or at a sum that this is a part of
	weight float64 // in that sum; 1 by itself
	parts  []*Loss // of a sum
}

// begin makes l, or its parts, the beginning of the Backward that follows; end
// takes that back.
func (l *Loss) begin() { l.active, l.weight = true, 1 }

func (l *Loss) end() {
	l.active = false
	for _, p := range l.parts {
		p.end()
	}
}

// Value is the loss of the last Forward, summed in float64 in a fixed order.
func (l *Loss) Value() float64 { return l.value }

type mse struct {
	Loss
	pred, target *Var
}

// MSE returns the mean over all elements of (pred-target)². The target is a
// constant: no gradient flows to it.
func (t *Tape) MSE(pred, target *Var) *Loss {
	need(pred.Size() == target.Size(), "MSE", sprint("two of ", pred.Shape), target.Shape)
	need(!target.root().grad, "MSE", "a target that needs no gradient", target.Shape)
	o := &mse{pred: pred, target: target}
	t.record(o, nil, []*Var{pred, target})
	return &o.Loss
}

func (o *mse) kind() string          { return "loss" }
func (o *mse) flops() (int64, int64) { return 0, 0 }
func (o *mse) needs() []*Var         { return []*Var{o.pred, o.target} }

func (o *mse) forward(*Tape) {
	o.value = kernel.SumSquaredDiff(o.pred.Data, o.target.Data) / float64(o.pred.Size())
}

func (o *mse) backward(*Tape) {
	if !o.active || !o.pred.root().grad {
		return
	}
	acc := o.pred.accumulate()
	s := float32(o.weight * 2 / float64(o.pred.Size()))
	for i, p := range o.pred.Data {
		g := float32(float32(p-o.target.Data[i]) * s)
		if acc {
			g = o.pred.Grad[i] + g
		}
		o.pred.Grad[i] = g
	}
}

type crossEntropy struct {
	Loss
	logits *Var
	labels *Ints
	ignore int
	rows   int       // that count
	max    []float32 // of each row of logits
	sum    []float32 // of the exponentials of each row
	each   []float64 // [N] loss of each row
	fwd    rowTask
	back   rowTask
	acc    bool
}

// CrossEntropy returns the mean of -log softmax(logits)[label] over the rows
// whose label is not ignore: logits [.., V], a label a row. Without any such
// row it is 0.
func (t *Tape) CrossEntropy(logits *Var, labels *Ints, ignore int) *Loss {
	need(logits.Rows() == len(labels.Data), "CrossEntropy", sprint("a label for each row of ", logits.Shape), labels.Shape)
	o := &crossEntropy{logits: logits, labels: labels, ignore: ignore}
	t.record(o, nil, []*Var{logits})
	return &o.Loss
}

func (o *crossEntropy) kind() string          { return "loss" }
func (o *crossEntropy) flops() (int64, int64) { return 0, 0 }
func (o *crossEntropy) needs() []*Var         { return []*Var{o.logits} }
func (o *crossEntropy) reserve(*Tape) []reserved {
	return []reserved{{dst: &o.max, n: o.logits.Rows()}, {dst: &o.sum, n: o.logits.Rows()}}
}

func (o *crossEntropy) bind(*Tape) {
	n, v := o.logits.Rows(), o.logits.Cols()
	o.each = make([]float64, n)
	o.fwd = rowTask{n: n, f: func(lo, hi int, ws *kernel.Workspace) {
		p := ws.Floats(v)
		for i := lo; i < hi; i++ {
			o.each[i] = 0
			y := int(o.labels.Data[i])
			if y == o.ignore {
				continue
			}
			x := o.logits.Data[i*v : (i+1)*v]
			copy(p, x)
			o.max[i], o.sum[i] = kernel.SoftmaxRow(p, 1)
			o.each[i] = float64(kernel.Log32(o.sum[i])) - float64(x[y]-o.max[i])
		}
	}}
	// The probabilities are computed anew, in the place of the gradient.
	o.back = rowTask{n: n, f: func(lo, hi int, ws *kernel.Workspace) {
		s := float32(o.weight / float64(max(o.rows, 1)))
		for i := lo; i < hi; i++ {
			g := o.logits.Grad[i*v : (i+1)*v]
			y := int(o.labels.Data[i])
			if y == o.ignore {
				if !o.acc {
					clear(g)
				}
				continue
			}
			p := g
			if o.acc {
				p = ws.Floats(v)
			}
			copy(p, o.logits.Data[i*v:(i+1)*v])
			kernel.SoftmaxAgain(p, 1, o.max[i], o.sum[i])
			p[y]-- // softmax - one-hot
			kernel.Scale(p, p, s)
			if o.acc {
				kernel.Accumulate(g, p)
			}
		}
	}}
}

func (o *crossEntropy) forward(t *Tape) {
	o.fwd.run(t.rt)
	sum := 0.0
	o.rows = 0
	for i, y := range o.labels.Data {
		if int(y) != o.ignore {
			o.rows++
			sum += o.each[i]
		}
	}
	o.value = sum / float64(max(o.rows, 1))
}

func (o *crossEntropy) backward(t *Tape) {
	if !o.active || !o.logits.root().grad {
		return
	}
	o.acc = o.logits.accumulate()
	o.back.run(t.rt)
}
