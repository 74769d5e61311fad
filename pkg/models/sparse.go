package models

import (
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// Attention is what a model's tokens see of each other.
//
//	full      all
//	local     those at most Window places away in their sequence
//	strided   those, and every Stride-th token of the sequence
//
// It holds for every block. A sequence that begins with what the model goes on
// with, a vision transformer's class token or a vla's image in the fusion,
// keeps that token's sight: it sees all and is seen by all.
type Attention struct {
	Kind   string `json:"kind,omitempty" yaml:"kind,omitempty"` // empty: full
	Window int    `json:"window,omitempty" yaml:"window,omitempty"`
	Stride int    `json:"stride,omitempty" yaml:"stride,omitempty"`

	lead int // first tokens that see all
}

// The kinds of attention.
const (
	AttentionFull    = "full"
	AttentionLocal   = "local"
	AttentionStrided = "strided"
)

// AttentionKinds lists the kinds of attention.
func AttentionKinds() []string { return []string{AttentionFull, AttentionLocal, AttentionStrided} }

// sparse says whether there is a window.
func (a Attention) sparse() bool { return a.Kind == AttentionLocal || a.Kind == AttentionStrided }

// mask adds what a hides to m.
func (a Attention) mask(m tensor.Mask) tensor.Mask {
	if a.sparse() {
		m.Window, m.Global = a.Window, a.lead
		if a.Kind == AttentionStrided {
			m.Stride = a.Stride
		}
	}
	return m
}

// pairs counts the queries and keys that see each other among t tokens.
func (a Attention) pairs(t int64, lead int) int64 {
	if !a.sparse() {
		return t * t
	}
	a.lead = lead
	m := a.mask(tensor.Mask{})
	var n int64
	for q := range int(t) {
		for k := range int(t) {
			if m.Rule(q, k) {
				n++
			}
		}
	}
	return n
}

func (a Attention) check(k *job.Checker) {
	what := "model.attention without a kind"
	if a.Kind != "" {
		what = "model.attention.kind " + a.Kind
		if !k.OneOf("model.attention.kind model.attention", a.Kind, AttentionKinds()) {
			return
		}
	}
	if a.sparse() {
		k.Within("model.attention.window model.attention", a.Window, 1, maxVocab)
	} else {
		k.Unused("model.attention.window", a.Window == 0, what)
	}
	if a.Kind == AttentionStrided {
		k.Within("model.attention.stride model.attention", a.Stride, 1, maxVocab)
	} else {
		k.Unused("model.attention.stride", a.Stride == 0, what)
	}
}
