"""Ours and PyTorch's training step in turns, and the ratio.

    python tools/peer/compare.py                     # both models, one thread, matrix products too
    python tools/peer/compare.py --models small --modes eager,compile --rounds 5
    python tools/peer/compare.py --modes eager,bf16 --dropout 0

Run it with a Python that has torch, from a checkout in which `go build` works (or
name a built program with --coordinator). Each round runs every contestant once,
one after the other, in a process of its own; medians over the rounds are
printed. Ratios are of the two runs of the same round.

BY CPU TIME counts what a process was given of the processor: on a quiet machine
it agrees with the clock, on a busy one it is what to believe. OF PEAK is the
share of the peak that our run measured (of fused multiply-adds, or of tiles with
precision bf16 where the CPU has them), of the model's nominal arithmetic.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
from step import MODELS, median  # noqa: E402


def arguments():
    p = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    p.add_argument("--models", default="default,small")
    p.add_argument("--modes", default="eager", help="eager, compile, bf16 (autocast, beside ours with precision bf16), "
                   "weights (eager, the reference text's attention)")
    p.add_argument("--dropout", type=float, default=0.1)
    p.add_argument("--matmul", default="1024", help="squares, or none")
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--budget", type=float, default=5, help="seconds for each run")
    p.add_argument("--coordinator", help="a built program (default: go build ./cmd/coordinator)")
    p.add_argument("--json", action="store_true")
    a = p.parse_args()
    a.models = [m for m in a.models.split(",") if m]
    a.modes = [m for m in a.modes.split(",") if m]
    a.squares = [] if a.matmul == "none" else [int(n) for n in a.matmul.split(",")]
    for m in a.models:
        if m not in MODELS:
            p.error(f"--models {m}: want {', '.join(MODELS)}")
    for m in a.modes:
        if m not in ("eager", "compile", "bf16", "weights"):
            p.error(f"--modes {m}: want eager, compile, bf16 or weights")
    if a.threads < 1 or a.rounds < 1 or a.budget < 0:
        p.error("--threads and --rounds want at least 1, --budget at least 0")
    return a


def run(command):
    """The one JSON object that a command prints."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: exit code {done.returncode}\n{done.stderr}")
    return json.loads(done.stdout)


def contestants(a, ours):
    """Name of a group → name of a contestant → (command, what its figures are called)."""
    peer = [sys.executable, os.path.join(HERE, "step.py"), "--json", "--threads", str(a.threads), "--budget",
            str(a.budget)]
    mine = ["--json", "--threads", str(a.threads), "--budget", f"{a.budget}s"]
    groups = {}
    for n in a.squares:
        keys = ("gflops", "gflops_by_cpu_time")
        groups[f"matmul {n}"] = {
            "ours": ([ours, "bench", "gemm", "--model", "none", "--sizes", str(n), *mine], keys),
            "PyTorch": ([*peer, "--matmul", str(n)], keys),
        }
        if "bf16" in a.modes:
            groups[f"matmul {n}"].update({
                "ours bf16": ([ours, "bench", "gemm", "--model", "none", "--sizes", str(n), "--precision", "bf16", *mine], keys),
                "PyTorch bf16": ([*peer, "--matmul", str(n), "--mode", "bf16"], keys),
            })
    for m in a.models:
        keys = ("samples_per_s", "samples_per_s_of_cpu_time")
        step = [ours, "bench", "step", "--model", m, "--dropout", str(a.dropout), *mine]
        group = {"ours": (step, keys)}
        if "bf16" in a.modes:
            group["ours bf16"] = ([*step, "--precision", "bf16"], keys)
        for mode in a.modes:
            how = ["--attention", "weights"] if mode == "weights" else ["--mode", mode]
            group[f"PyTorch {mode}"] = ([*peer, "--model", m, "--dropout", str(a.dropout), *how], keys)
        groups[f"step {m}"] = group
    return groups


