package models

import (
	"strings"

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
	Kind   string `json:"kind,omitempty"` // empty: full
	Window int    `json:"window,omitempty"`
	Stride int    `json:"stride,omitempty"`

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

func (a Attention) validate(bad func(field, format string, a ...any)) {
	known := a.Kind == ""
	for _, k := range AttentionKinds() {
		known = known || a.Kind == k
	}
	switch {
	case !known:
		bad("attention.kind", "%q is unknown; want one of %s", a.Kind, strings.Join(AttentionKinds(), ", "))
	case a.sparse() && a.Window < 1:
		bad("attention.window", "%d is too small; want at least 1", a.Window)
	case a.Kind == AttentionStrided && a.Stride < 1:
		bad("attention.stride", "%d is too small; want at least 1", a.Stride)
	}
}
