package pretrained

import (
	"strings"

	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/weights"
)

// Encoders of pictures.

// The scales of pictures that encoders were trained on: mean and std of x/255.
var (
	halves   = [2][3]float64{{0.5, 0.5, 0.5}, {0.5, 0.5, 0.5}}
	imageNet = [2][3]float64{{0.485, 0.456, 0.406}, {0.229, 0.224, 0.225}}
	openAI   = [2][3]float64{{0.48145466, 0.4578275, 0.40821073}, {0.26862954, 0.26130258, 0.27577711}}
)

// How positions are made for another size, by who does it.
var (
	sized        = weights.Resampling{A: -0.75}                 // interpolate(size=…, mode="bicubic")
	smoothed     = weights.Resampling{A: -0.5, Antialias: true} // the same with antialias=True
	stretched    = weights.Resampling{A: -0.75, Offset: 0.1}    // interpolate(scale_factor=(side + 0.1)/grid)
	linearSmooth = weights.Resampling{Linear: true, Antialias: true}
)

// scaled settles the scale of pictures: that of preprocessor_config.json, or the
// family's.
func scaled(of [2][3]float64) func(s *sight) error {
	return func(s *sight) error {
		x, ok := scale(s.config.see, "image_mean", "image_std")
		if !ok {
			x = of
		}
		s.b.Mean, s.b.Std = x[0], x[1]
		return nil
	}
}

// vit are the rows of timm's VisionTransformer, which DINOv2's own files have too.
func vit() []names {
	return []names{
		row("patch_embedding", "patch_embed.proj"),
		row("cls_token", "=cls_token"),
		row("register_tokens", "=reg_token|=register_tokens"),
		row("pos_embedding", "=pos_embed"),
		row("norm_in", "norm_pre"),
		row("blocks.#.norm1", "blocks.#.norm1"),
		row("blocks.#.attention.in_proj", "blocks.#.attn.qkv"),
		row("blocks.#.attention.out_proj", "blocks.#.attn.proj"),
		row("blocks.#.layer_scale1.gamma", "=blocks.#.ls1.gamma"),
		row("blocks.#.norm2", "blocks.#.norm2"),
		row("blocks.#.feed_forward.up", "blocks.#.mlp.fc1|blocks.#.mlp.w12"),
		row("blocks.#.feed_forward.down", "blocks.#.mlp.fc2|blocks.#.mlp.w3"),
		row("blocks.#.layer_scale2.gamma", "=blocks.#.ls2.gamma"),
		row("norm_out", "norm"),
	}
}

// timm is a VisionTransformer of timm. Its config.json names an architecture, whose
// name says what tensors do not.
func timm() family {
	return family{
		name: "timm", class: "VisionTransformer", about: "a vision transformer of timm", role: Pictures,
		mark: "patch_embed.proj.weight", names: vit(),
		drop:     []string{"head.*", "fc_norm.*", "attn_pool.*"},
		base:     models.Backbone{Norm: models.NormLayer, Eps: 1e-6, Activation: "gelu"},
		part:     "model_args",
		keys:     keys{width: "embed_dim", layers: "depth", heads: "num_heads", patch: "patch_size", side: "img_size"},
		resample: smoothed,
		settle: func(s *sight) error {
			arch, named := s.config.all["architecture"].(string)
			s.b.Arch = arch
			x := halves
			switch {
			case s.b.LayerScale:
				x = imageNet
			case s.b.NormIn:
				x = openAI
				s.b.Eps = 1e-5
			}
			if v, ok := s.config.text("act_layer"); ok && acts[v] != "" {
				s.b.Activation = acts[v]
			} else if strings.Contains(arch, "quickgelu") {
				s.b.Activation = "quick_gelu"
			} else if s.b.Gated {
				s.b.Activation = "silu"
			}
			if !named {
				s.assumed = append(s.assumed, "activation "+s.b.Activation+" and the scale of its pictures, as most of timm's have: its config.json says it")
			}
			pre, _ := s.config.all["pretrained_cfg"].(map[string]any)
			if y, ok := scale(pre, "mean", "std"); ok {
				x = y
			}
			s.b.Mean, s.b.Std = x[0], x[1]
			return nil
		},
	}
}

// hub is DINOv2 as its own hub has it, with and without registers.
func hub() family {
	f := timm()
	f.name, f.about = "dinov2_hub", "DINOv2 of its own hub"
	f.drop = []string{"head.*", "mask_token"}
	f.needs = []string{"mask_token", "blocks.0.ls1.gamma"}
	f.part, f.keys = "", keys{heads: "num_attention_heads"}
	f.resample = stretched
	f.settle = func(s *sight) error {
		if s.b.Registers > 0 {
			f := *s.family
			f.resample = smoothed
			s.family = &f
		}
		if s.b.Gated {
			s.b.Activation = "silu"
		}
		return scaled(imageNet)(s)
	}
	return f
}