def figures(report, keys):
    if "rows" in report:  # bench gemm: Y = X·Wᵀ is the first of its three rows
        row, peak = report["rows"][0], report["rows"][0]["peak_gflops"]
        return {"wall": row["gflops"], "cpu": row.get("share_of_peak_by_cpu_time", 0) * peak, "peak": peak,
                "share": row["share_of_peak"], "share_cpu": row.get("share_of_peak_by_cpu_time", 0)}
    f = {"wall": report[keys[0]], "cpu": report.get(keys[1], 0), "bytes": report.get("peak_resident_bytes", 0),
         "imports": report.get("resident_of_imports_bytes", 0), "peer": report.get("peer", "")}
    if "share_of_peak" in report:
        f.update(peak=report["peak_gflops"], share=report["share_of_peak"],
                 share_cpu=report.get("share_of_peak_by_cpu_time", 0))
    return f


def main():
    a = arguments()
    with tempfile.TemporaryDirectory() as tmp:
        ours = a.coordinator
        if not ours:
            ours = os.path.join(tmp, "coordinator")
            subprocess.run(["go", "build", "-o", ours, "./cmd/coordinator"], cwd=os.path.join(HERE, "..", ".."), check=True)
        groups = contestants(a, ours)
        rounds = {g: {c: [] for c in group} for g, group in groups.items()}
        for _ in range(a.rounds):
            for g, group in groups.items():
                for c, (command, keys) in group.items():
                    rounds[g][c].append(figures(run(command), keys))
    rows = []
    for g, group in rounds.items():
        for c, runs in group.items():
            row = {"what": g, "who": c, "rounds": a.rounds, "threads": a.threads}
            for k in ("wall", "cpu", "bytes", "imports", "share", "share_cpu", "peak"):
                values = [r.get(k, 0) for r in runs]
                if all(values):
                    row[k] = median(values)
            if c != "ours":
                row["version"] = runs[0].get("peer", "")
                if c == "ours bf16":  # its own float32 over it, the other way round
                    row["over_float32"] = median([r["wall"] / o["wall"] for o, r in zip(group["ours"], runs)])
                beside = group["ours bf16" if c == "PyTorch bf16" else "ours"]
                for k in ("wall", "cpu"):
                    if c.startswith("PyTorch") and all(r[k] for r in runs + beside):
                        row["ours_over_it_" + k] = median([o[k] / r[k] for o, r in zip(beside, runs)])
            rows.append(row)
    if a.json:
        print(json.dumps(rows))
        return
    print(f"{'':14} {'':16} {'BY THE CLOCK':>18} {'BY CPU TIME':>13} {'OF PEAK':>8} {'BY CPU':>7}"
          f" {'OURS IS':>8} {'BY CPU':>7} {'PEAK MEMORY':>12}")
    for r in rows:
        unit = "GFLOP/s" if r["what"].startswith("matmul") else "samples/s"
        text = [f"{r['what']:14} {r['who']:16}", f"{r['wall']:.1f} {unit}".rjust(18)]
        text.append(f"{r['cpu']:8.1f}".rjust(13) if "cpu" in r else "-".rjust(13))
        text += [f"{100 * r[k]:.1f}%".rjust(w) if k in r else "".rjust(w) for k, w in (("share", 8), ("share_cpu", 7))]
        text += [f"{r[k]:.2f}×".rjust(w) if k in r else "".rjust(w)
                 for k, w in (("ours_over_it_wall", 8), ("ours_over_it_cpu", 7))]
        if "over_float32" in r:
            text.append(f"  {r['over_float32']:.2f}× ours in float32")
        if "bytes" in r:
            text.append(f"{r['bytes'] / 2**20:.0f} MiB".rjust(12))
            if "imports" in r:
                text.append(f"({r['imports'] / 2**20:.0f} MiB before the model)")
        print(" ".join(text).rstrip())
    versions = {r["version"] for r in rows if r.get("version")}
    print(f"\n{a.threads} thread(s), medians of {a.rounds} round(s) in turns of {a.budget:g} s; {', '.join(sorted(versions))}")


if __name__ == "__main__":
    main()
