"""A training step in PyTorch, timed as `coordinator bench step` times ours.

    python tools/peer/step.py --model default --batch 8 --threads 1 --json
    python tools/peer/step.py --model small --mode compile
    python tools/peer/step.py --model default --mode bf16
    python tools/peer/step.py --matmul 1024

The same network (tools/reference_model.py), the same batch size, dropout, loss,
clipping and AdamW (fused). PyTorch is given its best: attention without the
weights that nobody looks at, no padding mask, gradients set to None between
steps. --attention weights is the reference text's own code, which asks
for the weights and passes the mask. --mode bf16 is eager under
torch.autocast("cpu", dtype=torch.bfloat16); of --matmul it is a product of bfloat16.

samples_per_s is of the median step; samples_per_s_of_cpu_time (one thread) does
not count what other programs were given meanwhile.
"""
import argparse
import json
import os
import sys
import time

# Chosen for the machine by whoever runs this; the peer is to choose by itself.
for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
    os.environ.pop(name, None)

MODELS = {
    "default": ({"kind": "vla", "vocab_size": 10000, "image_size": 224, "patch_size": 16, "d_model": 512, "n_heads": 8,
                 "n_layers": 6, "action_dim": 7}, 8),
    "small": ({"kind": "vla", "vocab_size": 1000, "image_size": 64, "patch_size": 16, "d_model": 128, "n_heads": 4,
               "n_layers": 4, "action_dim": 7}, 32),
}


def arguments():
    p = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    p.add_argument("--model", choices=sorted(MODELS), default="default")
    p.add_argument("--batch", type=int, default=0, help="samples a step (default 8, of the small model 32)")
    p.add_argument("--tokens", type=int, default=8)
    p.add_argument("--dropout", type=float, default=0.1)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--mode", choices=["eager", "compile", "bf16"], default="eager")
    p.add_argument("--attention", choices=["fast", "weights"], default="fast")
    p.add_argument("--matmul", type=int, metavar="N", help="time one product N×N×N instead of a step")
    p.add_argument("--budget", type=float, default=10, help="seconds for the steps, at least three")
    p.add_argument("--json", action="store_true")
    a = p.parse_args()
    for name in ("threads", "tokens"):
        if getattr(a, name) < 1:
            p.error(f"--{name} {getattr(a, name)}: want at least 1")
    if a.batch < 0 or a.budget < 0 or not 0 <= a.dropout < 1 or a.matmul is not None and a.matmul < 1:
        p.error("--batch and --budget want at least 0, --dropout 0 to below 1, --matmul at least 1")
    return a


def resident(field):
    """Bytes of this process, as Linux tells them: VmHWM at most ever, VmRSS now; 0 elsewhere."""
    try:
        with open("/proc/self/status") as f:
            for line in f:
                if line.startswith(field + ":"):
                    return int(line.split()[1]) << 10
    except OSError:
        pass
    return 0


def median(x):
    x = sorted(x)
    return (x[len(x) // 2] + x[(len(x) - 1) // 2]) / 2


def timed(work, budget):
    """Runs work at least thrice and for budget seconds: wall and CPU seconds of each run."""
    walls, cpus, begin = [], [], time.perf_counter()
    while len(walls) < 3 or time.perf_counter() - begin < budget:
        cpu, wall = time.process_time(), time.perf_counter()
        work()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return walls, cpus


def training_step(a, torch):
    """A function that trains on one random batch, and the batch's size."""
    sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
    import reference_model

    config, batch = MODELS[a.model]
    batch = a.batch or batch
    fast = a.attention == "fast"
    torch.manual_seed(1)
    model = reference_model.build({**config, "dropout": a.dropout, "pad_token": -1 if fast else 0}).train()
    if fast:

        def forward(block, x, positions=None, keys=None):
            attended, _ = block.attention(x, x, x, need_weights=False)
            x = block.norm1(x + block.dropout(attended))
            return block.norm2(x + block.feed_forward(x)), None

        reference_model.TransformerBlock.forward = forward
    size = config["image_size"]
    images = torch.rand(batch, 3, size, size) * 2 - 1
    tokens = torch.randint(1, config["vocab_size"], (batch, a.tokens))
    actions = torch.rand(batch, config["action_dim"]) * 2 - 1
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01, fused=True)

    def loss_of(images, tokens, actions):
        return torch.nn.functional.mse_loss(model(images, tokens), actions)

    if a.mode == "compile":
        loss_of = torch.compile(loss_of)

    def step():
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=a.mode == "bf16"):
            loss = loss_of(images, tokens, actions)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step, batch, sum(p.numel() for p in model.parameters())


def main():
    a = arguments()
    import torch

    torch.set_num_threads(a.threads)
    report = {"peer": "PyTorch " + torch.__version__, "threads": a.threads}
    imported = resident("VmRSS")
    if a.matmul:
        n = a.matmul
        kind = torch.bfloat16 if a.mode == "bf16" else torch.float32
        x, y, out = (torch.rand(n, n) - 0.5).to(kind), (torch.rand(n, n) - 0.5).to(kind), torch.empty(n, n, dtype=kind)
        inner = max(1, int(1e8 / (2 * n**3)))

        def work():
            for _ in range(inner):
                torch.mm(x, y, out=out)

        for _ in range(3):
            work()
        walls, cpus = timed(work, a.budget)
        flops = 2 * n**3 * inner / 1e9
        report.update(matmul=n, runs=len(walls), gflops=flops / median(walls), gflops_best=flops / min(walls))
        if a.threads == 1:
            report.update(gflops_by_cpu_time=flops / median(cpus))
    else:
        step, batch, parameters = training_step(a, torch)
        for _ in range(3):
            step()
        walls, cpus = timed(step, a.budget)
        report.update(model=a.model, parameters=parameters, batch=batch, tokens=a.tokens, mode=a.mode,
                      attention=a.attention, steps=len(walls), step_ms=1e3 * median(walls),
                      step_best_ms=1e3 * min(walls), samples_per_s=batch / median(walls))
        if a.threads == 1:
            report.update(samples_per_s_of_cpu_time=batch / median(cpus))
        report.update(peak_resident_bytes=resident("VmHWM"), resident_of_imports_bytes=imported)
    if a.json:
        print(json.dumps(report))
    else:
        for k, v in report.items():
            print(f"{k:28} {v:.2f}" if isinstance(v, float) else f"{k:28} {v}")


if __name__ == "__main__":
    main()