// dinov2 is transformers' Dinov2Model, with and without registers.
func dinov2() family {
	const l = "encoder.layer.#."
	k := usual
	k.hidden = "" // a ratio
	return family{
		name: "dinov2", kind: "dinov2", class: "Dinov2Model", about: "DINOv2 of transformers", role: Pictures, types: []string{"dinov2", "dinov2_with_registers"},
		mark: "embeddings.patch_embeddings.projection.weight",
		names: []names{
			row("patch_embedding", "embeddings.patch_embeddings.projection"),
			row("cls_token", "=embeddings.cls_token"),
			row("register_tokens", "=embeddings.register_tokens"),
			row("pos_embedding", "=embeddings.position_embeddings"),
			row("blocks.#.norm1", l+"norm1"),
			row("blocks.#.attention.in_proj", l+"attention.attention.query+"+l+"attention.attention.key+"+l+"attention.attention.value|"+
				l+"attention.q_proj+"+l+"attention.k_proj+"+l+"attention.v_proj"),
			row("blocks.#.attention.out_proj", l+"attention.output.dense|"+l+"attention.o_proj"),
			row("blocks.#.layer_scale1.gamma", "="+l+"layer_scale1.lambda1"),
			row("blocks.#.norm2", l+"norm2"),
			row("blocks.#.feed_forward.up", l+"mlp.fc1|"+l+"mlp.weights_in"),
			row("blocks.#.feed_forward.down", l+"mlp.fc2|"+l+"mlp.weights_out"),
			row("blocks.#.layer_scale2.gamma", "="+l+"layer_scale2.lambda1"),
			row("norm_out", "layernorm"),
		},
		drop:     []string{"embeddings.mask_token", "classifier.*"},
		needs:    []string{"encoder.layer.0.layer_scale1.lambda1"},
		base:     models.Backbone{Norm: models.NormLayer, Eps: 1e-6, Activation: "gelu"},
		keys:     k,
		heads:    12,
		resample: sized,
		settle: func(s *sight) error {
			if s.b.Registers > 0 {
				f := *s.family
				f.resample = smoothed
				s.family = &f
			}
			if s.b.Gated {
				s.b.Activation = "silu"
			}
			return scaled(imageNet)(s)
		},
	}
}

// siglip is transformers' SiglipVisionModel, and the picture half of a SiglipModel:
// SigLIP, and SigLIP 2 of fixed sizes.
func siglip() family {
	return family{
		name: "siglip", kind: "siglip_vision_model", class: "SiglipVisionModel", about: "SigLIP's vision encoder", role: Pictures, types: []string{"siglip", "siglip_vision_model", "smolvlm", "idefics3", "smolvlm_vision", "idefics3_vision"}, part: "vision_config",
		mark: "embeddings.patch_embedding.weight",
		names: append([]names{
			row("patch_embedding", "embeddings.patch_embedding"),
			row("pos_embedding", "=embeddings.position_embedding.weight"),
			row("norm_out", "post_layernorm"),
		}, clipLayers()...),
		drop:     []string{"head.*", "embeddings.position_ids"},
		base:     models.Backbone{Norm: models.NormLayer, Eps: 1e-6, Activation: "gelu_tanh"},
		keys:     usual,
		heads:    12,
		resample: sized,
		settle:   scaled(halves),
	}
}

// siglip2 is transformers' Siglip2VisionModel, whose patches come as rows of pixels.
func siglip2() family {
	f := siglip()
	f.kind, f.class = "siglip2_vision_model", "Siglip2VisionModel"
	f.name, f.about, f.types = "siglip2", "SigLIP 2's vision encoder for any size", []string{"siglip2", "siglip2_vision_model"}
	f.resample = linearSmooth
	f.keys.side = ""
	return f
}

// clipVision is transformers' CLIPVisionModel, and the picture half of a CLIPModel.
func clipVision() family {
	f := siglip()
	f.kind, f.class = "clip_vision_model", "CLIPVisionModel"
	f.name, f.about, f.types = "clip_vision", "CLIP's vision encoder", []string{"clip", "clip_vision_model"}
	f.names = append([]names{
		row("patch_embedding", "embeddings.patch_embedding"),
		row("cls_token", "=embeddings.class_embedding"),
		row("pos_embedding", "=embeddings.position_embedding.weight"),
		row("norm_in", "pre_layrnorm"), // so it is spelt
		row("norm_out", "post_layernorm"),
	}, clipLayers()...)
	f.drop = []string{"embeddings.position_ids", "visual_projection.weight"}
	f.needs = []string{"embeddings.class_embedding", "pre_layrnorm.weight"}
	f.base = models.Backbone{Norm: models.NormLayer, Eps: 1e-5, Activation: "quick_gelu"}
	f.settle = scaled(openAI)
	return f
}
