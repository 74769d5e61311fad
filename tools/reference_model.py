"""The networks of pkg/models in PyTorch, with the same state_dict names.

    model = build({"kind": "vla", "vocab_size": 50, "image_size": 32, "patch_size": 8, "d_model": 32,
                   "n_heads": 4, "n_layers": 4, "action_dim": 7, "pad_token": 0})
    model.load_state_dict(safetensors.torch.load_file("model.safetensors"), strict=True)
    actions = model.eval()(images=…, instruction_tokens=…)

The keys of the configuration are those of a job file's model section, as config.json of an export has them, with
loss, and bins and steps of it. A model with fusion cross takes the features of samples by name, and a flow its noise.
Shapes:
B batch, T tokens, D d_model, H heads, V vocabulary, A action_dim, N patches,
C channels, S image side. Masks are True where something is visible; padding
(tokens equal to pad_token) is left out of attention and of the mean.
"""
import math

import torch
from torch import nn


class TransformerBlock(nn.Module):
    """Attention and feed-forward, each followed by residual and LayerNorm."""

    def __init__(self, d_model, n_heads, d_ff, dropout=0.0):
        super().__init__()
        self.attention = nn.MultiheadAttention(d_model, n_heads, dropout=dropout, batch_first=True)
        self.feed_forward = nn.Sequential(
            nn.Linear(d_model, d_ff), nn.ReLU(), nn.Dropout(dropout), nn.Linear(d_ff, d_model), nn.Dropout(dropout)
        )
        self.norm1 = nn.LayerNorm(d_model)
        self.norm2 = nn.LayerNorm(d_model)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x, positions=None, keys=None):
        """x [B, T, D], positions [T, T] and keys [B, T] visible → [B, T, D] and attention [B, H, T, T]."""
        attended, weights = self.attention(  # PyTorch's masks are True where something is hidden
            x,
            x,
            x,
            attn_mask=None if positions is None else ~positions,
            key_padding_mask=None if keys is None else ~keys,
            average_attn_weights=False,
        )
        x = self.norm1(x + self.dropout(attended))
        return self.norm2(x + self.feed_forward(x)), weights


def make_blocks(n, d_model, n_heads, d_ff, dropout):
    return nn.ModuleList(TransformerBlock(d_model, n_heads, d_ff, dropout) for _ in range(n))


def positional_encoding(d_model, max_len):
    """[max_len, D]: even columns sin(t·f), odd ones cos(t·f), f = 10000^(-2i/D)."""
    if d_model % 2:
        raise ValueError(f"d_model {d_model} is odd; the positional table pairs sines with cosines")
    angle = torch.arange(max_len, dtype=torch.float)[:, None] * torch.exp(
        torch.arange(0, d_model, 2).float() * (-math.log(10000.0) / d_model)
    )
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)


class TransformerEncoder(nn.Module):
    """Tokens to features: embedding·√D + positions, then blocks."""

    def __init__(self, vocab_size, d_model, n_heads, d_ff, n_layers, max_len, dropout=0.0):
        super().__init__()
        self.scale = math.sqrt(d_model)
        self.embedding = nn.Embedding(vocab_size, d_model)
        # A function of the sizes, hence no part of the state.
        self.register_buffer("pe", positional_encoding(d_model, max_len), persistent=False)
        self.transformer_blocks = make_blocks(n_layers, d_model, n_heads, d_ff, dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens, keys=None):
        """tokens [B, T] → [B, T, D] and each block's attention."""
        x = self.dropout(self.embedding(tokens) * self.scale + self.pe[: tokens.shape[1]])
        attention = []
        for block in self.transformer_blocks:
            x, weights = block(x, keys=keys)
            attention.append(weights)
        return x, attention


