package pretrained

import (
	"fmt"

	"github.com/vlaring/vlaring/pkg/models"
)

// Encoders of words.

// bert is transformers' BertModel: BERT, MiniLM and others of its shape.
func bert() family {
	k := usual
	k.types = "type_vocab_size"
	const l = "encoder.layer.#."
	return family{
		name: "bert", kind: "bert", class: "BertModel", about: "BERT or MiniLM", role: Words, types: []string{"bert"},
		mark: "embeddings.word_embeddings.weight",
		names: []names{
			row("embedding", "embeddings.word_embeddings"),
			row("position_embedding", "embeddings.position_embeddings"),
			row("type_embedding", "embeddings.token_type_embeddings"),
			row("norm_in", "embeddings.LayerNorm"),
			row("blocks.#.attention.in_proj", l+"attention.self.query+"+l+"attention.self.key+"+l+"attention.self.value"),
			row("blocks.#.attention.out_proj", l+"attention.output.dense"),
			row("blocks.#.norm1", l+"attention.output.LayerNorm"),
			row("blocks.#.feed_forward.up", l+"intermediate.dense"),
			row("blocks.#.feed_forward.down", l+"output.dense"),
			row("blocks.#.norm2", l+"output.LayerNorm"),
		},
		drop: []string{"pooler.*", "cls.*", "embeddings.position_ids"},
		base: models.Backbone{Norm: models.NormLayer, Post: true, Eps: 1e-12, Activation: "gelu"},
		keys: k, heads: 12,
		settle: func(s *sight) error {
			if p, ok := s.config.text("position_embedding_type"); ok && p != "absolute" {
				return fmt.Errorf("%s says position_embedding_type %q; want absolute", s.config.path, p)
			}
			if s.config.flag("is_decoder") {
				return fmt.Errorf("%s says is_decoder: its tokens do not see those behind them, and an encoder's do", s.config.path)
			}
			return nil
		},
	}
}

// clipLayers are the rows of the blocks that CLIP and SigLIP have, of words and of
// pictures.
func clipLayers() []names {
	const l = "encoder.layers.#."
	return []names{
		row("blocks.#.norm1", l+"layer_norm1"),
		row("blocks.#.attention.in_proj", l+"self_attn.q_proj+"+l+"self_attn.k_proj+"+l+"self_attn.v_proj"),
		row("blocks.#.attention.out_proj", l+"self_attn.out_proj"),
		row("blocks.#.norm2", l+"layer_norm2"),
		row("blocks.#.feed_forward.up", l+"mlp.fc1"),
		row("blocks.#.feed_forward.down", l+"mlp.fc2"),
	}
}

// clipText is transformers' CLIPTextModel, and the text half of a CLIPModel.
func clipText() family {
	return family{
		name: "clip_text", kind: "clip_text_model", class: "CLIPTextModel", about: "CLIP's text encoder", role: Words, types: []string{"clip", "clip_text_model"}, part: "text_config",
		mark: "embeddings.token_embedding.weight",
		names: append([]names{
			row("embedding", "embeddings.token_embedding"),
			row("position_embedding", "embeddings.position_embedding"),
			row("norm_out", "final_layer_norm"),
		}, clipLayers()...),
		drop: []string{"embeddings.position_ids", "text_projection.weight"},
		base: models.Backbone{Norm: models.NormLayer, Eps: 1e-5, Activation: "quick_gelu", Causal: true},
		keys: usual, heads: 8,
	}
}

// siglipText is the text half of a SiglipModel.
func siglipText() family {
	f := clipText()
	f.class = "" // its head
	f.name, f.about, f.types = "siglip_text", "SigLIP's text encoder", []string{"siglip", "siglip_text_model", "siglip2", "siglip2_text_model"}
	f.drop = []string{"embeddings.position_ids", "head.*"}
	f.needs = []string{"head.weight"}
	f.base = models.Backbone{Norm: models.NormLayer, Eps: 1e-6, Activation: "gelu_tanh"}
	f.heads = 12
	return f
}

