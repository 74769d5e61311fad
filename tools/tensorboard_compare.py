#!/usr/bin/env python3
"""Reads a folder of event files with TensorBoard's own loaders, and prints every value.

    python tools/tensorboard_compare.py runs/NAME/tensorboard         # what is there, by tag
    python tools/tensorboard_compare.py --json DIR                    # every value, as JSON
    python tools/tensorboard_compare.py --run runs/NAME               # compared with metrics.jsonl and eval.jsonl

pip install tensorboard. With --run it exits with 1 where a step of metrics.jsonl or eval.jsonl is not there
exactly once with its values, or a step is there that the files do not have.
"""
import argparse
import json
import math
import pathlib
import sys

import numpy as np
from tensorboard.backend.event_processing import event_accumulator, plugin_event_accumulator
from tensorboard.util import tensor_util


def read(folder):
    """By tag, a list of [step, value]: through the accumulator that keeps values as they are written."""
    every = {k: 0 for k in event_accumulator.DEFAULT_SIZE_GUIDANCE}
    acc = event_accumulator.EventAccumulator(str(folder), size_guidance=every)
    acc.Reload()
    out = {"scalars": {}, "images": {}, "histograms": {}, "texts": {}}
    tags = acc.Tags()
    for t in tags["scalars"]:
        out["scalars"][t] = [[e.step, e.value, e.wall_time] for e in acc.Scalars(t)]
    for t in tags["images"]:
        out["images"][t] = [[e.step, e.width, e.height, e.encoded_image_string.hex()] for e in acc.Images(t)]
    for t in tags["histograms"]:
        out["histograms"][t] = [[e.step, h.min, h.max, h.num, h.sum, h.sum_squares, list(h.bucket_limit), list(h.bucket)]
                                for e in acc.Histograms(t) for h in [e.histogram_value]]
    for t in tags["tensors"]:
        if acc.SummaryMetadata(t).plugin_data.plugin_name == "text":
            out["texts"][t] = [[e.step, tensor_util.make_ndarray(e.tensor_proto).item().decode()] for e in acc.Tensors(t)]
    return out


def read_as_shown(folder):
    """The same through the loader of TensorBoard's own pages, which turns everything into tensors."""
    acc = plugin_event_accumulator.EventAccumulator(str(folder), tensor_size_guidance={p: 0 for p in ("scalars", "images", "histograms", "text")})
    acc.Reload()
    out = {}
    for plugin in ("scalars", "images", "histograms", "text"):
        for t in acc.PluginTagToContent(plugin) if plugin in acc.ActivePlugins() else []:
            out.setdefault(plugin, {})[t] = [[e.step, tensor_util.make_ndarray(e.tensor_proto)] for e in acc.Tensors(t)]
    return out


def same(wrong, folder):
    """Both loaders have the same, tag by tag and value by value."""
    a, b = read(folder), read_as_shown(folder)
    for kind, plugin in (("scalars", "scalars"), ("images", "images"), ("histograms", "histograms"), ("texts", "text")):
        if set(a[kind]) != set(b.get(plugin, {})):
            wrong.append(f"{kind}: {sorted(a[kind])} by one loader, {sorted(b.get(plugin, {}))} by the other")
            continue
        for t, points in a[kind].items():
            shown = b[plugin][t]
            if [p[0] for p in points] != [p[0] for p in shown]:
                wrong.append(f"{t}: steps {[p[0] for p in points]} by one loader, {[p[0] for p in shown]} by the other")
            for p, (step, x) in zip(points, shown):
                if kind == "scalars" and np.float32(p[1]) != x and not (math.isnan(p[1]) and np.isnan(x)):
                    wrong.append(f"{t}, step {step}: {p[1]} and {x}")
                if kind == "images" and bytes.fromhex(p[3]) != x[2]:
                    wrong.append(f"{t}, step {step}: another picture")
                if kind == "histograms" and not math.isclose(x[:, 2].sum(), p[3]):
                    wrong.append(f"{t}, step {step}: {x[:, 2].sum()} of {p[3]} values are in buckets")
                if kind == "texts" and x.item().decode() != p[1]:
                    wrong.append(f"{t}, step {step}: another text")
    return a


def lines(path):
    return [json.loads(l) for l in path.read_text().splitlines()] if path.exists() else []


def against_run(wrong, run, got):
    """Every number of metrics.jsonl and eval.jsonl is there once, and nothing else."""
    want = {}

    def add(tag, step, x):
        want.setdefault(tag, []).append([step, x])

    for m in lines(run / "metrics.jsonl"):
        if not m.get("refused"):
            add("train/loss", m["step"], m["loss"])
            add("train/grad_norm", m["step"], m["grad_norm"])
            for name, s in (m.get("sets") or {}).items():
                if s["targets"]:
                    add(f"train/sets/{name}/loss", m["step"], s["loss"])
        add("train/learning_rate", m["step"], m["lr"])
        add("speed/samples_per_s", m["step"], m["samples_per_s"])
        add("speed/workers", m["step"], m["world"])
        for part, s in m["time"].items():
            add(f"time/{'ring_exposed' if part == 'ring' else part}", m["step"], s)
    for h in lines(run / "eval.jsonl"):
        for name, x in h.items():
            if isinstance(x, (int, float)) and name not in ("step", "samples", "seconds"):
                add(f"heldout/{name}", h["step"], x)
        for d in h.get("dof") or []:
            add(f"heldout/dimensions/{d['name']}" + (f" [{d['unit']}]" if d["unit"] else ""), h["step"], d["mae"])
        for name, s in (h.get("sets") or {}).items():
            for k, x in s.items():
                if k != "samples":
                    add(f"heldout/sets/{name}/{k}", h["step"], x)
    found = {t: v for t, v in got["scalars"].items() if not t.startswith("best/")}
    for tag in sorted(set(want) | set(found)):
        w, g = want.get(tag, []), [p[:2] for p in found.get(tag, [])]
        if [p[0] for p in w] != [p[0] for p in g]:
            wrong.append(f"{tag}: steps {[p[0] for p in g]}, want {[p[0] for p in w]}")
        elif any(np.float32(a[1]) != np.float32(b[1]) for a, b in zip(w, g)):
            wrong.append(f"{tag}: other values")
    return sum(map(len, want.values()))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("folder", nargs="?")
    p.add_argument("--json", action="store_true")
    p.add_argument("--run")
    a = p.parse_args()
    folder = pathlib.Path(a.run) / "tensorboard" if a.run else pathlib.Path(a.folder)
    wrong = []
    got = same(wrong, folder)
    if a.json:
        json.dump(got, sys.stdout)
    else:
        for kind, tags in got.items():
            for t, points in sorted(tags.items()):
                print(f"{kind:10} {t:40} {len(points)} points, steps {points[0][0]} to {points[-1][0]}")
    if a.run:
        n = against_run(wrong, pathlib.Path(a.run), got)
        print(f"{n} numbers of the run's files compared", file=sys.stderr)
    for w in wrong:
        print("WRONG", w, file=sys.stderr)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
