package models

import (
	"fmt"

	"github.com/vlaring/vlaring/pkg/tensor"
)

// Inputs are a batch on the tape: an input for each feature of its samples, under
// the feature's name.
type Inputs struct {
	list    []input
	visible *tensor.Bytes
	past    *[]pastKeys // that Shown has recorded
}

// pastKeys are the tokens of a time, hidden where it lies before the episode.
type pastKeys struct {
	time int
	keys *tensor.Bytes // [B, n]
}

type input struct {
	Feature
	at  *tensor.Var  // [n, shape…] of pictures and numbers, or
	ids *tensor.Ints // [n, shape…] of tokens
}

// record adds the features of spec that have the role to the tape.
func (in *Inputs) record(t *tensor.Tape, n int, spec Spec, role Role) {
	for _, f := range spec {
		if f.Role != role {
			continue
		}
		x, shape := input{Feature: f}, append([]int{n}, f.Shape...)
		if f.Type == Token {
			x.ids = t.Ints(shape...)
		} else {
			x.at = t.Input(shape...)
		}
		in.list = append(in.list, x)
	}
}

// Floats is the input of the feature called name, of pictures or numbers; nil:
// there is none. It is [B, shape…].
func (in Inputs) Floats(name string) *tensor.Var {
	for _, x := range in.list {
		if x.Name == name {
			return x.at
		}
	}
	return nil
}

// Ints is the input of the feature called name, of tokens; nil: there is none.
func (in Inputs) Ints(name string) *tensor.Ints {
	for _, x := range in.list {
		if x.Name == name {
			return x.ids
		}
	}
	return nil
}

// Visible marks the instruction tokens that are no padding, [B, T]; nil: all.
func (in Inputs) Visible() *tensor.Bytes { return in.visible }

// Shown marks n tokens of a time, the oldest being 0: hidden, all of them, where
// the time lies before the episode's beginning. [B, n]
func (in Inputs) Shown(t *tensor.Tape, time, n int) *tensor.Bytes {
	flags := in.Floats(Past)
	k := pastKeys{time, t.Bytes(flags.Shape[0], n)}
	*in.past = append(*in.past, k)
	return k.keys
}

// showPast sets what Shown has recorded by the loaded batch.
func (in Inputs) showPast() {
	for _, k := range *in.past {
		flags := in.Floats(Past)
		times, n := flags.Shape[1], k.keys.Shape[1]
		for b := range flags.Shape[0] {
			var v uint8
			if flags.Data[b*times+k.time] != 0 {
				v = 1
			}
			for i := range n {
				k.keys.Data[b*n+i] = v
			}
		}
	}
}

// load copies a batch in. All of it is checked first; tokens are below vocab, and
// a target's may be NoLabel.
func (in Inputs) load(b *Batch, vocab int) error {
	for _, x := range in.list {
		i := b.Spec.Index(x.Name)
		if i < 0 {
			return fmt.Errorf("a batch without %s; the model takes %s", x.Name, x.Feature)
		}
		v := b.Values[i]
		if x.ids == nil {
			if len(v.Floats) != len(x.at.Data) {
				return fmt.Errorf("a batch with %d values of %s; want %d", len(v.Floats), x.Name, len(x.at.Data))
			}
			continue
		}
		if len(v.Ints) != len(x.ids.Data) {
			return fmt.Errorf("a batch with %d tokens of %s; want %d", len(v.Ints), x.Name, len(x.ids.Data))
		}
		for i, tok := range v.Ints {
			if tok < 0 && !(x.Role == Target && tok == NoLabel) || int(tok) >= vocab {
				return &TokenError{Sample: b.IDs[i/x.Size()], Position: i % x.Size(), Token: tok, Vocab: vocab, Feature: x.Name}
			}
		}
	}
	for _, x := range in.list {
		v := b.Values[b.Spec.Index(x.Name)]
		if x.ids != nil {
			copy(x.ids.Data, v.Ints)
		} else {
			copy(x.at.Data, v.Floats)
		}
	}
	return nil
}
