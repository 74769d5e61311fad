#!/usr/bin/env python3
"""Writes reference cases of policies for pkg/models: a vla with model.fusion cross
under each kind of loss, with PyTorch's nn.TransformerDecoder, and the draws of a
flow made anew from Philox's definition.

    pip install torch safetensors
    python tools/golden_policy.py pkg/models/testdata/policy
    go test ./pkg/models -run TestGoldenPolicy

A case has weights.*, inputs.* (features of samples by name), outputs.loss (the mean
over what counts), outputs.actions and outputs.heldout (the loss in evaluation), and
grads.*: those of the sum of the loss over the values that the batch has, padding
or not.
"""
import argparse
import math
import os

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

import reference_model as ref

SEED, STEP = 5, 9
STEPS = 4  # of Euler's method
BINS = 5


def words(site, sample, n, train):
    """n words of a sample, or some more: of this step in training, of no step in evaluation."""
    return ref.words(SEED, STEP if train else None, site, sample, n)


def normal(site, sample, n, train):
    """n draws from N(0, 1)."""
    return ref.normal(SEED, STEP if train else None, site, sample, n)


def counted(error, valid):
    """The mean over what counts, and the sum over all that there is."""
    total = (error * valid[..., None]).sum()
    return total / (valid.sum() * error.shape[-1]), total / error.numel()


def tokens_head(model, d, actions):
    model.action_head = nn.Linear(d, actions)


def l1(model, i, seen):
    actions = model.action_head(model.decode(*seen))
    loss = counted((actions - i["actions"]).abs(), i["actions_valid"])
    return actions, loss, loss


def mse(model, i, seen):
    actions = model.action_head(model.decode(*seen))
    loss = counted((actions - i["actions"]) ** 2, i["actions_valid"])
    return actions, loss, loss


def bins_head(model, d, actions):
    model.action_head = nn.Linear(d, actions * BINS)


def bins(model, i, seen):
    a = i["actions"]
    logits = model.action_head(model.decode(*seen)).reshape(*a.shape, BINS)
    label = ((a + 1) / 2 * BINS).floor().clamp(0, BINS - 1).long()
    error = F.cross_entropy(logits.flatten(0, 2), label.flatten(), reduction="none").reshape(a.shape)
    loss = counted(error, i["actions_valid"])
    return (logits.argmax(-1) * 2 + 1) / BINS - 1, loss, loss


def flow_head(model, d, actions):
    model.action_head = ref.flow_head(d, actions)


def flow(model, i, seen):
    a = i["actions"]

    def velocity(x, time):
        return ref.velocity(model, seen, x, time)

    def noise(site, train):
        return torch.tensor([normal(site, int(s), a[0].numel(), train) for s in i["ids"]]).reshape(a.shape)

    def loss(train):
        e = noise(0, train)
        u = [(words(1, int(s), 1, train)[0] + 0.5) / 2**32 for s in i["ids"]]
        time = torch.tensor([0.999 * x ** (1 / 1.5) + 0.001 for x in u], dtype=torch.float64)
        t = time[:, None, None]
        x = (t * e + (1 - t) * a).float()
        return counted((velocity(x, time) - (e - a)) ** 2, i["actions_valid"])

    x = noise(2, False)
    for k in range(STEPS):
        x = x - velocity(x, torch.full((len(a),), 1 - k / STEPS, dtype=torch.float64)) / STEPS
    return x, loss(True), loss(False)


CASES = {"l1": (tokens_head, l1, 2), "mse": (tokens_head, mse, 1), "bins": (bins_head, bins, 1), "flow": (flow_head, flow, 1)}


def make(name, vocab=9, img=8, patch=4, d=8, heads=2, layers=4, chunk=3, actions=2, state=3, cameras=2, batch=2, tokens=4):
    torch.manual_seed(len(name))
    head, run, history = CASES[name]
    model = ref.CrossPolicy(vocab, img, patch, d, heads, layers, chunk, state, cameras, history, 0)
    head(model, d, actions)
    with torch.no_grad():
        for p in model.parameters():  # zero biases and unit scales would hide that two are swapped
            if p.dim() == 1:
                p.add_(0.1 * torch.randn_like(p))
    i = {"ids": torch.tensor([3, 70]), "state": torch.randn(batch, *([history] if history > 1 else []), state),
         "actions": torch.rand(batch, chunk, actions) * 2 - 1, "actions_valid": torch.tensor([[1.0, 1, 1], [1, 0, 0]]),
         "instruction_tokens": torch.tensor([[4, 2, 7, 1], [8, 3, 0, 0]])}
    for c in range(cameras):
        for past in range(history):
            i["images" + (f"_{c}" if c else "") + (f"_past_{past}" if past else "")] = torch.randn(batch, 3, img, img)
    if history > 1:
        i["past_valid"] = torch.tensor([[1.0, 1], [0, 1]])
    answer, loss, heldout = run(model, i, model.observe(i))
    loss[1].backward()
    out = {"inputs." + k: v for k, v in i.items()}
    out |= {"outputs.actions": answer.float(), "outputs.loss": loss[0].reshape(1), "outputs.heldout": heldout[0].reshape(1)}
    for n, p in model.named_parameters():
        out["weights." + n], out["grads." + n] = p, p.grad
    meta = dict(case=name, torch=torch.__version__, vocab_size=vocab, image_size=img, patch_size=patch, d_model=d, n_heads=heads,
                n_layers=layers, chunk=chunk, action_dim=actions, state_dim=state, cameras=cameras, history=history, seed=SEED,
                step=STEP, steps=STEPS, bins=BINS)
    return {k: v.detach().contiguous().clone() for k, v in out.items()}, {k: str(v) for k, v in meta.items()}


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("out", help="directory to write to")
    args = ap.parse_args()
    os.makedirs(args.out, exist_ok=True)
    for name in CASES:
        tensors, meta = make(name)
        save_file(tensors, os.path.join(args.out, name + ".safetensors"), meta)
        print(name)


if __name__ == "__main__":
    main()
