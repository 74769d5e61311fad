package models

import (
	"fmt"
	"math"
	"strings"

	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// LoRA trains, instead of some weights W [O, I] of linear layers, what is added to
// them: alpha/rank · B·A of A [rank, I] and B [O, rank]. The zero value is none.
type LoRA struct {
	Rank    int      `json:"rank,omitempty" yaml:"rank,omitempty"`
	Alpha   float64  `json:"alpha,omitempty" yaml:"alpha,omitempty"` // 0: rank, a scale of 1
	Match   []string `json:"match,omitempty" yaml:"match,omitempty"` // patterns of names of the weights that are adapted; * is any text
	Dropout float32  `json:"dropout,omitempty" yaml:"dropout,omitempty"`
}

func (l LoRA) active() bool { return l.Rank > 0 || len(l.Match) > 0 }

// Scale is what stands before B·A.
func (l LoRA) Scale() float32 {
	if l.Alpha == 0 {
		return 1
	}
	return float32(l.Alpha / float64(l.Rank))
}

func (l LoRA) check(k *job.Checker) {
	if !l.active() {
		none := "a model without model.lora.match"
		k.Unused("model.lora.alpha", l.Alpha == 0, none)
		k.Unused("model.lora.dropout", l.Dropout == 0, none)
		return
	}
	k.Within("model.lora.rank", l.Rank, 1, maxDim)
	if !(l.Alpha >= 0) || math.IsInf(l.Alpha, 0) {
		k.Bad("model.lora.alpha", "%v is not a scale; want a number above 0, or none for the rank", l.Alpha)
	}
	if !(l.Dropout >= 0 && l.Dropout < 1) {
		k.Bad("model.lora.dropout", "%v is outside 0 ≤ dropout < 1", l.Dropout)
	}
	if len(l.Match) == 0 {
		k.Bad("model.lora.match model.lora", "is missing; want patterns of the weights that are adapted, such as \"vision_encoder.*attention*\"")
	}
	for i, m := range l.Match {
		if m == "" {
			k.Bad(fmt.Sprintf("model.lora.match[%d] model.lora.match", i), "is empty; want a pattern of names of weights, such as \"*.attention.*\"")
		}
	}
}

// like says whether a pattern, in which each * is any text, is all of name.
func like(pattern, name string) bool {
	head, rest, star := strings.Cut(pattern, "*")
	if !star {
		return pattern == name
	}
	name, ok := strings.CutPrefix(name, head)
	if !ok {
		return false
	}
	for i := 0; i <= len(name); i++ {
		if like(rest, name[i:]) {
			return true
		}
	}
	return false
}

// adapting is what a Builder knows of the adapters that it adds.
type adapting struct {
	LoRA
	matched []bool // by pattern
	weights []*tensor.Param
}

// LoraNames are the names of the two parts of the adapter of a weight.
func LoraNames(weight string) (a, b string) {
	base, ok := strings.CutSuffix(weight, ".weight")
	if !ok { // a packed projection
		base = strings.TrimSuffix(weight, "_weight")
	}
	return base + ".lora_A.weight", base + ".lora_B.weight"
}

// adapt adds the adapter of a weight that a pattern names. It stands behind the
// weight, whose turn in backward is its own. A begins as PEFT has it, B as zeros: at
// first the model is what it was without.
func (b *Builder) adapt(p *tensor.Param) {
	if !strings.HasSuffix(p.Name, "weight") || len(p.Shape) != 2 || strings.Contains(p.Name, ".lora_") {
		return
	}
	ours := false
	for i, pattern := range b.lora.Match {
		if like(pattern, p.Name) {
			ours, b.lora.matched[i] = true, true
		}
	}
	if !ours {
		return
	}
	r := b.lora.Rank
	nameA, nameB := LoraNames(p.Name)
	p.Low = &tensor.LowRank{Scale: b.lora.Scale(), Dropout: b.lora.Dropout}
	p.Low.A = b.add(nameA, uniform, 1/math.Sqrt(float64(p.Shape[1])), r, p.Shape[1])
	p.Low.B = b.add(nameB, constant, 0, p.Shape[0], r)
	p.Frozen = true
	b.lora.weights = append(b.lora.weights, p)
}

// adaptBy has b add the adapters of l to what is added from now on.
func (b *Builder) adaptBy(l LoRA) {
	if l.active() {
		b.lora = &adapting{LoRA: l, matched: make([]bool, len(l.Match))}
	}
}

// MisfitError says that a key of a job file does not fit the model that the others make.
type MisfitError struct {
	Key  string // dotted, e.g. model.lora.rank
	Text string
}

func (e *MisfitError) Error() string { return e.Key + ": " + e.Text }

// adapted says what is wrong with the adapters that were added.
func (b *Builder) adapted() error {
	if b.lora == nil {
		return nil
	}
	for i, ok := range b.lora.matched {
		if !ok {
			var some []string
			for _, p := range b.ps.List() {
				if strings.HasSuffix(p.Name, "weight") && len(p.Shape) == 2 && len(some) < 4 {
					some = append(some, p.Name)
				}
			}
			return &MisfitError{fmt.Sprintf("model.lora.match[%d]", i), fmt.Sprintf("no weight of the model matches %q; there are %s, …, and * is any text", b.lora.Match[i], strings.Join(some, ", "))}
		}
	}
	for _, p := range b.lora.weights {
		if most := min(p.Shape[0], p.Shape[1]); b.lora.Rank > most {
			return &MisfitError{"model.lora.rank", fmt.Sprintf("%d is above the rank that %s %v has: want at most %d", b.lora.Rank, p.Name, p.Shape, most)}
		}
	}
	return nil
}

// CheckAdapters refuses adapters of weights that no linear layer has, which would
// never be used: it records the model once for a sample of spec, without memory.
func (m *Model) CheckAdapters(spec Spec) error {
	if m.b.lora == nil {
		return nil
	}
	m.record(spec, &Pass{})
	for _, p := range m.b.lora.weights {
		if !p.Low.Used() {
			return fmt.Errorf("model.lora.match: %s %v is the weight of no linear layer, which alone are adapted; leave it out of the patterns", p.Name, p.Shape)
		}
	}
	return nil
}

// WithoutLoRA is c without adapters: of a model into which they are merged.
func (c Config) WithoutLoRA() Config {
	c.LoRA = LoRA{}
	return c
}
