"""Writes the LeRobot data sets that pkg/data's tests read, in the forms 3.0 and 2.1.

The tables are as LeRobot's own writer makes them: optional leaves, lists for
vectors, pictures as a struct of bytes and path, tasks as the index of a pandas
frame, a slash in names of columns.

Beside them stand two sets with videos (v3-video, v21-video), which have what
third parties write: depth pictures, columns of language and of unknown types, a
file of several episodes whose number is another than its table's, frames a second
as a float, names in every form, B-frames. They need an ffmpeg with libx264.

    pip install pyarrow pandas pillow numpy
    python tools/lerobot_fixture.py pkg/data/testdata/lerobot
"""

import io
import json
import pathlib
import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

LENGTHS = [3, 4, 2]
TASKS = ["push the button", "open the door"]
OF = [0, 1, 0]  # task of each episode
CAMERAS = ["observation.images.front", "observation.images.wrist"]
NAMES = ["x", "y", "gripper"]


def picture(episode, frame, camera):
    """8×8 RGB of which every pixel says where it is from."""
    a = np.zeros((8, 8, 3), np.uint8)
    a[..., 0] = 40 * episode + frame
    a[..., 1] = 100 * camera + np.arange(8)[:, None]
    a[..., 2] = np.arange(8)[None, :] * 30
    b = io.BytesIO()
    Image.fromarray(a).save(b, "PNG")
    return b.getvalue()


def action(episode, frame):
    return [episode + frame / 8, -frame / 4, float(frame % 2)]


def rows(episodes, double, order):
    first = sum(LENGTHS[: episodes[0]])
    out = {c: [] for c in CAMERAS + ["observation.state", "action", "timestamp", "frame_index", "episode_index", "index", "task_index"]}
    for e in episodes:
        for f in range(LENGTHS[e]):
            for k, c in enumerate(CAMERAS):
                v = {"bytes": picture(e, f, k), "path": f"frame-{f:06d}.png"}
                out[c].append({n: v[n] for n in order})
            out["observation.state"].append([e / 2, f / 2])
            out["action"].append(action(e, f))
            out["timestamp"].append(f / 10)
            out["frame_index"].append(f)
            out["episode_index"].append(e)
            out["index"].append(first + len(out["index"]))
            out["task_index"].append(OF[e])
    number = pa.float64() if double else pa.float32()
    image = pa.struct([(n, pa.binary() if n == "bytes" else pa.string()) for n in order])
    types = {c: image for c in CAMERAS} | {"observation.state": pa.list_(number), "action": pa.list_(number), "timestamp": number}
    return pa.table({c: pa.array(v, types.get(c, pa.int64())) for c, v in out.items()})


def write(path, table, **more):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, compression="snappy", use_dictionary=True, **more)


def info(version, data, **more):
    image = {"dtype": "image", "shape": [8, 8, 3], "names": ["height", "width", "channel"]}
    one = {"dtype": "int64", "shape": [1], "names": None}
    features = {c: image for c in CAMERAS} | {
        "observation.state": {"dtype": "float32", "shape": [2], "names": {"motors": ["a", "b"]}},
        "action": {"dtype": "float32", "shape": [3], "names": NAMES},
        "timestamp": {"dtype": "float32", "shape": [1], "names": None},
        "frame_index": one, "episode_index": one, "index": one, "task_index": one,
    }
    return {"codebase_version": version, "robot_type": "test", "total_episodes": 3, "total_frames": sum(LENGTHS), "total_tasks": 2,
            "splits": {"train": "0:2", "test": "2:3", "all": "0:3"}, "data_path": data, "video_path": None, "features": features} | more


def main(root):
    v3 = root / "v3"
    files = {0: [0, 1], 1: [2]}
    for n, episodes in files.items():
        write(v3 / f"data/chunk-000/file-{n:03d}.parquet", rows(episodes, False, ["bytes", "path"]), row_group_size=3)
    write(v3 / "meta/tasks.parquet", pa.Table.from_pandas(pd.DataFrame({"task_index": [0, 1]}, index=TASKS)))
    listed = [(e, n) for n, l in files.items() for e in l]
    write(v3 / "meta/episodes/chunk-000/file-000.parquet", pa.table({
        "episode_index": [e for e, _ in listed], "tasks": [[TASKS[OF[e]]] for e, _ in listed], "length": [LENGTHS[e] for e, _ in listed],
        "data/chunk_index": [0 for _ in listed], "data/file_index": [n for _, n in listed]}))
    (v3 / "meta/info.json").write_text(json.dumps(info("v3.0", "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet", fps=10, chunks_size=1000), indent=1))

    v2 = root / "v21"
    for e in range(3):
        write(v2 / f"data/chunk-{e // 2:03d}/episode_{e:06d}.parquet", rows([e], True, ["path", "bytes"]))
    meta = v2 / "meta"
    meta.mkdir(parents=True, exist_ok=True)
    (meta / "tasks.jsonl").write_text("".join(json.dumps({"task_index": i, "task": t}) + "\n" for i, t in enumerate(TASKS)))
    (meta / "episodes.jsonl").write_text("".join(json.dumps({"episode_index": e, "tasks": [TASKS[OF[e]]], "length": n}) + "\n" for e, n in enumerate(LENGTHS)))
    (meta / "info.json").write_text(json.dumps(info("v2.1", "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet", fps=10.0, chunks_size=2, total_chunks=0), indent=1))
    videos(root)


