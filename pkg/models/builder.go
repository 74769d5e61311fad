package models

import (
	"hash/fnv"
	"math"

	"github.com/vlaring/vlaring/internal/philox"
	"github.com/vlaring/vlaring/internal/portable"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// Builder collects a model's parameters, with the distribution that each has
// at first. Layers add theirs in the order in which forward uses them.
type Builder struct {
	ps     *tensor.Params
	rules  []rule
	tables int
	lora   *adapting // nil: nothing is adapted
}

// rule is how one parameter begins.
type rule struct {
	p     *tensor.Param
	how   distribution
	bound float64 // of uniform
}

type distribution uint8

const (
	constant distribution = iota // bound itself
	uniform                      // U(-bound, bound)
	normal                       // N(0, 1)
)

// NewBuilder returns an empty builder.
func NewBuilder() *Builder { return &Builder{ps: tensor.NewParams()} }

// Params returns the parameters. Seal them once all layers are there.
func (b *Builder) Params() *tensor.Params { return b.ps }

func (b *Builder) add(name string, how distribution, bound float64, shape ...int) *tensor.Param {
	p := b.ps.Add(name, shape...)
	b.rules = append(b.rules, rule{p, how, bound})
	if b.lora != nil {
		b.adapt(p)
	}
	return p
}

// Table counts n values that a network keeps or makes beside its parameters, for
// Count.
func (b *Builder) Table(n int) { b.tables += n }

// Constant adds a parameter that begins as value everywhere.
func (b *Builder) Constant(name string, value float64, shape ...int) *tensor.Param {
	return b.add(name, constant, value, shape...)
}

// Uniform adds a parameter that begins as U(-bound, bound).
func (b *Builder) Uniform(name string, bound float64, shape ...int) *tensor.Param {
	return b.add(name, uniform, bound, shape...)
}

// Normal adds a parameter that begins as N(0, 1).
func (b *Builder) Normal(name string, shape ...int) *tensor.Param {
	return b.add(name, normal, 0, shape...)
}

// Linear adds prefix.weight [shape…] and prefix.bias [shape[0]] as nn.Linear
// and nn.Conv2d begin: kaiming_uniform(a=√5) is U(±1/√fan_in), for both.
func (b *Builder) Linear(prefix string, shape ...int) (w, bias *tensor.Param) {
	fan := 1
	for _, n := range shape[1:] {
		fan *= n
	}
	bound := 1 / math.Sqrt(float64(fan))
	return b.Uniform(prefix+".weight", bound, shape...), b.Uniform(prefix+".bias", bound, shape[0])
}

// Norm adds a LayerNorm's scale, 1, and shift, 0.
func (b *Builder) Norm(prefix string, d int) (gamma, beta *tensor.Param) {
	return b.Constant(prefix+".weight", 1, d), b.Constant(prefix+".bias", 0, d)
}

// Init sets every parameter to its first value: PyTorch's default
// distributions, with numbers that are a pure function of (seed, parameter
// name, element) and the same on every CPU.
func (b *Builder) Init(seed uint64) {
	for _, r := range b.rules {
		s := philox.Stream{Seed: seed, Purpose: philox.Init, Site: site(r.p.Name)}
		switch r.how {
		case constant:
			for i := range r.p.Value {
				r.p.Value[i] = float32(r.bound)
			}
		case uniform:
			fillUniform(r.p.Value, s, r.bound)
		case normal:
			fillNormal(r.p.Value, s)
		}
	}
}

// site folds the 32-bit FNV-1a hash of a name to a stream's 24 bits.
func site(name string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(name))
	x := h.Sum32()
	return x>>24 ^ x&0xFFFFFF
}

// fillUniform draws from the 2²⁴ midpoints of (-bound, bound).
func fillUniform(v []float32, s philox.Stream, bound float64) {
	for i := 0; i < len(v); i += 4 {
		for j, w := range s.Block(uint32(i / 4)) {
			if i+j < len(v) {
				v[i+j] = float32(bound * (float64(2*int32(w>>8)+1-1<<24) / (1 << 24)))
			}
		}
	}
}

// fillNormal draws by Box and Muller's method: a pair of words gives a pair of
// values r·cos θ, r·sin θ with r = √(-2 ln u₁), θ = 2π·u₂.
func fillNormal(v []float32, s philox.Stream) {
	for i := 0; i < len(v); i += 4 {
		w := s.Block(uint32(i / 4))
		for j := 0; j < 4 && i+j < len(v); j += 2 {
			u1 := (float64(w[j]) + 0.5) / (1 << 32) // in (0, 1): r ≤ 6.8
			r := math.Sqrt(-2 * portable.Log(u1))
			sin, cos := portable.SinCos(float64(2 * math.Pi * (float64(w[j+1]) / (1 << 32))))
			v[i+j] = float32(r * cos)
			if i+j+1 < len(v) {
				v[i+j+1] = float32(r * sin)
			}
		}
	}
}
