#!/usr/bin/env python3
"""Loads encoders that vlaring has written under their family's own names with timm or
transformers, and compares their features with those of the cases.

    VLARING_WRITTEN=/tmp/written go test ./pkg/pretrained -run WriteIsReadAgain
    python tools/load_pretrained.py /tmp/written pkg/pretrained/testdata
"""
import json
import os
import sys

import timm
import torch
import transformers as hf
from safetensors.torch import load_file

import make_pretrained as cases


def load(path):
    config = json.load(open(os.path.join(path, "config.json")))
    if "architecture" in config:
        return timm.create_model("local-dir:" + path, pretrained=True, num_classes=0).eval()
    return getattr(hf, config["architectures"][0]).from_pretrained(path).eval() if "architectures" in config else None


if __name__ == "__main__":
    hf.logging.set_verbosity_error()
    worst = 0
    for name, make in cases.CASES.items():
        path = os.path.join(sys.argv[1], name)
        if not os.path.isdir(path):
            print(f"{name}: not written")
            continue
        model = load(path)
        if model is None:
            print(f"{name}: its own hub loads it, which is not here")
            continue
        x = load_file(os.path.join(sys.argv[2], name + ".expected.safetensors"))
        i = {k[7:]: v for k, v in x.items() if k.startswith("inputs.")}
        with torch.no_grad():
            if name == "clip_both":
                y = model(input_ids=i["ids"]).last_hidden_state
            elif name in ("t5_gated", "llama"):
                y = model(input_ids=i["ids"], attention_mask=i["mask"]).last_hidden_state
            else:
                y = make(False).run(model, i)
        error = float((y - x["outputs.features"]).norm() / x["outputs.features"].norm())
        worst = max(worst, error)
        print(f"{name}: {type(model).__name__} loads it; relative error of its features {error:.1e}")
    sys.exit(worst > 1e-5)