VIDEO = CAMERAS[0]


def colour(episode, frame):
    """Of a whole frame of 16×24: which it is can be told after lossy coding."""
    return [40 + 80 * episode, 30 + 50 * frame, 120]


def encode(path, frames):
    """An H.264 file at 10 frames a second, with B-frames."""
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = b"".join(bytes(colour(e, f)) * (16 * 24) for e, f in frames)
    subprocess.run(["ffmpeg", "-y", "-v", "error", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "24x16", "-r", "10", "-i", "pipe:0",
                    "-c:v", "libx264", "-crf", "4", "-g", "4", "-bf", "2", "-pix_fmt", "yuv420p", "-threads", "1", "-x264-params", "sei=0:info=0",
                    "-fflags", "+bitexact", "-flags", "+bitexact", str(path)], input=raw, check=True)


def odd(table):
    """A table without the video's column, with columns that nobody asks for."""
    n = len(table)
    tiff = {"bytes": b"II*\0depth", "path": None}
    said = [{"role": "user", "content": "go on", "style": None, "timestamp": 0.1, "camera": None, "tool_calls": None}]
    return (table.drop_columns([VIDEO])
            .append_column("observation.images.depth", pa.array([tiff] * n, pa.struct([("bytes", pa.binary()), ("path", pa.string())])))
            .append_column("language_persistent", pa.array([said] * n))
            .append_column("observation.grid", pa.array([[[1.0, 2.0], [3.0, 4.0]]] * n, pa.list_(pa.list_(pa.float32()))))
            .append_column("next.done", pa.array([False] * n))
            .append_column("mystery", pa.array([None] * n, pa.list_(pa.float32()))))


def odd_info(features):
    """What meta/info.json says of them, and names in other forms."""
    return features | {
        VIDEO: {"dtype": "video", "shape": [16, 24, 3], "names": ["height", "width", "channel"], "video_info": {"video.fps": 10.0, "video.codec": "h264"}},
        "observation.images.depth": {"dtype": "image", "shape": [8, 8, 1], "names": None, "info": {"is_depth_map": True}},
        "language_persistent": {"dtype": "language", "shape": [1], "names": None},
        "observation.grid": {"dtype": "float32", "shape": [2, 2], "names": [["a", "b"], ["c", "d"]]},
        "observation.state": {"dtype": "float32", "shape": [2], "names": {"a": 0, "b": 1}},
        "action": {"dtype": "float32", "shape": [3], "names": [NAMES]},
        "next.done": {"dtype": "bool", "shape": [1], "names": None},
        "mystery": {"dtype": "complex64", "shape": None, "names": [None]},
    }


def videos(root):
    v3 = root / "v3-video"
    tables, clips = {0: [0, 1], 1: [2]}, {0: [0], 1: [1, 2]}
    for n, episodes in tables.items():
        write(v3 / f"data/chunk-000/file-{n:03d}.parquet", odd(rows(episodes, False, ["bytes", "path"])))
    place = {}
    for n, episodes in clips.items():
        encode(v3 / f"videos/{VIDEO}/chunk-000/file-{n:03d}.mp4", [(e, f) for e in episodes for f in range(LENGTHS[e])])
        start = 0
        for e in episodes:
            place[e] = (n, start / 10, (start + LENGTHS[e]) / 10)
            start += LENGTHS[e]
    write(v3 / "meta/tasks.parquet", pa.Table.from_pandas(pd.DataFrame({"task_index": [0, 1]}, index=pd.Index(TASKS, name="task"))))
    write(v3 / "meta/episodes/chunk-000/file-000.parquet", pa.table({
        "episode_index": [0, 1, 2], "tasks": [[TASKS[k]] for k in OF], "length": LENGTHS,
        "data/chunk_index": [0, 0, 0], "data/file_index": [0, 0, 1],
        f"videos/{VIDEO}/chunk_index": [0, 0, 0], f"videos/{VIDEO}/file_index": [place[e][0] for e in range(3)],
        f"videos/{VIDEO}/from_timestamp": [place[e][1] for e in range(3)], f"videos/{VIDEO}/to_timestamp": [place[e][2] for e in range(3)]}))
    d = info("v3.0", "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet", fps=10, chunks_size=1000,
             video_path="videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4")
    d["features"] = odd_info(d["features"])
    (v3 / "meta/info.json").write_text(json.dumps(d, indent=1))

    v2 = root / "v21-video"
    for e in range(3):
        write(v2 / f"data/chunk-{e // 2:03d}/episode_{e:06d}.parquet", odd(rows([e], True, ["path", "bytes"])))
        encode(v2 / f"videos/chunk-{e // 2:03d}/{VIDEO}/episode_{e:06d}.mp4", [(e, f) for f in range(LENGTHS[e])])
    meta = v2 / "meta"
    meta.mkdir(parents=True, exist_ok=True)
    for name in ["tasks.jsonl", "episodes.jsonl"]:
        (meta / name).write_text((root / "v21/meta" / name).read_text())
    d = info("v2.0", "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet", fps=10.0, chunks_size=2, total_chunks=0,
             video_path="videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4")
    d["features"] = odd_info(d["features"])
    (meta / "info.json").write_text(json.dumps(d, indent=1))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
