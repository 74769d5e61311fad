package tensor

import (
	"github.com/vlaring/vlaring/internal/kernel"
)

// Loss is a scalar at the end of a tape: a mean over what counts, which is known
// as a sum and a count, so that means over several batches can be made of them.
//
//	Sum       of the last Forward, over what counts, in float64 in a fixed order
//	Count     what counted in it: rows with a target, or elements
//	Nominal   what a batch of this shape has, targets or not: a constant of the tape
//
// Backward gives the gradient of Sum/Nominal, which knows nothing of the data's
// own count. So sums of gradients of batches of one shape, divided once by the
// sum of Count/Nominal, are the gradient of the mean over all of them.
type Loss struct {
	scaled  float64 // Sum/Nominal
	sum     float64
	count   int
	nominal int
	by      any // the *Ints or *Var that says what counts; nil: everything does

	active bool    // this Backward begins here, or at a sum that this is a part of
	weight float64 // in that sum; 1 by itself
	parts  []*Loss // of a sum

	share func(i, n int) (sum float64, count int) // see Share
}

// Share is what the i-th of n equal parts of the batch has of Sum and Count of the
// last Forward: of sample i, where the batch has n. It is summed by itself, so
// shares add up to Sum but for rounding. A sum of losses has none.
func (l *Loss) Share(i, n int) (sum float64, count int) { return l.share(i, n) }

// Shared says whether the loss can tell of its shares.
func (l *Loss) Shared() bool { return l.share != nil }

// begin makes l, or its parts, the beginning of the Backward that follows; end
// takes that back.
func (l *Loss) begin() { l.active, l.weight = true, 1 }

func (l *Loss) end() {
	l.active = false
	for _, p := range l.parts {
		p.end()
	}
}

// Value is the mean of the last Forward over what counts; 0 where nothing does.
func (l *Loss) Value() float64 {
	if l.count == l.nominal {
		return l.scaled
	}
	return l.sum / float64(max(l.count, 1))
}

// Sum is the sum of the last Forward over what counts.
func (l *Loss) Sum() float64 { return l.sum }

// Scaled is Sum/Nominal: what Backward gives the gradient of.
func (l *Loss) Scaled() float64 { return l.scaled }

// Count is how many rows or elements counted in the last Forward.
func (l *Loss) Count() int { return l.count }

// Nominal is the rows or elements of a batch, those that do not count too.
func (l *Loss) Nominal() int { return l.nominal }

// set takes the result of a Forward.
func (l *Loss) set(sum float64, count int) {
	l.sum, l.count, l.scaled = sum, count, sum/float64(l.nominal)
}

// Counts says whether element i is the label of a target: labels that are
// negative are of none.
func (n *Ints) Counts(i int) bool { return n.Data[i] >= 0 }

type mse struct {
	Loss
	pred, target *Var
}

// MSE returns the mean over all elements of (pred-target)². The target is a
// constant: no gradient flows to it.
func (t *Tape) MSE(pred, target *Var) *Loss {
	need(pred.Size() == target.Size(), "MSE", sprint("two of ", pred.Shape), target.Shape)
	need(!target.root().grad, "MSE", "a target that needs no gradient", target.Shape)
	o := &mse{Loss: Loss{nominal: pred.Size()}, pred: pred, target: target}
	o.share = func(i, n int) (float64, int) {
		lo, hi := i*pred.Size()/n, (i+1)*pred.Size()/n
		return kernel.SumSquaredDiff(o.pred.Data[lo:hi], o.target.Data[lo:hi]), hi - lo
	}
	t.record(o, nil, []*Var{pred, target})
	return &o.Loss
}

func (o *mse) kind() string          { return "loss" }
func (o *mse) flops() (int64, int64) { return 0, 0 }
func (o *mse) needs() []*Var         { return []*Var{o.pred, o.target} }

func (o *mse) forward(*Tape) {
	o.set(kernel.SumSquaredDiff(o.pred.Data, o.target.Data), o.nominal)
}

func (o *mse) backward(*Tape) {
	if !o.active || !o.pred.root().grad {
		return
	}
	acc := o.pred.accumulate()
	s := float32(o.weight * 2 / float64(o.nominal))
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
	max    []float32 // of each row of logits
	sum    []float32 // of the exponentials of each row
	each   []float64 // [N] loss of each row
	fwd    rowTask
	back   rowTask
	acc    bool
}

// CrossEntropy returns the mean of -log softmax(logits)[label] over the rows
// whose label counts: logits [.., V], a label a row.
func (t *Tape) CrossEntropy(logits *Var, labels *Ints) *Loss {
	need(logits.Rows() == len(labels.Data), "CrossEntropy", sprint("a label for each row of ", logits.Shape), labels.Shape)
	o := &crossEntropy{Loss: Loss{nominal: logits.Rows(), by: labels}, logits: logits, labels: labels}
	o.share = func(i, n int) (sum float64, count int) {
		for r := i * len(o.each) / n; r < (i+1)*len(o.each)/n; r++ {
			if o.labels.Counts(r) {
				sum, count = sum+o.each[r], count+1
			}
		}
		return sum, count
	}
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
			if !o.labels.Counts(i) {
				continue
			}
			y := int(o.labels.Data[i])
			x := o.logits.Data[i*v : (i+1)*v]
			copy(p, x)
			o.max[i], o.sum[i] = kernel.SoftmaxRow(p, 1)
			o.each[i] = float64(kernel.Log32(o.sum[i])) - float64(x[y]-o.max[i])
		}
	}}
	// The probabilities are computed anew, in the place of the gradient.
	o.back = rowTask{n: n, f: func(lo, hi int, ws *kernel.Workspace) {
		s := float32(o.weight / float64(o.nominal))
		for i := lo; i < hi; i++ {
			g := o.logits.Grad[i*v : (i+1)*v]
			if !o.labels.Counts(i) {
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
			p[o.labels.Data[i]]-- // softmax - one-hot
			kernel.Scale(p, p, s)
			if o.acc {
				kernel.Accumulate(g, p)
			}
		}
	}}
}

func (o *crossEntropy) forward(t *Tape) {
	o.fwd.run(t.rt)
	sum, count := 0.0, 0
	for i, x := range o.each {
		if o.labels.Counts(i) {
			count++
			sum += x
		}
	}
	o.set(sum, count)
}

func (o *crossEntropy) backward(t *Tape) {
	if !o.active || !o.logits.root().grad {
		return
	}
	o.acc = o.logits.accumulate()
	o.back.run(t.rt)
}
