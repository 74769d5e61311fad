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
