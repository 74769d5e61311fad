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
	t.record(o, nil, []*Var{pred})
	return &o.Loss
}

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
	rows   int // that count
	probs  []float32
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

func (o *crossEntropy) bind(t *Tape) {
	n, v := o.logits.Rows(), o.logits.Cols()
	var r *region
	o.probs, r = floats(n * v)
	t.memory = append(t.memory, r)
	o.each = make([]float64, n)
	o.fwd = rowTask{n: n, f: func(lo, hi int, _ *kernel.Workspace) {
		for i := lo; i < hi; i++ {
			x, p := o.logits.Data[i*v:(i+1)*v], o.probs[i*v:(i+1)*v]
			copy(p, x)
			max, sum := kernel.SoftmaxRow(p, 1)
			o.each[i] = 0
			if y := int(o.labels.Data[i]); y != o.ignore {
				o.each[i] = float64(kernel.Log32(sum)) - float64(x[y]-max)
			}
		}
	}}
	o.back = rowTask{n: n, f: func(lo, hi int, ws *kernel.Workspace) {
		s := float32(o.weight / float64(max(o.rows, 1)))
		for i := lo; i < hi; i++ {
			p, g := o.probs[i*v:(i+1)*v], o.logits.Grad[i*v:(i+1)*v]
			y := int(o.labels.Data[i])
			if y == o.ignore {
				if !o.acc {
					clear(g)
				}
				continue
			}
			dst := g // softmax - one-hot; the probabilities stay, for another Backward
			if o.acc {
				dst = ws.Floats(v)
			}
			kernel.Scale(dst, p, s)
			dst[y] = float32(float32(p[y]-1) * s)
			if o.acc {
				kernel.Accumulate(g, dst)
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
