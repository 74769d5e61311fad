#!/usr/bin/env python3
"""Writes the fixtures of pkg/weights' import test: a vision transformer saved
by PyTorch under names of its own (those of timm), and what the same network
says of larger pictures, its position embeddings interpolated by PyTorch.

    pip install torch safetensors numpy
    python tools/make_transfer.py pkg/weights/testdata
"""
import os
import sys

import torch
from safetensors.torch import save_file
from torch.nn import functional as F

import reference_model as ref

# the network's names → those of the file
NAMES = [
    ("attention.in_proj_", "attn.qkv."),
    ("attention.out_proj.", "attn.proj."),
    ("feed_forward.0.", "mlp.fc1."),
    ("feed_forward.3.", "mlp.fc2."),
    ("transformer_blocks.", "blocks."),
    ("patch_embedding.", "patch_embed.proj."),
    ("pos_embedding", "pos_embed"),
]


def foreign(name):
    for ours, theirs in NAMES:
        name = name.replace(ours, theirs)
    return name


def main():
    out = sys.argv[1]
    os.makedirs(out, exist_ok=True)
    torch.manual_seed(3)
    size = dict(patch_size=4, in_channels=3, d_model=16, n_heads=2, d_ff=32, n_layers=2)
    small, large = ref.VisionTransformer(16, **size), ref.VisionTransformer(28, **size)
    with torch.no_grad():
        for name, p in small.named_parameters():
            if p.dim() == 1:
                p.add_(0.1 * torch.randn_like(p))
    state = {foreign(k): v.clone() for k, v in small.state_dict().items()}
    state["head.weight"], state["head.bias"] = torch.randn(10, 16), torch.randn(10)  # of the task it was trained for
    save_file(state, os.path.join(out, "timm_vit.safetensors"), {"torch": torch.__version__})

    weights = small.state_dict()
    cls, grid = weights["pos_embedding"][:, :1], weights["pos_embedding"][:, 1:]
    grid = grid.reshape(1, 4, 4, 16).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, size=(7, 7), mode="bicubic", align_corners=False)
    weights["pos_embedding"] = torch.cat([cls, grid.permute(0, 2, 3, 1).reshape(1, 49, 16)], dim=1)
    large.load_state_dict(weights)
    images = torch.randn(2, 3, 28, 28)
    with torch.no_grad():
        save_file({"images": images, "features": large.eval()(images).contiguous(), "pos_embedding": weights["pos_embedding"]},
                  os.path.join(out, "timm_vit_expected.safetensors"), {"torch": torch.__version__})


if __name__ == "__main__":
    main()
