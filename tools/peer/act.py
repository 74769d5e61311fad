#!/usr/bin/env python3
"""LeRobot's ACT on the same episodes, cores and minutes as ours, and both in Meta-World.

    python tools/peer/act.py train --data metaworld --out /tmp/act --minutes 60 --lr 1e-4
    python tools/peer/act.py serve --policy /tmp/act --port 8001          # openpi's protocol, as `coordinator serve` has it
    python tools/peer/act.py compare --data metaworld --job examples/metaworld.yaml --minutes 60 --out /tmp/compare \\
        --coordinator ./coordinator --simulator /opt/sim/bin/python

Run it with a Python (3.11) that has lerobot==0.4.4, websockets and msgpack; compare also wants one with what
tools/rollout/meta_world.py needs, since openpi-client and lerobot want different numpy. None of it needs a network, nor a GPU.

train runs lerobot-train: first a few steps, which say how long one takes, then as many as fit into the minutes. The time to start,
to read the data and to store the weights is not counted, on either side. ACT has no language, and its own rate of 1e-5 is for long runs: 1e-4
is what such minutes want. compare trains ours for as many minutes, ACT at each rate of --lr, and rolls all out with the same seeds.
"""
import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROLLOUT = os.path.join(HERE, "..", "rollout", "meta_world.py")


