#!/usr/bin/env python3
"""Asks a server of ours by the real, unchanged client of a protocol, and prints what it is answered as JSON.

    python tools/serving_client.py openpi ws://127.0.0.1:8000 questions.json      # pip install openpi-client==0.1.2
    python tools/serving_client.py vla-eval ws://127.0.0.1:8000 questions.json    # pip install vla-eval==0.8.0

questions.json: {"pictures": {NAME: FILE}, "numbers": {NAME: [..]}, "text": {NAME: TEXT}, "steps": N,
"wrong": NAME}. The same observation is asked N times, as an episode; then once without NAME, which must be an
error; by vla-eval's client once more, which must be answered as an episode's first step again.
TestRealClients (internal/cli) runs this.
"""
import asyncio
import json
import sys

import numpy as np
from PIL import Image


def observation(q, nested):
    pictures = {name: np.asarray(Image.open(path).convert("RGB")) for name, path in q["pictures"].items()}
    numbers = {name: np.asarray(x, np.float32) for name, x in q["numbers"].items()}
    return {**({"images": pictures} if nested else pictures), **numbers, **q["text"]}


def without(o, name):
    o = {k: dict(v) if isinstance(v, dict) else v for k, v in o.items()}
    o.pop(name, None)
    o.get("images", {}).pop(name, None)
    return o


def openpi(url, q):
    from openpi_client import websocket_client_policy

    host, port = url.removeprefix("ws://").split(":")
    policy = websocket_client_policy.WebsocketClientPolicy(host, int(port))
    o = observation(q, False)
    answers = [policy.infer(o) for _ in range(q["steps"])]
    try:
        policy.infer(without(o, q["wrong"]))
        error = None
    except RuntimeError as e:
        error = str(e)
    return {"server": policy.get_server_metadata(), "actions": [a["actions"].tolist() for a in answers], "dtype": str(answers[0]["actions"].dtype),
            "timing": answers[-1]["server_timing"], "error": error}


def vla_eval(url, q):
    from vla_eval.connection import Connection
    from vla_eval.protocol.numpy_codec import set_image_format
    from vla_eval.specs import DimSpec, check_specs

    async def talk():
        out, o = {}, observation(q, True)
        async with Connection(url, max_retries=1) as c:
            out["server"] = c.server_info
            specs = [{k: DimSpec.from_dict(v) for k, v in c.server_info[s].items()} for s in ("action_spec", "observation_spec")]
            out["warnings"] = check_specs(specs[0], specs[0], specs[1], specs[1])  # it reads them, and they fit themselves
            await c.start_episode({"task": {"name": "a task"}})
            answers = []
            for i in range(q["steps"]):
                set_image_format(["png", "raw"][i % 2])
                answers.append((await c.act(o))["actions"])
            await c.end_episode({"metrics": {"success": True}})
            try:
                await c.act(without(o, q["wrong"]))
                out["error"] = None
            except RuntimeError as e:
                out["error"] = str(e)
            await c.start_episode({"task": {"name": "a task"}})
            out["again"] = (await c.act(o))["actions"].tolist()
            out["connected"] = c.is_connected
        out["actions"], out["dtype"] = [a.tolist() for a in answers], str(answers[0].dtype)
        return out

    return asyncio.run(talk())


def main():
    protocol, url, path = sys.argv[1:]
    with open(path) as f:
        q = json.load(f)
    print(json.dumps({"openpi": openpi, "vla-eval": vla_eval}[protocol](url, q)))


if __name__ == "__main__":
    main()
