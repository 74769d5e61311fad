package pretrained

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/pkg/models"
)

// Written is an encoder under its family's own names.
type Written struct {
	Tensors []safetensors.Tensor // float32
	Config  []byte               // config.json
	See     []byte               // preprocessor_config.json; nil: it reads words, or config.json has it
}

// Write is what Load does backwards: the encoder b, for pictures of that side, as timm
// or transformers load it. value reads a parameter, by its name without the encoder's
// prefix.
func Write(b models.Backbone, side int, value func(name string) ([]float32, error)) (*Written, error) {
	all := families()
	i := slices.IndexFunc(all, func(f family) bool { return f.name == b.Family })
	if i < 0 {
		return nil, fmt.Errorf("encoders of family %q are not known here", b.Family)
	}
	f := &all[i]
	if f.class == "" {
		return nil, fmt.Errorf("%s is read here and not written: what else its file has is not kept", f.about)
	}
	layout := models.NewBuilder()
	models.NewBackbone(layout, "", b, side)
	w := &Written{}
	for _, p := range layout.Params().List() {
		x, err := value(p.Name)
		if err != nil {
			return nil, err
		}
		stem, block, kind := split(p.Name)
		n, ok := f.find(stem)
		if !ok {
			return nil, fmt.Errorf("%s has no place for %s", f.about, p.Name)
		}
		shape := slices.Clone(p.Shape)
		switch {
		case stem == "patch_embedding" && kind == "weight" && f.name == "siglip2":
			x, shape = pixelsLast(x, shape), []int{shape[0], shape[1] * shape[2] * shape[3]}
		case kind == "" && strings.HasSuffix(n.theirs[0][0], ".weight"): // positions that are an embedding
			shape = shape[1:]
		case stem == "cls_token" && f.name == "clip_vision":
			shape = shape[1:]
		case stem == "cls_token", stem == "register_tokens":
			shape = append([]int{1}, shape...)
		}
		at, row := 0, len(x)/shape[0]
		for k, part := range n.way(f, b) {
			part = tensorName(part, block, kind)
			rows := shape[0]
			if parts := len(n.way(f, b)); parts == 3 {
				rows = []int{b.Heads, b.Groups, b.Groups}[k] * b.Head
			} else {
				rows /= parts
			}
			w.Tensors = append(w.Tensors, safetensors.Tensor{Name: part, Shape: append([]int{rows}, shape[1:]...), Data: x[at : at+rows*row]})
			at += rows * row
		}
	}
	// What stands for a hidden patch in their pretraining has no part in the features,
	// and a strict loader looks for it.
	if mask := map[string]string{"dinov2_hub": "mask_token", "dinov2": "embeddings.mask_token"}[f.name]; mask != "" {
		w.Tensors = append(w.Tensors, safetensors.Tensor{Name: mask, Shape: []int{1, b.Width}, Data: make([]float32, b.Width)})
	}
	slices.SortFunc(w.Tensors, func(a, b safetensors.Tensor) int { return strings.Compare(a.Name, b.Name) })
	c := f.describe(b, side)
	var err error
	if w.Config, err = json.MarshalIndent(c, "", "  "); err != nil {
		return nil, err
	}
	if b.Patch > 0 && f.name != "timm" {
		w.See, err = json.MarshalIndent(map[string]any{"do_normalize": true, "do_rescale": true, "rescale_factor": 1. / 255, "image_mean": b.Mean, "image_std": b.Std, "size": map[string]int{"height": side, "width": side}}, "", "  ")
	}
	return w, err
}

// way is how f writes a parameter of b.
func (n names) way(f *family, b models.Backbone) []string {
	i := 0
	if b.Gated && f.name != "timm" && strings.Contains(n.ours, "feed_forward") || n.ours == "register_tokens" && f.name == "dinov2_hub" {
		i = len(n.theirs) - 1
	}
	return n.theirs[i]
}