def lerobot_train(a, out, steps, lr):
    """Runs lerobot-train, and returns the seconds of each step that it logged."""
    shutil.rmtree(out, ignore_errors=True)
    log = max(1, steps // 20)
    command = [os.path.join(os.path.dirname(sys.executable), "lerobot-train"), "--policy.type=act", "--policy.device=cpu", "--policy.push_to_hub=false",
               f"--policy.chunk_size={a.chunk}", f"--policy.n_action_steps={a.chunk}", f"--policy.optimizer_lr={lr}", f"--policy.optimizer_lr_backbone={lr}",
               "--dataset.repo_id=local/data", f"--dataset.root={os.path.abspath(a.data)}", "--dataset.video_backend=pyav", f"--output_dir={out}",
               f"--batch_size={a.batch}", f"--steps={steps}", f"--save_freq={steps}", f"--log_freq={log}", "--eval_freq=0", "--num_workers=0", f"--seed={a.seed}", "--wandb.enable=false"]
    if not a.backbone:
        command.append("--policy.pretrained_backbone_weights=null")
    env = dict(os.environ, OMP_NUM_THREADS=str(a.threads), MKL_NUM_THREADS=str(a.threads), HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    seconds, text = [], []
    p = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env)
    for line in p.stdout:
        text.append(line)
        update, data = re.search(r"updt_s:([\d.]+)", line), re.search(r"data_s:([\d.]+)", line)
        if update and data:
            seconds.append(float(update[1]) + float(data[1]))
            print(line.strip().split("] ")[-1][:160], flush=True)
    if p.wait():
        sys.exit("".join(text[-30:]) + f"lerobot-train has ended with {p.returncode}")
    return seconds


def train(a, out=None, lr=None):
    out, lr = out or a.out, lr or a.lr
    tried = sorted(lerobot_train(a, out, 20, lr))
    each = tried[len(tried) // 2]
    steps = a.steps or max(1, round(60 * a.minutes / each))
    print(f"ACT at {lr}: {each:.3f} s a step of {a.batch} samples, so {steps} steps", flush=True)
    began = time.monotonic()
    seconds = lerobot_train(a, out, steps, lr)
    mean = sum(seconds) / len(seconds)
    return {"steps": steps, "lr": lr, "minutes": (time.monotonic() - began) / 60, "samples_per_s": a.batch / mean}


class Act:
    """A trained ACT."""

    def __init__(self, path, threads):
        import torch
        from lerobot.policies.act.modeling_act import ACTPolicy
        from lerobot.policies.factory import make_pre_post_processors

        path = os.path.join(path, "checkpoints", "last", "pretrained_model") if os.path.isdir(os.path.join(path, "checkpoints")) else path
        torch.set_num_threads(threads)
        self.torch, self.policy = torch, ACTPolicy.from_pretrained(path)
        self.policy.eval()
        self.pre, self.post = make_pre_post_processors(self.policy.config, pretrained_path=path, preprocessor_overrides={"device_processor": {"device": "cpu"}})

    def infer(self, seen):
        torch, batch = self.torch, {}
        for name, feature in self.policy.config.input_features.items():
            x = torch.from_numpy(seen[name].copy())
            if x.dtype == torch.uint8:
                x = x.permute(2, 0, 1).float() / 255
            batch[name] = x[None].float()
        with torch.inference_mode():
            return self.post(self.policy.predict_action_chunk(self.pre(batch)))[0].float().numpy()


def serve(a):
    """openpi's protocol: https://github.com/Physical-Intelligence/openpi, packages/openpi-client."""
    import msgpack
    import numpy as np
    import websockets.sync.server

    def unpack(x):
        if b"__ndarray__" in x:
            return np.ndarray(buffer=x[b"data"], dtype=np.dtype(x[b"dtype"]), shape=x[b"shape"])
        return x

    def pack(x):
        return {b"__ndarray__": True, b"data": x.tobytes(), b"dtype": x.dtype.str, b"shape": x.shape}

    policy = Act(a.policy, a.threads)

    def talk(connection):
        connection.send(msgpack.packb({"policy": "act"}))
        for message in connection:
            began = time.perf_counter()
            actions = policy.infer(msgpack.unpackb(message, object_hook=unpack))
            connection.send(msgpack.packb({"actions": actions, "server_timing": {"infer_ms": 1000 * (time.perf_counter() - began)}}, default=pack))

    def health(connection, request):
        if request.path == "/healthz":
            return connection.respond(200, "OK\n")

    with websockets.sync.server.serve(talk, "127.0.0.1", a.port, compression=None, max_size=None, process_request=health) as server:
        print(f"ws://127.0.0.1:{a.port}", flush=True)
        server.serve_forever()


def ours(a, out):
    """Trains the job for so many minutes of steps."""
    def run(steps, warmup, to):
        shutil.rmtree(to, ignore_errors=True)
        settings = [f"data.path={os.path.abspath(a.data)}", f"train.steps={steps}", f"schedule.warmup_steps={warmup}", "train.eval_every=0"]
        command = [a.coordinator, "train", a.job, "--workers", str(a.workers), "--run-dir", to] + [x for s in settings for x in ("--set", s)]
        if subprocess.run(command, stdout=subprocess.DEVNULL).returncode:
            sys.exit(f"{' '.join(command)} has failed")
        with open(os.path.join(to, "metrics.jsonl")) as f:
            lines = [json.loads(line) for line in f]
        times = sorted(m["time"]["step"] for m in lines)
        batch = lines[0]["samples_per_s"] * lines[0]["time"]["step"]
        return times[len(times) // 2], sum(times), batch

    each, _, batch = run(30, 0, out)
    steps = a.steps or max(1, round(60 * a.minutes / each))
    print(f"ours: {each:.3f} s a step of {batch:.0f} samples, so {steps} steps", flush=True)
    _, total, batch = run(steps, min(200, steps // 10), out)
    return {"steps": steps, "minutes": total / 60, "samples_per_s": batch * steps / total}


def rollout(a, command, port, to):
    """Rolls out what a server answers."""
    done = subprocess.run([a.simulator, ROLLOUT, "--port", str(port), "--episodes", str(a.episodes), "--execute", str(a.execute), "--tasks", a.tasks or ALL, "--json", to,
                           "--server-command", " ".join(command)], env=dict(os.environ, MUJOCO_GL="osmesa"))
    if done.returncode:
        sys.exit(f"the rollout has ended with {done.returncode}")
    with open(to) as f:
        return json.load(f)


ALL = "reach-v3,push-v3,pick-place-v3,door-open-v3,drawer-open-v3,drawer-close-v3,button-press-topdown-v3,peg-insert-side-v3,window-open-v3,window-close-v3"


def compare(a):
    os.makedirs(a.out, exist_ok=True)
    at = lambda name: os.path.abspath(os.path.join(a.out, name))  # noqa: E731
    rows = []
    r = ours(a, at("ours"))
    rows.append(("ours", r, rollout(a, [a.coordinator, "serve", "--checkpoint", at("ours"), "--listen", f"127.0.0.1:{a.port}", "--threads", str(a.threads)], a.port, at("ours.json"))))
    for lr in a.rates.split(","):
        r = train(a, at(f"act-{lr}"), lr)
        rows.append((f"ACT at {lr}", r, rollout(a, [sys.executable, os.path.abspath(__file__), "serve", "--policy", at(f"act-{lr}"), "--port", str(a.port), "--threads", str(a.threads)], a.port, at(f"act-{lr}.json"))))
    lines = ["| policy | steps | minutes | samples/s | success | 95 % | ms a question |", "|---|---|---|---|---|---|---|"]
    for name, r, s in rows:
        n = s["episodes"] * len(s["success"])
        lines.append(f"| {name} | {r['steps']} | {r['minutes']:.1f} | {r['samples_per_s']:.1f} | {sum(s['success'].values())}/{n} | {100 * s['wilson'][0]:.0f}–{100 * s['wilson'][1]:.0f} % | {s['ms_a_question']:.1f} |")
    print("\n".join(lines))
    with open(at("table.md"), "w") as f:
        f.write("\n".join(lines) + "\n")


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    do = p.add_subparsers(required=True)
    t, s, c = do.add_parser("train"), do.add_parser("serve"), do.add_parser("compare")
    for x in (t, c):
        x.add_argument("--data", required=True, help="a LeRobot data set")
        x.add_argument("--out", required=True)
        x.add_argument("--minutes", type=float, default=60)
        x.add_argument("--steps", type=int, help="in place of minutes")
        x.add_argument("--chunk", type=int, default=16)
        x.add_argument("--batch", type=int, default=8)
        x.add_argument("--seed", type=int, default=1)
        x.add_argument("--backbone", action="store_true", help="begin with ImageNet's ResNet, which is fetched once; without it from nothing, as ours does")
    t.add_argument("--lr", default="1e-4")
    s.add_argument("--policy", required=True, help="what train has written, or a pretrained_model folder")
    c.add_argument("--job", required=True)
    c.add_argument("--coordinator", required=True)
    c.add_argument("--simulator", required=True, help="a Python with metaworld and openpi-client")
    c.add_argument("--rates", default="1e-5,1e-4", help="learning rates of ACT")
    c.add_argument("--workers", type=int, default=2)
    c.add_argument("--episodes", type=int, default=10)
    c.add_argument("--execute", type=int, default=8)
    c.add_argument("--tasks")
    for x in (s, c):
        x.add_argument("--port", type=int, default=8001)
    for x in (t, s, c):
        x.add_argument("--threads", type=int, default=2)
    for x, f in ((t, train), (s, serve), (c, compare)):
        x.set_defaults(do=f)
    a = p.parse_args()
    r = a.do(a)
    if r:
        print(json.dumps(r))


if __name__ == "__main__":
    main()
