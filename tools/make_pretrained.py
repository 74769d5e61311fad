#!/usr/bin/env python3
"""Writes cases for pkg/pretrained: small encoders with random weights, as timm and
transformers save them, with their features and all gradients.

    pip install torch timm transformers safetensors numpy
    python tools/make_pretrained.py pkg/pretrained/testdata          # the committed ones
    python tools/make_pretrained.py /tmp/full --full --only siglip    # of the published size
    VLARING_PRETRAINED_PYTHON=python go test ./pkg/pretrained -run Published -v      # makes and compares all of those
    echo '["open the drawer"]' | python tools/make_pretrained.py minilm --sentences    # tokens and sentence embeddings, as JSON
    python tools/make_pretrained.py pkg/pretrained/testdata --pooled                   # sentences of the committed cases

A case is a folder with model.safetensors and config.json under the family's own names;
beside it NAME.grads.safetensors of the same names, and NAME.expected.safetensors with
inputs.*, outputs.features and, at a second size or length, other.* and outputs.other.
The loss is the mean squared error of outputs.features against inputs.target.
"""
import argparse
import json
import os
import sys
import warnings

import timm
import torch
import transformers as hf
from safetensors import safe_open
from safetensors.torch import save_file
from timm.models import save_for_hf
from torch.nn import functional as F

warnings.filterwarnings("ignore")
hf.logging.set_verbosity_error()

CASES = {}  # by name
PUBLISHED = set()  # of those, the ones that are of a published size alone


def case(make):
    CASES[make.__name__] = make
    return make


def published(make):
    PUBLISHED.add(make.__name__)
    return case(make)