// pixelsLast is pixelsFirst backwards.
func pixelsLast(x []float32, shape []int) []float32 {
	d, c, n := shape[0], shape[1], shape[2]*shape[3]
	out := make([]float32, len(x))
	for o := range d {
		for i := range n {
			for ch := range c {
				out[(o*n+i)*c+ch] = x[(o*c+ch)*n+i]
			}
		}
	}
	return out
}

// describe is the config.json of b.
func (f *family) describe(b models.Backbone, side int) map[string]any {
	c := map[string]any{}
	put := func(key string, v any) {
		if key != "" {
			c[key] = v
		}
	}
	acts := map[string]string{"gelu": "gelu", "gelu_tanh": "gelu_pytorch_tanh", "quick_gelu": "quick_gelu", "relu": "relu", "silu": "silu"}
	k := f.keys
	put(k.width, b.Width)
	put(k.layers, b.Layers)
	put(k.heads, b.Heads)
	put(k.groups, b.Groups)
	put(k.head, b.Head)
	put(k.hidden, b.Hidden)
	put(k.eps, b.Eps)
	put(k.activation, acts[b.Activation])
	if b.Patch > 0 {
		put(k.patch, b.Patch)
		put(k.side, side)
		put(k.channels, b.Channels)
	} else {
		put(k.vocab, b.Vocab)
		put(k.positions, b.Positions)
		put(k.types, b.Types)
	}
	grid := side / max(b.Patch, 1)
	switch f.name {
	case "timm":
		c["mlp_ratio"], c["num_classes"] = float64(b.Hidden)/float64(b.Width), 0
		c["class_token"], c["reg_tokens"], c["no_embed_class"], c["pre_norm"] = b.Class, b.Registers, b.Class && !b.ClassPos, b.NormIn
		c["act_layer"], c["final_norm"] = acts[b.Activation], b.NormOut
		if b.LayerScale {
			c["init_values"] = 1e-5
		}
		if !b.Class {
			c["global_pool"] = "avg"
			c["fc_norm"] = false
		}
		arch := b.Arch
		if arch == "" {
			arch = "vit_base_patch16_224" // the rest says what it is
		}
		return map[string]any{"architecture": arch, "num_classes": 0, "num_features": b.Width, "model_args": c,
			"pretrained_cfg": map[string]any{"mean": b.Mean, "std": b.Std, "input_size": []int{b.Channels, side, side}, "num_classes": 0, "first_conv": "patch_embed.proj", "classifier": "head"}}
	case "dinov2_hub":
		return c
	case "dinov2":
		ratio := b.Hidden / b.Width
		for b.Gated && (ratio*b.Width*2/3+7)/8*8 < b.Hidden { // two thirds of it, in eights
			ratio++
		}
		c["mlp_ratio"], c["use_swiglu_ffn"] = ratio, b.Gated
		if b.Registers > 0 {
			c["num_register_tokens"] = b.Registers
			c["model_type"], c["architectures"] = "dinov2_with_registers", []string{"Dinov2WithRegistersModel"}
			return c
		}
	case "siglip":
		c["vision_use_head"] = false
	case "siglip2":
		c["num_patches"], c["vision_use_head"] = grid*grid, false
	case "t5":
		c["relative_attention_num_buckets"], c["relative_attention_max_distance"] = b.Buckets, b.Distance
		c["feed_forward_proj"] = map[string]string{"gelu_tanh": "gated-gelu", "silu": "gated-silu", "relu": "relu"}[b.Activation]
	case "llama":
		theta := json.RawMessage(fmt.Sprintf("%.1f", b.Rotary)) // a whole number is refused as one
		c["rope_theta"], c["rope_parameters"] = theta, map[string]any{"rope_type": "default", "rope_theta": theta}
		c["max_position_embeddings"] = 8192
	}
	c["model_type"], c["architectures"] = f.kind, []string{f.class}
	return c
}
