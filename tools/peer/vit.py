"""A vision transformer of timm's: its forward pass and its training step, ours and timm's in turns.

    pip install torch timm safetensors
    python tools/peer/vit.py                                       # ViT-S/16 at 224 pixels, float32 and bfloat16, one thread
    python tools/peer/vit.py --batch 1 --rounds 5 --coordinator ./coordinator

timm makes vit_small_patch16_224 with random weights and saves it under its own names; ours is what model.vision.from makes
of that file. Both have a linear head of seven values on the class token, the mean squared error, a clipped norm and AdamW.
Each round runs every contestant once, in a process of its own; ratios are of the two runs of one round.

timm is given its best: its fused attention, fused AdamW, gradients set to None, the forward pass without gradients. In
bfloat16 that is torch.autocast, and for the forward pass the faster of autocast and a model of bfloat16 weights. Ours is the
forward pass of a server, which keeps nothing for backward and has its weights laid out.

A figure is samples a second of processor time (one thread), which does not count what other programs were given: on a quiet
machine that is the clock's. Of each process it is the median of its steps; over rounds the median, and the best round's.
"""
import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
from step import median  # noqa: E402

for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
    os.environ.pop(name, None)

JOB = """name: vit
model: {kind: vit, vision: {from: encoder}, action_dim: 7, dropout: 0}
data: {kind: tensors, path: data.safetensors}
batch: {global: %d, micro: %d}
optimizer: {kind: adamw, lr: 1.0e-4, weight_decay: 0.01, clip_norm: 1.0}
train: {steps: 1}
"""


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--arch", default="vit_small_patch16_224", help="a VisionTransformer of timm")
    p.add_argument("--size", type=int, default=224, help="side of the pictures, in pixels")
    p.add_argument("--batch", type=int, default=8)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--budget", type=float, default=5, help="seconds for each run")
    p.add_argument("--precisions", default="float32,bf16")
    p.add_argument("--coordinator", help="a built program (default: go build ./cmd/coordinator)")
    p.add_argument("--folder", metavar="DIR", help="write the encoder, the data and the job there, and leave them (default: a temporary one)")
    p.add_argument("--json", metavar="FILE", help="write all figures there")
    p.add_argument("--timm", choices=["float32", "bf16"], help=argparse.SUPPRESS)  # a process of timm's
    a = p.parse_args()
    if min(a.size, a.batch, a.rounds) < 1 or a.budget < 0:
        p.error("--size, --batch and --rounds want at least 1, --budget at least 0")
    a.precisions = [x for x in a.precisions.split(",") if x]
    if not a.precisions or any(x not in ("float32", "bf16") for x in a.precisions):
        p.error(f"--precisions {','.join(a.precisions)}: want float32, bf16")
    return a


def make(a):
    import timm
    import torch

    torch.manual_seed(1)
    torch.set_num_threads(1)
    return timm.create_model(a.arch, num_classes=7, img_size=a.size)


def write(a, folder):
    """timm's encoder, and as many random pictures as a step has, for ours."""
    import torch
    from safetensors.torch import save_file
    from timm.models import save_for_hf

    model = make(a)
    model.reset_classifier(0)
    save_for_hf(model, os.path.join(folder, "encoder"), model_config=dict(model_args=dict(img_size=a.size)), safe_serialization=True)
    save_file({"images": torch.randn(a.batch, 3, a.size, a.size), "actions": torch.randn(a.batch, 7)}, os.path.join(folder, "data.safetensors"))
    job = os.path.join(folder, "job.yaml")
    with open(job, "w") as f:
        f.write(JOB % (a.batch, a.batch))
    return job


def timed(work, budget):
    """The median of processor seconds that work takes, of at least three."""
    for _ in range(2):
        work()
    took, begin = [], time.perf_counter()
    while len(took) < 3 or time.perf_counter() - begin < budget:
        at = time.process_time()
        work()
        took.append(time.process_time() - at)
    return median(took)


def timm_process(a):
    import torch

    model = make(a)
    images, target = torch.randn(a.batch, 3, a.size, a.size), torch.randn(a.batch, 7)
    low = a.timm == "bf16"
    cast = lambda: torch.autocast("cpu", dtype=torch.bfloat16, enabled=low)  # noqa: E731
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01, fused=True)

    def step():
        optimizer.zero_grad(set_to_none=True)
        with cast():
            loss = torch.nn.functional.mse_loss(model(images).float(), target)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    def forward():
        with torch.inference_mode(), cast():
            model.forward_features(images)

    took = {"step": timed(step, a.budget)}
    model.eval()
    took["forward"] = timed(forward, a.budget / 2)
    if low:
        model, images, low = model.to(torch.bfloat16), images.to(torch.bfloat16), False
        took["forward"] = min(took["forward"], timed(forward, a.budget / 2))
    print(json.dumps({**{k: a.batch / v for k, v in took.items()}, "torch": torch.__version__}))


def run(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: exit code {done.returncode}\n{done.stderr}")
    return json.loads(done.stdout)


def ours(program, job, precision, a):
    r = run([program, "bench", "step", job, "--json", "--threads", "1", "--budget", f"{a.budget}s", "--precision", precision])
    return {"step": r["samples_per_s_of_cpu_time"], "forward": r["answers_per_s_of_cpu_time"], "gflop": r["gflop_per_sample"],
            "peak": r["peak_gflops"], "kinds": {k["kind"]: k["share"] for k in r["kinds"]}}


def main():
    a = arguments()
    if a.timm:
        return timm_process(a)
    with tempfile.TemporaryDirectory() if not a.folder else contextlib.nullcontext(a.folder) as folder:
        os.makedirs(folder, exist_ok=True)
        program = a.coordinator
        if not program:
            program = os.path.join(folder, "coordinator")
            subprocess.run(["go", "build", "-o", program, "./cmd/coordinator"], cwd=os.path.join(HERE, "..", ".."), check=True)
        job, rounds = write(a, folder), {p: [] for p in a.precisions}
        theirs = [sys.executable, os.path.abspath(__file__), "--arch", a.arch, "--size", str(a.size), "--batch", str(a.batch), "--budget", str(a.budget)]
        for _ in range(a.rounds):
            for p in a.precisions:
                rounds[p].append({"ours": ours(os.path.abspath(program), job, p, a), "timm": run([*theirs, "--timm", p])})
    print(f"{'':18}{'OURS':>10}{'TIMM':>10}{'OURS IS':>10}{'BEST':>10}   samples a second of processor time")
    for p in a.precisions:
        for what in ("forward", "step"):
            mine, its = ([r[who][what] for r in rounds[p]] for who in ("ours", "timm"))
            print(f"{p + ', ' + what:18}{median(mine):10.2f}{median(its):10.2f}{median([x / y for x, y in zip(mine, its)]):9.2f}×{max(mine) / max(its):9.2f}×")
    first = rounds[a.precisions[0]][0]
    print(f"\n{a.arch} at {a.size} pixels, {a.batch} samples, one thread, PyTorch {first['timm']['torch']}; medians of {a.rounds} round(s) in turns of {a.budget:g} s; "
          "BEST compares the best round of each")
    for p in a.precisions:
        kinds = {k: median([r["ours"]["kinds"].get(k, 0) for r in rounds[p]]) for k in rounds[p][0]["ours"]["kinds"]}
        print(f"our step in {p}: " + ", ".join(f"{k} {100 * v:.0f} %" for k, v in sorted(kinds.items(), key=lambda x: -x[1])[:8]))
    if a.json:
        with open(a.json, "w") as f:
            json.dump(rounds, f, indent=1)


if __name__ == "__main__":
    main()
