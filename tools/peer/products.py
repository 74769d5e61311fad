"""Ours and PyTorch's products of bfloat16 of a model's own shapes, in turns.

    python tools/peer/products.py                    # the default model's layers, one thread
    python tools/peer/products.py --model small --rounds 5

Run it with a Python that has torch, from a checkout in which `go build` works (or
name a built program with --coordinator). Ours reads and writes float32 and rounds and
lays out its operands in the time; PyTorch's (oneDNN's) reads and writes bfloat16. The
squares are of bfloat16 on both sides, results too. Each round runs both once; the
ratios are of the two runs of the same round, and medians over the rounds are printed.
"""
import argparse
import json
import math
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
from step import median, timed  # noqa: E402  (which lets the peer choose its code by itself)


def arguments():
    p = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    p.add_argument("--model", choices=["default", "small"], default="default")
    p.add_argument("--sizes", default="512,1024", help="squares beside them")
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--budget", type=float, default=0.3, help="seconds for each product")
    p.add_argument("--coordinator", help="a built program (default: go build ./cmd/coordinator)")
    p.add_argument("--json", action="store_true")
    a = p.parse_args()
    if a.threads < 1 or a.rounds < 1 or a.budget < 0:
        p.error("--threads and --rounds want at least 1, --budget at least 0")
    return a


def peer(torch, product, m, n, k, budget):
    """GFLOP/s of PyTorch's product C [m, n] = A [m, k]·B [k, n], laid out as the layer has it."""
    def matrix(rows, columns, turned):
        x = (torch.rand(columns, rows) if turned else torch.rand(rows, columns)) - 0.5
        x = x.to(torch.bfloat16)
        return x.t() if turned else x

    a, b = matrix(m, k, product.startswith("dW")), matrix(k, n, product.startswith("Y"))
    out = torch.empty(m, n, dtype=torch.bfloat16)
    inner = max(1, int(1e8 / (2 * m * n * k)))

    def work():
        for _ in range(inner):
            torch.mm(a, b, out=out)

    for _ in range(3):
        work()
    walls, _ = timed(work, budget)
    return 2 * m * n * k * inner / 1e9 / median(walls)


def main():
    a = arguments()
    import torch

    torch.manual_seed(1)
    torch.set_num_threads(a.threads)
    rows = {}
    with tempfile.TemporaryDirectory() as tmp:
        ours = a.coordinator
        if not ours:
            ours = os.path.join(tmp, "coordinator")
            subprocess.run(["go", "build", "-o", ours, "./cmd/coordinator"], cwd=os.path.join(HERE, "..", ".."), check=True)
        command = [ours, "bench", "gemm", "--precision", "bf16", "--model", a.model, "--sizes", a.sizes, "--json",
                   "--threads", str(a.threads), "--budget", f"{a.budget}s"]
        for _ in range(a.rounds):
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                sys.exit(f"{' '.join(command)}: exit code {done.returncode}\n{done.stderr}")
            for r in json.loads(done.stdout)["rows"]:
                theirs = peer(torch, r["product"], r["m"], r["n"], r["k"], a.budget)
                shape = (r["name"], r["product"], r["m"], r["n"], r["k"])
                rows.setdefault(shape, []).append((r["gflops"], theirs, r["peak_gflops"]))
    report = []
    for (name, product, m, n, k), runs in rows.items():
        report.append({"name": name, "product": product, "m": m, "n": n, "k": k, "gflops": median([r[0] for r in runs]),
                       "peer_gflops": median([r[1] for r in runs]), "over_peer": median([r[0] / r[1] for r in runs]),
                       "peak_gflops": median([r[2] for r in runs])})
    if a.json:
        print(json.dumps(report))
        return
    print(f"{'LAYER':22} {'PRODUCT':12} {'M×N×K':>16} {'OURS, GFLOP/s':>14} {'PyTorch':>9} {'OURS IS':>8}")
    for r in report:
        print(f"{r['name']:22} {r['product']:12} {r['m']}×{r['n']}×{r['k']}".ljust(36)
              + f"{r['gflops']:29.1f} {r['peer_gflops']:9.1f} {r['over_peer']:7.2f}×")
    mean = lambda rows: math.exp(sum(math.log(r["over_peer"]) for r in rows) / len(rows))  # noqa: E731
    print()
    for n in sorted({r["n"] for r in report if r["name"] == "square"}):
        print(f"squares of {n}, by the mean of the three ratios: ours is {mean([r for r in report if r['name'] == 'square' and r['n'] == n]):.2f}×")
    layers = [r for r in report if r["name"] != "square"]
    work = sum(r["m"] * r["n"] * r["k"] for r in layers)
    ours, theirs = (sum(r["m"] * r["n"] * r["k"] / r[who] for r in layers) for who in ("gflops", "peer_gflops"))
    print(f"the layers once each, by their work: {2 * work / 1e9 / 1e3:.3f} TFLOP, ours is {theirs / ours:.2f}×; "
          f"by the mean of the ratios {mean(layers):.2f}×")
    print(f"{a.threads} thread(s), medians of {a.rounds} round(s); PyTorch {torch.__version__}, "
          f"the tiles' peak {median([r['peak_gflops'] for r in report]):.0f} GFLOP/s")


if __name__ == "__main__":
    main()
