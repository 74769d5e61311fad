#!/usr/bin/env python3
"""Writes reference cases for pkg/models: weights, inputs, outputs and all
gradients, computed by tools/reference_model.py.

    pip install torch safetensors numpy
    python tools/make_golden.py /tmp/golden --set d_model=48 --set n_heads=6
    VLARING_GOLDEN=/tmp/golden go test ./pkg/models -run TestGolden

A case is a function under @case: it takes its sizes as keyword arguments (the
defaults are those of the committed cases) and returns a Case. Each becomes
NAME.safetensors with tensors inputs.*, outputs.*, weights.*, grads.* and
grads_input.*, and the sizes as metadata.
"""
import argparse
import inspect
import json
import os
import sys
from dataclasses import dataclass, field
from typing import Callable

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

import reference_model as ref


@dataclass
class Case:
    """What one case computes. run maps inputs to (outputs, loss)."""

    model: nn.Module
    inputs: dict
    run: Callable
    meta: dict = field(default_factory=dict)
    grads_input: tuple = ()  # names of inputs whose gradient is kept too


CASES = {}


def case(name):
    def register(make):
        CASES[name] = make
        return make

    return register


def perturb(model):
    """Moves zero biases and unit scales, which would hide that two are swapped."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.dim() == 1:
                p.add_(0.1 * torch.randn_like(p))


def block(mask, causal, padding):
    @case("block_" + mask)
    def make(d_model=32, n_heads=4, d_ff=64, batch=2, tokens=10):
        inputs = {"x": torch.randn(batch, tokens, d_model), "target": torch.randn(batch, tokens, d_model)}
        if causal:
            inputs["visible_positions"] = torch.ones(tokens, tokens).tril().bool()
        if padding:  # row i ends in i+1 hidden tokens, but keeps one
            rows = [[t < max(1, tokens - 1 - i) for t in range(tokens)] for i in range(batch)]
            inputs["visible_tokens"] = torch.tensor(rows)
        model = ref.TransformerBlock(d_model, n_heads, d_ff)

        def run(i):
            y, attention = model(i["x"], i.get("visible_positions"), i.get("visible_tokens"))
            return {"y": y, "attention": attention}, F.mse_loss(y, i["target"])

        return Case(model, inputs, run, dict(d_model=d_model, n_heads=n_heads, d_ff=d_ff, mask=mask), ("x",))


block("none", False, False)
block("causal", True, False)
block("padding", False, True)
block("causal_padding", True, True)


@case("encoder_copy")
def encoder_copy(vocab_size=50, d_model=32, n_heads=4, d_ff=64, n_layers=2, batch=2, tokens=10):
    encoder = ref.TransformerEncoder(vocab_size, d_model, n_heads, d_ff, n_layers, max_len=5000)
    model = ref.CopyModel(encoder, d_model, vocab_size)

    def run(i):
        encoded, attention = model.encoder(i["tokens"])
        logits = model.output_head(encoded)
        loss = F.cross_entropy(logits.flatten(0, 1), i["tokens"].flatten())
        return {"encoded": encoded, "logits": logits, "attention": torch.stack(attention)}, loss

    return Case(model, {"tokens": torch.randint(0, vocab_size, (batch, tokens))}, run,
                dict(vocab_size=vocab_size, d_model=d_model, n_heads=n_heads, d_ff=d_ff, n_layers=n_layers))


@case("vit")
def vit(img_size=32, patch_size=8, d_model=32, n_heads=4, n_layers=2, batch=2, channels=3):
    model = ref.VisionTransformer(img_size, patch_size, channels, d_model, n_heads, 4 * d_model, n_layers)

    def run(i):
        features = model(i["images"])
        return {"features": features}, F.mse_loss(features, i["target"])

    inputs = {"images": torch.randn(batch, channels, img_size, img_size), "target": torch.randn(batch, d_model)}
    return Case(model, inputs, run,
                dict(img_size=img_size, patch_size=patch_size, d_model=d_model, n_heads=n_heads, n_layers=n_layers))


@case("cross_modal")
def cross_modal(vision_dim=40, language_dim=24, d_model=32, n_heads=4, n_layers=2, action_dim=7, batch=2, patches=5,
                tokens=4):
    model = ref.CrossModalTransformer(vision_dim, language_dim, d_model, n_heads, 4 * d_model, n_layers, action_dim)

    def run(i):
        actions = model(i["vision_features"], i["language_features"])
        return {"actions": actions}, F.mse_loss(actions, i["target"])

    inputs = {
        "vision_features": torch.randn(batch, patches, vision_dim),
        "language_features": torch.randn(batch, tokens, language_dim),
        "target": torch.randn(batch, action_dim),
    }
    return Case(model, inputs, run, dict(vision_dim=vision_dim, language_dim=language_dim, d_model=d_model,
                                         n_heads=n_heads, n_layers=n_layers))


def vla_model(vocab_size, img_size, patch_size, d_model, n_heads, n_layers, action_dim, channels=3):
    return ref.VLATransformer(vocab_size, img_size, patch_size, channels, d_model, n_heads, 4 * d_model, n_layers,
                              5000, action_dim)


@case("vla")
def vla(vocab_size=50, img_size=32, patch_size=8, d_model=32, n_heads=4, n_layers=4, action_dim=7, batch=2, tokens=10,
        channels=3):
    model = vla_model(vocab_size, img_size, patch_size, d_model, n_heads, n_layers, action_dim, channels)

    def run(i):
        actions = model(i["images"], i["instruction_tokens"])
        return {"actions": actions}, F.mse_loss(actions, i["actions"])

    inputs = {
        "images": torch.randn(batch, channels, img_size, img_size),
        "instruction_tokens": torch.randint(0, vocab_size, (batch, tokens)),
        "actions": torch.randn(batch, action_dim),
    }
    return Case(model, inputs, run, dict(vocab_size=vocab_size, img_size=img_size, patch_size=patch_size,
                                         d_model=d_model, n_heads=n_heads, n_layers=n_layers, action_dim=action_dim))


@case("lstm_copy")
def lstm_copy(vocab_size=50, d_model=24, n_layers=2, batch=3, tokens=9):
    model = ref.CopyModel(ref.LSTMEncoder(vocab_size, d_model, n_layers), d_model, vocab_size)

    def run(i):
        encoded, _ = model.encoder(i["tokens"])
        logits = model.output_head(encoded)
        loss = F.cross_entropy(logits.flatten(0, 1), i["tokens"].flatten())
        return {"encoded": encoded, "logits": logits}, loss

    return Case(model, {"tokens": torch.randint(0, vocab_size, (batch, tokens))}, run,
                dict(vocab_size=vocab_size, d_model=d_model, n_layers=n_layers))


@case("cnn")
def cnn(img_size=32, patch_size=8, d_model=32, n_layers=1, batch=2, channels=3):
    model = ref.ConvEncoder(img_size, patch_size, channels, d_model, n_layers, True)

    def run(i):
        tokens = model.sequence(i["images"])
        return {"map": model.map(i["images"]).permute(0, 2, 3, 1), "tokens": tokens}, F.mse_loss(tokens, i["target"])

    inputs = {"images": torch.randn(batch, channels, img_size, img_size),
              "target": torch.randn(batch, 1 + (img_size // patch_size) ** 2, d_model)}
    return Case(model, inputs, run,
                dict(img_size=img_size, patch_size=patch_size, d_model=d_model, n_layers=n_layers))


@case("patches_vla")
def patches_vla(vocab_size=30, img_size=16, patch_size=8, d_model=24, n_heads=3, n_layers=2, action_dim=7, batch=2,
                tokens=6, channels=3):
    model = ref.VLATransformer(vocab_size, img_size, patch_size, channels, d_model, n_heads, 4 * d_model, n_layers, 5000,
                               action_dim, vision_tokens="patches")

    def run(i):
        actions = model(i["images"], i["instruction_tokens"])
        return {"actions": actions}, F.mse_loss(actions, i["actions"])

    inputs = {
        "images": torch.randn(batch, channels, img_size, img_size),
        "instruction_tokens": torch.randint(0, vocab_size, (batch, tokens)),
        "actions": torch.randn(batch, action_dim),
    }
    return Case(model, inputs, run, dict(vocab_size=vocab_size, img_size=img_size, patch_size=patch_size,
                                         d_model=d_model, n_heads=n_heads, n_layers=n_layers, action_dim=action_dim,
                                         vision_tokens="patches"))


def record(c):
    """Runs a case once and returns the tensors of its file."""
    for name in c.grads_input:
        c.inputs[name].requires_grad_(True)
    outputs, loss = c.run(c.inputs)
    loss.backward()
    out = {"outputs.loss": loss.reshape(1)}
    out.update({"inputs." + k: v.to(torch.uint8) if v.dtype == torch.bool else v for k, v in c.inputs.items()})
    out.update({"outputs." + k: v for k, v in outputs.items()})
    out.update({"grads_input." + k: c.inputs[k].grad for k in c.grads_input})
    for name, p in c.model.named_parameters():
        if p.grad is None:
            raise ValueError(f"{name} has no gradient: the case does not use it")
        out["weights." + name], out["grads." + name] = p, p.grad
    return {k: v.detach().contiguous() for k, v in out.items()}


def write_positional(path, d_model=32, max_len=100):
    save_file({"pe": ref.positional_encoding(d_model, max_len)}, path,
              {"d_model": str(d_model), "max_len": str(max_len)})


def write_default_shapes(path):
    """The default model's parameters (preset mid with 10,000 words and 7 actions)."""
    with torch.device("meta"):
        model = vla_model(10000, 224, 16, 512, 8, 6, 7)
    shapes = {name: list(p.shape) for name, p in model.named_parameters()}
    with open(path, "w") as f:
        json.dump({"parameters": sum(p.numel() for p in model.parameters()), "shapes": shapes}, f, indent=1)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("out", help="directory to write to")
    ap.add_argument("--case", action="append", choices=sorted(CASES), help="write this case only; may be repeated")
    ap.add_argument("--set", action="append", default=[], metavar="SIZE=N",
                    help="another size, in every case that has it, e.g. d_model=48")
    ap.add_argument("--seed", type=int, default=0)
    args = ap.parse_args()
    sizes, unused = {}, set()
    for s in args.set:
        key, eq, value = s.partition("=")
        if not eq or not value.isdigit():
            ap.error(f"--set {s}: want SIZE=N, e.g. d_model=48")
        sizes[key] = int(value)
        unused.add(key)
    os.makedirs(args.out, exist_ok=True)
    for name in args.case or CASES:
        make = CASES[name]
        wanted = {k: v for k, v in sizes.items() if k in inspect.signature(make).parameters}
        unused -= wanted.keys()
        torch.manual_seed(args.seed)
        c = make(**wanted)
        perturb(c.model)
        meta = {k: str(v) for k, v in c.meta.items()} | {"torch": torch.__version__, "case": name}
        save_file(record(c), os.path.join(args.out, name + ".safetensors"), meta)
        print(name, wanted or "")
    if not args.case:
        unused.discard("max_len")
        write_positional(os.path.join(args.out, "positional_encoding.safetensors"), sizes.get("d_model", 32),
                         sizes.get("max_len", 100))
        write_default_shapes(os.path.join(args.out, "vla_default_shapes.json"))
    if unused:
        ap.error(f"no case has the size {', '.join(sorted(unused))}")


if __name__ == "__main__":
    sys.exit(main())
