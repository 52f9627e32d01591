# SPDX-License-Identifier: Apache-2.0
"""Reads the TUM RGB-D folder layout (Sturm et al., IROS 2012).

`associations.txt` (t_rgb rgb t_depth depth), else `rgb.txt` and `depth.txt` paired by nearest
stamp; `camera.yaml`; `groundtruth.txt`, the pose of the colour camera.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from drp_slam.data.calibration import load_camera, own_or_given
from drp_slam.data.sequence import Sequence, window
from drp_slam.data.trajectory import MAX_DIFFERENCE_S, associate, parse_stamp, read_tum
from drp_slam.datatypes import Camera, Frame
from drp_slam.errors import DataError

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
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot read the list of images: {error}") from error
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
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path}: cannot read: {error.strerror}; the sequence lists it, so copy it again or remove its line"
        ) from error


def decode(data: bytes | memoryview, flags: int, where: str) -> np.ndarray:
    """Decodes PNG, JPEG, ... Raises DataError that names `where`.

    OpenCV returns half an image for a truncated file, so completeness is checked first.
    """
    data = memoryview(data)
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        sound = _png_is_sound(data)
    elif data[:2] == b"\xff\xd8":
        sound = b"\xff\xd9" in bytes(data[-64:])
    else:
        sound = len(data) > 0
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if sound else None
    except cv2.error:  # a header with more pixels than OpenCV takes
        image = None
    if image is None:
        raise DataError(
            f"{where}: damaged or truncated image; copy it again from its source, or remove it from the list"
        )
    return image


def _png_is_sound(data: memoryview) -> bool:
    """Walks the chunks to IEND and checks each one's CRC (0.1 ms for VGA depth)."""
    at = 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        kind, end = bytes(data[at + 4 : at + 8]), at + 8 + length
        crc = int.from_bytes(data[end : end + 4], "big")
        if end + 4 > len(data) or zlib.crc32(data[at + 4 : end]) != crc:
            return False
        if kind == b"IEND":
            return True
        at = end + 4
    return False
