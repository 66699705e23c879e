"""PNG images of few colours: half the bytes, and less, of what a plotting library writes."""

from __future__ import annotations

import base64
import io
import struct
import zlib

import numpy as np
import numpy.typing as npt

MOST_COLORS = 256


def encode(index: npt.NDArray[np.uint8], colors: npt.NDArray[np.uint8]) -> bytes:
    """Write an image whose pixels are numbers of colours (PNG specification 3, colour type 3).

    Parameters
    ----------
    index : (rows, columns) uint8
        Number of each pixel's colour; the first row is the upper one.
    colors : (colors, 4) uint8
        Red, green, blue and opacity of each, 0 to 255.
    """
    rows, columns = index.shape
    lines = np.zeros((rows, columns + 1), np.uint8)  # each begins with its filter: none
    lines[:, 1:] = index
    head = struct.pack(">IIBBBBB", columns, rows, 8, 3, 0, 0, 0)
    chunks = (
        (b"IHDR", head),
        (b"PLTE", colors[:, :3].tobytes()),
        (b"tRNS", colors[:, 3].tobytes()),
        (b"IDAT", zlib.compress(lines.tobytes(), 9)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*one) for one in chunks)


def _chunk(kind: bytes, content: bytes) -> bytes:
    checked = kind + content
    return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))


def with_palette(image: bytes) -> bytes:
    """Write a PNG image anew, its few colours as numbers; as it was if they are many."""
    from PIL import Image  # comes with Matplotlib

    with Image.open(io.BytesIO(image)) as opened:
        pixels = np.asarray(opened.convert("RGBA"))
    colors, index = np.unique(pixels.reshape(-1, 4).copy().view(np.uint32), return_inverse=True)
    if len(colors) > MOST_COLORS:
        return image
    smaller = index.reshape(pixels.shape[:2]).astype(np.uint8)
    return encode(smaller, colors.view(np.uint8).reshape(-1, 4))


def as_uri(image: bytes) -> str:
    """Put a PNG image into an address, so that nothing is fetched."""
    return f"data:image/png;base64,{base64.b64encode(image).decode('ascii')}"
