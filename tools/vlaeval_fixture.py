#!/usr/bin/env python3
"""Writes pkg/serve/testdata/vla-eval: messages as vla-eval's own client packs them, and answers as it reads them.

    pip install vla-eval==0.8.0
    python tools/vlaeval_fixture.py pkg/serve/testdata/vla-eval
"""
import pathlib
import sys

import numpy as np
from vla_eval.protocol import numpy_codec
from vla_eval.protocol.messages import Message, MessageType, make_hello_payload, pack_message

to = pathlib.Path(sys.argv[1])
to.mkdir(parents=True, exist_ok=True)
AT = 1700000000.25  # the messages' timestamp
picture = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
grey = np.full((8, 8, 3), 90, np.uint8)  # the same from a JPEG
state = np.array([0.5, -1.25, 3.0], np.float32)


def libero(image):
    """What benchmarks/libero sends with its wrist camera and state."""
    return {"images": {"agentview": image, "wrist": image}, "task_description": "open the drawer", "states": state, "controller_states": state}


def write(name, kind, payload, seq, form="png"):
    numpy_codec.set_image_format(form)
    (to / f"{name}.msgpack").write_bytes(pack_message(Message(type=kind, payload=payload, seq=seq, timestamp=AT)))


write("hello", MessageType.HELLO, make_hello_payload(benchmark="vla_eval.benchmarks.libero.benchmark:LIBEROBenchmark"), 1)
write("episode_start", MessageType.EPISODE_START, {"task": {"name": "open the drawer", "suite": "libero_goal", "episode_idx": 3}}, 2)
write("observation_png", MessageType.OBSERVATION, libero(picture), 3)
write("observation_raw", MessageType.OBSERVATION, libero(picture), 300, "raw")
write("observation_jpeg", MessageType.OBSERVATION, libero(grey), 70000, "jpeg")
write("observation_numbers", MessageType.OBSERVATION, {"i1": np.array([-1, 2], np.int8), "i8": np.array([1 << 40]), "u2": np.array([65535], np.uint16), "bool": np.array([True, False]),
                                                       "f2": np.array([1.5, -0.0000005], np.float16), "f8": state.astype(np.float64), "scalar": np.float32(0.25), "whole": np.int64(-7), "flag": np.bool_(True),
                                                       "film": np.stack([picture, picture]), "float": 1.5, "list": [1, 2.5]}, 5)
write("observation_restart", MessageType.OBSERVATION, {**libero(picture), "episode_restart": True}, 6)
write("episode_end", MessageType.EPISODE_END, {"metrics": {"success": True}, "steps": 7, "elapsed_sec": 0.5}, 7)
write("error", MessageType.ERROR, {"error": "the simulator is gone"}, 8)
write("action", MessageType.ACTION, {"actions": np.array([0.5, -1, 2, 0.1], np.float32)}, 300)
write("wrong", MessageType.ERROR, {"error": "observation.state is missing"}, 70000)
