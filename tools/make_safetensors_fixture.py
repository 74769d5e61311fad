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
