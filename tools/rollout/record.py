#!/usr/bin/env python3
"""Records episodes of Meta-World's experts as a LeRobot 3.0 data set, with LeRobot's own writer: what examples/metaworld.yaml trains on.

    pip install lerobot==0.4.4 metaworld==3.0.0 mujoco==3.3.0 packaging      # Python 3.11; and apt-get install libosmesa6
    MUJOCO_GL=osmesa python tools/rollout/record.py --out examples/metaworld --episodes 30

A frame has both cameras (RGB), the state (hand x y z in metres, gripper opening), the expert's action (each in [-1, 1]) and the
instruction. An episode ends three steps behind the first success; one without success is left out. In every other eight
steps noise is added to what is done, but not to what is recorded, so that the states are wider and the actions lead back. Seeds are below
those of the rollouts.
"""
import argparse
import shutil

import numpy as np
from meta_world import INSTRUCTIONS, World


def episode(world, seed, a):
    """The frames of one episode; None where the expert fails."""
    from metaworld.policies import ENV_POLICY_MAP

    rng, expert, frames, left = np.random.default_rng(seed), ENV_POLICY_MAP[world.task](), [], None
    world.reset(seed)
    for t in range(a.max_steps):
        action = np.clip(np.asarray(expert.get_action(world.obs), np.float32), -1, 1)
        frame = world.observe()
        frame["task"], frame["action"] = frame.pop("prompt"), action
        frames.append(frame)
        noise = rng.normal(0, a.noise, 4) if t // 8 % 2 else 0
        if world.step(action + noise) and left is None:
            left = 3
        if left is not None:
            left -= 1
            if left < 0:
                return frames
    return frames if left is not None else None


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    p.add_argument("--out", required=True)
    p.add_argument("--tasks", default=",".join(INSTRUCTIONS))
    p.add_argument("--episodes", type=int, default=30, help="of each task")
    p.add_argument("--size", type=int, default=64, help="side of the pictures, in pixels")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--max-steps", type=int, default=200)
    p.add_argument("--noise", type=float, default=0.1)
    p.add_argument("--force", action="store_true", help="replace what is there")
    a = p.parse_args()
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    if a.force:
        shutil.rmtree(a.out, ignore_errors=True)
    picture = {"dtype": "image", "shape": (a.size, a.size, 3), "names": ["height", "width", "channel"]}
    out = LeRobotDataset.create("local/metaworld", fps=10, root=a.out, robot_type="sawyer", use_videos=False, features={
        "observation.images.corner": picture, "observation.images.gripper": picture,
        "observation.state": {"dtype": "float32", "shape": (4,), "names": ["x", "y", "z", "gripper"]},
        "action": {"dtype": "float32", "shape": (4,), "names": ["dx", "dy", "dz", "gripper"]}})
    for task in a.tasks.split(","):
        world, done = World(task, a.size), 0
        for tried in range(3 * a.episodes):
            frames = episode(world, a.seed * 100003 + tried, a)
            for frame in frames or []:
                out.add_frame(frame)
            if frames:
                out.save_episode()
                done += 1
            if done == a.episodes:
                break
        print(f"{task}: {done} episodes of {tried + 1} tried", flush=True)
        world.close()
    out.finalize()
    print(f"{out.meta.total_episodes} episodes, {out.meta.total_frames} frames in {a.out}")


if __name__ == "__main__":
    main()