def scramble(model, seed):
    """Weights that hide nothing: no zero bias, no unit scale."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            noise = torch.randn(p.shape, generator=g)
            p.copy_(p + 0.2 * noise if p.dim() < 2 else noise * min(0.25, p.shape[-1] ** -0.5))
    return model.eval()


def dims(full, **published):
    """Of the published model, or small ones."""
    small = dict(width=24, layers=2, heads=2, hidden=40)
    return published if full else {**small, **{k: v for k, v in published.items() if k not in small}}


class Case:
    def __init__(self, model, run, inputs, other, save, resize=None):
        self.model, self.run, self.inputs, self.other, self.save, self.resize = model, run, inputs, other, save, resize


def pixels(side, n=2):
    return torch.randn(n, 3, side, side)


def words(vocab, lengths, total):
    ids = torch.randint(1, vocab, (len(lengths), total))
    mask = torch.tensor([[1 if t < n else 0 for t in range(total)] for n in lengths])
    return {"ids": ids, "mask": mask}  # what is hidden is not padding: it must not count


def saved(model):
    return lambda path: model.save_pretrained(path)


def timm_case(full, arch, published, small, extra=None, sides=(28, 40), full_sides=(224, 320)):
    args = dict(published if full else {**published, **small})
    sides = full_sides if full else sides
    args["img_size"] = sides[0]
    model = scramble(timm.create_model(arch, num_classes=0, **args), 1)

    def resize(m, side):  # timm's own rule, as it loads a file of another size
        other = timm.create_model(arch, num_classes=0, **{**args, "img_size": side})
        from timm.models.vision_transformer import checkpoint_filter_fn
        other.load_state_dict(checkpoint_filter_fn(m.state_dict(), other))
        return other.eval()

    run = lambda m, i: m.forward_features(i["pixels"])
    save = lambda path: save_for_hf(model, path, model_config=dict(model_args=args), safe_serialization=True)
    return Case(model, run, {"pixels": pixels(sides[0])}, {"pixels": pixels(sides[1], 1)}, save, lambda: resize(model, sides[1]))


SMALL = dict(patch_size=4, embed_dim=24, depth=2, num_heads=2, mlp_ratio=2)


@case
def timm_vit(full):
    return timm_case(full, "vit_small_patch16_224", {}, SMALL)


@published
def timm_vit_base(full):
    return timm_case(full, "vit_base_patch16_224", {}, SMALL)


@case
def timm_dinov2(full):
    return timm_case(full, "vit_small_patch14_dinov2", {}, SMALL, full_sides=(518, 224))


@case
def timm_dinov2_reg(full):
    return timm_case(full, "vit_small_patch14_reg4_dinov2", {}, SMALL, full_sides=(518, 224))


@case
def timm_siglip(full):
    return timm_case(full, "vit_base_patch16_siglip_224", {}, SMALL)


@case
def timm_clip(full):
    return timm_case(full, "vit_base_patch16_clip_quickgelu_224", {}, SMALL)


def hub(full, registers):
    """DINOv2 under the names of its own hub: timm's network, whose features are the same,
    and the interpolation of its code (dinov2/models/vision_transformer.py)."""
    side, other = (518, 224) if full else (28, 40)
    patch = 14 if full else 4
    args = dict(init_values=1e-5, img_size=side, reg_tokens=0, **({} if full else SMALL))
    if full:
        args |= dict(patch_size=14, embed_dim=384, depth=12, num_heads=6)
    torch.manual_seed(5)
    make = lambda side: timm.models.vision_transformer.VisionTransformer(**{**args, "img_size": side, "reg_tokens": 4 if registers else 0, "no_embed_class": bool(registers)}, num_classes=0)
    model = scramble(make(side), 2)
    d, n = model.embed_dim, (side // patch) ** 2
    first = torch.randn(1, 1, d) * 0.2  # the class token's position, which timm has in the token where there are registers

    def state(values):
        out = dict(values)
        if registers:
            out["register_tokens"] = out.pop("reg_token")
            out["pos_embed"] = torch.cat([first, out["pos_embed"]], 1)
            out["cls_token"] = out["cls_token"] - first
        return {k: v.clone().contiguous() for k, v in out.items()} | {"mask_token": torch.zeros(1, d)}

    def save(path):
        save_file(state(model.state_dict()), os.path.join(path, "model.safetensors"))
        json.dump({"num_attention_heads": args["num_heads"]}, open(os.path.join(path, "config.json"), "w"))

    def resize():
        m = int(n ** 0.5)
        w0 = other // patch
        pos = model.pos_embed[:, 0 if registers else 1:].reshape(1, m, m, d).permute(0, 3, 1, 2)
        if registers:
            pos = F.interpolate(pos, mode="bicubic", antialias=True, size=(w0, w0))
        else:
            s = float(w0 + 0.1) / m
            pos = F.interpolate(pos, mode="bicubic", antialias=False, scale_factor=(s, s))
        pos = pos.permute(0, 2, 3, 1).reshape(1, -1, d)
        big = make(other)
        values = dict(model.state_dict())
        values["pos_embed"] = pos if registers else torch.cat([model.pos_embed[:, :1], pos], 1)
        big.load_state_dict(values)
        return big.eval()

    c = Case(model, lambda m, i: m.forward_features(i["pixels"]), {"pixels": pixels(side)}, {"pixels": pixels(other, 1)}, save, resize)
    grads = lambda values: {k: v for k, v in state(values).items()}
    if registers:  # of the class token and of its position alike
        grads = lambda values: {**state({**values}), "cls_token": values["cls_token"],
                                "pos_embed": torch.cat([values["cls_token"], values["pos_embed"]], 1)}
    c.grads = grads
    return c


@case
def dinov2_hub(full):
    return hub(full, False)


@case
def dinov2_hub_reg(full):
    return hub(full, True)


def vision(full, cls, config, features, sides=(28, 40), full_sides=(224, 320), **kw):
    model = scramble(cls(config), 3)
    sides = full_sides if full else sides
    run = lambda m, i: features(m, m(i["pixels"], interpolate_pos_encoding=True, **kw))
    return Case(model, run, {"pixels": pixels(sides[0])}, {"pixels": pixels(sides[1], 1)}, saved(model))


def vit_sizes(full, patch, side, **published):
    s = dims(full, **published)
    return dict(hidden_size=s["width"], num_hidden_layers=s["layers"], num_attention_heads=s["heads"],
                patch_size=patch if full else 4, image_size=side if full else 28), s["hidden"]


@case
def dinov2(full):
    s, _ = vit_sizes(full, 14, 518, width=384, layers=12, heads=6, hidden=1536)
    c = hf.Dinov2Config(**s, mlp_ratio=4 if full else 2)
    model = scramble(hf.Dinov2Model(c), 3)
    side, other = (518, 224) if full else (28, 40)
    return Case(model, lambda m, i: m(i["pixels"]).last_hidden_state, {"pixels": pixels(side)}, {"pixels": pixels(other, 1)}, saved(model))


@case
def dinov2_reg(full):
    s, _ = vit_sizes(full, 14, 518, width=384, layers=12, heads=6, hidden=1536)
    c = hf.Dinov2WithRegistersConfig(**s, mlp_ratio=4 if full else 2, use_swiglu_ffn=not full)
    model = scramble(hf.Dinov2WithRegistersModel(c), 3)
    side, other = (518, 224) if full else (28, 40)
    return Case(model, lambda m, i: m(i["pixels"]).last_hidden_state, {"pixels": pixels(side)}, {"pixels": pixels(other, 1)}, saved(model))


@case
def siglip(full):
    s, f = vit_sizes(full, 16, 224, width=768, layers=12, heads=12, hidden=3072)
    return vision(full, hf.SiglipVisionModel, hf.SiglipVisionConfig(**s, intermediate_size=f), lambda m, o: o.last_hidden_state)


@case
def siglip2(full):
    s, f = vit_sizes(full, 16, 256, width=768, layers=12, heads=12, hidden=3072)
    patch, side = s["patch_size"], s.pop("image_size")
    c = hf.Siglip2VisionConfig(**s, intermediate_size=f, num_patches=(side // patch) ** 2)
    model = scramble(hf.Siglip2VisionModel(c), 3)

    def run(m, i):
        x = i["pixels"]
        n = x.shape[-1] // patch
        rows = x.reshape(len(x), 3, n, patch, n, patch).permute(0, 2, 4, 3, 5, 1).reshape(len(x), n * n, -1)
        return m(pixel_values=rows, pixel_attention_mask=torch.ones(len(x), n * n, dtype=torch.long), spatial_shapes=torch.tensor([[n, n]] * len(x))).last_hidden_state

    other = side + 5 * patch
    return Case(model, run, {"pixels": pixels(side)}, {"pixels": pixels(side - 2 * patch if not full else other, 1)}, saved(model))


@case
def clip_vision(full):
    s, f = vit_sizes(full, 16, 224, width=768, layers=12, heads=12, hidden=3072)
    post = lambda m: m.post_layernorm if hasattr(m, "post_layernorm") else m.vision_model.post_layernorm
    return vision(full, hf.CLIPVisionModel, hf.CLIPVisionConfig(**s, intermediate_size=f), lambda m, o: post(m)(o.last_hidden_state))


@published
def clip_vision_b32(full):
    post = lambda m: m.post_layernorm if hasattr(m, "post_layernorm") else m.vision_model.post_layernorm
    c = hf.CLIPVisionConfig(hidden_size=768, num_hidden_layers=12, num_attention_heads=12, intermediate_size=3072, patch_size=32, image_size=224)
    return vision(full, hf.CLIPVisionModel, c, lambda m, o: post(m)(o.last_hidden_state))


def text(model, vocab, run=None, mask=True, lengths=((7, 4), (12, 9)), save=None):
    run = run or (lambda m, i: m(input_ids=i["ids"], **({"attention_mask": i["mask"]} if mask else {})).last_hidden_state)
    if not mask:
        lengths = ((7, 7), (12, 12))
    return Case(model, run, words(vocab, lengths[0], lengths[0][0]), words(vocab, lengths[1], lengths[1][0]), save or saved(model))


def lm(full, **published):
    s = dims(full, **published)
    return dict(hidden_size=s["width"], num_hidden_layers=s["layers"], num_attention_heads=s["heads"], intermediate_size=s["hidden"])


@case
def bert(full):
    v = 30522 if full else 64
    c = hf.BertConfig(**lm(full, width=384, layers=6, heads=12, hidden=1536), vocab_size=v, max_position_embeddings=512 if full else 24)
    return text(scramble(hf.BertModel(c, add_pooling_layer=False), 4), v)


@case
def clip_text(full):
    v = 49408 if full else 50
    c = hf.CLIPTextConfig(**lm(full, width=512, layers=12, heads=8, hidden=2048), vocab_size=v, max_position_embeddings=77 if full else 24, eos_token_id=v - 1, bos_token_id=v - 2)
    return text(scramble(hf.CLIPTextModel(c), 4), v, mask=False)


@case
def clip_both(full):
    """A whole CLIPModel, of which the text half is asked for."""
    v = 49408 if full else 50
    s, f = vit_sizes(full, 16, 224, width=768, layers=12, heads=12, hidden=3072)
    c = hf.CLIPConfig(text_config=dict(**lm(full, width=512, layers=12, heads=8, hidden=2048), vocab_size=v, max_position_embeddings=77 if full else 24, eos_token_id=v - 1, bos_token_id=v - 2),
                      vision_config=dict(**s, intermediate_size=f), projection_dim=512 if full else 16)
    model = scramble(hf.CLIPModel(c), 4)
    return text(model, v, run=lambda m, i: m.text_model(input_ids=i["ids"]).last_hidden_state, mask=False)


@case
def siglip_text(full):
    v = 32000 if full else 50
    c = hf.SiglipTextConfig(**lm(full, width=768, layers=12, heads=12, hidden=3072), vocab_size=v, max_position_embeddings=64 if full else 24)
    return text(scramble(hf.SiglipTextModel(c), 4), v, mask=False)


def t5_config(full, **kw):
    s = dims(full, width=512, layers=6, heads=8, hidden=2048)
    v = 32128 if full else 50
    return hf.T5Config(d_model=s["width"], d_kv=64 if full else 8, d_ff=s["hidden"], num_layers=s["layers"], num_heads=s["heads"], vocab_size=v, **kw), v


def scramble_t5(model, full):
    """scramble, with queries as T5 begins with them: its products are not scaled by 1/√d. At the published size they would else be so large
    that PyTorch's own float32 is 5e-5 from its float64."""
    scramble(model, 4)
    if full:
        with torch.no_grad():
            for name, p in model.named_parameters():
                if name.endswith("SelfAttention.q.weight"):
                    p.mul_(model.config.d_kv ** -0.5)
    return model