class VisionTransformer(nn.Module):
    """An image to one vector: patches and a class token, of which the latter is returned."""

    def __init__(self, img_size, patch_size, in_channels, d_model, n_heads, d_ff, n_layers, dropout=0.0):
        super().__init__()
        patches = (img_size // patch_size) ** 2
        self.cls_token = nn.Parameter(torch.randn(1, 1, d_model))
        self.pos_embedding = nn.Parameter(torch.randn(1, patches + 1, d_model))
        self.patch_embedding = nn.Conv2d(in_channels, d_model, kernel_size=patch_size, stride=patch_size)
        self.transformer_blocks = make_blocks(n_layers, d_model, n_heads, d_ff, dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(self, images):
        """images [B, C, S, S] → [B, D]."""
        return self.sequence(images)[:, 0]

    def sequence(self, images):
        """images [B, C, S, S] → [B, 1+N, D]."""
        patches = self.patch_embedding(images).flatten(2).transpose(1, 2)  # [B, N, D]
        x = torch.cat([self.cls_token.expand(len(images), -1, -1), patches], dim=1)
        x = self.dropout(x + self.pos_embedding)
        for block in self.transformer_blocks:
            x, _ = block(x)
        return x


class ConvBlock(nn.Module):
    """x + conv2(relu(conv1(x))), normalised over channels."""

    def __init__(self, d_model, dropout=0.0):
        super().__init__()
        self.conv1 = nn.Conv2d(d_model, d_model, 3, padding=1)
        self.conv2 = nn.Conv2d(d_model, d_model, 3, padding=1)
        self.norm = nn.LayerNorm(d_model)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x):
        y = x + self.dropout(self.conv2(torch.relu(self.conv1(x))))
        return self.norm(y.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvEncoder(nn.Module):
    """The cnn of model.vision: halvings, residual blocks, mean and spatial softmax."""

    def __init__(self, img_size, patch_size, in_channels, d_model, n_layers, tokens, dropout=0.0):
        super().__init__()
        n = patch_size.bit_length() - 1
        if 1 << n != patch_size or n < 1:
            raise ValueError(f"patch_size {patch_size} is no power of 2")
        widths = [in_channels] + [max(8, d_model >> (n - 1 - i)) for i in range(n)]
        self.halvings = nn.ModuleList(
            nn.Conv2d(widths[i], widths[i + 1], 3, stride=2 if i == 0 else 1, padding=1) for i in range(n)
        )
        self.blocks = nn.ModuleList(ConvBlock(d_model, dropout) for _ in range(n_layers))
        self.readout = nn.Linear(3 * d_model, d_model)
        if tokens:
            self.pos_embedding = nn.Parameter(torch.randn(1, 1 + (img_size // patch_size) ** 2, d_model))

    def map(self, images):
        """images [B, C, S, S] → [B, D, S/P, S/P]."""
        x = images
        for i, conv in enumerate(self.halvings):
            x = torch.relu(conv(x))
            if i > 0:
                x = nn.functional.max_pool2d(x, 2)
        for block in self.blocks:
            x = block(x)
        return x

    def vector(self, x):
        h, w = x.shape[2:]
        weights = x.flatten(2).softmax(dim=-1).view_as(x)
        columns = torch.linspace(-1, 1, w) if w > 1 else torch.zeros(1)
        rows = torch.linspace(-1, 1, h) if h > 1 else torch.zeros(1)
        across, down = (weights.sum(2) * columns).sum(-1), (weights.sum(3) * rows).sum(-1)
        return self.readout(torch.cat([x.mean(dim=(2, 3)), across, down], dim=1))

    def forward(self, images):
        """images [B, C, S, S] → [B, D]."""
        return self.vector(self.map(images))

    def sequence(self, images):
        """images [B, C, S, S] → [B, 1+N, D]."""
        x = self.map(images)
        tokens = torch.cat([self.vector(x).unsqueeze(1), x.flatten(2).transpose(1, 2)], dim=1)
        return tokens + self.pos_embedding


class LSTMEncoder(nn.Module):
    """Tokens to features: nn.Embedding and nn.LSTM."""

    def __init__(self, vocab_size, d_model, n_layers, dropout=0.0):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, d_model)
        self.lstm = nn.LSTM(d_model, d_model, n_layers, batch_first=True, dropout=dropout if n_layers > 1 else 0.0)

    def forward(self, tokens, keys=None):
        """tokens [B, T] → [B, T, D] and the last states. Padding is at the end, where it changes nothing before it."""
        return self.lstm(self.embedding(tokens))


class CrossModalTransformer(nn.Module):
    """Vision and language features to actions."""

    def __init__(self, vision_dim, language_dim, d_model, n_heads, d_ff, n_layers, action_dim, dropout=0.0):
        super().__init__()
        self.vision_proj = nn.Linear(vision_dim, d_model)
        self.language_proj = nn.Linear(language_dim, d_model)
        self.modal_type_embedding = nn.Embedding(2, d_model)  # vision, language
        self.transformer_blocks = make_blocks(n_layers, d_model, n_heads, d_ff, dropout)
        self.action_head = nn.Sequential(nn.Linear(d_model, 256), nn.ReLU(), nn.Linear(256, action_dim))

    def forward(self, vision_features, language_features, keys=None):
        """vision [B, P, Dv], language [B, T, Dl], keys [B, T] → actions [B, A]."""
        vision = self.vision_proj(vision_features) + self.modal_type_embedding.weight[0]
        language = self.language_proj(language_features) + self.modal_type_embedding.weight[1]
        x = torch.cat([vision, language], dim=1)
        if keys is not None:
            keys = torch.cat([keys.new_ones(vision.shape[:2]), keys], dim=1)
        for block in self.transformer_blocks:
            x, _ = block(x, keys=keys)
        if keys is None:
            mean = x.mean(dim=1)
        else:
            w = keys.unsqueeze(-1).to(x.dtype)
            mean = (x * w).sum(dim=1) / w.sum(dim=1)
        return self.action_head(mean)


class CrossFusion(nn.Module):
    """The memory of model.fusion cross, and PyTorch's own decoder over it, a token for each action of a chunk."""

    def __init__(self, d, heads, layers, chunk, state, d_ff=None, dropout=0.0):
        super().__init__()
        self.vision_proj = nn.Linear(d, d)
        if state:
            self.state_proj = nn.Linear(state, d)
        self.language_proj = nn.Linear(d, d)
        self.modal_type_embedding = nn.Embedding(3 if state else 2, d)  # vision, language, state
        self.queries = nn.Embedding(chunk, d)
        layer = nn.TransformerDecoderLayer(d, heads, d_ff or 4 * d, dropout=dropout, activation="relu", batch_first=True,
                                           norm_first=False)
        self.decoder = nn.TransformerDecoder(layer, layers)
        for p in self.decoder.parameters():  # PyTorch's are copies of one layer
            if p.dim() > 1:
                nn.init.xavier_uniform_(p)

    def memory(self, vision, state, language, times):
        """vision [B, N, D], state [B, h, S] or None, language [B, T, D] → [B, N+h+T, D]."""
        types = self.modal_type_embedding.weight
        parts = [self.vision_proj(vision) + types[0], self.language_proj(language) + types[1]]
        if state is not None:
            parts.insert(1, self.state_proj(state) + types[2] + times)
        return torch.cat(parts, dim=1)


class CrossPolicy(nn.Module):
    """A vla with model.fusion cross up to its decoder; action_head is the loss's."""

    def __init__(self, vocab, img, patch, d, heads, layers, chunk, state, cameras, history, pad, channels=3, d_ff=None,
                 max_len=100, vision="vit", dropout=0.0):
        super().__init__()
        n = layers // 2
        self.pad, self.cameras, self.history, self.state = pad, cameras, history, state
        d_ff = d_ff or 4 * d
        if vision == "cnn":
            self.vision_encoder = ConvEncoder(img, patch, channels, d, n, True, dropout)
        else:
            self.vision_encoder = VisionTransformer(img, patch, channels, d, heads, d_ff, n, dropout)
        if cameras > 1:
            self.camera_embedding = nn.Embedding(cameras, d)
        if history > 1:
            self.time_embedding = nn.Embedding(history, d)
        self.language_encoder = TransformerEncoder(vocab, d, heads, d_ff, n, max_len, dropout)
        self.cross_modal_fusion = CrossFusion(d, heads, n, chunk, state, d_ff, dropout)
        self.action_head = nn.ModuleDict()

    def observe(self, i):
        """The memory [B, T, D] and what of it is visible [B, T]."""
        views, keys = [], []
        tokens = i["instruction_tokens"]
        batch = len(tokens)
        past = i.get("past_valid", torch.ones(batch, self.history))
        for time in range(self.history):
            for camera in range(self.cameras):
                name = "images" + (f"_{camera}" if camera else "")
                if time < self.history - 1:
                    name += f"_past_{self.history - 1 - time}"
                x = self.vision_encoder.sequence(i[name])
                if self.cameras > 1:
                    x = x + self.camera_embedding.weight[camera]
                if self.history > 1:
                    x = x + self.time_embedding.weight[time]
                views.append(x)
                keys.append((past[:, time : time + 1] != 0).expand(-1, x.shape[1]))
        words = visible(tokens, self.pad)
        language, _ = self.language_encoder(tokens, words)
        state = None
        if self.state:
            state = i["state"].reshape(batch, self.history, -1)
            keys.append(past != 0)
        times = self.time_embedding.weight if self.history > 1 else 0
        memory = self.cross_modal_fusion.memory(torch.cat(views, dim=1), state, language, times)
        return memory, torch.cat(keys + [torch.ones_like(tokens, dtype=torch.bool) if words is None else words], dim=1)

    def decode(self, memory, visible, begin=None):
        x = self.cross_modal_fusion.queries.weight.expand(len(memory), -1, -1)
        if begin is not None:
            x = x + begin
        return self.cross_modal_fusion.decoder(x, memory, memory_key_padding_mask=~visible)


def philox(counter, key):
    """Philox4x32-10 (Salmon et al., SC 2011) of four words under two."""
    c, k, mask = list(counter), list(key), 0xFFFFFFFF
    for _ in range(10):
        p, q = c[0] * 0xD2511F53, c[2] * 0xCD9E8D57
        c = [(q >> 32) ^ c[1] ^ k[0], q & mask, (p >> 32) ^ c[3] ^ k[1], p & mask]
        k = [(k[0] + 0x9E3779B9) & mask, (k[1] + 0xBB67AE85) & mask]
    return c


def words(seed, step, site, sample, n):
    """n words of a sample for a head, or some more: of a step in training; of None in evaluation."""
    site |= 1 << 23 if step is None else 0
    out = []
    for block in range((n + 3) // 4):
        out += philox([block, sample & 0xFFFFFFFF, step or 0, 11 << 24 | site], [seed & 0xFFFFFFFF, seed >> 32])
    return out


def normal(seed, step, site, sample, n):
    """n draws from N(0, 1) by Box and Muller."""
    w, out = words(seed, step, site, sample, n), []
    for a, b in zip(w[::2], w[1::2]):
        r, t = math.sqrt(-2 * math.log((a + 0.5) / 2**32)), 2 * math.pi * b / 2**32
        out += [r * math.cos(t), r * math.sin(t)]
    return out[:n]


ANSWER = 2  # the site of the noise that a flow's answer is made of


def time_embedding(time, d):
    """openpi's create_sinusoidal_pos_embedding with periods from 4e-3 to 4."""
    period = 4e-3 * (4.0 / 4e-3) ** torch.linspace(0, 1, d // 2, dtype=torch.float64)
    angle = time[:, None] / period * 2 * math.pi
    return torch.cat([angle.sin(), angle.cos()], dim=1).float()


def flow_head(d, actions):
    """The layers of a flow: of noisy actions to tokens, and of tokens to a velocity."""
    return nn.ModuleDict({"action_in_proj": nn.Linear(actions, d), "action_time_mlp_in": nn.Linear(2 * d, d),
                          "action_time_mlp_out": nn.Linear(d, d), "action_out_proj": nn.Linear(d, actions)})


def velocity(model, seen, x, time):
    """x [B, L, A] and time [B] → [B, L, A]."""
    h = model.action_head
    e = time_embedding(time, seen[0].shape[-1])[:, None].expand(-1, x.shape[1], -1)
    x = torch.cat([h["action_in_proj"](x), e], dim=-1)
    x = h["action_time_mlp_out"](nn.functional.silu(h["action_time_mlp_in"](x)))
    return h["action_out_proj"](model.decode(*seen, x))


class CrossVLA(CrossPolicy):
    """A vla with model.fusion cross and the head of a loss: features by name → actions [B, A] or [B, L, A]."""

    def __init__(self, loss, actions, chunk, d, bins=0, steps=10, **sizes):
        super().__init__(chunk=chunk, d=d, **sizes)
        self.loss, self.chunk, self.actions, self.bins, self.steps = loss, chunk, actions, bins, steps
        if loss == "flow":
            self.action_head = flow_head(d, actions)
        else:
            self.action_head = nn.Linear(d, actions * (bins if loss == "bins" else 1))

    def forward(self, noise=None, **inputs):
        """noise [B, L, A] is what a flow begins with."""
        seen = self.observe(inputs)
        if self.loss == "flow":
            x = noise
            for k in range(self.steps):
                time = torch.full((len(x),), 1 - k / self.steps, dtype=torch.float64)
                x = x - velocity(self, seen, x, time) / self.steps
        else:
            x = self.action_head(self.decode(*seen))
        if self.loss == "bins":
            x = (x.reshape(len(x), self.chunk, self.actions, self.bins).argmax(-1) * 2 + 1) / self.bins - 1
        return x if self.chunk > 1 else x[:, 0]


def visible(tokens, pad_token):
    """[B, T] True where a token is not padding; None where nothing is padding."""
    return None if pad_token < 0 else tokens != pad_token


class VLATransformer(nn.Module):
    """Images and instructions to actions; each part has half of n_layers."""

    def __init__(self, vocab_size, img_size, patch_size, in_channels, d_model, n_heads, d_ff, n_layers, max_len,
                 action_dim, pad_token=-1, dropout=0.0, vision="vit", vision_tokens="cls"):
        super().__init__()
        n = n_layers // 2
        self.pad_token, self.patches = pad_token, vision_tokens == "patches"
        if vision == "cnn":
            self.vision_encoder = ConvEncoder(img_size, patch_size, in_channels, d_model, n, self.patches, dropout)
        else:
            self.vision_encoder = VisionTransformer(img_size, patch_size, in_channels, d_model, n_heads, d_ff, n,
                                                    dropout)
        self.language_encoder = TransformerEncoder(vocab_size, d_model, n_heads, d_ff, n, max_len, dropout)
        self.cross_modal_fusion = CrossModalTransformer(
            d_model, d_model, d_model, n_heads, d_ff, n, action_dim, dropout
        )

    def forward(self, images, instruction_tokens):
        """images [B, C, S, S], instruction_tokens [B, T] → actions [B, A]."""
        keys = visible(instruction_tokens, self.pad_token)
        if self.patches:
            vision = self.vision_encoder.sequence(images)  # [B, 1+N, D]
        else:
            vision = self.vision_encoder(images).unsqueeze(1)  # [B, 1, D]
        language, _ = self.language_encoder(instruction_tokens, keys)
        return self.cross_modal_fusion(vision, language, keys)


class VisionPolicy(nn.Module):
    """The vit kind: a vision transformer (anyone's) with a linear action head."""

    def __init__(self, vision_encoder, d_model, action_dim):
        super().__init__()
        self.vision_encoder = vision_encoder
        self.action_head = nn.Linear(d_model, action_dim)

    def forward(self, images):
        """images [B, C, S, S] → actions [B, A]."""
        return self.action_head(self.vision_encoder(images))


class CopyModel(nn.Module):
    """The encoder kind: an encoder (anyone's) with a head that names a token at every position."""

    def __init__(self, encoder, d_model, vocab_size, pad_token=-1):
        super().__init__()
        self.pad_token = pad_token
        self.encoder = encoder
        self.output_head = nn.Linear(d_model, vocab_size)

    def forward(self, instruction_tokens):
        """instruction_tokens [B, T] → logits [B, T, V]."""
        keys = visible(instruction_tokens, self.pad_token)
        features, _ = self.encoder(instruction_tokens) if keys is None else self.encoder(instruction_tokens, keys)
        return self.output_head(features)


def with_defaults(config):
    """The configuration with every key that a job file may leave out."""
    c = {"max_len": 5000, "dropout": 0.0, "pad_token": -1, "channels": 3, "action_dim": 7, "vision": "vit",
         "vision_tokens": "cls", "fusion": "concat", "loss": "mse", "sees": {}, "state_dim": 0, "bins": 256, "steps": 10}
    c.update({k: v for k, v in config.items() if v is not None})
    c["d_ff"] = c.get("d_ff") or 4 * c["d_model"]
    return c


def build(config):
    """The model of a configuration, with PyTorch's own first weights."""
    c = with_defaults(config)
    d, block = c["d_model"], (c["d_model"], c.get("n_heads"), c["d_ff"])
    kind = c["kind"]
    if kind == "vla" and c["fusion"] == "cross":
        sees = {k: max(1, c["sees"].get(k) or 0) for k in ("Cameras", "History", "Chunk")}
        return CrossVLA(c["loss"], c["action_dim"], sees["Chunk"], d, c["bins"], c["steps"], vocab=c["vocab_size"],
                        img=c["image_size"], patch=c["patch_size"], heads=c["n_heads"], layers=c["n_layers"],
                        state=c["state_dim"], cameras=sees["Cameras"], history=sees["History"], pad=c["pad_token"],
                        channels=c["channels"], d_ff=c["d_ff"], max_len=c["max_len"], vision=c["vision"],
                        dropout=c["dropout"])
    if kind == "vla" and any((c["sees"].get(k) or 1) > 1 for k in ("Cameras", "History", "Chunk")) or c["sees"].get("State"):
        raise ValueError("several cameras, history, chunks and state: this file has them for model.fusion cross alone")
    if kind == "vla":
        return VLATransformer(c["vocab_size"], c["image_size"], c["patch_size"], c["channels"], *block, c["n_layers"],
                              c["max_len"], c["action_dim"], c["pad_token"], c["dropout"], c["vision"], c["vision_tokens"])
    if kind == "vit" and c["vision"] == "cnn":
        return VisionPolicy(ConvEncoder(c["image_size"], c["patch_size"], c["channels"], d, c["n_layers"], False,
                                        c["dropout"]), d, c["action_dim"])
    if kind == "vit":
        return VisionPolicy(VisionTransformer(c["image_size"], c["patch_size"], c["channels"], *block, c["n_layers"],
                                              c["dropout"]), d, c["action_dim"])
    if kind == "cross_modal":
        return CrossModalTransformer(c["vision_dim"], c["language_dim"], *block, c["n_layers"], c["action_dim"],
                                     c["dropout"])
    if kind == "encoder":
        encoder = TransformerEncoder(c["vocab_size"], *block, c["n_layers"], c["max_len"], c["dropout"])
        return CopyModel(encoder, d, c["vocab_size"], c["pad_token"])
    if kind == "lstm":
        return CopyModel(LSTMEncoder(c["vocab_size"], d, c["n_layers"], c["dropout"]), d, c["vocab_size"],
                         c["pad_token"])
    raise ValueError(f"model.kind {kind!r}: this file has vla, vit, cross_modal, encoder and lstm")
