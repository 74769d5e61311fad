#!/usr/bin/env python3
"""Writes pkg/serve/testdata: messages as openpi's own client packs them, and an answer as it reads one.

    pip install openpi-client==0.1.2
    python tools/openpi_fixture.py pkg/serve/testdata
"""
import pathlib
import sys

import numpy as np
from openpi_client import msgpack_numpy

to = pathlib.Path(sys.argv[1])
to.mkdir(parents=True, exist_ok=True)
picture = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
state = np.array([0.5, -1.25, 3.0])
messages = {
    "hwc": {"observation.images.corner": picture, "observation.state": state.astype(np.float32), "prompt": "open the drawer"},
    "chw_float": {"observation/images/corner": picture.transpose(2, 0, 1).astype(np.float32) / np.float32(255), "observation/state": state, "prompt": "öffne"},
    "nested": {"images": {"corner": picture.transpose(2, 0, 1)}, "state": [0.5, -1.25, 3], "task": "x"},
    "numbers": {"i1": np.array([-1, 2], np.int8), "i2": np.array([-300], np.int16), "i4": np.array([[1], [-70000]], np.int32), "i8": np.array([1 << 40]),
                "u2": np.array([65535], np.uint16), "bool": np.array([True, False]), "scalar": np.float32(0.25), "whole": np.int64(-7), "float": 1.5, "int": 200, "empty": np.zeros((0, 3), np.float32)},
    "file": {"image": b"\x89PNG...", "flag": True},
    "strided": {"a": picture[:, ::-1, 0]},
    "half": {"a": np.array([1.5], np.float16)},
    "big_endian": {"a": np.array([1.5], ">f4")},
    "text_array": {"a": np.array(["x"])},
    "nothing": {"a": None},
    "list": [1, 2],
}
for name, m in messages.items():
    (to / f"{name}.msgpack").write_bytes(msgpack_numpy.Packer().pack(m))
answer = {"actions": np.array([[0.5, -1], [2, 0.1]], np.float32), "server_timing": {"infer_ms": 1.5, "prev_total_ms": 2.25}, "notes": ["prompt: training had no cup"]}
(to / "answer.msgpack").write_bytes(msgpack_numpy.Packer().pack(answer))
