"""Files of pictures with values that Pillow itself cannot write: PNG and TIFF of any bits, by their specifications."""

import struct
import zlib

import numpy as np

PNG_GRAY, PNG_RGB, PNG_LA, PNG_RGBA = 0, 2, 4, 6  # colour types


def png(values, kind=PNG_GRAY, bits=16, clear=None):
    """Return a PNG of values [H, W] or [H, W, channels]; ``clear`` are the numbers of its tRNS chunk."""
    height, width = values.shape[:2]
    if bits == 16:
        rows = [values[y].astype(">u2").tobytes() for y in range(height)]
    else:  # several pixels a byte
        flat = ["".join(f"{v:0{bits}b}" for v in row) for row in values.tolist()]
        rows = [int(row.ljust(-len(row) % 8 + len(row), "0"), 2).to_bytes(-(-len(row) // 8), "big") for row in flat]
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0))]
    chunks += [(b"tRNS", struct.pack(f">{len(clear)}H", *clear))] if clear else []
    chunks += [(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows))), (b"IEND", b"")]
    parts = [struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def tiff(values, order="<", photometric=None, extra=None, compressed=False, planes=False, bits=None):
    """Return a TIFF of values [H, W] or [H, W, channels], by their own type, in an order of bytes.

    It is one strip, or one for each channel in planes; ``bits`` are 12 that are packed.
    """
    height, width, channels = (*values.shape, 1)[:3]
    sample = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    parts = [values[..., i] for i in range(channels)] if planes else [values]
    strips = [part.astype(part.dtype.newbyteorder(order)).tobytes() for part in parts]
    if bits == 12:
        rows = ["".join(f"{v:012b}" for v in row) for row in values.tolist()]
        strips = [b"".join(int(row, 2).to_bytes(len(row) // 8, "big") for row in rows)]
    strips = [zlib.compress(strip) for strip in strips] if compressed else strips
    photometric = (1 if channels == 1 else 2) if photometric is None else photometric
    tags = {
        256: ("I", [width]), 257: ("I", [height]), 258: ("H", [bits or 8 * values.itemsize] * channels),
        259: ("H", [8 if compressed else 1]), 262: ("H", [photometric]), 273: ("I", [0] * len(strips)),
        277: ("H", [channels]), 278: ("I", [height]), 279: ("I", [len(strip) for strip in strips]),
        284: ("H", [2 if planes else 1]), 339: ("H", [sample] * channels),
    }  # fmt: skip
    if extra is not None:
        tags[338] = ("H", [extra])
    beyond = 8 + 2 + 12 * len(tags) + 4
    sizes = [len(numbers) * (2 if kind == "H" else 4) for kind, numbers in tags.values()]
    longer = sum(size for size in sizes if size > 4)  # than what an entry holds
    tags[273] = ("I", [beyond + longer + sum(map(len, strips[:i])) for i in range(len(strips))])
    entries, blob = b"", b""
    for tag, (kind, numbers) in sorted(tags.items()):
        raw = struct.pack(f"{order}{len(numbers)}{kind}", *numbers)
        if len(raw) > 4:
            raw, blob = struct.pack(order + "I", beyond + len(blob)), blob + raw
        entries += struct.pack(order + "HHI", tag, 3 if kind == "H" else 4, len(numbers)) + raw.ljust(4, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, len(tags))
    return head + entries + b"\0" * 4 + blob + b"".join(strips)


def ramp(low, high, dtype, channels=None, shape=(24, 32), seed=0):
    """Return random values that reach both ends of a range."""
    rng, size = np.random.default_rng(seed), (*shape, *([channels] if channels else []))
    values = low + rng.random(size) * (high - low)
    values.flat[0], values.flat[-1] = low, high
    return (values if np.dtype(dtype).kind == "f" else np.rint(values)).astype(dtype)