@case
def t5(full):
    c, v = t5_config(full)
    return text(scramble_t5(hf.T5EncoderModel(c), full), v, lengths=((7, 4), (40, 33)))


@case
def t5_gated(full):
    c, v = t5_config(full, feed_forward_proj="gated-gelu")
    model = scramble_t5(hf.T5ForConditionalGeneration(c), full)  # whole, decoder and all
    return text(model, v, run=lambda m, i: m.encoder(input_ids=i["ids"], attention_mask=i["mask"]).last_hidden_state, lengths=((7, 4), (40, 33)))


@case
def llama(full):
    s = lm(full, width=576, layers=30, heads=9, hidden=1536)
    if not full:
        s["num_attention_heads"] = 4
        s["hidden_size"] = 32
    v = 49152 if full else 50
    c = hf.LlamaConfig(**s, num_key_value_heads=3 if full else 2, vocab_size=v, rope_theta=100000.0, rms_norm_eps=1e-5, tie_word_embeddings=True)
    model = scramble(hf.LlamaForCausalLM(c), 4)
    save = (lambda path: model.save_pretrained(path, max_shard_size="20KB")) if not full else None
    return text(model, v, run=lambda m, i: m.model(input_ids=i["ids"], attention_mask=i["mask"]).last_hidden_state, save=save)


