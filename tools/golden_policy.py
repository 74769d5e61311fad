#!/usr/bin/env python3
"""Writes reference cases of policies for pkg/models: a vla with model.fusion cross
under each kind of loss, with PyTorch's nn.TransformerDecoder, and the draws of a
flow made anew from Philox's definition.

    pip install torch safetensors
    python tools/golden_policy.py pkg/models/testdata/policy
    go test ./pkg/models -run TestGoldenPolicy

A case has weights.*, inputs.* (features of samples by name), outputs.loss (the mean
over what counts), outputs.actions and outputs.heldout (the loss in evaluation), and
grads.*: those of the sum of the loss over the values that the batch has, padding
or not.
"""
import argparse
import math
import os

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

import reference_model as ref

SEED, STEP = 5, 9
STEPS = 4  # of Euler's method
BINS = 5


def philox(counter, key):
    """Philox4x32-10 (Salmon et al., SC 2011) of four words under two."""
    c, k, mask = list(counter), list(key), 0xFFFFFFFF
    for _ in range(10):
        p, q = c[0] * 0xD2511F53, c[2] * 0xCD9E8D57
        c = [(q >> 32) ^ c[1] ^ k[0], q & mask, (p >> 32) ^ c[3] ^ k[1], p & mask]
        k = [(k[0] + 0x9E3779B9) & mask, (k[1] + 0xBB67AE85) & mask]
    return c


