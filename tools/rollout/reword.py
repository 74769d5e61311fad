#!/usr/bin/env python3
"""Writes a recording of Meta-World's tasks in which each episode stands once for each wording of its task, so that a policy is shown several.

    pip install pyarrow
    python tools/rollout/reword.py --data examples/metaworld --out examples/metaworld-worded      # in the words of tools/rollout/wordings.json

--data is what tools/rollout/record.py has written: one file of frames and one of episodes. Pictures, states and actions stay as they are.
"""
import argparse
import json
import os
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
from meta_world import INSTRUCTIONS, instructions

FRAMES, EPISODES, TASKS = "data/chunk-000/file-000.parquet", "meta/episodes/chunk-000/file-000.parquet", "meta/tasks.parquet"


def put(table, column, values):
    i = table.schema.get_field_index(column)
    return table.set_column(i, table.schema.field(i), pa.array(values, table.schema.field(i).type))


def moved(table, column, by):
    return put(table, column, [v + by for v in table[column].to_pylist()])


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    p.add_argument("--data", required=True)
    p.add_argument("--instructions", default=os.path.join(os.path.dirname(__file__), "wordings.json"), help="a JSON file of instructions by task, as many of each")
    p.add_argument("--out", required=True)
    a = p.parse_args()
    at = lambda name: os.path.join(a.data, name)
    if os.path.exists(a.out):
        raise SystemExit(f"{a.out} is there already: name another folder with --out")
    words = instructions(a.instructions, list(INSTRUCTIONS))
    if len({len(w) for w in words.values()}) != 1:
        raise SystemExit(f"{a.instructions}: tasks have {sorted({len(w) for w in words.values()})} wordings; want as many of each")
    of = {INSTRUCTIONS[t]: w for t, w in words.items()}
    tasks, frames, episodes = pq.read_table(at(TASKS)), pq.read_table(at(FRAMES)), pq.read_table(at(EPISODES))
    recorded = dict(zip(tasks["task_index"].to_pylist(), tasks["__index_level_0__"].to_pylist()))
    for said in recorded.values():
        if said not in of:
            raise SystemExit(f"{at(TASKS)}: {said!r} is the instruction of no task of tools/rollout/meta_world.py")
    k = len(next(iter(words.values())))
    said = list(dict.fromkeys(of[s][i] for i in range(k) for s in recorded.values()))
    number = {s: i for i, s in enumerate(said)}
    f, e = [], []
    for i in range(k):
        x = put(frames, "task_index", [number[of[recorded[t]][i]] for t in frames["task_index"].to_pylist()])
        f.append(moved(moved(x, "episode_index", i * episodes.num_rows), "index", i * frames.num_rows))
        y = moved(put(episodes, "tasks", [[of[s][i] for s in t] for t in episodes["tasks"].to_pylist()]), "episode_index", i * episodes.num_rows)
        e.append(moved(moved(y, "dataset_from_index", i * frames.num_rows), "dataset_to_index", i * frames.num_rows))
    for name, table in ((FRAMES, pa.concat_tables(f)), (EPISODES, pa.concat_tables(e)),
                        (TASKS, pa.table({"task_index": list(range(len(said))), "__index_level_0__": said}).replace_schema_metadata(tasks.schema.metadata))):
        os.makedirs(os.path.dirname(os.path.join(a.out, name)), exist_ok=True)
        pq.write_table(table, os.path.join(a.out, name))
    with open(at("meta/info.json")) as j:
        info = json.load(j)
    info |= {"total_episodes": k * episodes.num_rows, "total_frames": k * frames.num_rows, "total_tasks": len(said), "splits": {"train": f"0:{k * episodes.num_rows}"}}
    with open(os.path.join(a.out, "meta/info.json"), "w") as j:
        json.dump(info, j, indent=4)
    shutil.copy(at("meta/stats.json"), os.path.join(a.out, "meta/stats.json"))
    print(f"{info['total_episodes']} episodes in {len(said)} wordings in {a.out}")


if __name__ == "__main__":
    main()
