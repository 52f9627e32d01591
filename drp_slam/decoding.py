# SPDX-License-Identifier: Apache-2.0
"""Decodes image files and compressed messages to arrays, after checking the size in their header."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

MOST_PIXELS = 1 << 26
"""Largest number of pixels, 8192 x 8192: a PNG of a few kB may expand to gigabytes."""
LONGEST_IMAGE = 1 << 28
"""Bytes of an image file: `MOST_PIXELS` of 32 bits, not compressed."""
PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"
START_OF_SCAN = 0xDA
MAGIC = (PNG, JPEG, b"II*\0", b"MM\0*", b"BM", b"P5", b"P6")
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(MOST_PIXELS))  # for other formats; read when cv2 is imported

import cv2  # noqa: E402

from drp_slam.errors import DataError, DrpSlamError  # noqa: E402
from drp_slam.resources import read_regular  # noqa: E402


def read_image(path: Path, error: type[DrpSlamError], grey: bool = False) -> np.ndarray:
    """An image file as (H, W, 3) uint8 BGR, or (H, W) if `grey`. Raises `error` that names the file."""
    data = read_regular(path, LONGEST_IMAGE, error, "scale it down")
    flags = cv2.IMREAD_GRAYSCALE if grey else cv2.IMREAD_COLOR
    return decode(data, flags, str(path), error, "remove it or copy it again")


def decode(
    data: bytes | memoryview,
    flags: int,
    where: str,
    error: type[DrpSlamError] = DataError,
    remedy: str = "copy it again from its source, or remove it from the list",
) -> np.ndarray:
    """Decodes PNG, JPEG, ... Raises `error` that names `where`.

    OpenCV returns partial images for truncated files, so completeness is checked first.
    """
    data = memoryview(data)
    pixels = pixels_of(data)
    if pixels > MOST_PIXELS:
        raise error(f"{where}: an image of {pixels} pixels, expected at most {MOST_PIXELS}; scale it down")
    if data[:8] == PNG:
        read = _sound_png(data)
    elif data[:2] == JPEG:
        read = data if _jpeg_is_sound(data) else None
    else:
        read = data or None
    try:
        image = None if read is None else cv2.imdecode(np.frombuffer(read, np.uint8), flags)
    except cv2.error:  # a header with more pixels than OpenCV accepts
        image = None
    if image is None and len(data) and not is_known(data):
        raise error(f"{where}: begins with {bytes(data[:4])!r}: not PNG, JPEG or another readable format")
    if image is None:
        raise error(f"{where}: damaged or truncated image; {remedy}")
    return image


def is_known(data: memoryview) -> bool:
    """Whether the data begins like PNG, JPEG, TIFF, BMP, WebP or PNM."""
    begin = bytes(data[:12])
    return begin.startswith(MAGIC) or (begin[:4] == b"RIFF" and begin[8:] == b"WEBP")


def pixels_of(data: memoryview) -> int:
    """Number of pixels in the header of a PNG or JPEG; 0 without one."""
    if data[:8] == PNG:
        return int.from_bytes(data[16:20], "big") * int.from_bytes(data[20:24], "big")
    for marker, at in _segments(data):
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and at + 9 <= len(data):  # a start of frame
            return int.from_bytes(data[at + 5 : at + 7], "big") * int.from_bytes(data[at + 7 : at + 9], "big")
    return 0


def _segments(data: memoryview) -> Iterator[tuple[int, int]]:
    """Marker and offset of a JPEG's segments up to the one before the pixels."""
    at = 2 if data[:2] == JPEG else len(data)
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # padding
            at += 1
            continue
        yield marker, at
        if marker == START_OF_SCAN:
            return
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")


def _jpeg_is_sound(data: memoryview) -> bool:
    """Whether an end marker follows the pixels, ignoring what follows: some cameras pad with zeros.

    An end marker before the pixels is that of a thumbnail; the coded pixels contain none.
    """
    begin = next((at for marker, at in _segments(data) if marker == START_OF_SCAN), len(data))
    return bytes(data).find(b"\xff\xd9", begin) >= 0


def _sound_png(data: memoryview) -> memoryview | None:
    """Walks the chunks to IEND and checks each one's CRC (0.1 ms for VGA depth); None for a damaged file.

    Leaves the colour profile out: pixels do not change with it, and libpng warns of every odd one on standard error.
    """
    at, profile = 8, (0, 0)
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        kind, end = bytes(data[at + 4 : at + 8]), at + 8 + length
        crc = int.from_bytes(data[end : end + 4], "big")
        if end + 4 > len(data) or zlib.crc32(data[at + 4 : end]) != crc:
            return None
        if kind == b"iCCP":
            profile = at, end + 4
        if kind == b"IEND":
            return memoryview(bytes(data[: profile[0]]) + bytes(data[profile[1] :])) if profile[1] else data
        at = end + 4
    return None
