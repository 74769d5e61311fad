#!/usr/bin/env python3
"""Loads a checkpoint of vlaring into PyTorch and compares what both compute.

    pip install torch safetensors numpy
    python tools/load_in_pytorch.py runs/tabletop

Builds the model that manifest.json describes, loads its weights with
strict=True (the averaged ones where there are any, unless --weights raw is
given, as `coordinator predict` does), runs it on random inputs, runs `coordinator predict` on the same
ones and prints the largest difference of the outputs.

Exit codes: 0 the difference is within --tolerance, 1 it is not or a step
failed, 2 wrong usage.
"""
import argparse
import ast
import json
import os
import shlex
import subprocess
import sys
import tempfile

import torch
from safetensors.torch import load_file, save_file
from torch import nn

import reference_model

REPOSITORY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
COORDINATOR = "go run ./cmd/coordinator"


class Failure(Exception):
    """What ends the program with a message and exit code 1."""


def checkpoint_dir(path):
    """The checkpoint that path is, or the newest of the run that it is."""
    if os.path.exists(os.path.join(path, "manifest.json")):
        return path
    for base in (os.path.join(path, "checkpoints"), path):
        latest = os.path.join(base, "latest")
        if os.path.exists(latest):
            with open(latest) as f:
                return os.path.join(base, f.read().strip())
    raise Failure(f"{path}: neither a checkpoint (no manifest.json) nor a run directory (no checkpoints/latest)")


def scalar(text):
    """A value of the resolved job file, which has one key a line."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text.strip("\"'")


def model_config(manifest):
    """The model's configuration: the manifest's own, or the job file's model section."""
    if manifest.get("model"):
        c = dict(manifest["model"])
    else:
        c, inside = {}, False
        for line in manifest["config"].splitlines():
            if not line.startswith(" "):
                inside = line.rstrip() == "model:"
            elif inside:
                key, _, value = line.strip().partition(":")
                c[key] = scalar(value.strip())
    if not c.get("kind"):
        raise Failure("manifest.json says nothing of the model: no model, and no model section in config")
    if not c.get("vocab_size"):  # left open in the job: the data's
        c["vocab_size"] = manifest.get("data", {}).get("vocab_size", 0)
    return reference_model.with_defaults({**c, **loss_of(manifest["config"])})


def refuse_others(checkpoint, c):
    """Refuses what the reference model has no part for: encoders of others, adapters."""
    if c.get("lora"):
        raise Failure(f"{checkpoint}: it has adapters (model.lora), which the reference model has not: 'coordinator checkpoint export {checkpoint} --out DIR' merges them")
    for part in ("vision", "language"):
        of = c.get(part)
        if isinstance(of, dict) and of.get("from"):
            raise Failure(f"{checkpoint}: its {part} encoder comes from {of['from']} (model.{part}.from), which the reference model has not: "
                          f"'coordinator checkpoint export {checkpoint} --encoder {part} --out DIR' writes it as timm or transformers load it (tools/load_pretrained.py)")


def loss_of(config):
    """The loss of a resolved job file, with what its kind has: {"loss": "bins", "bins": 64}."""
    out, inside = {}, False
    for line in config.splitlines():
        key, _, value = line.strip().partition(":")
        if not line.startswith(" "):
            inside = key == "loss"
            if inside and value.strip():
                out["loss"] = value.strip()
        elif inside:
            out["loss" if key == "kind" else key] = scalar(value.strip())
    return out


def reference_classes(path):
    """The imports and classes of a Python file, or of the Python blocks of a
    Markdown text, without the statements around them."""
    with open(path, encoding="utf-8", errors="replace") as f:
        text = f.read()
    blocks = [text]
    if not path.endswith(".py"):
        blocks = [b.partition("```")[0] for b in text.split("```python\n")[1:]]
    keep = []
    for b in blocks:
        try:
            tree = ast.parse(b)
        except SyntaxError:
            continue  # prose or a sketch
        keep += [n for n in tree.body if isinstance(n, (ast.Import, ast.ImportFrom, ast.ClassDef))]
    space = {"__name__": "reference"}
    exec(compile(ast.Module(keep, []), path, "exec"), space)
    return space


