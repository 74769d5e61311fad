"""Writes robomimic and LIBERO HDF5 files as a WebDataset shard, for coordinator data convert.

Of each demonstration it takes the pictures (bytes [T, height, width, 3]), the
state, the actions and the instruction, a sample a frame:

    pip install h5py numpy
    python tools/hdf5_shards.py demo.hdf5 | coordinator data convert - OUT

Several files become one data set. --state names what the state is made of, in
order (of obs/; joined to one feature observation.state). Without it every array
of numbers in obs/ is a feature of its own, observation.<name>, which a job joins by
data.state. Pictures are taken as they are stored. Those of a file whose attribute
macros_image_convention is opengl stand on their heads; --flip turns them, and
then whoever asks the policy has to show it turned ones too.
"""

import argparse
import io
import json
import pathlib
import re
import sys
import tarfile

import h5py
import numpy as np


def demos(f, keep):
    """The demonstrations in their numeric order; those of a mask, if one is named."""
    if keep is None:
        names = list(f["data"])
    else:
        if keep not in f.get("mask", {}):
            sys.exit(f"{f.filename}: there is no mask/{keep}; it has {', '.join(f.get('mask', {})) or 'none'}")
        names = [n.decode() for n in f[f"mask/{keep}"][()]]
    return sorted(names, key=lambda n: [int(x) if x.isdigit() else x for x in re.split(r"(\d+)", n)])


def words(f, path):
    """The instruction: LIBERO keeps it, robomimic's tasks are known by the name of the environment."""
    attrs = f["data"].attrs
    if "problem_info" in attrs:
        said = json.loads(attrs["problem_info"]).get("language_instruction", "")
        return "".join(said).strip().strip('"')
    if "env_args" in attrs:
        return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", json.loads(attrs["env_args"]).get("env_name", "")).lower()
    return pathlib.Path(path).stem.removesuffix("_demo").replace("_", " ")


def rate(f):
    args = json.loads(f["data"].attrs.get("env_args", "{}"))
    return args.get("env_kwargs", {}).get("control_freq", 20)


def npy(a):
    b = io.BytesIO()
    np.lib.format.write_array(b, np.ascontiguousarray(a), version=(1, 0), allow_pickle=False)
    return b.getvalue()


def fail(f, demo, what):
    sys.exit(f"{f.filename}: {demo}: {what}")


def frames(f, demo, states, flip):
    """Name → array [T, …] of a demonstration."""
    g = f["data"][demo]
    if "actions" not in g:
        fail(f, demo, "it has no actions")
    length = len(g["actions"])
    out = {"action": g["actions"][()].astype(np.float32)}
    obs = {k: v for k, v in g.get("obs", {}).items() if isinstance(v, h5py.Dataset)}
    for name, d in obs.items():
        if len(d) != length:
            fail(f, demo, f"obs/{name} has {len(d)} frames, actions {length}")
        if d.dtype == np.uint8 and d.ndim == 4 and d.shape[-1] == 3:
            a = d[()]
            out[re.sub("_(rgb|image)$", "", name)] = a[:, ::-1] if flip else a
        elif d.ndim <= 2 and d.dtype.kind in "fiu" and not states:
            out[name] = d[()].reshape(length, -1).astype(np.float32)
    if states:
        missing = [s for s in states if s not in obs]
        if missing:
            fail(f, demo, f"--state {missing[0]}: obs/ has {', '.join(obs)}")
        out["state"] = np.concatenate([obs[s][()].reshape(length, -1) for s in states], 1).astype(np.float32)
    return out


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("file", nargs="+")
    p.add_argument("--state", action="append", default=[], help="an array of obs/ that is a part of the state (repeatable)")
    p.add_argument("--mask", help="take the demonstrations of mask/NAME alone, e.g. train")
    p.add_argument("--flip", action="store_true", help="turn pictures upside down")
    a = p.parse_args()
    if sys.stdout.isatty():
        sys.exit("a tar archive goes to standard output: pipe it into coordinator data convert - OUT")
    with tarfile.open(fileobj=sys.stdout.buffer, mode="w|", format=tarfile.USTAR_FORMAT) as tar:

        def put(name, body):
            t = tarfile.TarInfo(name)
            t.size = len(body)
            tar.addfile(t, io.BytesIO(body))

        for n, path in enumerate(a.file):
            with h5py.File(path, "r") as f:
                if "data" not in f:
                    sys.exit(f"{path}: it has no group data; robomimic and LIBERO files have one")
                for demo in demos(f, a.mask):
                    arrays = frames(f, demo, a.state, a.flip)
                    about = {"episode": f"{path}:{demo}", "fps": rate(f), "instruction": words(f, path)}
                    for i in range(len(arrays["action"])):
                        key = f"{n}/{demo}/{i:06d}"
                        put(f"{key}.json", json.dumps(about | {"frame": i}).encode())
                        for name, v in arrays.items():
                            put(f"{key}.{name}.npy", npy(v[i]))


if __name__ == "__main__":
    main()
