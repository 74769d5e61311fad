#!/usr/bin/env python3
"""Writes pkg/data/testdata/pictures/pillow.safetensors: pictures, and the pixels that Pillow's convert("RGB") gives for them.

    tools/make_pictures.py      needs Pillow (with libjpeg-turbo), numpy and safetensors

Tensor NAME/file U8 [N] is a PNG or JPEG file, NAME/rgb U8 [H,W,3] its pixels. To the pictures that are made here come the JPEGs
that lie in the folder. The small encoder below writes what Pillow's does not: any sampling factors, components and colour
transforms, no Huffman tables.
"""
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import PIL
from PIL import Image, features
from safetensors.numpy import save_file

ZIGZAG = []
for s in range(15):
    diagonal = [(s - x, x) for x in range(8) if 0 <= s - x < 8]  # (row, column), column rising
    ZIGZAG += [8 * r + c for r, c in (diagonal if s % 2 == 0 else diagonal[::-1])]
C = np.array([[np.sqrt((1 if u == 0 else 2) / 8) * np.cos((2 * x + 1) * u * np.pi / 16) for x in range(8)] for u in range(8)])


def standard_tables():
    """The Huffman tables of T.81 K.3 as Pillow writes them: {(class, number): (counts, values)}."""
    b = io.BytesIO()
    Image.new("RGB", (8, 8)).save(b, "JPEG", optimize=False)
    b, out, at = b.getvalue(), {}, 2
    while b[at + 1] != 0xDA:
        n = struct.unpack(">H", b[at + 2 : at + 4])[0]
        seg = b[at + 4 : at + 2 + n] if b[at + 1] == 0xC4 else b""
        while seg:
            total = sum(seg[1:17])
            out[seg[0] >> 4, seg[0] & 15] = (seg[1:17], seg[17 : 17 + total])
            seg = seg[17 + total :]
        at += 2 + n
    return out


TABLES = standard_tables()
CODES = {}
for key, (counts, values) in TABLES.items():
    code, i, CODES[key] = 0, 0, {}
    for length, n in enumerate(counts, 1):
        for _ in range(n):
            CODES[key][values[i]] = (code, length)
            code, i = code + 1, i + 1
        code <<= 1


def segment(marker, body):
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def encode(planes, sampling, ids=(1, 2, 3, 4), before=b"", huffman=True, quant=6):
    """Baseline JPEG of the full-size planes [H, W], each averaged down as its sampling factors say. before: APP segments."""
    h, w = planes[0].shape
    hm, vm = max(s[0] for s in sampling), max(s[1] for s in sampling)
    mx, my = -(-w // (8 * hm)), -(-h // (8 * vm))
    comps = []
    for p, (sh, sv) in zip(planes, sampling):
        p = np.pad(p.astype(float), ((0, my * 8 * vm - h), (0, mx * 8 * hm - w)), mode="edge")
        p = p.reshape(my * 8 * sv, vm // sv, mx * 8 * sh, hm // sh).mean((1, 3)) - 128
        blocks = p.reshape(my * sv, 8, mx * sh, 8).transpose(0, 2, 1, 3)
        comps.append(np.rint(C @ blocks @ C.T / quant).astype(int).reshape(my * sv, mx * sh, 64)[:, :, ZIGZAG])
    bits, last = [], [0] * len(comps)

    def put(value, n):
        bits.extend((value >> i) & 1 for i in range(n - 1, -1, -1))

    def number(code, symbol, value, size):
        put(*code[symbol])
        put(value if value >= 0 else value + (1 << size) - 1, size)

    for m in range(my * mx):
        for c, (sh, sv) in enumerate(sampling):
            t = 0 if c in (0, 3) else 1
            for b in range(sv * sh):
                block = comps[c][m // mx * sv + b // sh, m % mx * sh + b % sh]
                d, last[c] = int(block[0]) - last[c], int(block[0])
                number(CODES[0, t], abs(d).bit_length(), d, abs(d).bit_length())
                run = 0
                for v in map(int, block[1 : 1 + max(np.flatnonzero(block[1:]), default=-1) + 1]):
                    if v == 0:
                        run += 1
                        continue
                    while run > 15:
                        put(*CODES[1, t][0xF0])
                        run -= 16
                    size = abs(v).bit_length()
                    number(CODES[1, t], run << 4 | size, v, size)
                    run = 0
                if block[63] == 0:
                    put(*CODES[1, t][0])
    bits += [1] * (-len(bits) % 8)
    coded = np.packbits(bits).tobytes().replace(b"\xff", b"\xff\x00")
    out = b"\xff\xd8" + before + segment(0xDB, b"\x00" + bytes([quant] * 64))
    out += segment(0xC0, struct.pack(">BHHB", 8, h, w, len(planes)) + b"".join(bytes([i, sh << 4 | sv, 0]) for i, (sh, sv) in zip(ids, sampling)))
    if huffman:
        out += b"".join(segment(0xC4, bytes([k << 4 | n]) + c + v) for (k, n), (c, v) in TABLES.items())
    sos = bytes([len(planes)]) + b"".join(bytes([i, 0x00 if c in (0, 3) else 0x11]) for c, i in zip(range(len(planes)), ids))
    return out + segment(0xDA, sos + b"\x00\x3f\x00") + coded + b"\xff\xd9"


def scene(w, h):
    """A picture with smooth colours, hard edges of strong chroma and some noise, [H, W, 3]."""
    y, x = np.mgrid[0:h, 0:w]
    a = np.stack([128 + 110 * np.sin(x / 5.0), 255.0 * y / h, 255.0 * x / w], -1)
    a[h // 4 : h // 2, w // 5 : w // 2] = (250, 5, 10)
    a[h // 3 : 2 * h // 3, w // 2 : 4 * w // 5] = (5, 20, 250)
    a += np.random.default_rng(7).normal(0, 6, a.shape)
    return np.clip(np.rint(a), 0, 255).astype(np.uint8)


def exif(order, orientation):
    e = "<" if order == b"II" else ">"
    return order + struct.pack(e + "HIH", 42, 8, 2) + struct.pack(e + "HHII", 0x0100, 4, 1, 37) + struct.pack(e + "HHIHH", 0x0112, 3, 1, orientation, 0) + bytes(4)


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(w, h, depth, colour, rows, *extra):
    """PNG of the packed rows, given as bytes; extra chunks stand before IDAT."""
    raw = b"".join(b"\x00" + r for r in rows)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, depth, colour, 0, 0, 0)) + b"".join(extra) + chunk(b"IDAT", zlib.compress(raw, 9)) + chunk(b"IEND", b"")


def adam7(a):
    """Interlaced PNG of [H, W, 4] uint8."""
    h, w, _ = a.shape
    raw = b""
    for y0, x0, dy, dx in ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)):
        part = a[y0::dy, x0::dx]
        raw += b"".join(b"\x00" + r.tobytes() for r in part if part.size)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, 8, 6, 0, 0, 1)) + chunk(b"IDAT", zlib.compress(raw, 9)) + chunk(b"IEND", b"")


