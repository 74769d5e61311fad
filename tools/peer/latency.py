"""How soon a policy answers: `coordinator serve` beside the same network in PyTorch.

    pip install torch safetensors openpi-client==0.1.2
    python tools/peer/latency.py --coordinator ./coordinator
    python tools/peer/latency.py --coordinator ./coordinator --job job.yaml --rounds 7 --json latency.json

A policy of 5 million parameters (preset robot-5m: two cameras of 96×96 pixels, a state, an
instruction, chunks of 16) is trained for one step, so that its weights are some. They are
served by `coordinator serve`, and loaded with strict=True into PyTorch's network
(tools/golden_policy.py), eager and by torch.compile, behind a server that is made as openpi's
own is. openpi's client, unchanged, asks all of them the same observations. Every server
has one thread and is pinned to the same one core, the client to another; they take turns, round by
round, so that what else the machine does meets all alike.

First the answers are compared: the largest difference, in units of the normalised actions,
must be at most 1e-5 (--tolerance).

  median, p99    of a question of one client, milliseconds, over all rounds
  forward        of the network alone, in PyTorch's process: no websocket, no client
  CPU            milliseconds of the server's processor time an answer: what to believe on a busy machine
  8 clients      answers a second, of the median round
"""
import argparse
import asyncio
import json
import os
import shlex
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..")]

JOB = """name: latency
seed: 7
model: {preset: robot-5m, kind: vla, vocab_size: 1000}
data: {kind: tabletop, scene: simple, episodes: 40, cameras: [front, side], state: [gripper], chunk: 16}
batch: {global: 1, micro: 1}
loss: l1
train: {steps: 1}
cluster: {workers: 1}
"""
TEXT = "push the red cube to the left"


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--coordinator", help="a built program (default: go build ./cmd/coordinator)")
    p.add_argument("--job", help="a job of a vla with fusion cross and loss l1 or mse (default: the one above)")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--questions", type=int, default=200, help="of one client in a round")
    p.add_argument("--clients", type=int, default=8)
    p.add_argument("--seconds", type=float, default=5, help="of many clients in a round")
    p.add_argument("--modes", default="eager,compile", help="of PyTorch")
    p.add_argument("--cores", default="", help="SERVER,CLIENT (default: the first two that this process may use)")
    p.add_argument("--tolerance", type=float, default=1e-5)
    p.add_argument("--json", metavar="FILE", help="write all numbers there")
    p.add_argument("--serve-torch", nargs=2, metavar=("MODE", "CHECKPOINT"), help=argparse.SUPPRESS)  # a server of this file
    a = p.parse_args()
    if min(a.rounds, a.questions, a.clients) < 1 or a.seconds <= 0:
        p.error("--rounds, --questions, --clients and --seconds want more than 0")
    a.modes = [m for m in a.modes.split(",") if m]
    for m in a.modes:
        if m not in ("eager", "compile"):
            p.error(f"--modes {m}: want eager, compile")
    have = sorted(os.sched_getaffinity(0))
    cores = [int(c) for c in a.cores.split(",")] if a.cores else [have[0], have[min(1, len(have) - 1)]]
    if len(cores) != 2 or not set(cores) <= set(have):
        p.error(f"--cores {a.cores}: want SERVER,CLIENT of {have}")
    a.server_core, a.client_core = cores
    return a


class TorchPolicy:
    """The checkpoint in PyTorch: an observation to actions in the data's units, as serve has it."""

    def __init__(self, mode, checkpoint):
        import torch
        from safetensors.torch import load_file

        import load_in_pytorch
        import reference_model as ref

        torch.set_num_threads(1)
        torch.manual_seed(0)
        with open(os.path.join(checkpoint, "manifest.json"), encoding="utf-8") as f:
            manifest = json.load(f)
        c, data = manifest["model"], manifest["data"]
        sees, features = c["sees"], {f["name"]: f for f in data["spec"]["features"]}
        if c.get("fusion") != "cross" or sees["History"] > 1:
            sys.exit(f"{checkpoint}: want a vla with fusion cross and without history")

        def forward(block, x, positions=None, keys=None):  # PyTorch's best: no weights that nobody looks at
            attended, _ = block.attention(x, x, x, key_padding_mask=None if keys is None else ~keys, need_weights=False)
            x = block.norm1(x + attended)
            return block.norm2(x + block.feed_forward(x)), None

        ref.TransformerBlock.forward = forward
        model = ref.build(load_in_pytorch.model_config(manifest))
        model.load_state_dict(load_file(os.path.join(checkpoint, "model.safetensors")), strict=True)
        model.eval()
        self.parameters = sum(p.numel() for p in model.parameters())

        def run(i):
            return model(**i)

        self.run = torch.compile(run) if mode == "compile" else run
        self.torch = torch
        self.cameras = {features[k]["source"]: k for k in features if k.startswith("images")}
        self.image = torch.tensor(data["image_mean"])[:, None, None], torch.tensor(data["image_std"])[:, None, None]
        self.state, self.actions = ([torch.tensor(s[k]) for k in ("mean", "std")] for s in (data["stats"]["state"], data["actions"]))
        self.words, self.length = {w: n for n, w in enumerate(data["vocab"])}, features["instruction_tokens"]["shape"][0]

    def inputs(self, o):
        torch = self.torch
        i = {name: ((torch.from_numpy(o[camera].copy()).permute(2, 0, 1).float() / 255 - self.image[0]) / self.image[1])[None] for camera, name in self.cameras.items()}
        i["state"] = ((torch.from_numpy(o["state"].copy()) - self.state[0]) / self.state[1]).float()[None]
        tokens = [self.words.get(w, 1) for w in o["prompt"].split()]
        i["instruction_tokens"] = torch.tensor([tokens + [0] * (self.length - len(tokens))])
        return i

    def infer(self, o):
        with self.torch.inference_mode():
            return (self.run(self.inputs(o))[0] * self.actions[1] + self.actions[0]).numpy()


