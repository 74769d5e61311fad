"""Ours and gloo's all-reduce, and ours and DDP's training, in turns, and the ratios.

    python tools/peer/ring.py                                  # all-reduce of 128 MiB, 2 and 4 ranks; small and default on 2 processes
    python tools/peer/ring.py --models ''                      # the all-reduce alone
    python tools/peer/ring.py --models '' --ranks 2 --roads nats,direct --topology mesh
    python tools/peer/ring.py --ranks '' --models small --rounds 5

Run it with a Python that has torch, from a checkout in which `go build` works (or
name a built program with --coordinator). Each rank is a process of its own with
one thread. They take turns: ours, gloo, ours, gloo, each of our roads with a run of
gloo right behind it, for so many rounds. Medians over the rounds are printed;
ratios are of two runs that follow each other.

GB/s is the bytes of the gradient by the time until the last rank has its sum,
which is checked in both. A step of DDP (PyTorch's DistributedDataParallel over
gloo) is as in step.py: the same network, batch, dropout, loss, clipping and
AdamW, forward, backward and update of one random batch. Ours is a job with a
coordinator, which reads its samples from a file and keeps metrics.

--through runs each rank by another command, {} being its number: between hosts,
or network namespaces (test/hosts/peer.sh). --listen is the address at which rank 0
is met. --stream measures one TCP connection from rank 1 to rank 0, too, which
carries the bytes once: what a link without a limit has to give.
"""
import argparse
import json
import os
import shlex
import socket
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
from step import MODELS, median  # noqa: E402

UNITS = {"KiB": 10, "MiB": 20, "GiB": 30}


def size(text):
    """Bytes of 4096, 4KiB, 128MiB."""
    for unit, shift in UNITS.items():
        if text.endswith(unit):
            return int(text[: -len(unit)]) << shift
    return int(text)


def parser():
    p = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    p.add_argument("--ranks", default="2,4", help="of the all-reduce; '' for none")
    p.add_argument("--roads", default="shm,nats", help="of ours: shm, nats, direct")
    p.add_argument("--topology", default="broker", help="of ours over nats: broker, mesh")
    p.add_argument("--bytes", default="128MiB")
    p.add_argument("--models", default="small,default", help="that are trained; '' for none")
    p.add_argument("--workers", type=int, default=2, help="processes that train")
    p.add_argument("--bf16", action="store_true", help="DDP under bfloat16 autocast, too")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--budget", type=float, default=3, help="seconds for each run of an all-reduce or of DDP")
    p.add_argument("--coordinator", help="a built program (default: go build ./cmd/coordinator)")
    p.add_argument("--through", default="", help="command that runs a rank, {} being its number")
    p.add_argument("--listen", default="127.0.0.1", help="address of rank 0, and of our broker")
    p.add_argument("--stream", action="store_true", help="the bytes over one TCP connection, too")
    p.add_argument("--json", action="store_true")
    p.add_argument("--rank", help=argparse.SUPPRESS)  # be one of the peer's ranks: a JSON object
    return p


def arguments():
    p = parser()
    a = p.parse_args()
    if a.rank:
        return a
    try:
        a.ranks = [int(n) for n in a.ranks.split(",") if n]
        a.count = size(a.bytes)
    except ValueError as e:
        p.error(f"--ranks and --bytes: {e}")
    a.roads = [r for r in a.roads.split(",") if r]
    a.models = [m for m in a.models.split(",") if m]
    for m in a.models:
        if m not in MODELS:
            p.error(f"--models {m}: want {', '.join(MODELS)}")
    for r in a.roads:
        if r not in ("shm", "nats", "direct"):
            p.error(f"--roads {r}: want shm, nats, direct")
        if r == "direct" and a.models:
            p.error("--roads direct is for the all-reduce: give --models ''")
    if a.count < 4 or a.count % 4 or any(n < 2 for n in a.ranks) or a.workers < 2 or a.rounds < 1 or a.budget < 0:
        p.error("--bytes wants a multiple of 4; --ranks and --workers at least 2, --rounds 1, --budget 0")
    if a.through and "{}" not in a.through:
        p.error("--through: want {} in it, which stands for the rank's number")
    if a.through and a.models:
        p.error("--through is for the all-reduce: give --models ''")
    return a


def rank(spec):
    """One of the peer's ranks. The first prints what all have measured."""
    if spec["stream"]:
        return stream(spec)
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    store = dist.TCPStore(spec["host"], spec["port"], spec["world"], spec["rank"] == 0)
    dist.init_process_group("gloo", store=store, rank=spec["rank"], world_size=spec["world"])
    report = training(spec, torch, dist) if spec["model"] else all_reduce(spec, torch, dist)
    if spec["rank"] == 0:
        print(json.dumps({**report, "peer": "PyTorch " + torch.__version__}))
    dist.barrier()
    dist.destroy_process_group()