def jpegs():
    a = scene(37, 29)
    ycc = [np.array(p) for p in Image.fromarray(a).convert("YCbCr").split()]
    rgb = [a[..., i] for i in range(3)]
    jfif = segment(0xE0, b"JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00")
    adobe = lambda t: segment(0xEE, b"Adobe\x00\x64\x00\x00\x00\x00" + bytes([t]))
    one = (1, 1)
    for name, s in {"444": one, "422": (2, 1), "440": (1, 2), "420": (2, 2), "411": (4, 1), "410": (4, 2)}.items():
        yield "ycc" + name, encode(ycc, [s, one, one], before=jfif)
    yield "ycc422_by_2x2", encode(ycc, [(2, 2), (1, 2), (1, 2)], before=jfif)
    for w, h in ((4, 4), (5, 5), (1, 1), (2, 9), (9, 2), (17, 16)):  # chroma of two samples is not smoothed
        small = [np.array(p) for p in Image.fromarray(scene(w, h)).convert("YCbCr").split()]
        yield f"ycc420_{w}x{h}", encode(small, [(2, 2), one, one])
        yield f"ycc422_{w}x{h}", encode(small, [(2, 1), one, one])
    yield "mjpeg422", encode(ycc, [(2, 1), one, one], before=segment(0xE0, b"AVI1\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"), huffman=False)
    yield "mjpeg420", encode(ycc, [(2, 2), one, one], huffman=False)
    yield "mjpeg_grey", encode(ycc[:1], [one], huffman=False)
    yield "grey", encode(ycc[:1], [one], before=jfif)
    yield "rgb_adobe", encode(rgb, [one] * 3, before=adobe(0))
    yield "rgb_ids", encode(rgb, [one] * 3, ids=b"RGB")
    yield "rgb_ids_halved", encode(rgb, [(2, 2), one, one], ids=b"RGB")
    yield "ycc_ids_rgb_adobe1", encode(ycc, [(2, 1), one, one], ids=b"RGB", before=adobe(1))
    yield "ycc_jfif_adobe0", encode(ycc, [(2, 1), one, one], before=jfif + adobe(0))
    cmyk = [255 - p for p in rgb] + [np.full_like(rgb[0], 20) + rgb[1] // 8]
    inverted = [255 - p for p in cmyk]
    ycck = [np.array(p) for p in Image.fromarray(255 - np.stack(inverted[:3], -1)).convert("YCbCr").split()] + inverted[3:]
    yield "cmyk_adobe", encode(inverted, [one] * 4, before=adobe(0))
    yield "cmyk_bare", encode(inverted, [one] * 4)
    yield "cmyk_halved", encode(inverted, [(2, 2), one, one, (2, 2)], before=adobe(0))
    yield "ycck", encode(ycck, [one] * 4, before=adobe(2))
    yield "ycck_halved", encode(ycck, [(2, 2), one, one, (2, 2)], before=adobe(2))
    for name, kw in {"progressive420": dict(progressive=True, subsampling=2), "progressive444": dict(progressive=True, subsampling=0), "restart420": dict(restart_marker_blocks=2, subsampling=2)}.items():
        b = io.BytesIO()
        Image.fromarray(a).save(b, "JPEG", quality=80, **kw)
        yield name, b.getvalue()
    yield "exif6", encode(ycc, [(2, 1), one, one], before=segment(0xE1, b"Exif\x00\x00" + exif(b"MM", 6)))


def pngs():
    a = scene(13, 11)
    h, w, _ = a.shape
    alpha = ((np.mgrid[0:h, 0:w].sum(0) * 37) % 256).astype(np.uint8)
    rgba, la = np.dstack([a, alpha]), np.dstack([a[..., 0], alpha])
    wide = lambda x: (x.astype(np.uint16) * 256 + (x[::-1] ^ 0x5A)).astype(">u2")  # upper and lower bytes that differ
    yield "rgba", png(w, h, 8, 6, [r.tobytes() for r in rgba])
    yield "rgba_interlaced", adam7(rgba)
    yield "rgba16", png(w, h, 16, 6, [r.tobytes() for r in wide(rgba)])
    yield "rgb16", png(w, h, 16, 2, [r.tobytes() for r in wide(a)])
    yield "la", png(w, h, 8, 4, [r.tobytes() for r in la])
    yield "la16", png(w, h, 16, 4, [r.tobytes() for r in wide(la)])
    a[2:5, 3:9] = (200, 100, 50)
    key = chunk(b"tRNS", struct.pack(">HHH", 200, 100, 50))
    yield "rgb_trns", png(w, h, 8, 2, [r.tobytes() for r in a], key)
    w16 = wide(a)
    yield "rgb16_trns", png(w, h, 16, 2, [r.tobytes() for r in w16], chunk(b"tRNS", w16[3, 4].tobytes()))
    yield "grey_trns", png(w, h, 8, 0, [r.tobytes() for r in a[..., 0]], chunk(b"tRNS", struct.pack(">H", 200)))
    palette = np.random.default_rng(5).integers(0, 256, (200, 3)).astype(np.uint8)
    index = (alpha % 200).astype(np.uint8)
    plte, trns = chunk(b"PLTE", palette.tobytes()), chunk(b"tRNS", bytes((i * 3) % 256 for i in range(150)))
    yield "palette_trns", png(w, h, 8, 3, [r.tobytes() for r in index], plte, trns)
    for bits in (1, 2, 4):
        v = index % (1 << bits)
        rows = [np.packbits(np.unpackbits(r[:, None], axis=1)[:, 8 - bits :].reshape(-1)).tobytes() for r in v]
        few = chunk(b"PLTE", palette[: 1 << bits].tobytes())
        yield f"palette{bits}_trns", png(w, h, bits, 3, rows, few, chunk(b"tRNS", bytes([0, 128][: 1 << bits])))
        yield f"grey{bits}", png(w, h, bits, 0, rows)
        yield f"grey{bits}_trns", png(w, h, bits, 0, rows, chunk(b"tRNS", struct.pack(">H", 1)))
    yield "exif3", png(w, h, 8, 2, [r.tobytes() for r in a], chunk(b"eXIf", exif(b"II", 3)))
    grey16 = np.linspace(300, 4000, w * h).astype(">u2").reshape(h, w)
    yield "depth16", png(w, h, 16, 0, [r.tobytes() for r in grey16])


def main():
    folder = Path(__file__).parent.parent / "pkg/data/testdata/pictures"
    pictures = {p.stem: p.read_bytes() for p in sorted(folder.glob("*.jpg"))} | dict(jpegs()) | dict(pngs())
    tensors = {}
    for name, b in pictures.items():
        tensors[name + "/file"] = np.frombuffer(b, np.uint8)
        tensors[name + "/rgb"] = np.array(Image.open(io.BytesIO(b)).convert("RGB"))
    versions = {"pillow": PIL.__version__, "libjpeg_turbo": features.version("libjpeg_turbo")}
    save_file(tensors, folder / "pillow.safetensors", metadata=versions)
    print(len(pictures), "pictures", versions)


if __name__ == "__main__":
    main()
