# SPDX-License-Identifier: Apache-2.0
"""Reads the TUM RGB-D folder layout (Sturm et al., IROS 2012).

`associations.txt` (t_rgb rgb t_depth depth), else `rgb.txt` and `depth.txt` paired by nearest
stamp; `camera.yaml`; `groundtruth.txt`, the pose of the colour camera.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from drp_slam.data.calibration import load_camera, own_or_given
from drp_slam.data.decoding import decode
from drp_slam.data.sequence import Sequence, window
from drp_slam.data.trajectory import MAX_DIFFERENCE_S, associate, parse_stamp, read_tum
from drp_slam.datatypes import Camera, Frame
from drp_slam.errors import DataError
from drp_slam.resources import read_regular, read_text

LARGEST_IMAGE = 1 << 28
"""Bytes of an image file."""
Listing = list[tuple[int, str]]
"""Stamp in ns and file name, relative to the folder."""


def open_tum(folder: Path, given: Camera | None = None, start: int = 0, frames: int | None = None) -> Sequence:
    """Opens a folder. Raises DataError for lists, stamps or calibration that do not hold."""
    colour, depth = _pairs(folder)
    own = folder / "camera.yaml"
    camera = own_or_given(load_camera(own) if own.is_file() else None, given, str(folder))
    truth = folder / "groundtruth.txt"
    stamps_ns = np.array([stamp for stamp, _ in colour], np.int64)
    chosen = window(stamps_ns, start, frames, str(folder))
    colour, depth = colour[chosen], depth[chosen]

    def source() -> Iterator[Frame]:
        unit_m = 1.0 / camera.depth_scale
        for index, ((stamp_ns, image), (_, range_image)) in enumerate(zip(colour, depth)):
            pixels, raw = read_colour(folder / image), read_depth(folder / range_image)
            yield Frame(index, stamp_ns, pixels, camera, raw, unit_m)

    return Sequence(
        folder.resolve().name,
        camera,
        stamps_ns[chosen],
        read_tum(truth) if truth.is_file() else None,
        source,
        np.array([stamp for stamp, _ in depth], np.int64),
    )


def _pairs(folder: Path) -> tuple[Listing, Listing]:
    """Colour and depth files, one to one, in order of the colour stamps."""
    associations = folder / "associations.txt"
    if associations.is_file():
        rows = _rows(associations, 4, "t_rgb rgb t_depth depth")
        left = [(parse_stamp(row[0], where), row[1]) for where, row in rows]
        right = [(parse_stamp(row[2], where), row[3]) for where, row in rows]
        # some tools list depth first
        colour, depth = (right, left) if left and left[0][1].startswith("depth") else (left, right)
        _increasing(associations, [stamp for stamp, _ in colour])
    else:
        colour = _list(folder / "rgb.txt")
        if not (folder / "depth.txt").is_file():
            raise DataError(
                f"{folder}: no depth.txt; RGB-D needs depth: list the depth images in "
                "depth.txt, or both in associations.txt"
            )
        depth = _list(folder / "depth.txt")
        i, j = associate(np.array([s for s, _ in colour]), np.array([s for s, _ in depth]))
        colour, depth = [colour[k] for k in i], [depth[k] for k in j]
    if not colour:
        raise DataError(
            f"{folder}: no colour image has a depth image within {MAX_DIFFERENCE_S:g} s; check the "
            "stamps in rgb.txt and depth.txt"
        )
    return colour, depth


def _list(path: Path) -> Listing:
    """`rgb.txt` or `depth.txt`."""
    listing = [(parse_stamp(row[0], where), row[1]) for where, row in _rows(path, 2, "t file")]
    _increasing(path, [stamp for stamp, _ in listing])
    return listing


def _rows(path: Path, width: int, form: str) -> list[tuple[str, list[str]]]:
    """The fields of each line, with its place for messages."""
    lines = read_text(path, DataError, remedy="copy the list of images again").splitlines()
    rows = []
    for number, line in enumerate(lines, 1):
        fields = line.split()
        if not fields or fields[0].startswith("#"):
            continue
        if len(fields) != width:
            raise DataError(f"{path}: line {number} has {len(fields)} fields, expected: {form}")
        rows.append((f"{path}: line {number}", fields))
    return rows


def _increasing(path: Path, stamps: list[int]) -> None:
    """Raises DataError at the first stamp that does not increase."""
    steps = np.flatnonzero(np.diff(np.array(stamps, np.int64)) <= 0)
    if len(steps):
        raise DataError(
            f"{path}: stamps out of order at entry {steps[0] + 2}; sort the file by its first column (sort -n -u -k1,1)"
        )


def read_colour(path: Path) -> np.ndarray:
    """(H, W, 3) BGR or (H, W) grey, uint8. Raises DataError for a missing or damaged file."""
    flags = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_IGNORE_ORIENTATION
    return decode(_bytes(path), flags, str(path))


def read_depth(path: Path) -> np.ndarray:
    """(H, W) uint16 raw depth. Raises DataError for a missing, damaged or 8-bit file."""
    depth = decode(_bytes(path), cv2.IMREAD_UNCHANGED, str(path))
    if depth.dtype not in (np.uint16, np.float32) or depth.ndim != 2:
        channels = 1 if depth.ndim == 2 else depth.shape[2]
        raise DataError(
            f"{path}: depth is {depth.dtype} with {channels} channels, expected one "
            "channel of 16 bits; was it saved as a picture for people?"
        )
    return depth


def _bytes(path: Path) -> bytes:
    remedy = "the sequence lists it, so copy it again or remove its line"
    return read_regular(path, LARGEST_IMAGE, DataError, remedy)