def serve_torch(mode, checkpoint):
    """A server as openpi's websocket_policy_server.py, one question after the other. Its first line is its address."""
    import websockets.asyncio.server as server
    from openpi_client import msgpack_numpy

    policy = TorchPolicy(mode, checkpoint)
    for o in observations(checkpoint, 3):  # compiles, before a client's patience counts
        policy.infer(o)

    async def handle(ws):
        packer = msgpack_numpy.Packer()
        await ws.send(packer.pack({"parameters": policy.parameters}))
        while True:
            try:
                o = msgpack_numpy.unpackb(await ws.recv())
            except Exception:  # the client has gone
                return
            if "forward" in o:  # times of the network alone
                i, times = policy.inputs(o), []
                with policy.torch.inference_mode():
                    for _ in range(o["forward"]):
                        begin = time.perf_counter()
                        policy.run(i)
                        times.append(time.perf_counter() - begin)
                await ws.send(packer.pack({"times": times}))
                continue
            await ws.send(packer.pack({"actions": policy.infer(o)}))

    async def main():
        async with server.serve(handle, "127.0.0.1", 0, compression=None, max_size=None) as s:
            print(f"ws://127.0.0.1:{s.sockets[0].getsockname()[1]}", flush=True)
            await s.serve_forever()

    asyncio.run(main())


class Contestant:
    """A server in a process of its own, on its core."""

    def __init__(self, name, command, core, log):
        self.name, self.times, self.forward, self.many, self.cpu = name, [], [], [], []
        env = {k: v for k, v in os.environ.items() if k not in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=env, preexec_fn=lambda: os.sched_setaffinity(0, {core}))
        for line in self.process.stdout:
            if line.startswith("ws://"):
                self.port = int(line.strip().rsplit(":", 1)[1])
                break
        else:
            sys.exit(f"{shlex.join(command)}: it ended; see {log.name}")
        self.client = self.connect()

    def connect(self):
        from openpi_client import websocket_client_policy

        return websocket_client_policy.WebsocketClientPolicy("127.0.0.1", self.port)

    def cpu_seconds(self):
        with open(f"/proc/{self.process.pid}/stat") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def alone(self, observations, n):
        before = self.cpu_seconds()
        for k in range(n):
            begin = time.perf_counter()
            self.client.infer(observations[k % len(observations)])
            self.times.append(1e3 * (time.perf_counter() - begin))
        self.cpu.append(1e3 * (self.cpu_seconds() - before) / n)

    def together(self, observations, clients, seconds):
        robots, counts = [self.connect() for _ in range(clients)], [0] * clients
        start, stop = threading.Barrier(clients + 1), threading.Event()

        def ask(k):
            start.wait()
            while not stop.is_set():
                robots[k].infer(observations[(counts[k] + k) % len(observations)])
                counts[k] += 1

        threads = [threading.Thread(target=ask, args=(k,)) for k in range(clients)]
        for t in threads:
            t.start()
        start.wait()
        begin = time.perf_counter()
        time.sleep(seconds)
        done = sum(counts)
        self.many.append(done / (time.perf_counter() - begin))
        stop.set()
        for t in threads:
            t.join()
        for r in robots:
            r._ws.close()


def share(x, q):
    x = sorted(x)
    return x[min(len(x) - 1, int(q * len(x)))]


