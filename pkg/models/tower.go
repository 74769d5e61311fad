package models

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/vlaring/vlaring/pkg/job"
)

// Tower is what looks at pictures or reads words: one of this package's own, by its
// kind, or an encoder that others have pretrained, from its file. In a job file it
// may be the bare word of the kind.
type Tower struct {
	Kind string `json:"kind,omitempty" yaml:"kind,omitempty" job:"bare"` // of pictures: vit, the default, or cnn
	From string `json:"from,omitempty" yaml:"from,omitempty"`            // a file of weights, the index of a sharded one, or a folder
	// Backbone is what stands in From: written by who has read it, so that nobody
	// else needs the file to build the model. nil: nobody has yet.
	Backbone *Backbone `json:"backbone,omitempty" yaml:"backbone,omitempty"`

	// Of words from a file: what the policy sees of them. Pool is empty or tokens: each
	// of them; else one token, the sentence's: mean, of those that are no padding; cls,
	// the first; last, the last that is no padding. Unit divides that one by its length.
	Pool string `json:"pool,omitempty" yaml:"pool,omitempty"`
	Unit bool   `json:"unit,omitempty" yaml:"unit,omitempty"`
}

// The values of Tower.Pool.
const (
	PoolTokens = "tokens"
	PoolMean   = "mean"
	PoolCLS    = "cls"
	PoolLast   = "last"
)

// Pooled says whether a policy sees one token of what is read.
func (t Tower) Pooled() bool { return t.Pool != "" && t.Pool != PoolTokens }

// Pretrained says whether the tower is from a file.
func (t Tower) Pretrained() bool { return t.From != "" || t.Backbone != nil }

// own takes the default kind away from a tower that is from a file.
func (t *Tower) own(key string, given func(key string) bool) {
	if t.Pretrained() && !given(key+".kind") {
		t.Kind = ""
	}
}

// check checks the tower at key, whose kinds are those.
func (t Tower) check(k *job.Checker, key string, kinds []string, pictures bool) {
	t.checkPool(k, key, pictures)
	switch {
	case t.Pretrained() && t.Kind != "":
		k.Bad(key+".kind "+key, "is of a tower of this program, and %s.from names a file: give one of them", key)
	case t.From == "" && t.Backbone != nil:
		k.Bad(key+".backbone "+key, "is written for the file of %s.from, and there is none", key)
	case t.Backbone != nil:
		if why := t.Backbone.fault(pictures); why != "" {
			k.Bad(key+".backbone "+key, "%s", why)
		}
	case !t.Pretrained() && (t.Kind != "" || pictures):
		if _, near := job.Nearest(t.Kind, kinds); near || t.Kind == "" || slices.Contains(kinds, t.Kind) {
			k.OneOf(key, t.Kind, kinds)
		} else { // more likely an encoder of others than a kind
			k.Bad(key, "%q is unknown; want %s, or {from: FOLDER} for an encoder of timm or transformers", t.Kind, strings.Join(kinds, ", "))
		}
	}
}

// checkPool checks what becomes of the words that the tower at key reads.
func (t Tower) checkPool(k *job.Checker, key string, pictures bool) {
	if t.Pool == "" && !t.Unit {
		return
	}
	at := key + ".pool " + key
	b := t.Backbone
	switch {
	case pictures:
		k.Bad(at, "makes a sentence of words, and this tower looks at pictures: leave it out; model.vision_tokens says what a policy sees of those")
	case !t.Pretrained():
		k.Bad(at, "makes a sentence of the words of a pretrained encoder, and there is none: name its file in %s.from, or leave it out", key)
	case t.Pool != "" && !k.OneOf(key+".pool", t.Pool, []string{PoolTokens, PoolMean, PoolCLS, PoolLast}):
	case t.Unit && !t.Pooled():
		k.Bad(key+".unit "+key, "makes the sentence a unit vector, and %s.pool makes none: write pool: %s, or leave unit out", key, PoolMean)
	case b == nil: // nobody has looked yet
	case t.Pool == PoolCLS && (b.Causal || b.Types == 0):
		k.Bad(at, "%s is BERT's first token, and %s has none: write %s", PoolCLS, t.From, map[bool]string{true: PoolLast + ", which has seen all of the others", false: PoolMean}[b.Causal])
	case t.Pool == PoolLast && !b.Causal:
		k.Bad(at, "%s is the token that has seen all before it, of an encoder whose tokens see no others, and those of %s see all: write %s", PoolLast, t.From, PoolMean)
	}
}

// MarshalJSON writes the bare kind where that is all.
func (t Tower) MarshalJSON() ([]byte, error) {
	if !t.Pretrained() {
		return json.Marshal(t.Kind)
	}
	type plain Tower
	return json.Marshal(plain(t))
}

// UnmarshalJSON reads both forms.
func (t *Tower) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		*t = Tower{}
		return json.Unmarshal(b, &t.Kind)
	}
	type plain Tower
	return json.Unmarshal(b, (*plain)(t))
}
