#!/usr/bin/env python3
"""Asks a policy at recorded moments of Meta-World's tasks in other words than the recording's, without a simulator.

    pip install openpi-client pyarrow
    coordinator serve --checkpoint runs/metaworld &
    python tools/rollout/words.py --data examples/metaworld --instructions tools/rollout/rewordings.json

At each moment the policy is asked with the recorded instruction of its task, with those of the other tasks, and with the rewordings. The error is
that of an answer against the recorded actions, in standard deviations of the data's. A rewording is taken for its task where, over all moments, the
answers to it are nearest to those for its task's recorded instruction; of that share the interval is Wilson's.
"""
import argparse
import glob
import os

import numpy as np
from meta_world import INSTRUCTIONS, instructions, wilson


def read(path):
    """The frames of a LeRobot 3.0 data set with pictures in it, and its instructions by number."""
    import pyarrow.parquet as pq

    files = sorted(glob.glob(os.path.join(path, "data", "*", "*.parquet")))
    if not files:
        raise SystemExit(f"{path} has no data/*/*.parquet: want what tools/rollout/record.py writes")
    tables = [pq.read_table(f).to_pydict() for f in files]
    frames = {k: [v for t in tables for v in t[k]] for k in tables[0]}
    tasks = pq.read_table(os.path.join(path, "meta", "tasks.parquet")).to_pydict()
    return frames, dict(zip(tasks["task_index"], tasks["__index_level_0__"]))


def moments(d, names, said, n):
    """A moment of each of the first n episodes in which said is said: a third of the way through."""
    rows = [i for i in range(len(d["index"])) if names[d["task_index"][i]] == said]
    episodes = sorted({d["episode_index"][i] for i in rows})[:n]
    of = {e: [i for i in rows if d["episode_index"][i] == e] for e in episodes}
    return [f[len(f) // 3] for f in of.values()]


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    p.add_argument("--data", required=True, help="what tools/rollout/record.py has written")
    p.add_argument("--instructions", required=True, help="a JSON file of instructions by task, such as tools/rollout/rewordings.json")
    p.add_argument("--host", default="127.0.0.1")
    p.add_argument("--port", type=int, default=8000)
    p.add_argument("--moments", type=int, default=5, help="of each task, each of another episode")
    a = p.parse_args()
    from openpi_client import websocket_client_policy

    tasks = list(INSTRUCTIONS)
    words, recorded = instructions(a.instructions, tasks), [INSTRUCTIONS[t] for t in tasks]
    d, names = read(a.data)
    client, scale = websocket_client_policy.WebsocketClientPolicy(host=a.host, port=a.port), np.std(d["action"], axis=0)
    errors, taken, n = {"recorded": [], "reworded": [], "other": []}, 0, 0
    for own, task in enumerate(tasks):
        far = np.zeros((len(words[task]), len(tasks)))  # from the answer to a rewording to that for each task's own words
        for i in moments(d, names, recorded[own], a.moments):
            end = min(k for k in range(i, len(d["index"]) + 1) if k == len(d["index"]) or d["episode_index"][k] != d["episode_index"][i])
            seen = {"observation.images." + c: d["observation.images." + c][i]["bytes"] for c in ("corner", "gripper")}
            seen["observation.state"] = np.asarray(d["observation.state"][i], np.float32)

            def apart(x, y):
                k = min(len(x), len(y))
                return float(np.mean(np.abs(np.asarray(x)[:k] - np.asarray(y)[:k]) / scale))

            def ask(text):
                return np.asarray(client.infer({**seen, "prompt": text})["actions"])

            answers = [ask(text) for text in recorded]
            for k, x in enumerate(answers):
                errors["recorded" if k == own else "other"].append(apart(x, d["action"][i:end]))
            for r, text in enumerate(words[task]):
                x = ask(text)
                errors["reworded"].append(apart(x, d["action"][i:end]))
                far[r] += [apart(x, y) for y in answers]
        right = int(np.sum(np.argmin(far, axis=1) == own))
        print(f"{task:26s} {right}/{len(far)} rewordings taken for it", flush=True)
        taken, n = taken + right, n + len(far)
    low, high = wilson(taken, n)
    print(f"all {taken}/{n}  {100 * taken / n:.0f} %  [{100 * low:.0f}, {100 * high:.0f}]")
    print("error, in deviations of the actions: " + ", ".join(f"{k} words {np.mean(v):.3f}" for k, v in errors.items()))


if __name__ == "__main__":
    main()