// t5 is the encoder of transformers' T5 models.
func t5() family {
	const l = "encoder.block.#."
	return family{
		name: "t5", kind: "t5", class: "T5EncoderModel", about: "T5's encoder", role: Words, types: []string{"t5", "mt5", "umt5"},
		mark: "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
		names: []names{
			row("embedding", "shared|encoder.embed_tokens"),
			row("relative_bias", "encoder.block.0.layer.0.SelfAttention.relative_attention_bias"),
			row("blocks.#.norm1", l+"layer.0.layer_norm"),
			row("blocks.#.attention.in_proj", l+"layer.0.SelfAttention.q+"+l+"layer.0.SelfAttention.k+"+l+"layer.0.SelfAttention.v"),
			row("blocks.#.attention.out_proj", l+"layer.0.SelfAttention.o"),
			row("blocks.#.norm2", l+"layer.1.layer_norm"),
			row("blocks.#.feed_forward.up", l+"layer.1.DenseReluDense.wi|"+l+"layer.1.DenseReluDense.wi_0+"+l+"layer.1.DenseReluDense.wi_1"),
			row("blocks.#.feed_forward.down", l+"layer.1.DenseReluDense.wo"),
			row("norm_out", "encoder.final_layer_norm"),
		},
		drop:  []string{"decoder.*", "lm_head.*", "encoder.embed_tokens.weight"},
		base:  models.Backbone{Norm: models.NormRMS, Eps: 1e-6, Activation: "relu", Distance: 128},
		keys:  keys{width: "d_model", layers: "num_layers", heads: "num_heads", head: "d_kv", hidden: "d_ff", eps: "layer_norm_epsilon", vocab: "vocab_size"},
		heads: 8,
		settle: func(s *sight) error {
			act, given := s.config.text("feed_forward_proj")
			if !given {
				act = "relu"
				if s.b.Gated {
					act = "gated-gelu"
				}
			}
			switch {
			case act == "relu" && !s.b.Gated:
			case act == "gated-gelu" && s.b.Gated:
				s.b.Activation = "gelu_tanh"
			case act == "gated-silu" && s.b.Gated:
				s.b.Activation = "silu"
			default:
				return fmt.Errorf("%s says feed_forward_proj %q, and the tensors are of %s", s.config.path, act, map[bool]string{true: "a gated feed-forward", false: "one without a gate"}[s.b.Gated])
			}
			if n, ok := s.config.number("relative_attention_num_buckets"); ok && int(n) != s.b.Buckets {
				return fmt.Errorf("%s says relative_attention_num_buckets %v, and the tensors have %d", s.config.path, n, s.b.Buckets)
			}
			if n, ok := s.config.number("relative_attention_max_distance"); ok {
				s.b.Distance = int(n)
			}
			return nil
		},
	}
}

// llama is transformers' LlamaModel: SmolLM2 and others of its shape.
func llama() family {
	const l = "layers.#."
	k := usual
	k.eps, k.groups, k.head = "rms_norm_eps", "num_key_value_heads", "head_dim"
	k.positions = ""
	return family{
		name: "llama", kind: "llama", class: "LlamaModel", about: "SmolLM2 or another Llama", role: Words, types: []string{"llama", "smolvlm", "idefics3"}, part: "text_config",
		mark: "embed_tokens.weight",
		names: []names{
			row("embedding", "embed_tokens"),
			row("blocks.#.norm1", l+"input_layernorm"),
			row("blocks.#.attention.in_proj", l+"self_attn.q_proj+"+l+"self_attn.k_proj+"+l+"self_attn.v_proj"),
			row("blocks.#.attention.out_proj", l+"self_attn.o_proj"),
			row("blocks.#.norm2", l+"post_attention_layernorm"),
			row("blocks.#.feed_forward.up", l+"mlp.gate_proj+"+l+"mlp.up_proj"),
			row("blocks.#.feed_forward.down", l+"mlp.down_proj"),
			row("norm_out", "norm"),
		},
		drop: []string{"lm_head.weight", "*rotary_emb.inv_freq"},
		base: models.Backbone{Norm: models.NormRMS, Eps: 1e-6, Activation: "silu", Causal: true},
		keys: k,
		settle: func(s *sight) error {
			rope, _ := s.config.own["rope_parameters"].(map[string]any)
			if rope == nil {
				rope, _ = s.config.own["rope_scaling"].(map[string]any)
			}
			if kind, _ := rope["rope_type"].(string); rope != nil && kind != "default" {
				return fmt.Errorf("%s says rope_type %q; want default: its positions are stretched by a rule that is not known here", s.config.path, kind)
			}
			theta, ok := s.config.number("rope_theta")
			if t, in := rope["rope_theta"].(float64); in {
				theta, ok = t, true
			}
			if !ok {
				return fmt.Errorf("it is %s, and nothing says its rope_theta%s: put its config.json beside it", s.about, s.config.lacks("rope_theta"))
			}
			s.b.Rotary = theta
			return nil
		},
	}
}
