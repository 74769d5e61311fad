"""Processor time of a step, of the coordinator and of each worker.

    python tools/cpu.py job.yaml --workers 2 [--steps 800] [--coordinator bin/coordinator] [--set KEY=VALUE]...

Trains the job on workers of one thread each and reads, while it runs, what every
thread of every process has used (/proc, Linux). A fifth of the steps do not count.
Wall times are of little worth on a machine that does other work; processor time is
of some: other work makes caches colder and nothing else. The SHA-256 of the weights
tells whether two versions compute the same.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import time


def used(pid):
    """Milliseconds of processor time of all threads of a process."""
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{task}/schedstat") as f:
                total += int(f.read().split()[0])
        except FileNotFoundError:  # it has ended
            pass
    return total / 1e6


def children(pid):
    out = []
    for task in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{task}/children") as f:
                out += map(int, f.read().split())
        except FileNotFoundError:
            pass
    return sorted(out)


def lines(path):
    try:
        with open(path) as f:
            return sum(1 for _ in f)
    except FileNotFoundError:
        return 0


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    p.add_argument("job")
    p.add_argument("--workers", type=int, default=2)
    p.add_argument("--steps", type=int, default=800)
    p.add_argument("--coordinator", default="coordinator", help="a built program")
    p.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as coordinator train takes it")
    a = p.parse_args()
    with tempfile.TemporaryDirectory() as tmp:
        run = os.path.join(tmp, "run")
        command = [a.coordinator, "train", a.job, "--json", "--run-dir", run, "--workers", str(a.workers), "--threads", "1"]
        for s in [f"train.steps={a.steps}", "checkpoint.every=0", *a.set]:
            command += ["--set", s]
        seen = []  # (steps, time, {process: milliseconds})
        with open(os.path.join(tmp, "out"), "w+") as out:
            process = subprocess.Popen(command, stdout=out)
            while process.poll() is None:
                before = lines(os.path.join(run, "metrics.jsonl"))
                if a.steps / 5 <= before < a.steps * 0.97:
                    try:
                        who = {"coordinator": used(process.pid), **{f"worker {i}": used(c) for i, c in enumerate(children(process.pid))}}
                        seen.append(((before + lines(os.path.join(run, "metrics.jsonl"))) / 2, time.monotonic(), who))
                    except (FileNotFoundError, ProcessLookupError):  # one is ending
                        pass
                time.sleep(0.05)
            out.seek(0)
            ends = [e for e in map(json.loads, out) if e.get("event") == "end"]
        if process.returncode:
            sys.exit(process.returncode)
        if len(seen) < 2 or seen[-1][0] <= seen[0][0]:
            sys.exit(f"too few steps were seen: give --steps more than {a.steps}")
        (first, begin, was), (end, over, now) = seen[0], seen[-1]
        steps = end - first
        print(f"{steps:.0f} steps, {1e3 * (over - begin) / steps:.2f} ms each; processor time of a step, in ms:")
        for who in now:
            print(f"{who:12} {(now[who] - was.get(who, 0)) / steps:8.3f}")
        print(f"{'all':12} {sum(now[w] - was.get(w, 0) for w in now) / steps:8.3f}")
        print(f"load average {os.getloadavg()[0]:.1f}; weights {ends[0]['model_sha256']}")


if __name__ == "__main__":
    main()