def build(a, folder):
    """The program, and a checkpoint of one step."""
    program = a.coordinator
    if not program:
        program = os.path.join(folder, "coordinator")
        subprocess.run(["go", "build", "-o", program, "./cmd/coordinator"], cwd=os.path.join(HERE, "..", ".."), check=True)
    program, job, run = os.path.abspath(program), a.job, os.path.join(folder, "run")
    if not job:
        job = os.path.join(folder, "job.yaml")
        with open(job, "w") as f:
            f.write(JOB)
    subprocess.run([program, "train", job, "--run-dir", run, "--threads", "1"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with open(os.path.join(run, "checkpoints", "latest")) as f:
        return program, os.path.join(run, "checkpoints", f.read().strip())


def observations(checkpoint, n):
    """n observations within what training had."""
    import numpy as np

    with open(os.path.join(checkpoint, "manifest.json"), encoding="utf-8") as f:
        manifest = json.load(f)
    data, size = manifest["data"], manifest["model"]["image_size"]
    names = [f["source"] for f in data["spec"]["features"] if f["name"].startswith("images")]
    r, s = np.random.default_rng(1), data["stats"]["state"]
    return [{**{c: r.integers(0, 256, (size, size, 3), np.uint8) for c in names}, "state": r.uniform(s["min"], s["max"]).astype(np.float32), "prompt": TEXT} for _ in range(n)]


def main():
    a = arguments()
    if a.serve_torch:
        return serve_torch(*a.serve_torch)
    import numpy as np
    import torch

    with tempfile.TemporaryDirectory() as folder, open(os.path.join(folder, "log"), "w+") as log:
        program, checkpoint = build(a, folder)
        with open(os.path.join(checkpoint, "manifest.json"), encoding="utf-8") as f:
            std = np.array(json.load(f)["data"]["actions"]["std"])
        seen = observations(checkpoint, 16)
        ours = Contestant("vlaring", [program, "serve", "--checkpoint", checkpoint, "--listen", "127.0.0.1:0", "--threads", "1"], a.server_core, log)
        all_ = [ours]
        try:
            os.sched_setaffinity(0, {a.client_core})
            for mode in a.modes:
                all_.append(Contestant("PyTorch " + mode, [sys.executable, os.path.abspath(__file__), "--serve-torch", mode, checkpoint], a.server_core, log))
            want, difference = [ours.client.infer(o)["actions"] for o in seen], 0.0
            for c in all_[1:]:
                for o, w in zip(seen, want):
                    difference = max(difference, float(np.abs((c.client.infer(o)["actions"] - w) / std).max()))
            if not difference <= a.tolerance:
                sys.exit(f"the answers differ by {difference:.2g}, which is more than {a.tolerance:g}: nothing is compared")
            for c in all_:
                c.alone(seen, 20)  # warm
                c.times, c.cpu = [], []
            for _ in range(a.rounds):
                for c in all_:
                    c.alone(seen, a.questions)
                    if c is not ours:
                        c.forward += [1e3 * t for t in c.client.infer({**seen[0], "forward": a.questions})["times"]]
                for c in all_:
                    c.together(seen, a.clients, a.seconds)
        finally:
            for c in all_:
                c.process.terminate()
                c.process.wait()
    parameters = all_[-1].client.get_server_metadata().get("parameters", 0) if len(all_) > 1 else 0
    rows = {c.name: {"median_ms": share(c.times, 0.5), "p99_ms": share(c.times, 0.99), "forward_median_ms": share(c.forward, 0.5) if c.forward else None,
                     "cpu_ms": share(c.cpu, 0.5), "answers_per_s": share(c.many, 0.5)} for c in all_}
    print(f"{parameters} parameters, PyTorch {torch.__version__}, one core; answers differ by at most {difference:.1g} of a normalised action; {a.rounds} rounds of {a.questions} questions")
    print(f"{'':18}{'median':>9}{'p99':>9}{'forward':>9}{'CPU':>9}{f'{a.clients} clients':>12}   of vlaring: median, CPU, {a.clients} clients")
    base = rows["vlaring"]
    for name, r in rows.items():
        forward = f"{r['forward_median_ms']:9.2f}" if r["forward_median_ms"] else " " * 9
        line = f"{name:18}{r['median_ms']:9.2f}{r['p99_ms']:9.2f}{forward}{r['cpu_ms']:9.2f}{r['answers_per_s']:12.1f}"
        if r is not base:
            line += f"   {r['median_ms'] / base['median_ms']:.2f}× {r['cpu_ms'] / max(base['cpu_ms'], 1e-9):.2f}× {base['answers_per_s'] / r['answers_per_s']:.2f}×"
        print(line)
    if a.json:
        with open(a.json, "w") as f:
            json.dump({"parameters": parameters, "difference": difference, "torch": torch.__version__, **rows}, f, indent=1)


if __name__ == "__main__":
    main()