# The vocabulary of the committed encoders of words, so that a job that names one finds a tokenizer beside it: marks, and words of tabletop's
# instructions.
VOCABULARY = """[PAD] [UNK] [CLS] [SEP] at away back ball bar block blue brick can closer cone cube cylinder far forward from front grab green in left
leftwards lift move on orange pick place please purple push put red right set shove side slide sphere take the to towards up violet yellow""".split()


def write(name, make, out, full):
    torch.manual_seed(sum(map(ord, name)))
    c = make(full)
    path = os.path.join(out, name)
    os.makedirs(path, exist_ok=True)
    c.save(path)
    for extra in ("generation_config.json", "README.md"):
        if os.path.exists(os.path.join(path, extra)):
            os.remove(os.path.join(path, extra))
    if "ids" in c.inputs and not full:
        with open(os.path.join(path, "vocab.txt"), "w") as f:
            f.write("\n".join(VOCABULARY) + "\n")
    expected = {}
    with torch.set_grad_enabled(not full):
        y = c.run(c.model, c.inputs)
    target = torch.randn_like(y)
    if not full:
        F.mse_loss(y, target).backward()
    with torch.no_grad():
        other = c.run(c.resize() if c.resize else c.model, c.other)
    for k, v in c.inputs.items():
        expected["inputs." + k] = v
    for k, v in c.other.items():
        expected["other." + k] = v
    expected |= {"inputs.target": target, "outputs.features": y.detach(), "outputs.other": other}
    save_file({k: v.contiguous() for k, v in expected.items()}, path + ".expected.safetensors")
    if full:
        print(f"{name}: features {list(y.shape)} and {list(other.shape)}")
        return
    # gradients under the names of the file, by saving them in the weights' place
    grads = {k: torch.zeros_like(p) if p.grad is None else p.grad.clone() for k, p in c.model.named_parameters()}
    if hasattr(c, "grads"):
        save_file({k: v.contiguous() for k, v in c.grads(grads).items()}, path + ".grads.safetensors")
    else:
        with torch.no_grad():
            for k, p in c.model.named_parameters():
                p.copy_(grads[k])
        tmp = os.path.join(path, "tmp")
        os.makedirs(tmp, exist_ok=True)
        if hasattr(c.model, "save_pretrained"):
            c.model.save_pretrained(tmp)
        else:
            save_for_hf(c.model, tmp, safe_serialization=True)
        os.replace(os.path.join(tmp, "model.safetensors"), path + ".grads.safetensors")
        for f in os.listdir(tmp):
            os.remove(os.path.join(tmp, f))
        os.rmdir(tmp)
    print(f"{name}: {sorted(os.listdir(path))}, features {list(y.shape)} and {list(other.shape)}")