def build_from_text(path, c):
    """The model of configuration c from the reference text's classes. They
    take no masks, so the inputs must hold no padding."""
    space = reference_classes(path)

    def make(name, **sizes):
        if name not in space:
            raise Failure(f"{path}: no class {name} in its Python code")
        try:
            return space[name](**sizes)
        except TypeError as e:
            raise Failure(f"{path}: {name}: {e}") from e

    width = {"d_model": c["d_model"], "n_heads": c["n_heads"]}
    images = dict(img_size=c.get("image_size"), patch_size=c.get("patch_size"))
    kind = c["kind"]
    if kind == "vla":
        model = make("VLATransformer", vocab_size=c["vocab_size"], n_layers=c["n_layers"],
                     action_dim=c["action_dim"], **images, **width)
        head = model.cross_modal_fusion
    elif kind == "vit":
        vision = make("VisionTransformer", in_channels=c["channels"], n_layers=c["n_layers"], **images, **width)
        model = head = reference_model.VisionPolicy(vision, c["d_model"], c["action_dim"])
    elif kind == "cross_modal":
        model = head = make("CrossModalTransformer", vision_dim=c["vision_dim"], language_dim=c["language_dim"],
                            n_layers=c["n_layers"], **width)
    elif kind == "encoder":
        encoder = make("TransformerEncoder", vocab_size=c["vocab_size"], d_ff=c["d_ff"], n_layers=c["n_layers"],
                       max_len=c["max_len"], **width)
        model, head = reference_model.CopyModel(encoder, c["d_model"], c["vocab_size"]), None
    else:
        raise Failure(f"model.kind {kind!r}: want vla, vit, cross_modal or encoder")
    if kind in ("vla", "cross_modal") and c["action_dim"] != head.action_head[2].out_features:
        head.action_head[2] = nn.Linear(head.action_head[2].in_features, c["action_dim"])  # the text's is always 7
    for m in model.modules():  # positional tables follow from the sizes and are in no checkpoint
        m._non_persistent_buffers_set.update(m._buffers)
    return model


def random_inputs(c, manifest, samples, seed, padding):
    """Inputs for `coordinator predict`, by the model's kind."""
    g = torch.Generator().manual_seed(seed)

    def floats(*shape):
        return torch.randn(samples, *shape, generator=g)

    spec = manifest.get("data", {}).get("spec", {})
    kind, inputs = c["kind"], {}
    if c["fusion"] == "cross":
        for f in spec["features"]:
            if f["role"] == "input" and f["type"] != "token":
                inputs[f["name"]] = floats(*f["shape"])
        if "past_valid" in inputs:  # the first of several times is missing where it can be
            past = torch.ones(samples, c["sees"]["History"])
            past[::2, 0] = 0
            inputs["past_valid"] = past
        kind = "encoder"  # and the words
    if kind in ("vla", "vit"):
        inputs["images"] = floats(c["channels"], c["image_size"], c["image_size"])
    if kind in ("vla", "encoder", "lstm"):
        pad, n = c["pad_token"], spec.get("tokens") or 8
        tokens = torch.randint(0, c["vocab_size"], (samples, n), generator=g)
        if pad >= 0:
            other = (pad + 1) % c["vocab_size"]
            tokens[tokens == pad] = other
            if padding:  # row i ends in i+1 hidden tokens, but keeps one
                for i in range(samples):
                    tokens[i, max(1, n - 1 - i) :] = pad
        inputs["instruction_tokens"] = tokens
    if kind == "cross_modal":
        vision, language = spec.get("vision") or [4, 0], spec.get("language") or [6, 0]
        inputs["vision_features"] = floats(vision[0] or 4, c["vision_dim"])
        inputs["language_features"] = floats(language[0] or 6, c["language_dim"])
    return inputs


def normalised(stats, x):
    """What the model sees of numbers x [..., D], by the statistics that the manifest keeps; see docs/formats.md."""
    if not stats or stats["mode"] == "none":
        return x
    lo, hi = {"mean_std": ("mean", "std"), "min_max": ("min", "max"), "quantile": ("q01", "q99"),
              "quantile10": ("q10", "q90")}[stats["mode"]]
    a, b = (torch.tensor(stats[name], dtype=torch.float64) for name in (lo, hi))
    epsilon, clip = stats.get("epsilon", 0), stats.get("clip", 0)
    x = x.double()
    y = (x - a) / (b + epsilon) if lo == "mean" else 2 * (x - a) / (b - a + epsilon) - 1
    y = y.clamp(-clip, clip) if clip else y
    varies = torch.tensor(stats["min"]) < torch.tensor(stats["max"])
    y = torch.where(varies, y, torch.zeros_like(y))
    kept = torch.zeros(len(a), dtype=torch.bool)
    kept[stats.get("mask", [])] = True
    return torch.where(kept, x, y).float()


