#!/usr/bin/env python3
"""Closes the loop in Meta-World: a policy server acts, and the share of episodes that succeed is printed with its 95 % Wilson interval.

    pip install metaworld==3.0.0 mujoco==3.3.0 packaging openpi-client      # and apt-get install libosmesa6
    coordinator serve --checkpoint runs/metaworld &
    MUJOCO_GL=osmesa python tools/rollout/meta_world.py --port 8000 --episodes 10 --execute 8 --json rollout.json
    MUJOCO_GL=osmesa python tools/rollout/meta_world.py --instructions tools/rollout/rewordings.json      # other words for the same tasks
    MUJOCO_GL=osmesa python tools/rollout/meta_world.py --policy expert      # the ceiling; random, still: the floor

Any server of openpi's protocol will do. It is asked with the names that its card lists, or, where it sends none, with all of
observation.images.corner and .gripper (uint8 [H, W, 3]), observation.state (float32 [4]: hand x y z, gripper opening) and prompt.
It answers with actions [L, 4] (hand dx dy dz, gripper effort, in [-1, 1]); the first --execute of them are run before it is
asked again. --instructions names a JSON file with a list of instructions by task, of which episode i is given the i-th, from the first again
behind the last; without it each task has the one that it is recorded with. Each scene is of a seed, from 7,000,000 on, which recordings do not use; it does not depend on the server. --server-command starts a server
and ends it, so that one line compares two policies.
"""
import argparse
import json
import math
import os
import shlex
import signal
import subprocess
import time
import warnings

os.environ.setdefault("MUJOCO_GL", "osmesa")
import numpy as np

INSTRUCTIONS = {
    "reach-v3": "move the gripper to the red marker",
    "push-v3": "push the red puck to the green marker",
    "pick-place-v3": "pick up the red puck and hold it at the blue marker",
    "door-open-v3": "pull the door open by its handle",
    "drawer-open-v3": "open the drawer",
    "drawer-close-v3": "push the drawer shut",
    "button-press-topdown-v3": "press the button from above",
    "peg-insert-side-v3": "insert the peg into the hole at the side",
    "window-open-v3": "slide the window open",
    "window-close-v3": "slide the window shut",
}


def wilson(wins, n, z=1.959964):
    """The 95 % interval of a share of wins among n."""
    if n == 0:
        return 0.0, 1.0
    p, d = wins / n, 1 + z * z / n
    middle, half = (p + z * z / (2 * n)) / d, z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / d
    return max(0.0, middle - half), min(1.0, middle + half)


class World:
    """One task's simulation: what a robot sees of it, and what its actions do.

    The corner camera hangs where LeRobot's own Meta-World hangs it, nearer than Meta-World's. Shadows and reflections are not drawn:
    in software they are seven eighths of a picture's time.
    """

    def __init__(self, task, size):
        import gymnasium
        import metaworld  # noqa: F401  registers the environments
        import mujoco

        warnings.filterwarnings("ignore")
        wrapped = gymnasium.make("Meta-World/MT1", env_name=task, render_mode="rgb_array", camera_name="corner2", width=size, height=size)
        wrapped.reset()  # which tells the simulation its task
        self.env = wrapped.unwrapped
        self.env.model.camera("corner2").pos[:] = 0.75, 0.075, 0.7
        self.env.model.vis.quality.shadowsize = 64
        self.renderer = mujoco.Renderer(self.env.model, size, size)
        for costly in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            self.renderer.scene.flags[costly] = 0
        self.task, self.size, self.prompt = task, size, INSTRUCTIONS[task]

    def reset(self, seed):
        """Begins the scene of a seed. Meta-World's wrappers would choose one of fifty, which are others in each process."""
        self.env._freeze_rand_vec, self.env.seeded_rand_vec = False, True
        self.env.seed(seed)
        self.obs, _ = self.env.reset()

    def picture(self, camera):
        """What a camera sees, uint8 [size, size, 3]."""
        seen = np.zeros((self.size, self.size, 3), np.uint8)
        self.renderer.update_scene(self.env.data, camera=camera)
        self.renderer.render(out=seen)
        if not seen.any():
            raise SystemExit(f"{self.task}: nothing was drawn; another renderer of this process is still open")
        return seen

    def close(self):
        """Ends the renderer: drawn by OSMesa, the next one of the process would write nothing while this one is open."""
        self.renderer.close()
        self.env.close()

    def observe(self):
        return {
            "observation.images.corner": np.ascontiguousarray(self.picture("corner2")[::-1, ::-1]),  # it hangs upside down
            "observation.images.gripper": self.picture("gripperPOV"),
            "observation.state": np.asarray(self.obs[:4], np.float32),
            "prompt": self.prompt,
        }

    def step(self, action):
        """Whether the task is done."""
        self.obs, _, _, _, info = self.env.step(np.clip(np.asarray(action, np.float32), -1, 1))
        return bool(info["success"])