def sentences(path, texts):
    """What the tokenizer and the model at path make of texts: token numbers, and the mean of the tokens' features, made a unit vector."""
    tok, model = hf.AutoTokenizer.from_pretrained(path), hf.AutoModel.from_pretrained(path).eval()
    out = []
    for text in texts:
        i = tok(text, return_tensors="pt", truncation=True)
        with torch.no_grad():
            y = model(**i).last_hidden_state[0].mean(0)
        out.append({"ids": i["input_ids"][0].tolist(), "embedding": (y / y.norm()).tolist()})
    return out


def pooled(out, name, make):
    """NAME.sentence.safetensors: inputs of a written case, what sentence-transformers' rules or CLIP's own make of them, and all gradients of the
    squared error of the sentence that the metadata names against inputs.target."""
    with safe_open(os.path.join(out, name + ".expected.safetensors"), "pt") as f:
        i = {k[7:]: f.get_tensor(k) for k in f.keys() if k.startswith("inputs.")}
    model = getattr(hf, make).from_pretrained(os.path.join(out, name)).eval()
    if name.startswith("clip"):  # rows that end, and are filled, with the mark of an end
        i["ids"] = i["ids"] % (model.config.eos_token_id - 1)
        i["ids"][0, 3:] = i["ids"][1, -1:] = model.config.eos_token_id
        i["mask"][0, 4:] = 0
    y = model(input_ids=i["ids"], attention_mask=i["mask"])
    tokens, mask = y.last_hidden_state, i["mask"].unsqueeze(-1).float()
    mean = (tokens * mask).sum(1) / mask.sum(1).clamp(min=1e-9)  # sentence_transformers.models.Pooling
    made = {"mean": mean, "unit": F.normalize(mean, p=2, dim=1), "cls": tokens[:, 0]}  # and its Normalize
    if name.startswith("clip"):
        made = {"last": model(input_ids=i["ids"]).pooler_output}
    of = "unit" if "unit" in made else "last"
    torch.manual_seed(sum(map(ord, name)))
    target = torch.randn_like(made[of])
    F.mse_loss(made[of], target).backward()
    save_file({**{"outputs." + k: v.detach().contiguous() for k, v in made.items()}, "inputs.target": target, "inputs.ids": i["ids"], "inputs.mask": i["mask"],
               **{k: torch.zeros_like(p) if p.grad is None else p.grad.contiguous() for k, p in model.named_parameters()}}, os.path.join(out, name + ".sentence.safetensors"), {"of": of})


if __name__ == "__main__":
    a = argparse.ArgumentParser()
    a.add_argument("out")
    a.add_argument("--full", action="store_true", help="the published sizes; no gradients")
    a.add_argument("--only", help="one case")
    a.add_argument("--list", action="store_true", help="print the names of the cases, one a line")
    a.add_argument("--sentences", action="store_true", help="embed the texts of a JSON list on standard input with the model in the folder OUT")
    a.add_argument("--pooled", action="store_true", help="sentences of the cases in the folder OUT")
    a = a.parse_args()
    if a.pooled:
        pooled(a.out, "bert", "BertModel")
        pooled(a.out, "clip_text", "CLIPTextModel")
        sys.exit()
    if a.sentences:
        json.dump(sentences(a.out, json.load(sys.stdin)), sys.stdout)
        sys.exit()
    for name, make in CASES.items():
        if not a.full and name in PUBLISHED:
            continue
        if a.list:
            print(name)
        elif a.only in (None, name):
            write(name, make, a.out, a.full)
