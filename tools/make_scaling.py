#!/usr/bin/env python3
"""Writes pkg/data/testdata/scaling.json: actions, and what those who publish policies make of them before training.

    tools/make_scaling.py      needs numpy, torch and lerobot 0.4.4

LeRobot's numbers are its own processor's. Those of openpi (src/openpi/transforms.py, Normalize), and of Octo and OpenVLA (data_utils.py,
normalize_action_and_proprio) are their formulas, in float32 as they compute them.
"""
import json
from pathlib import Path

import numpy as np
import torch
from lerobot.configs.types import FeatureType, NormalizationMode, PolicyFeature
from lerobot.processor.normalize_processor import NormalizerProcessorStep, UnnormalizerProcessorStep

r = np.random.default_rng(5)
n = 24
x = np.stack([r.normal(size=n) * 0.02, r.normal(size=n) + 3, np.full(n, 0.7), (np.arange(n) % 3 == 0) * 1.0], 1).astype(np.float32)
stats = {"mean": x.mean(0, dtype=np.float64), "std": x.std(0, dtype=np.float64), "min": x.min(0), "max": x.max(0)}
for q in (1, 10, 90, 99):
    stats[f"q{q:02}"] = np.quantile(x.astype(np.float64), q / 100, axis=0)
stats = {k: v.astype(np.float32) for k, v in stats.items()}
gripper = np.array([False, False, False, True])


def lerobot(mode):
    """LeRobot's processor, there and back."""
    args = dict(features={"action": PolicyFeature(FeatureType.ACTION, (4,))}, norm_map={FeatureType.ACTION: mode}, stats={"action": stats})
    t = torch.from_numpy(x)
    there = NormalizerProcessorStep(**args)._apply_transform(t, "action", FeatureType.ACTION, inverse=False)
    back = UnnormalizerProcessorStep(**args)._apply_transform(there, "action", FeatureType.ACTION, inverse=True)
    return there.numpy(), back.numpy()


def openpi(quantiles):
    if quantiles:
        lo, hi = stats["q01"], stats["q99"]
        there = (x - lo) / (hi - lo + 1e-6) * 2.0 - 1.0
        return there, (there + 1.0) / 2.0 * (hi - lo + 1e-6) + lo
    there = (x - stats["mean"]) / (stats["std"] + 1e-6)
    return there, there * (stats["std"] + 1e-6) + stats["mean"]


def octo(kind):
    """Octo's and OpenVLA's; the gripper is left as it is. There is no way back from what is clipped."""
    if kind == "normal":
        return np.where(gripper, x, (x - stats["mean"]) / (stats["std"] + 1e-8)), None
    lo, hi = (stats["min"], stats["max"]) if kind == "bounds" else (stats["q01"], stats["q99"])
    there = np.where(gripper, x, np.clip(2 * (x - lo) / (hi - lo + 1e-8) - 1, -1, 1))
    return np.where(~gripper & (stats["min"] == stats["max"]), 0.0, there), None


cases = []


def case(name, scaling, numbers):
    there, back = numbers
    c = {"name": name, **scaling, "normalised": there.astype(np.float32).tolist()}
    if back is not None:
        c["back"] = back.astype(np.float32).tolist()
    cases.append(c)


case("LeRobot MEAN_STD", {"mode": "mean_std", "epsilon": 1e-8}, lerobot(NormalizationMode.MEAN_STD))
case("LeRobot MIN_MAX", {"mode": "min_max"}, lerobot(NormalizationMode.MIN_MAX))
case("LeRobot QUANTILES", {"mode": "quantile"}, lerobot(NormalizationMode.QUANTILES))
case("LeRobot QUANTILE10", {"mode": "quantile10"}, lerobot(NormalizationMode.QUANTILE10))
case("openpi", {"mode": "mean_std", "epsilon": 1e-6}, openpi(False))
case("openpi quantiles", {"mode": "quantile", "epsilon": 1e-6}, openpi(True))
case("Octo NORMAL", {"mode": "mean_std", "epsilon": 1e-8, "mask": ["gripper"]}, octo("normal"))
case("Octo BOUNDS", {"mode": "min_max", "epsilon": 1e-8, "clip": 1, "mask": ["gripper"]}, octo("bounds"))
case("OpenVLA BOUNDS_Q99", {"mode": "quantile", "epsilon": 1e-8, "clip": 1, "mask": ["3"]}, octo("q99"))
out = Path(__file__).parent.parent / "pkg/data/testdata/scaling.json"
rows = lambda v: "[\n" + ",\n".join("   " + json.dumps(row) for row in v) + "]"
with open(out, "w") as f:
    f.write('{"names": ["x", "y", "still", "gripper"],\n "rows": ' + rows(x.tolist()) + ',\n "cases": [')
    for i, c in enumerate(cases):
        f.write(("," if i else "") + "\n  {" + ",\n   ".join(f'"{k}": ' + (rows(v) if k in ("normalised", "back") else json.dumps(v)) for k, v in c.items()) + "}")
    f.write("]}\n")
