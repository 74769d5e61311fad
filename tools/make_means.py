#!/usr/bin/env python3
"""Writes the fixtures of pkg/train's means test: losses and all gradients over
one global batch, computed at once by PyTorch, whose samples have unequal
numbers of targets.

    pip install torch safetensors numpy
    python tools/make_means.py pkg/train/testdata

means_tokens.safetensors is an encoder with padding and labels of -1,
means_actions.safetensors a vision transformer; both with an exit and a teacher.
Tensors: inputs.*, student.* and teacher.* (weights), and for each part P of the
loss P.loss and P.grads.*.
"""
import os
import sys

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

import reference_model as ref

GLOBAL = 64
PAD, NO_LABEL = 0, -1
EXIT, ALPHA, TEMPERATURE, FEATURES = 0.5, 0.4, 2.0, 0.7


class Tokens(nn.Module):
    """The encoder kind with an exit behind its first block."""

    def __init__(self, d_model, n_layers, vocab_size, hint=0):
        super().__init__()
        self.encoder = ref.TransformerEncoder(vocab_size, d_model, 2, 2 * d_model, n_layers, 8)
        self.output_head = nn.Linear(d_model, vocab_size)
        if hint:
            self.encoder.exits = nn.ModuleDict({"1": nn.ModuleDict({"output_head": nn.Linear(d_model, vocab_size)})})
            self.distill_projection = nn.Linear(d_model, hint)

    def forward(self, i):
        """tokens [B, T] → logits, the exit's logits, the mean of the visible tokens."""
        tokens, e = i["tokens"], self.encoder
        keys, early = ref.visible(tokens, PAD), None
        if hasattr(e, "exits"):
            first = []
            hook = e.transformer_blocks[0].register_forward_hook(lambda _m, _i, out: first.append(out[0]))
            x, _ = e(tokens, keys)
            hook.remove()
            early = e.exits["1"]["output_head"](first[0])
        else:
            x, _ = e(tokens, keys)
        w = keys.unsqueeze(-1).to(x.dtype)
        return self.output_head(x), early, (x * w).sum(1) / w.sum(1)


class Actions(nn.Module):
    """The vit kind with an exit behind its first block."""

    def __init__(self, d_model, n_layers, action_dim, hint=0):
        super().__init__()
        self.vision_encoder = ref.VisionTransformer(8, 4, 1, d_model, 2, 2 * d_model, n_layers)
        self.action_head = nn.Linear(d_model, action_dim)
        if hint:
            self.vision_encoder.exits = nn.ModuleDict({"1": nn.ModuleDict({"action_head": nn.Linear(d_model, action_dim)})})
            self.distill_projection = nn.Linear(d_model, hint)

    def forward(self, i):
        """images [B, C, S, S] → actions, the exit's actions, the class token."""
        v, early = self.vision_encoder, None
        if hasattr(v, "exits"):
            first = []
            hook = v.transformer_blocks[0].register_forward_hook(lambda _m, _i, out: first.append(out[0]))
            x = v(i["images"])
            hook.remove()
            early = v.exits["1"]["action_head"](first[0][:, 0])
        else:
            x = v(i["images"])
        return self.action_head(x), early, x


def tokens_inputs():
    lengths = torch.randint(1, 6, (GLOBAL,))
    tokens = torch.randint(1, 7, (GLOBAL, 5))
    tokens[torch.arange(5) >= lengths.unsqueeze(1)] = PAD
    labels = torch.randint(0, 7, (GLOBAL, 5))
    labels[torch.rand(GLOBAL, 5) < torch.rand(GLOBAL, 1)] = NO_LABEL
    labels[:8] = NO_LABEL  # a micro-batch without any target
    return {"tokens": tokens, "labels": labels}


def tokens_parts(student, teacher, i):
    """The parts of the loss, each a mean over the whole batch."""
    targets = torch.where(i["tokens"] == PAD, NO_LABEL, i["labels"]).flatten()
    logits, early, feature = student(i)
    with torch.no_grad():
        wise, _, wise_feature = teacher(i)
    counts = targets != NO_LABEL
    p = (wise.flatten(0, 1)[counts] / TEMPERATURE).softmax(-1)
    q = (logits.flatten(0, 1)[counts] / TEMPERATURE).log_softmax(-1)
    return {
        "task": F.cross_entropy(logits.flatten(0, 1), targets, ignore_index=NO_LABEL),
        "exit": F.cross_entropy(early.flatten(0, 1), targets, ignore_index=NO_LABEL),
        "soft": TEMPERATURE**2 * F.kl_div(q, p, reduction="batchmean"),
        "hint": F.mse_loss(student.distill_projection(feature), wise_feature),
    }


def actions_inputs():
    return {"images": torch.randn(GLOBAL, 1, 8, 8), "actions": torch.randn(GLOBAL, 3)}


def actions_parts(student, teacher, i):
    out, early, feature = student(i)
    with torch.no_grad():
        wise, _, wise_feature = teacher(i)
    return {
        "task": F.mse_loss(out, i["actions"]),
        "exit": F.mse_loss(early, i["actions"]),
        "soft": F.mse_loss(out, wise),
        "hint": F.mse_loss(student.distill_projection(feature), wise_feature),
    }


def losses(parts):
    """What is asked for: parts of the loss in their combinations."""
    task, early, soft, hint = (parts[k] for k in ("task", "exit", "soft", "hint"))
    return {
        "task": task,
        "exits": task + EXIT * early,
        "teacher": (1 - ALPHA) * task + ALPHA * soft,
        "features": (1 - ALPHA) * task + ALPHA * soft + FEATURES * hint,
        "all": (1 - ALPHA) * task + ALPHA * soft + FEATURES * hint + EXIT * early,
    }


def write(path, student, teacher, inputs, parts):
    tensors = {"inputs." + k: v for k, v in inputs.items()}
    for name, model in (("student", student), ("teacher", teacher)):
        with torch.no_grad():
            for _, p in model.named_parameters():
                if p.dim() == 1:  # zero biases and unit scales would hide that two are swapped
                    p.add_(0.1 * torch.randn_like(p))
        for k, v in model.named_parameters():
            tensors[f"{name}.{k}"] = v.detach().clone()
    doubles = {k: v.double() if v.is_floating_point() else v for k, v in inputs.items()}
    student.double(), teacher.double()
    for name in losses(parts(student, teacher, doubles)):
        student.zero_grad()
        loss = losses(parts(student, teacher, doubles))[name]
        loss.backward()
        tensors[name + ".loss"] = loss.detach().float().reshape(1)
        for k, v in student.named_parameters():
            g = torch.zeros_like(v) if v.grad is None else v.grad
            tensors[f"{name}.grads.{k}"] = g.float().clone()
    save_file(tensors, path, {"torch": torch.__version__})


def main():
    out = sys.argv[1]
    os.makedirs(out, exist_ok=True)
    torch.manual_seed(5)
    write(os.path.join(out, "means_tokens.safetensors"), Tokens(8, 2, 7, hint=12), Tokens(12, 1, 7), tokens_inputs(), tokens_parts)
    write(os.path.join(out, "means_actions.safetensors"), Actions(8, 2, 3, hint=12), Actions(12, 1, 3), actions_inputs(), actions_parts)


if __name__ == "__main__":
    main()
