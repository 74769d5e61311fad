"""Writes pkg/train/testdata/training.json: learning rates of PyTorch's schedulers
and averages of its AveragedModel, for what pkg/train computes to be held against.

    python tools/make_training.py
"""
import json
import os

import torch
from torch.optim import lr_scheduler as sched
from torch.optim.swa_utils import AveragedModel

STEPS, WARMUP, LR, MIN = 40, 7, 3e-4, 2e-5


def rates(kind):
    opt = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=LR)
    after = STEPS - WARMUP
    main = {
        "constant": lambda: sched.ConstantLR(opt, factor=1, total_iters=after),
        "linear": lambda: sched.LinearLR(opt, start_factor=1, end_factor=MIN / LR, total_iters=after),
        "cosine": lambda: sched.CosineAnnealingLR(opt, T_max=after, eta_min=MIN),
    }
    warm = sched.LambdaLR(opt, lambda s: (s + 1) / WARMUP)
    s = sched.SequentialLR(opt, [warm, main[kind]()], milestones=[WARMUP])
    out = []
    for _ in range(STEPS + 1):
        out.append(opt.param_groups[0]["lr"])
        opt.step()
        s.step()
    return out


def averages(weights, decay, first):
    """What AveragedModel holds after each of weights[1:]; it copies what it first
    sees, which is weights[0] where first says so."""
    model = torch.nn.Module()
    model.p = torch.nn.Parameter(torch.tensor(weights[0]))
    # of the n-th average that it makes, n is the number of those before it
    avg = AveragedModel(model, avg_fn=lambda a, w, n: torch.lerp(a, w, 1 - decay(int(n) - (1 if first else 0))))
    if first:
        avg.update_parameters(model)
    out = []
    for w in weights[1:]:
        model.p.data.copy_(torch.tensor(w))
        avg.update_parameters(model)
        out.append(avg.module.p.tolist())
    return out


torch.manual_seed(5)
walk = torch.cumsum(torch.randn(26, 5) * 0.02, 0)
walk[:, 0] = walk[0, 0]  # a weight that stays
weights = walk.tolist()
out = {
    "rates": {"steps": STEPS, "warmup": WARMUP, "lr": LR, "min_lr": MIN, **{k: rates(k) for k in ("constant", "linear", "cosine")}},
    "averages": {
        "weights": weights,
        "power": averages(weights, lambda t: min(0.9, 1 - (1 + t) ** -0.75), False),
        "constant": averages(weights, lambda t: 0.97, True),
    },
}
path = os.path.join(os.path.dirname(__file__), "..", "pkg", "train", "testdata", "training.json")
os.makedirs(os.path.dirname(path), exist_ok=True)
with open(path, "w") as f:
    json.dump(out, f, indent=None, separators=(",", ":"))
    f.write("\n")
