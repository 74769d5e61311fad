#!/usr/bin/env python3
"""Writes pkg/data/testdata/augment.safetensors: a picture, and what torchvision and Pillow make of it.

    tools/make_augment.py      needs torchvision, Pillow and safetensors

`picture` is [H,W,3], whole numbers; each other tensor [3,h,w] in 0 to 1, named by what was done. torchvision works on float pictures, Pillow on bytes.
"""
import math
from pathlib import Path

import numpy as np
import torch
import torchvision.transforms.functional as F
from PIL import Image
from safetensors.torch import save_file
from torchvision.transforms import InterpolationMode

H, W = 24, 32
r = np.random.default_rng(3)
y, x = np.mgrid[0:H, 0:W] / W
picture = np.stack([0.5 + 0.5 * np.sin(9 * x), y * 1.2, 0.5 + 0.5 * np.cos(7 * (x + y))], 2)
for _ in range(9):  # things with edges, of any colour, black, white and grey among them
    top, left, h, w = r.integers(0, H - 8), r.integers(0, W - 8), r.integers(3, 9), r.integers(3, 9)
    picture[top : top + h, left : left + w] = r.random(3) if r.random() < 0.6 else r.integers(0, 3) / 2
picture = np.clip(picture * 255 + r.normal(size=picture.shape) * 4, 0, 255).round().astype(np.uint8)
t = torch.from_numpy(picture).permute(2, 0, 1).float() / 255

out = {"picture": torch.from_numpy(picture).float()}
for f in (0.6, 1.4):
    out[f"brightness {f}"] = F.adjust_brightness(t, f)
    out[f"contrast {f}"] = F.adjust_contrast(t, f)
    out[f"saturation {f}"] = F.adjust_saturation(t, f)
    out[f"sharpness {f}"] = F.adjust_sharpness(t, f)
for f in (-0.5, -0.05, 0.3):
    out[f"hue {f}"] = F.adjust_hue(t, f)
all = F.adjust_contrast(F.adjust_brightness(t, 0.85), 1.15)
out["all"] = F.adjust_sharpness(F.adjust_hue(F.adjust_saturation(all, 1.4), -0.04), 1.5)
for angle, dx, dy in ((5, 0, 0), (-17, 0, 0), (3, 0.125, -0.25)):
    out[f"affine {angle} {dx} {dy}"] = F.affine(t, angle, [round(dx * W), round(dy * H)], 1.0, [0.0], InterpolationMode.BILINEAR)
    # Pillow's matrix takes what is written to what is read: torchvision's, of its own making
    a = math.radians(angle)
    cos, sin, cx, cy = math.cos(a), math.sin(a), W / 2, H / 2
    u, v = cx + dx * W, cy + dy * H
    m = (cos, sin, cx - cos * u - sin * v, -sin, cos, cy + sin * u - cos * v)
    p = Image.fromarray(picture).transform((W, H), Image.Transform.AFFINE, m, Image.Resampling.BILINEAR)
    out[f"pillow {angle} {dx} {dy}"] = torch.from_numpy(np.asarray(p).copy()).permute(2, 0, 1).float() / 255
# a crop of 18×24 from (4, 6) on, made larger, and by Pillow smaller
out["crop 4 6 36 48"] = F.resized_crop(t, 4, 6, 18, 24, [36, 48], InterpolationMode.BILINEAR, antialias=False)
small = Image.fromarray(picture).crop((6, 4, 30, 22)).resize((8, 6), Image.Resampling.BOX)
out["crop 4 6 6 8"] = torch.from_numpy(np.asarray(small).copy()).permute(2, 0, 1).float() / 255
save_file({k: v.contiguous() for k, v in out.items()}, Path(__file__).parent.parent / "pkg/data/testdata/augment.safetensors")