def stream(spec):
    """Rank 1 sends the bytes to rank 0, which counts the time until it has them and has said so."""
    size, chunk = spec["bytes"], 1 << 20
    if spec["rank"] == 0:
        with socket.create_server((spec["host"], spec["port"])) as server:
            s = server.accept()[0]
    else:
        for patience in range(100, -1, -1):  # rank 0 may not listen yet
            try:
                s = socket.create_connection((spec["host"], spec["port"]))
                break
            except OSError:
                if not patience:
                    raise
                time.sleep(0.1)
    own, walls, begin = memoryview(bytearray(chunk)), [], 0
    with s:
        for turn in range(1 << 30):
            at = time.perf_counter()
            if spec["rank"] == 0:
                s.sendall(b"y")
                left = size
                while left:
                    n = s.recv_into(own, min(left, chunk))
                    if not n:
                        sys.exit("the connection ended")
                    left -= n
                if turn == 1:
                    begin = time.perf_counter()
                if turn > 1:
                    walls.append(time.perf_counter() - at)
                if len(walls) >= 5 and time.perf_counter() - begin > spec["budget"]:
                    s.sendall(b"n")
                    print(json.dumps({"seconds": median(walls), "runs": len(walls)}))
                    return
            else:
                if s.recv(1) != b"y":
                    return
                for sent in range(0, size, chunk):
                    s.sendall(own[: min(chunk, size - sent)])


def all_reduce(spec, torch, dist):
    """Rounds for the budget, at least five after two that touch the memory: seconds of the slowest rank."""
    n, rank, world = spec["bytes"] // 4, spec["rank"], spec["world"]
    own = (torch.arange(n) * 7 % 1021).float()  # whole numbers, whose sum is exact in any order
    walls, begin = [], 0
    for turn in range(1 << 30):
        x = own * (rank + 1) + turn
        dist.barrier()
        at = time.perf_counter()
        dist.all_reduce(x)
        wall = torch.tensor([time.perf_counter() - at], dtype=torch.float64)
        want = own * (world * (world + 1) // 2) + turn * world
        if not torch.equal(x, want):
            sys.exit(f"rank {rank}: the sum of turn {turn} is wrong")
        dist.all_reduce(wall, op=dist.ReduceOp.MAX)
        if turn == 1:
            begin = time.perf_counter()
        if turn > 1:
            walls.append(wall.item())
        more = torch.tensor([float(len(walls) < 5 or time.perf_counter() - begin < spec["budget"])])
        dist.broadcast(more, 0)
        if more.item() == 0:
            return {"seconds": median(walls), "runs": len(walls)}


def training(spec, torch, dist):
    """Steps of DDP for the budget, at least five after three to warm up."""
    sys.path.insert(0, os.path.join(HERE, ".."))
    import reference_model

    config, batch = MODELS[spec["model"]]
    torch.manual_seed(1)
    model = reference_model.build({**config, "dropout": 0.1, "pad_token": -1}).train()

    def forward(block, x, positions=None, keys=None):  # without the weights that nobody looks at, as step.py has it
        attended, _ = block.attention(x, x, x, need_weights=False)
        x = block.norm1(x + block.dropout(attended))
        return block.norm2(x + block.feed_forward(x)), None

    reference_model.TransformerBlock.forward = forward
    ddp = torch.nn.parallel.DistributedDataParallel(model, gradient_as_bucket_view=True)
    torch.manual_seed(2 + spec["rank"])
    s = config["image_size"]
    images, actions = torch.rand(batch, 3, s, s) * 2 - 1, torch.rand(batch, config["action_dim"])
    tokens = torch.randint(1, config["vocab_size"], (batch, 8))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step():
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=spec["bf16"]):
            out = ddp(images, tokens)
        torch.nn.functional.mse_loss(out.float(), actions).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    for _ in range(3):
        step()
    walls, begin = [], time.perf_counter()
    while True:
        at = time.perf_counter()
        step()
        walls.append(time.perf_counter() - at)
        more = torch.tensor([float(len(walls) < 5 or time.perf_counter() - begin < spec["budget"])])
        dist.broadcast(more, 0)
        if more.item() == 0:
            break
    sums = torch.stack([p.detach().double().sum() for p in model.parameters()]).sum().reshape(1)  # one model, or no DDP
    lo, hi = sums.clone(), sums.clone()
    dist.all_reduce(lo, op=dist.ReduceOp.MIN)
    dist.all_reduce(hi, op=dist.ReduceOp.MAX)
    if not torch.equal(lo, hi):
        sys.exit("the ranks of DDP have different weights")
    return {"samples_per_s": spec["world"] * batch / median(walls), "runs": len(walls)}


def free_port(host):
    """A port that is free here; it is met in rank 0's network, which is this one unless --through says otherwise."""
    with socket.socket() as s:
        try:
            s.bind((host, 0))
        except OSError:  # an address of another network: any port of it
            s.bind(("", 0))
        return s.getsockname()[1]