def load_weights(checkpoint, weights):
    """The state_dict of those weights, and which they are: raw or ema; None: ema where there are any."""
    if weights != "raw":
        optimizer = load_file(os.path.join(checkpoint, "optimizer.safetensors"))
        average = {name.removeprefix("ema."): t for name, t in optimizer.items() if name.startswith("ema.")}
        if average:
            return average, "ema"
        if weights == "ema":
            raise Failure(f"{checkpoint}: optimizer.safetensors has no averaged weights")
    return load_file(os.path.join(checkpoint, "model.safetensors")), "raw"


def predict(coordinator, checkpoint, inputs, weights, folder):
    """What `coordinator predict` writes for the inputs: one tensor."""
    source, result = os.path.join(folder, "inputs.safetensors"), os.path.join(folder, "outputs.safetensors")
    save_file(inputs, source)
    command = shlex.split(coordinator) + ["predict", "--checkpoint", os.path.abspath(checkpoint), "--inputs", source,
                                          "--out", result, "--weights", weights]
    try:
        done = subprocess.run(command, cwd=REPOSITORY if coordinator == COORDINATOR else None, capture_output=True,
                              text=True)
    except OSError as e:
        raise Failure(f"{shlex.join(command)}: {e}") from e
    if done.returncode != 0:
        raise Failure(f"{shlex.join(command)}: exit code {done.returncode}\n{done.stderr.strip()}")
    outputs = load_file(result)
    if len(outputs) != 1:
        raise Failure(f"{result}: want one tensor, found {sorted(outputs)}")
    return outputs.popitem()


def compare(args):
    """Prints the largest difference and returns whether it is within the tolerance."""
    checkpoint = checkpoint_dir(args.checkpoint)
    with open(os.path.join(checkpoint, "manifest.json"), encoding="utf-8") as f:
        manifest = json.load(f)
    c = model_config(manifest)
    refuse_others(checkpoint, c)
    torch.manual_seed(args.seed)
    model = build_from_text(args.reference, c) if args.reference else reference_model.build(c)
    state, weights = load_weights(checkpoint, args.weights)
    aside = [name for name in state if "exits." in name or name.startswith("distill_projection.")]
    for name in aside:  # no part of the last output
        del state[name]
    if aside:
        print(f"left aside: {len(aside)} tensors of exits and distillation")
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as e:
        raise Failure(f"{checkpoint}, weights {weights}: {e}") from e
    average = " of the averaged weights" if weights == "ema" else ""
    print(f"{checkpoint}: {c['kind']}, step {manifest['step']}, {len(state)} tensors{average} loaded with strict=True")

    inputs = random_inputs(c, manifest, args.samples, args.seed, padding=not args.reference)
    model.eval()
    given = dict(inputs)
    if "state" in given:
        given["state"] = normalised(manifest["data"].get("stats", {}).get("state"), given["state"])
    if c["fusion"] == "cross" and c["loss"] == "flow":  # what coordinator predict begins with
        shape = (max(1, c["sees"].get("Chunk") or 0), c["action_dim"])
        given["noise"] = torch.tensor([reference_model.normal(manifest["seed"], None, reference_model.ANSWER, i,
                                                              shape[0] * shape[1]) for i in range(args.samples)]
                                      ).reshape(args.samples, *shape)
    with torch.no_grad():
        want = model(**given)
    with tempfile.TemporaryDirectory() as folder:
        name, got = predict(args.coordinator, checkpoint, inputs, weights, folder)
    if got.shape != want.shape:
        raise Failure(f"{name}: PyTorch computes {list(want.shape)}, coordinator predict {list(got.shape)}")
    difference, size = (got - want).abs().max().item(), want.abs().max().item()
    within = difference <= args.tolerance  # false for NaN
    print(f"{name} {list(want.shape)}: largest difference {difference:.3g} (values up to {size:.3g}), "
          f"{'within' if within else 'NOT within'} {args.tolerance:g}")
    return within


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("checkpoint", help="checkpoint directory, or run directory for its newest")
    ap.add_argument("--weights", choices=("ema", "raw"), help="default: ema where the checkpoint has it")
    ap.add_argument("--coordinator", default=COORDINATOR, help="command to run (default: %(default)s, in the repository)")
    ap.add_argument("--reference", metavar="PATH.md|PATH.py",
                    help="take the model's classes from this text and run them, in place of tools/reference_model.py")
    ap.add_argument("--tolerance", type=float, default=1e-4, help="largest allowed difference (default: %(default)s)")
    ap.add_argument("--samples", type=int, default=4)
    ap.add_argument("--seed", type=int, default=0)
    try:
        return 0 if compare(ap.parse_args()) else 1
    except (Failure, OSError) as e:
        print(f"load_in_pytorch: {e}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