def words(site, sample, n, train):
    """n words of a sample, or some more: of this step in training, of no step in evaluation."""
    step = STEP if train else 0
    site |= 0 if train else 1 << 23
    out = []
    for block in range((n + 3) // 4):
        out += philox([block, sample, step, 11 << 24 | site], [SEED, 0])
    return out


def normal(site, sample, n, train):
    """n draws from N(0, 1) by Box and Muller."""
    w, out = words(site, sample, n, train), []
    for a, b in zip(w[::2], w[1::2]):
        r, t = math.sqrt(-2 * math.log((a + 0.5) / 2**32)), 2 * math.pi * b / 2**32
        out += [r * math.cos(t), r * math.sin(t)]
    return out[:n]


def time_embedding(time, d):
    """openpi's create_sinusoidal_pos_embedding with periods from 4e-3 to 4."""
    period = 4e-3 * (4.0 / 4e-3) ** torch.linspace(0, 1, d // 2, dtype=torch.float64)
    angle = time[:, None] / period * 2 * math.pi
    return torch.cat([angle.sin(), angle.cos()], dim=1).float()


class Fusion(nn.Module):
    def __init__(self, d, heads, layers, chunk, state, history):
        super().__init__()
        self.vision_proj, self.state_proj, self.language_proj = nn.Linear(d, d), nn.Linear(state, d), nn.Linear(d, d)
        self.modal_type_embedding = nn.Embedding(3, d)  # vision, language, state
        self.queries = nn.Embedding(chunk, d)
        layer = nn.TransformerDecoderLayer(d, heads, 4 * d, dropout=0.0, activation="relu", batch_first=True, norm_first=False)
        self.decoder = nn.TransformerDecoder(layer, layers)
        for p in self.decoder.parameters():  # PyTorch's are copies of one layer
            if p.dim() > 1:
                nn.init.xavier_uniform_(p)

    def memory(self, vision, state, language, times):
        types = self.modal_type_embedding.weight
        return torch.cat([self.vision_proj(vision) + types[0], self.state_proj(state) + types[2] + times,
                          self.language_proj(language) + types[1]], dim=1)


class Policy(nn.Module):
    """A vla with model.fusion cross up to its decoder; action_head is the loss's."""

    def __init__(self, vocab, img, patch, d, heads, layers, chunk, state, cameras, history, pad):
        super().__init__()
        n = layers // 2
        self.pad, self.cameras, self.history = pad, cameras, history
        self.vision_encoder = ref.VisionTransformer(img, patch, 3, d, heads, 4 * d, n)
        self.camera_embedding = nn.Embedding(cameras, d)
        if history > 1:
            self.time_embedding = nn.Embedding(history, d)
        self.language_encoder = ref.TransformerEncoder(vocab, d, heads, 4 * d, n, 100)
        self.cross_modal_fusion = Fusion(d, heads, n, chunk, state, history)
        self.action_head = nn.ModuleDict()

    def observe(self, i):
        """The memory [B, T, D] and what of it is visible [B, T]."""
        views, keys = [], []
        batch = len(i["state"])
        past = i.get("past_valid", torch.ones(batch, 1))
        for time in range(self.history):
            for camera in range(self.cameras):
                name = "images" + (f"_{camera}" if camera else "")
                if time < self.history - 1:
                    name += f"_past_{self.history - 1 - time}"
                x = self.vision_encoder.sequence(i[name]) + self.camera_embedding.weight[camera]
                if self.history > 1:
                    x = x + self.time_embedding.weight[time]
                views.append(x)
                keys.append((past[:, time : time + 1] != 0).expand(-1, x.shape[1]))
        words = i["instruction_tokens"] != self.pad
        language, _ = self.language_encoder(i["instruction_tokens"], words)
        state = i["state"].reshape(batch, self.history, -1)
        times = self.time_embedding.weight if self.history > 1 else 0
        memory = self.cross_modal_fusion.memory(torch.cat(views, dim=1), state, language, times)
        return memory, torch.cat(keys + [past != 0, words], dim=1)

    def decode(self, memory, visible, begin=None):
        x = self.cross_modal_fusion.queries.weight.expand(len(memory), -1, -1)
        if begin is not None:
            x = x + begin
        return self.cross_modal_fusion.decoder(x, memory, memory_key_padding_mask=~visible)


def counted(error, valid):
    """The mean over what counts, and the sum over all that there is."""
    total = (error * valid[..., None]).sum()
    return total / (valid.sum() * error.shape[-1]), total / error.numel()


def tokens_head(model, d, actions):
    model.action_head = nn.Linear(d, actions)


def l1(model, i, seen):
    actions = model.action_head(model.decode(*seen))
    loss = counted((actions - i["actions"]).abs(), i["actions_valid"])
    return actions, loss, loss


def mse(model, i, seen):
    actions = model.action_head(model.decode(*seen))
    loss = counted((actions - i["actions"]) ** 2, i["actions_valid"])
    return actions, loss, loss


def bins_head(model, d, actions):
    model.action_head = nn.Linear(d, actions * BINS)


def bins(model, i, seen):
    a = i["actions"]
    logits = model.action_head(model.decode(*seen)).reshape(*a.shape, BINS)
    label = ((a + 1) / 2 * BINS).floor().clamp(0, BINS - 1).long()
    error = F.cross_entropy(logits.flatten(0, 2), label.flatten(), reduction="none").reshape(a.shape)
    loss = counted(error, i["actions_valid"])
    return (logits.argmax(-1) * 2 + 1) / BINS - 1, loss, loss


def flow_head(model, d, actions):
    model.action_head = nn.ModuleDict({"action_in_proj": nn.Linear(actions, d), "action_time_mlp_in": nn.Linear(2 * d, d),
                                       "action_time_mlp_out": nn.Linear(d, d), "action_out_proj": nn.Linear(d, actions)})


def flow(model, i, seen):
    a, h = i["actions"], model.action_head

    def velocity(x, time):
        e = time_embedding(time, seen[0].shape[-1])[:, None].expand(-1, x.shape[1], -1)
        x = torch.cat([h["action_in_proj"](x), e], dim=-1)
        x = h["action_time_mlp_out"](F.silu(h["action_time_mlp_in"](x)))
        return h["action_out_proj"](model.decode(*seen, x))

    def noise(site, train):
        return torch.tensor([normal(site, int(s), a[0].numel(), train) for s in i["ids"]]).reshape(a.shape)

    def loss(train):
        e = noise(0, train)
        u = [(words(1, int(s), 1, train)[0] + 0.5) / 2**32 for s in i["ids"]]
        time = torch.tensor([0.999 * x ** (1 / 1.5) + 0.001 for x in u], dtype=torch.float64)
        t = time[:, None, None]
        x = (t * e + (1 - t) * a).float()
        return counted((velocity(x, time) - (e - a)) ** 2, i["actions_valid"])

    x = noise(2, False)
    for k in range(STEPS):
        x = x - velocity(x, torch.full((len(a),), 1 - k / STEPS, dtype=torch.float64)) / STEPS
    return x, loss(True), loss(False)


CASES = {"l1": (tokens_head, l1, 2), "mse": (tokens_head, mse, 1), "bins": (bins_head, bins, 1), "flow": (flow_head, flow, 1)}


def make(name, vocab=9, img=8, patch=4, d=8, heads=2, layers=4, chunk=3, actions=2, state=3, cameras=2, batch=2, tokens=4):
    torch.manual_seed(len(name))
    head, run, history = CASES[name]
    model = Policy(vocab, img, patch, d, heads, layers, chunk, state, cameras, history, 0)
    head(model, d, actions)
    with torch.no_grad():
        for p in model.parameters():  # zero biases and unit scales would hide that two are swapped
            if p.dim() == 1:
                p.add_(0.1 * torch.randn_like(p))
    i = {"ids": torch.tensor([3, 70]), "state": torch.randn(batch, *([history] if history > 1 else []), state),
         "actions": torch.rand(batch, chunk, actions) * 2 - 1, "actions_valid": torch.tensor([[1.0, 1, 1], [1, 0, 0]]),
         "instruction_tokens": torch.tensor([[4, 2, 7, 1], [8, 3, 0, 0]])}
    for c in range(cameras):
        for past in range(history):
            i["images" + (f"_{c}" if c else "") + (f"_past_{past}" if past else "")] = torch.randn(batch, 3, img, img)
    if history > 1:
        i["past_valid"] = torch.tensor([[1.0, 1], [0, 1]])
    answer, loss, heldout = run(model, i, model.observe(i))
    loss[1].backward()
    out = {"inputs." + k: v for k, v in i.items()}
    out |= {"outputs.actions": answer.float(), "outputs.loss": loss[0].reshape(1), "outputs.heldout": heldout[0].reshape(1)}
    for n, p in model.named_parameters():
        out["weights." + n], out["grads." + n] = p, p.grad
    meta = dict(case=name, torch=torch.__version__, vocab_size=vocab, image_size=img, patch_size=patch, d_model=d, n_heads=heads,
                n_layers=layers, chunk=chunk, action_dim=actions, state_dim=state, cameras=cameras, history=history, seed=SEED,
                step=STEP, steps=STEPS, bins=BINS)
    return {k: v.detach().contiguous().clone() for k, v in out.items()}, {k: str(v) for k, v in meta.items()}


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("out", help="directory to write to")
    args = ap.parse_args()
    os.makedirs(args.out, exist_ok=True)
    for name in CASES:
        tensors, meta = make(name)
        save_file(tensors, os.path.join(args.out, name + ".safetensors"), meta)
        print(name)


if __name__ == "__main__":
    main()
