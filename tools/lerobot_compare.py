"""Writes what LeRobot's own loader gives of a data set, for pkg/data's tests to compare.

To standard output: a line of JSON (features in their order, frames), then for each
frame, in the order of the data set: episode_index and frame_index as int64, the
task's length as int64 and its UTF-8 bytes, float32 values, pictures as bytes
[H, W, 3]. A set of 2.1 is converted by LeRobot's own script first, in a copy.

    LEROBOT_PYTHON=…/bin/python go test ./pkg/data -run LeRobotLoader -v
    …/bin/python tools/lerobot_compare.py DATASET > frames.bin
"""

import contextlib
import json
import pathlib
import shutil
import sys
import tempfile

import numpy as np
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.datasets.v30.convert_dataset_v21_to_v30 import convert_dataset


def main(root, work):
    info = json.loads((root / "meta/info.json").read_text())
    if info["codebase_version"].startswith("v2"):
        shutil.copytree(root, work / "set", copy_function=shutil.copyfile)
        convert_dataset("set", root=work, push_to_hub=False)
        root = work / "set"
    try:
        set_ = LeRobotDataset("local/set", root=root, video_backend="torchcodec")
        set_[0]
        backend = "torchcodec"
    except Exception as why:
        print("torchcodec:", why, file=sys.stderr)
        set_, backend = LeRobotDataset("local/set", root=root, video_backend="pyav"), "pyav"
    pictures = sorted(k for k, f in set_.features.items() if f["dtype"] in ("image", "video"))
    numbers = ["observation.state", "action"]
    first = set_[0]
    head = {"frames": len(set_), "backend": backend,
            "numbers": [{"name": k, "size": int(first[k].numel())} for k in numbers],
            "pictures": [{"name": k, "shape": list(first[k].shape[1:])} for k in pictures]}
    return set_, head, numbers, pictures


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as work:
        with contextlib.redirect_stdout(sys.stderr):
            set_, head, numbers, pictures = main(pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(work))
        out = sys.stdout.buffer
        out.write(json.dumps(head).encode() + b"\n")
        for i in range(len(set_)):
            x = set_[i]
            task = x["task"].encode()
            out.write(np.array([int(x["episode_index"]), int(x["frame_index"]), len(task)], "<i8").tobytes() + task)
            for k in numbers:
                out.write(x[k].numpy().astype("<f4").tobytes())
            for k in pictures:
                out.write(np.rint(x[k].numpy() * 255).astype(np.uint8).transpose(1, 2, 0).tobytes())
