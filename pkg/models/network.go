package models

import (
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// Options are the options of a kind of model, and where its network begins. A
// kind is one file: a struct of options with these methods, its layers, and a
// job.Kind with its defaults in the list that Kinds returns, or in a list of
// another program's own.
type Options interface {
	job.ModelOptions
	Name() string // of the kind, for messages
	Wants() Spec  // the features of the samples that a model of these options takes
	Padding() int // the token that is padding and that the model takes out; negative: none
	// Sized returns the options with a vocabulary of that size, and with the sizes
	// of the data's features, where they leave them to the data.
	Sized(vocabulary int, data Spec) Options
	// Complete returns the options with what a program may leave out, and a
	// resolved job does not.
	Complete() Options
	// Network adds the network's parameters to b, in the order in which Record
	// uses them. The options are complete and have been checked.
	Network(b *Builder) (Network, error)
}

// Teachable are Options of a kind whose features of a sample can be compared
// with a teacher's.
type Teachable interface {
	Options
	FeatureDim() int          // width of the features
	Hint() int                // width of the teacher's features; 0: there are none to compare
	WithHint(dim int) Options // for a student of a teacher whose features have that width
}

// Network is the layers of a model. Its parameters are those that Options.Network
// has added to a Builder; it holds nothing else that changes.
type Network interface {
	// Record records the network on p.Tape for a batch.
	Record(p *Pass, in Inputs) Outputs
	// Cost counts the arithmetic of one sample of spec; see Tally.
	Cost(spec Spec) Cost
}

// Outputs are what a network makes of a batch.
type Outputs struct {
	Answer *tensor.Var // actions [B, A] or [B, L, A], or logits [B, T, V]
	// Features are what the last layer sees of a sample, [B, D], or of each of
	// its tokens, [B, T, D]; nil: there is nothing that could be compared with
	// a teacher's.
	Features *tensor.Var
	Layers   int // of the stack that the pass's exits stand in; 0: the model has none
	// Decoder is what the head's layers make the answer of, instead of all of the
	// above: of a network whose Options have a Decoding.
	Decoder *Decoder
}

// Tally counts the matrix products of one sample, which are nearly all of the
// arithmetic.
type Tally struct {
	Products int64 // multiply-adds of forward
	First    int64 // those of them whose input needs no gradient
	Floats   int64 // kept from forward for backward
}

// Linear counts a linear layer over n rows.
func (t *Tally) Linear(n, in, out int64) { t.Products += n * in * out }

// Cost is the tally's. Backward has two products for each of forward's, but for
// the first layer's.
func (t *Tally) Cost() Cost {
	return Cost{ForwardFLOPs: 2 * t.Products, TrainFLOPs: 2 * (3*t.Products - t.First), ActivationBytes: 4 * t.Floats}
}
