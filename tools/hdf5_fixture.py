"""Writes the shard that internal/convert's tests read, of an HDF5 file of LIBERO's form.

    pip install h5py numpy
    python tools/hdf5_fixture.py internal/convert/testdata

With a built coordinator and an empty folder it also checks hdf5_shards.py, on files
of HDF5's earliest and latest forms, against h5py and, where it is installed,
LeRobot's own loader:

    pip install lerobot==0.4.4
    python tools/hdf5_fixture.py --coordinator ./coordinator FOLDER
"""

import gzip
import json
import pathlib
import subprocess
import sys

import h5py
import numpy as np

DEMOS = {0: 3, 2: 4, 10: 2}
TOOL = pathlib.Path(__file__).with_name("hdf5_shards.py")
STATE = ["ee_states", "gripper_states"]
sys.dont_write_bytecode = True


def write(path, libver):
    with h5py.File(path, "w", libver=libver) as f:
        d = f.create_group("data")
        d.attrs["problem_info"] = json.dumps({"language_instruction": ['"pick up the cup"']})
        d.attrs["env_args"] = json.dumps({"env_name": "Libero", "env_kwargs": {"control_freq": 20}})
        for n, t in DEMOS.items():
            g = d.create_group(f"demo_{n}")
            g["actions"] = n + np.arange(t)[:, None] / 8 + np.arange(7) / 3
            g["states"], g["rewards"], g["dones"] = np.zeros((t, 50)), np.zeros(t), np.zeros(t, np.uint8)
            o = g.create_group("obs")
            state = np.arange(t)[:, None] - np.arange(9) / 7
            o["ee_states"], o["gripper_states"] = state[:, :7], state[:, 7:]
            for c, camera in enumerate(["agentview_rgb", "eye_in_hand_rgb"]):
                a = np.zeros((t, 6, 8, 3), np.uint8)
                a[..., 0], a[..., 1], a[..., 2] = (20 * n + np.arange(t))[:, None, None], np.arange(6)[:, None] + 50 * c, np.arange(8)
                o.create_dataset(camera, data=a, compression="gzip", chunks=(1, 6, 8, 3))
        f.create_group("mask")["train"] = np.array([b"demo_0", b"demo_10"])


def shards(path, *flags):
    flags = [x for s in STATE for x in ("--state", s)] + list(flags)
    return subprocess.run([sys.executable, TOOL, path.name, *flags], cwd=path.parent, capture_output=True, check=True).stdout


def check(coordinator, root):
    for libver in ["earliest", "latest"]:
        path = root / f"{libver}.hdf5"
        write(path, libver)
        for flags, demos in [([], [0, 2, 10]), (["--mask", "train"], [0, 10])]:
            out = root / f"{libver}-{len(demos)}"
            subprocess.run([coordinator, "data", "convert", "-", out], input=shards(path, *flags), check=True)
            subprocess.run([coordinator, "data", "check", out], check=True)
            from lerobot.datasets.lerobot_dataset import LeRobotDataset

            loaded, i = LeRobotDataset("local/set", root=out), 0
            with h5py.File(path) as f:
                for e, n in enumerate(demos):
                    g = f[f"data/demo_{n}"]
                    for t in range(DEMOS[n]):
                        x, i = loaded[i], i + 1
                        assert (x["episode_index"], x["frame_index"], x["task"]) == (e, t, "pick up the cup"), x
                        assert np.array_equal(x["action"].numpy(), g["actions"][t].astype(np.float32))
                        assert np.array_equal(x["observation.state"].numpy(), np.concatenate([g["obs"][s][t] for s in STATE]).astype(np.float32))
                        for camera in ["agentview", "eye_in_hand"]:
                            picture = x[f"observation.images.{camera}"].numpy().transpose(1, 2, 0) * 255
                            assert np.array_equal(picture.round(), g["obs"][camera + "_rgb"][t])
                all = np.concatenate([f[f"data/demo_{n}/actions"][()].astype(np.float32) for n in demos]).astype(np.float64)
            assert i == len(loaded)
            for k, want in {"mean": all.mean(0), "std": all.std(0), "min": all.min(0), "max": all.max(0), "q01": np.quantile(all, 0.01, axis=0)}.items():
                assert np.allclose(loaded.meta.stats["action"][k], want, rtol=0, atol=1e-12), k
            print(f"{libver}: {i} frames are equal in h5py's reading and LeRobot's")


def main():
    if sys.argv[1] == "--coordinator":
        check(pathlib.Path(sys.argv[2]).resolve(), pathlib.Path(sys.argv[3]).resolve())
        return
    out = pathlib.Path(sys.argv[1])
    path = out / "libero.hdf5"
    write(path, "earliest")
    (out / "libero.tar.gz").write_bytes(gzip.compress(shards(path), mtime=0))
    path.unlink()


if __name__ == "__main__":
    main()
