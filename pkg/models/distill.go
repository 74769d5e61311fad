package models

import (
	"fmt"
	"slices"

	"github.com/vlaring/vlaring/pkg/tensor"
)

// Distillation adds a teacher's answers to a program's loss:
//
//	(1-Alpha)·task + Alpha·soft + Features·hint
//
// each a mean over the whole batch: task and soft over targets, or action
// values; hint over samples.
//
// soft is the error against the teacher's output: SoftTargets where the output
// is tokens, the mean squared error where it is actions. hint compares
// distill_projection of what the model's last head sees of a sample with the
// same of the teacher (Romero et al., "FitNets", 2015); the model must have
// been made with HintDim, the teacher's d_model.
//
// The teacher sees the same micro-batch, without dropout: its answer is a
// function of weights and samples, and so are the bits of what is learned.
type Distillation struct {
	Teacher     *Model
	Alpha       float64
	Temperature float64 // of SoftTargets
	Features    float64 // 0: no hint

	// The teacher's actions in the student's units, Scale[a]·action + Shift[a]; nil: they are the same.
	Scale, Shift []float32
}

// teaching is a program's teacher at work.
type teaching struct {
	prog         *Program
	out, feature *tensor.Var // inputs of the student's tape
	scale, shift []float32
}

// answer runs the teacher on the loaded batch and hands its answer over.
func (t *teaching) answer() {
	t.prog.SetStep(0, 0, false)
	t.prog.tape.ForwardFrom(0, t.prog.end)
	copy(t.out.Data, t.prog.out.Data)
	if n := len(t.scale); n > 0 {
		for i, v := range t.out.Data {
			t.out.Data[i] = float32(v*t.scale[i%n]) + t.shift[i%n]
		}
	}
	if t.feature != nil {
		copy(t.feature.Data, t.prog.feature.Data)
	}
}

// recordLoss records the task's loss and, with weights, those of exits and
// teacher. Those that are means over the same count become one.
func (p *Program) recordLoss(rt *tensor.Runtime, opt ProgramOptions) error {
	t := p.tape
	judge, _ := p.model.head.(Judge)
	if p.task == nil {
		p.task = func(of Expected) *tensor.Loss { return judge.Loss(t, p.out, of) }
	}
	losses, weights := []*tensor.Loss{p.task(p.target)}, []float64{1}
	add := func(l *tensor.Loss, w float64) { losses, weights = append(losses, l), append(weights, w) }
	if d := opt.Distill; d != nil {
		weights[0] = 1 - d.Alpha
		if err := p.teach(rt, d, add); err != nil {
			return err
		}
	}
	if opt.Train {
		for _, e := range p.pass.exits {
			add(judge.Loss(t, e.Out, p.target), e.Weight)
		}
	}
	var rest []*tensor.Loss
	for len(losses) > 0 {
		var alike []*tensor.Loss
		var by, over []float64
		for i, l := range losses {
			if losses[0].Alike(l) {
				alike, by = append(alike, l), append(by, weights[i])
			} else {
				rest, over = append(rest, l), append(over, weights[i])
			}
		}
		if len(alike) > 1 || by[0] != 1 {
			alike[0] = t.WeightedSum(slices.Clone(alike), by)
		}
		p.losses = append(p.losses, alike[0])
		losses, weights, rest = rest, over, nil
	}
	return nil
}

// teach records the teacher and the losses against its answers.
func (p *Program) teach(rt *tensor.Runtime, d *Distillation, add func(l *tensor.Loss, w float64)) error {
	was, is := d.Teacher, p.model
	if was.opts.Answers() != is.opts.Answers() || p.target.Labels != nil && was.opts.Wants().Vocab() != is.opts.Wants().Vocab() {
		return fmt.Errorf("a teacher of kind %s with %d words and a student of kind %s with %d: their answers cannot be compared",
			was.opts.Name(), was.opts.Wants().Vocab(), is.opts.Name(), is.opts.Wants().Vocab())
	}
	judge, ok := is.head.(Judge)
	if _, too := was.head.(Judge); !ok || !too {
		return fmt.Errorf("a teacher of loss %s and a student of loss %s: their answers cannot be compared; want %s or %s", was.head.Name(), is.head.Name(), MSE, L1)
	}
	prog, err := d.Teacher.Program(rt, p.n, p.spec, ProgramOptions{Forward: true, Settled: true, features: true})
	if err != nil {
		return fmt.Errorf("the teacher: %w", err)
	}
	p.teacher = &teaching{prog: prog, scale: d.Scale, shift: d.Shift} // whoever sees an error closes it
	t := p.tape
	if n := p.out.Cols(); len(d.Scale) != len(d.Shift) || len(d.Scale) > 0 && len(d.Scale) != n {
		return fmt.Errorf("%d scales and %d shifts for the teacher's actions of %d values", len(d.Scale), len(d.Shift), n)
	}
	if prog.out.Size() != p.out.Size() {
		return fmt.Errorf("the teacher answers %v, the student %v", prog.out.Shape, p.out.Shape)
	}
	p.teacher.out = t.Input(p.out.Shape...)
	add(judge.Soft(t, p.out, p.teacher.out, p.target, d.Temperature), d.Alpha)
	if d.Features == 0 {
		return nil
	}
	feature := prog.feature
	if feature == nil || p.feature == nil {
		return fmt.Errorf("a teacher of kind %s and a student of kind %s: not both have features that could be compared", was.opts.Name(), is.opts.Name())
	}
	if p.model.hintDim != feature.Cols() {
		return fmt.Errorf("the teacher's features are %d wide; the student was made for %d", feature.Cols(), p.model.hintDim)
	}
	p.teacher.feature = t.Input(feature.Shape...)
	if p.feature.Rows() != feature.Rows() {
		return fmt.Errorf("the teacher's features are %v, the student's %v", feature.Shape, p.feature.Shape)
	}
	add(t.MSE(p.model.hint.Forward(p.pass, p.feature), p.teacher.feature), d.Features)
	return nil
}