def gloo(a, world, model="", bf16=False, stream=False):
    """Runs a rank of the peer's a process, and returns what the first prints."""
    spec = {"stream": stream, "world": world, "host": a.listen, "port": free_port(a.listen), "bytes": a.count, "budget": a.budget, "model": model, "bf16": bf16}
    ranks = []
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        for r in range(world):
            command = shlex.split(a.through.replace("{}", str(r)))
            command += [sys.executable, os.path.abspath(__file__), "--rank", json.dumps({**spec, "rank": r})]
            ranks.append(subprocess.Popen(command, stdout=out, stderr=errors))
        while any(p.poll() is None for p in ranks) and not any(p.poll() for p in ranks):
            time.sleep(0.02)
        failed = any(p.poll() for p in ranks)
        for p in ranks:
            if failed and p.poll() is None:
                p.kill()
            p.wait()
        errors.seek(0)
        out.seek(0)
        if failed:
            sys.exit(f"{'one connection' if stream else 'gloo'}, {world} ranks: {errors.read().strip()[-2000:]}")
        return json.loads(out.read())


def ours(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: exit code {done.returncode}\n{done.stderr}")
    return json.loads(done.stdout)


def our_ring(a, program, road, world):
    command = [program, "bench", "ring", "--road", road, "--topology", a.topology, "--ranks", str(world), "--bytes", a.bytes, "--budget", f"{a.budget}s", "--json"]
    if a.through:
        command += ["--through", a.through, "--listen", a.listen]
    return ours(command)


def our_training(a, program, road, model):
    return ours([program, "bench", "scaling", "--models", model, "--workers", str(a.workers), "--roads", road, "--rounds", "1", "--json"])


def contests(a, program):
    """What is compared → (unit, peers and ours: name → a function that returns its figure and the report it is of).
    The first of the peers is what the others are measured by."""
    def by_time(report):
        return a.count / report["seconds"] / 1e9, report

    def by_row(report, key):
        return report["rows"][0][key], report

    for n in a.ranks:
        peers = {"gloo": lambda n=n: by_time(gloo(a, n))}
        if a.stream:
            peers["TCP, once"] = lambda: by_time(gloo(a, 2, stream=True))
        roads = {"ours, " + road: lambda n=n, road=road: by_row(our_ring(a, program, road, n), "alg_gb_s") for road in a.roads}
        yield f"all-reduce of {a.bytes}, {n} ranks", "GB/s", peers, roads
    for m in a.models:
        peers = {"DDP over gloo": lambda m=m: (lambda r: (r["samples_per_s"], r))(gloo(a, a.workers, m))}
        if a.bf16:
            peers["DDP, bf16 autocast"] = lambda m=m: (lambda r: (r["samples_per_s"], r))(gloo(a, a.workers, m, True))
        roads = {"ours, " + road: lambda m=m, road=road: by_row(our_training(a, program, road, m), "samples_per_s") for road in a.roads}
        yield f"training {m}, {a.workers} processes", "samples/s", peers, roads


def turns(rounds, peers, roads):
    """Runs each road with the first peer right behind it, round after round: figures by name, ratios by road, and all reports."""
    first, *others = peers
    figures, ratios, reports = {name: [] for name in [*peers, *roads]}, {name: [] for name in roads}, []

    def run(name, one):
        figure, report = one()
        figures[name].append(figure)
        reports.append(report)
        return figure

    for _ in range(rounds):
        for name, one in roads.items():
            ratios[name].append(run(name, one) / run(first, peers[first]))
        if not roads:
            run(first, peers[first])
        for name in others:
            run(name, peers[name])
    return figures, ratios, reports


def main():
    a = arguments()
    if a.rank:
        rank(json.loads(a.rank))
        return
    rows, machine, peer = [], {}, ""
    with tempfile.TemporaryDirectory() as tmp:
        program = a.coordinator and os.path.abspath(a.coordinator)
        if not program:
            program = os.path.join(tmp, "coordinator")
            subprocess.run(["go", "build", "-o", program, "./cmd/coordinator"], cwd=os.path.join(HERE, "..", ".."), check=True)
        load = os.getloadavg()[0]
        for what, unit, peers, roads in contests(a, program):
            figures, ratios, reports = turns(a.rounds, peers, roads)
            for r in reports:
                machine = r if "cores" in r else machine
                peer = r.get("peer", peer)
            for name, values in figures.items():
                row = {"what": what, "who": name, "unit": unit, "figure": median(values), "rounds": a.rounds}
                if name in ratios:
                    row["ratio"] = median(ratios[name])
                rows.append(row)
        about = {"cpu": machine.get("cpu", ""), "cores": machine.get("cores", os.cpu_count()), "peer": peer, "load_average": [load, os.getloadavg()[0]]}
    if a.json:
        print(json.dumps({**about, "rows": rows}))
        return
    print(f"{about['cpu']}, {about['cores']} core(s), load average {load:.1f} before and {about['load_average'][1]:.1f} after; {peer}; medians of {a.rounds} round(s) in turns\n")
    print(f"{'':36} {'':20} {'':>10} {'':9} OURS IS")
    for r in rows:
        ratio = f"{r['ratio']:.2f}×" if "ratio" in r else ""
        print(f"{r['what']:36} {r['who']:20} {r['figure']:10.2f} {r['unit']:9} {ratio:>7}".rstrip())


if __name__ == "__main__":
    main()
