# SPDX-License-Identifier: Apache-2.0
"""RVL, the lossless code of depth images (Wilson, ISS 2017), as in compressed_depth_image_transport."""

from __future__ import annotations

import numpy as np

from drp_slam.decoding import MOST_PIXELS
from drp_slam.errors import DataError

SIDE = 1 << 14
"""Largest width or height of a camera, in pixels."""


def is_rvl(data: bytes | memoryview) -> bool:
    """Whether the data begins with a width and a height, as without the header of compressed_depth_image_transport."""
    width, height = (int(n) for n in np.frombuffer(data[:8], "<i4")) if len(data) >= 8 else (0, 0)
    return 0 < width <= SIDE and 0 < height <= SIDE


def decode_rvl(data: bytes | memoryview, where: str) -> np.ndarray:
    """(H, W) uint16: two int32, width and height, then the code. Raises DataError, whose message begins with `where`.

    The code is a sequence of numbers of one or more nibbles (3 bits each, the highest bit: another one follows): how
    many pixels are 0, how many are not, and of each of those its difference to the last one, zigzag.
    """
    data = bytes(data)
    width, height = (int(n) for n in np.frombuffer(data[:8], "<i4")) if len(data) >= 8 else (0, 0)
    if width < 1 or height < 1 or width * height > MOST_PIXELS:
        raise DataError(f"{where}: RVL of {width}x{height} pixels; expected 1 to {MOST_PIXELS}")
    words = np.frombuffer(data[8 : len(data) // 4 * 4], "<u4")
    nibbles = (words[:, None] >> np.arange(28, -1, -4, dtype=np.uint32)).astype(np.uint8).ravel() & 15
    last = np.flatnonzero(nibbles < 8)
    nibbles = nibbles[: last[-1] + 1] if len(last) else nibbles[:0]
    first = np.concatenate([[0], last[:-1] + 1])[: len(last)]
    if not len(last) or int((last - first).max()) > 9:
        raise DataError(f"{where}: damaged RVL: a number without end")
    place = np.arange(len(nibbles)) - np.repeat(first, last - first + 1)
    numbers = np.add.reduceat((nibbles & 7).astype(np.int64) << (3 * place), first)

    runs, at = _runs(numbers, width * height)
    if at > len(numbers) or int(runs.sum()) != width * height:
        raise DataError(f"{where}: damaged or truncated RVL of {width}x{height} pixels")
    is_number = np.ones(at, bool)
    heads = np.concatenate([[0], np.cumsum(runs[1::2] + 2)[:-1]])
    is_number[heads] = is_number[heads + 1] = False
    zigzag = numbers[:at][is_number]
    filled = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    depth = np.zeros(width * height, np.int64)
    depth[filled] = np.cumsum((zigzag >> 1) ^ -(zigzag & 1))
    if depth.min() < 0 or depth.max() > 65535:
        raise DataError(f"{where}: damaged RVL: depth {depth.min()} to {depth.max()}, expected 0 to 65535")
    return depth.astype(np.uint16).reshape(height, width)


def _runs(numbers: np.ndarray, pixels: int) -> tuple[np.ndarray, int]:
    """Lengths of the runs, zeros and others in turn, and how many numbers they take: one step a run, not a pixel."""
    values = numbers.tolist()
    runs: list[int] = []
    at = done = 0
    while done < pixels and at + 1 < len(values):
        zeros, others = values[at], values[at + 1]
        if zeros + others == 0:
            break
        runs += (zeros, others)
        done += zeros + others
        at += 2 + others
    return np.array(runs, np.int64), at