class Server:
    """Asks a server for chunks of actions, and hands them out one by one."""

    def __init__(self, a):
        from openpi_client import websocket_client_policy

        self.client = websocket_client_policy.WebsocketClientPolicy(host=a.host, port=a.port, api_key=a.key)
        self.sees = {f["name"] for f in self.client.get_server_metadata().get("observation", []) if f["kind"] != "instruction"}
        self.execute, self.seconds, self.asked = a.execute, 0.0, 0

    def begin(self, world):
        self.chunk = []

    def act(self, world):
        if not len(self.chunk):
            o = {k: v for k, v in world.observe().items() if not self.sees or k in self.sees or k == "prompt"}
            began = time.perf_counter()
            self.chunk = np.asarray(self.client.infer(o)["actions"])[: self.execute]
            self.seconds, self.asked = self.seconds + time.perf_counter() - began, self.asked + 1
        action, self.chunk = self.chunk[0], self.chunk[1:]
        return action


class Scripted:
    """The benchmark's own expert, or no policy at all."""

    def __init__(self, a):
        self.kind, self.asked = a.policy, 0

    def begin(self, world):
        from metaworld.policies import ENV_POLICY_MAP

        self.expert, self.rng = ENV_POLICY_MAP[world.task](), np.random.default_rng(0)

    def act(self, world):
        if self.kind == "expert":
            return self.expert.get_action(world.obs)
        return self.rng.uniform(-1, 1, 4) if self.kind == "random" else np.zeros(4)


def line(name, wins, n):
    low, high = wilson(wins, n)
    return f"{name:26s} {wins:3d}/{n}  {100 * wins / n:5.1f} %  [{100 * low:.0f}, {100 * high:.0f}]"


def instructions(path, tasks):
    """The lists of instructions by task; the recorded ones without a file."""
    if not path:
        return {t: [INSTRUCTIONS[t]] for t in tasks}
    with open(path) as f:
        try:
            given = json.load(f)
        except ValueError as e:
            raise SystemExit(f"{path} is no JSON: {e}")
    for t in tasks:
        if not isinstance(given, dict) or not isinstance(given.get(t), list) or not given[t] or not all(isinstance(x, str) and x.strip() for x in given[t]):
            raise SystemExit(f"{path}: {t} has no list of instructions; want {{\"{t}\": [\"{INSTRUCTIONS[t]}\", …], …}}")
    return {t: given[t] for t in tasks}


def roll(a):
    tasks = a.tasks.split(",")
    words = instructions(a.instructions, tasks)
    policy, wins = (Server if a.policy == "server" else Scripted)(a), {}
    for task in tasks:
        world, wins[task] = World(task, a.size), 0
        for episode in range(a.episodes):
            world.prompt = words[task][episode % len(words[task])]
            world.reset(a.seed + episode)
            policy.begin(world)
            wins[task] += any(world.step(policy.act(world)) for _ in range(a.max_steps))
        print(line(task, wins[task], a.episodes), flush=True)
        world.close()
    total, n = sum(wins.values()), a.episodes * len(wins)
    think = 1000 * policy.seconds / policy.asked if policy.asked else None
    print(line("all", total, n) + (f"   {think:.1f} ms a question" if think else ""))
    if a.json:
        with open(a.json, "w") as f:
            json.dump({"policy": a.policy, "episodes": a.episodes, "execute": a.execute, "seed": a.seed, "instructions": a.instructions, "success": wins, "rate": total / n, "wilson": wilson(total, n), "ms_a_question": think}, f, indent=1)


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    p.add_argument("--policy", choices=["server", "expert", "random", "still"], default="server")
    p.add_argument("--host", default="127.0.0.1")
    p.add_argument("--port", type=int, default=8000)
    p.add_argument("--key", help="what the server asks for as Authorization: Api-Key KEY")
    p.add_argument("--server-command", help="starts the server, which is ended behind the last episode")
    p.add_argument("--tasks", default=",".join(INSTRUCTIONS))
    p.add_argument("--episodes", type=int, default=10, help="of each task")
    p.add_argument("--execute", type=int, default=8, help="actions of a chunk that are run before the next question")
    p.add_argument("--max-steps", type=int, default=200)
    p.add_argument("--instructions", help="a JSON file of instructions by task, such as tools/rollout/rewordings.json")
    p.add_argument("--size", type=int, default=64, help="side of the pictures, in pixels")
    p.add_argument("--seed", type=int, default=7_000_000)
    p.add_argument("--json", help="write the result here")
    a = p.parse_args()
    server = None
    if a.server_command:
        server = subprocess.Popen(shlex.split(a.server_command))
        wait_for(a, server)
    try:
        roll(a)
    finally:
        if server:
            server.send_signal(signal.SIGTERM)
            server.wait(30)


def wait_for(a, server):
    import urllib.request

    for _ in range(1200):
        if server.poll() is not None:
            raise SystemExit(f"the server has ended with {server.returncode}")
        try:
            urllib.request.urlopen(f"http://{a.host}:{a.port}/healthz", timeout=1)
            return
        except OSError:
            time.sleep(0.1)
    raise SystemExit("the server does not answer within 2 minutes")


if __name__ == "__main__":
    main()
