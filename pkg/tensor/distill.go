package tensor

import "github.com/vlaring/vlaring/internal/kernel"

type lossSum struct {
	Loss
	weights []float64
}

// WeightedSum is Σ weights[i]·losses[i], added in order in float64. The losses
// are of this tape, each in one sum at most, and are means over the same count:
// all over what the same labels or flags name, or each over all of its elements. Count and Nominal are the first one's.
func (t *Tape) WeightedSum(losses []*Loss, weights []float64) *Loss {
	need(len(losses) > 0 && len(losses) == len(weights), "WeightedSum", "as many weights as losses, at least one", len(losses), len(weights))
	for _, l := range losses[1:] {
		need(losses[0].Alike(l), "WeightedSum", "losses that count by the same labels", l.nominal)
	}
	o := &lossSum{Loss: Loss{parts: losses, nominal: losses[0].nominal, by: losses[0].by}, weights: weights}
	t.record(o, nil, nil)
	return &o.Loss
}

// Alike says whether two losses can be parts of one sum: whatever the data,
// what counts in one is the same share of its Nominal as in the other.
func (l *Loss) Alike(other *Loss) bool {
	return l.by == other.by && (l.by == nil || l.nominal == other.nominal)
}

func (o *lossSum) forward(*Tape) {
	o.scaled = 0
	for i, l := range o.parts {
		o.scaled += float64(o.weights[i] * l.scaled)
	}
	o.count, o.sum = o.parts[0].count, o.scaled*float64(o.nominal)
}

// backward comes before its parts', which were recorded earlier.
func (o *lossSum) backward(*Tape) {
	if !o.active {
		return
	}
	for i, l := range o.parts {
		l.active, l.weight = true, float64(o.weight*o.weights[i])
	}
}

type softTargets struct {
	Loss
	logits, teacher *Var
	labels          *Ints
	temperature     float64
	diff            []float32 // [.., V] softmax(logits/τ) - softmax(teacher/τ)
	each            []float64 // [N]
	fwd, back       rowTask
	acc             bool
}

// SoftTargets is Hinton, Vinyals and Dean's distillation loss ("Distilling the
// Knowledge in a Neural Network", 2015): τ²·KL(softmax(teacher/τ) ‖
// softmax(logits/τ)), the mean over the rows whose label counts; labels may be
// nil. No gradient flows to the teacher.
func (t *Tape) SoftTargets(logits, teacher *Var, labels *Ints, temperature float64) *Loss {
	need(logits.Size() == teacher.Size() && logits.Cols() == teacher.Cols(), "SoftTargets", sprint("two of ", logits.Shape), teacher.Shape)
	need(!teacher.root().grad, "SoftTargets", "a teacher that needs no gradient", teacher.Shape)
	need(temperature > 0, "SoftTargets", "a temperature above 0", temperature)
	need(labels == nil || len(labels.Data) == logits.Rows(), "SoftTargets", sprint("a label for each row of ", logits.Shape), logits.Rows())
	o := &softTargets{Loss: Loss{nominal: logits.Rows()}, logits: logits, teacher: teacher, labels: labels, temperature: temperature}
	if labels != nil {
		o.by = labels
	}
	t.record(o, nil, []*Var{logits, teacher})
	return &o.Loss
}

func (o *softTargets) needs() []*Var         { return nil }
func (o *softTargets) kind() string          { return "loss" }
func (o *softTargets) flops() (int64, int64) { return 0, 0 }
func (o *softTargets) reserve(*Tape) []reserved {
	return []reserved{{dst: &o.diff, n: o.logits.Size()}}
}

func (o *softTargets) bind(*Tape) {
	n, v := o.logits.Rows(), o.logits.Cols()
	o.each = make([]float64, n)
	tau := float32(o.temperature)
	o.fwd = rowTask{n: n, f: func(lo, hi int, ws *kernel.Workspace) {
		buf := ws.Floats(2 * v)
		p, s := buf[:v], buf[v:]
		for i := lo; i < hi; i++ {
			o.each[i] = 0
			kernel.Divide(p, o.teacher.Data[i*v:(i+1)*v], tau)
			kernel.Divide(s, o.logits.Data[i*v:(i+1)*v], tau)
			diff := o.diff[i*v : (i+1)*v]
			// KL = Σ p·((t - max t) - (s - max s)) - ln Σe^(t-max) + ln Σe^(s-max), with t and s before the softmax
			for k := range diff {
				diff[k] = p[k] - s[k]
			}
			pm, ps := kernel.SoftmaxRow(p, 1)
			sm, ss := kernel.SoftmaxRow(s, 1)
			kl := float64(kernel.Log32(ss)) - float64(kernel.Log32(ps)) - (float64(pm) - float64(sm))
			for k, d := range diff {
				kl += float64(float64(p[k]) * float64(d))
				diff[k] = s[k] - p[k]
			}
			o.each[i] = kl
		}
	}}
	o.back = rowTask{n: n, f: func(lo, hi int, ws *kernel.Workspace) {
		g := ws.Floats(v)
		s := float32(o.weight * o.temperature / float64(o.nominal))
		for i := lo; i < hi; i++ {
			if o.counts(i) {
				kernel.Scale(g, o.diff[i*v:(i+1)*v], s)
			} else {
				clear(g)
			}
			give(o.logits.Grad[i*v:(i+1)*v], g, o.acc)
		}
	}}
}

func (o *softTargets) counts(row int) bool { return o.labels == nil || o.labels.Counts(row) }

func (o *softTargets) forward(t *Tape) {
	o.fwd.run(t.rt)
	sum, count := 0.0, 0
	for i, kl := range o.each {
		if o.counts(i) {
			count++
			sum += kl
		}
	}
	o.set(float64(sum*o.temperature*o.temperature), count)
}

func (o *softTargets) backward(t *Tape) {
	if !o.active || !o.logits.root().grad {
		return
	}
	o.acc = o.logits.accumulate()
	o.back.run(t.rt)
}
