#!/usr/bin/env python3
"""Writes internal/safetensors/testdata/reference.safetensors with the Python
safetensors library (made with version 0.8.0), for the Go package's tests.

    pip install safetensors && python tools/make_safetensors_fixture.py

Values follow one rule that the Go test repeats: element i of a tensor is
((i*37) % 101 - 50) scaled to its type; F16 and BF16 hold listed bit patterns.
"""
import ctypes
import os
import struct

from safetensors import TensorSpec, serialize_file


def rule(n):
    return [(i * 37) % 101 - 50 for i in range(n)]


def pack(fmt, xs):
    return struct.pack("<%d%s" % (len(xs), fmt), *xs)


HALF = [0x0000, 0x8000, 0x0001, 0x03FF, 0x0400, 0x3C00, 0xC000, 0x7BFF, 0x7C00, 0xFC00, 0x7E01]
BRAIN = [0x0000, 0x8000, 0x0001, 0x3F80, 0xC000, 0x7F80, 0xFF80, 0x7FC1]

tensors = {
    "layers.0.weight": ("float32", [3, 5], pack("f", [x / 8 for x in rule(15)])),
    "layers.0.bias": ("float32", [5], pack("f", [x / 8 for x in rule(5)])),
    "scalar": ("float32", [], pack("f", [-6.25])),
    "empty": ("float32", [0, 4], b""),
    "double": ("float64", [2, 2], pack("d", [x / 8 for x in rule(4)])),
    "tokens": ("int64", [2, 3], pack("q", [x * (1 << 40) for x in rule(6)])),
    "small": ("int32", [3], pack("i", rule(3))),
    "mask": ("uint8", [7], bytes(x + 50 for x in rule(7))),
    "flags": ("bool", [3], bytes([1, 0, 1])),
    "half": ("float16", [len(HALF)], pack("H", HALF)),
    "brain": ("bfloat16", [len(BRAIN)], pack("H", BRAIN)),
    'quote" \\ tab\t é 漢 \u2028 <&> \x01\x7f': ("uint8", [1], b"\x05"),
}

path = os.path.join(os.path.dirname(__file__), "..", "internal/safetensors/testdata/reference.safetensors")
keep = {k: ctypes.create_string_buffer(b, max(len(b), 1)) for k, (_, _, b) in tensors.items()}
serialize_file(
    {
        k: TensorSpec(dtype=d, shape=s, data_ptr=ctypes.addressof(keep[k]), data_len=len(b))
        for k, (d, s, b) in tensors.items()
    },
    path,
    {"format": "pt"},
)

# dtypes.safetensors, saved by PyTorch: each type with values at its edges and
# between two float32, and what Tensor.to(torch.float32) makes of them, bit by
# bit ("T as float32").
#
#     pip install safetensors torch
import torch
from safetensors.torch import save_file

edges = {
    torch.float32: [0.0, -0.0, 1.5, -3.4028234663852886e38, 1e-45, float("inf"), float("nan")],
    torch.float16: [0.0, -0.0, 1.5, 65504.0, 6e-8, 0.333251953125, float("-inf")],
    torch.bfloat16: [0.0, -0.0, 1.5, 3.3895313892515355e38, 9.183549615799121e-41, 0.333984375, float("-inf")],
    torch.float64: [0.1, -0.1, 1e300, 1e-300, 1 + 2**-24, 1 + 2**-24 + 2**-50, 1 + 3 * 2**-24, 16777217.0, 1e-45, 3.4028235677973366e38],
    torch.int64: [0, -1, 16777217, 16777219, -16777217, 2**63 - 1, -(2**63), 2**40 + 2**16, 2**40 + 2**16 + 1, 2**40 + 3 * 2**16],
    torch.int32: [0, -1, 16777217, 16777219, -16777219, 2**31 - 1, -(2**31)],
    torch.int16: [0, -1, 32767, -32768],
    torch.int8: [0, -1, 127, -128],
    torch.uint8: [0, 1, 127, 128, 255],
    torch.uint16: [0, 1, 65535],
    torch.uint32: [0, 1, 16777217, 16777219, 2**32 - 1],
    torch.uint64: [0, 1, 16777217, 2**63 + 2**39, 2**63 + 2**39 + 1, 2**64 - 1],
    torch.bool: [True, False, True],
}
out = {}
for t, v in edges.items():
    x = torch.tensor(v, dtype=t)
    name = str(t).removeprefix("torch.")
    out[name], out[name + " as float32"] = x, x.to(torch.float32, copy=True)
save_file(out, os.path.join(os.path.dirname(path), "dtypes.safetensors"))

# pkg/data/testdata/tensors: one data set of 6 rows in every type and layout
# that data.kind tensors reads, each with what PyTorch makes of its images,
# actions and features as float32, channels first ("want …"; uint8 images
# divided by 255).
g = torch.Generator().manual_seed(3)
pixels = torch.randint(0, 256, (6, 3, 4, 4), generator=g, dtype=torch.uint8)
actions = torch.randn(6, 2, generator=g, dtype=torch.float64)
vision = torch.randn(6, 2, 3, generator=g, dtype=torch.float64)
language = torch.randn(6, 3, 2, generator=g, dtype=torch.float64)
tokens = torch.randint(0, 9, (6, 3), generator=g)
episode = torch.tensor([7, 7, 3, 3, 200, 200])

data = os.path.join(os.path.dirname(path), "../../../pkg/data/testdata/tensors")
os.makedirs(data, exist_ok=True)


def write(name, images, dtype, whole=torch.int64, last=False):
    as_float = images.to(torch.float32)
    if images.dtype == torch.uint8:
        as_float = as_float / 255
    if last:
        images = images.permute(0, 2, 3, 1).contiguous()
    scale = 1 if dtype.is_floating_point else 50
    feats = {"actions": actions, "vision_features": vision, "language_features": language}
    feats = {k: (v * scale).to(dtype) for k, v in feats.items()}
    out = {"images": images, "instruction_tokens": tokens.to(whole), "episode": episode.to(whole), **feats, "want images": as_float}
    out.update({"want " + k: v.to(torch.float32, copy=True) for k, v in feats.items()})
    save_file({k: v.contiguous().clone() for k, v in out.items()}, os.path.join(data, name + ".safetensors"))


unit = pixels.to(torch.float64) / 255
write("f32", unit.to(torch.float32), torch.float32)
write("f16", unit.to(torch.float16), torch.float16, torch.int32)
write("bf16", unit.to(torch.bfloat16), torch.bfloat16, torch.int16)
write("f64", unit, torch.float64, torch.uint8)
write("i64", pixels.to(torch.int64) % 2, torch.int64)
write("i32", pixels.to(torch.int32) % 2, torch.int32, torch.uint16)
write("i16", pixels.to(torch.int16) % 2, torch.int16)
write("i8", pixels.to(torch.int8) % 2, torch.int8, torch.uint32)
write("u8", pixels, torch.int64, torch.uint64)
write("nhwc_f32", unit.to(torch.float32), torch.float32, last=True)
write("nhwc_u8", pixels, torch.float32, last=True)
five = torch.randn(6, 5, 4, 4, generator=g)
write("five", five, torch.float32)
write("nhwc_five", five, torch.float32, last=True)
write("nhwc_two", five[:, :2].to(torch.float16), torch.float32, last=True)
