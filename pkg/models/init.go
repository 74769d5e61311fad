package models

import (
	"hash/fnv"
	"math"
	"strings"

	"github.com/vlaring/vlaring/internal/philox"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// Init sets every parameter to PyTorch's default initialisation, drawn from
// the seed: each parameter has a stream of its own, named by the parameter.
//
//	linear, convolution   weight and bias uniform in ±1/√fan_in (Kaiming with a = √5)
//	attention             in_proj_weight Xavier uniform, both biases 0
//	embeddings, cls_token, pos_embedding   normal(0, 1)
//	LayerNorm             weight 1, bias 0
func (m *Model) Init(seed uint64) {
	for _, p := range m.params.List() {
		initParam(p, seed, m.params)
	}
}

func initParam(p *tensor.Param, seed uint64, ps *tensor.Params) {
	h := fnv.New32a()
	h.Write([]byte(p.Name))
	s := philox.Stream{Seed: seed, Purpose: philox.Init, Site: h.Sum32() & 0xFFFFFF}
	at := strings.LastIndexByte(p.Name, '.')
	layer, kind := p.Name[:max(at, 0)], p.Name[at+1:]
	switch {
	case strings.Contains(layer[strings.LastIndexByte(layer, '.')+1:], "norm"):
		if kind == "weight" {
			for i := range p.Value {
				p.Value[i] = 1
			}
		} else {
			clear(p.Value)
		}
	case kind == "in_proj_weight":
		uniform(p.Value, s, math.Sqrt(6/float64(p.Shape[0]+p.Shape[1])))
	case kind == "in_proj_bias", strings.HasSuffix(p.Name, "out_proj.bias"):
		clear(p.Value)
	case kind == "cls_token", kind == "pos_embedding", strings.HasSuffix(layer, "embedding") && !strings.HasSuffix(layer, "patch_embedding"):
		normal(p.Value, s)
	default: // linear or convolution; a bias has the fan-in of its weight
		w := p
		if kind == "bias" {
			w = ps.ByName(layer + ".weight")
		}
		uniform(p.Value, s, 1/math.Sqrt(float64(w.Size()/w.Shape[0])))
	}
}

// uniform fills x with draws from [-bound, bound).
func uniform(x []float32, s philox.Stream, bound float64) {
	for i := range x {
		u := float64(s.Uint32(uint32(i))) * (1.0 / (1 << 32))
		x[i] = float32(float64(float64(2*u-1) * bound))
	}
}

// normal fills x with draws from N(0, 1) (Box and Muller, 1958): elements 2k
// and 2k+1 come from words 2k and 2k+1.
func normal(x []float32, s philox.Stream) {
	for i := 0; i < len(x); i += 2 {
		u := (float64(s.Uint32(uint32(i))) + 1) * (1.0 / (1 << 32)) // (0, 1]
		v := float64(s.Uint32(uint32(i+1))) * (1.0 / (1 << 32))
		r := math.Sqrt(float64(-2 * log64(u)))
		sin, cos := sincos64(float64(2 * math.Pi * v))
		x[i] = float32(float64(r * cos))
		if i+1 < len(x) {
			x[i+1] = float32(float64(r * sin))
		}
	}
}
