#!/usr/bin/env python3
"""Loads encoders that vlaring has written under their family's own names with timm or
transformers, strictly, and compares their features with those of the cases, at the size
of the weights and at another.

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
    """The model at path; None where neither has one. Every tensor of the file must have its place, and every place its tensor."""
    config = json.load(open(os.path.join(path, "config.json")))
    if "architecture" in config:
        model = timm.create_model("local-dir:" + path, pretrained=True, num_classes=0)
        model.load_state_dict(load_file(os.path.join(path, "model.safetensors")), strict=True)
        return model.eval()
    if "architectures" not in config:
        return None
    model, info = getattr(hf, config["architectures"][0]).from_pretrained(path, output_loading_info=True)
    odd = {k: v for k, v in info.items() if v and not (k == "missing_keys" and all(x.startswith("pooler.") for x in v))}  # BertModel makes one, whatever config.json says
    if odd:
        sys.exit(f"{path}: {odd}")
    return model.eval()


def features(name, model, make, i):
    with torch.no_grad():
        if name == "clip_both":
            return model(input_ids=i["ids"]).last_hidden_state
        if name in ("t5_gated", "llama"):
            return model(input_ids=i["ids"], attention_mask=i["mask"]).last_hidden_state
        return make(False).run(model, i)


if __name__ == "__main__":
    hf.logging.set_verbosity_error()
    worst = 0
    for name, make in cases.CASES.items():
        if name in cases.PUBLISHED:
            continue
        x = load_file(os.path.join(sys.argv[2], name + ".expected.safetensors"))
        for folder, inputs, outputs in ((name, "inputs.", "outputs.features"), (name + "_other", "other.", "outputs.other")):
            path = os.path.join(sys.argv[1], folder)
            if not os.path.isdir(path):
                if folder == name:
                    print(f"{name}: not written")
                continue
            model = load(path)
            if model is None:
                print(f"{folder}: its own hub loads it, which is not here")
                continue
            i = {k[len(inputs):]: v for k, v in x.items() if k.startswith(inputs)}
            see = os.path.join(path, "preprocessor_config.json")
            if os.path.exists(see) and json.load(open(see))["size"]["height"] != i["pixels"].shape[-1]:
                print(f"{folder}: {type(model).__name__} loads it; it is for pictures of another size than the case's")
                continue
            y = features(name, model, make, i)
            error = float((y - x[outputs]).norm() / x[outputs].norm())
            worst = max(worst, error)
            print(f"{folder}: {type(model).__name__} loads it, strictly; relative error of its features {error:.1e}")
    sys.exit(worst > 1e-5)
