# SPDX-License-Identifier: Apache-2.0
"""Reads the TUM RGB-D folder layout (Sturm et al., IROS 2012).

`associations.txt` (t_rgb rgb t_depth depth), else `rgb.txt` and `depth.txt` paired by nearest
stamp, or `rgb.txt` alone; `camera.yaml`; `groundtruth.txt`, the pose of the colour camera.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from drp_slam.data import depth_check
from drp_slam.data.calibration import Given, own_or_given, read_calibration
from drp_slam.data.depth_stamps import paired
from drp_slam.data.image_codec import LARGEST_FILE
from drp_slam.data.registration import Registration, alike, scaled
from drp_slam.data.sequence import AS_RECORDED, DepthReading, Sequence, alone, window, without_depth
from drp_slam.data.trajectory import parse_stamp
from drp_slam.data.truth import read_truth
from drp_slam.datatypes import Camera, Frame
from drp_slam.decoding import decode
from drp_slam.errors import DataError
from drp_slam.resources import read_regular, read_text

Listing = list[tuple[int, str]]
"""Stamp in ns and file name, relative to the folder."""


def open_tum(
    folder: Path,
    given: Given | None = None,
    start: int = 0,
    frames: int | None = None,
    reading: DepthReading = AS_RECORDED,
) -> Sequence:
    """Opens a folder. Raises DataError for invalid lists or calibration."""
    colour, depth, notes = _listed(folder, reading)
    own = folder / "camera.yaml"
    recorded = read_calibration(own) if own.is_file() else None
    if given is None and recorded is not None:
        notes += recorded.notes
    used = given or recorded
    size_px = _size_of(folder, colour) if used is not None and not used.camera.width else None
    before = recorded.of_size(size_px or (0, 0)) if recorded is not None else None
    camera, said = own_or_given(before, given, str(folder), size_px)
    if reading.unit_m is not None:
        asked_mm, stated_mm = reading.unit_m * 1e3, 1e3 / camera.depth_scale
        said += (f"{folder}: a unit of depth is {asked_mm:g} mm by depth_unit_m, not {stated_mm:g} mm",)
        camera = replace(camera, depth_scale=1.0 / reading.unit_m)
    unit_m = 1.0 / camera.depth_scale
    camera = camera if depth else alone(camera)
    truth, said_of_truth = read_truth(folder / "groundtruth.txt")
    stamps_ns = np.array([stamp for stamp, _ in colour], np.int64)
    chosen = window(stamps_ns, start, frames, str(folder))
    colour, depth = colour[chosen], depth[chosen]
    register = _registration(folder, depth, camera)

    def source() -> Iterator[Frame | DataError]:
        for index, (stamp_ns, image) in enumerate(colour):
            try:
                pixels = read_colour(folder / image)
                if not depth:
                    yield Frame(index, stamp_ns, pixels, camera)
                    continue
                raw = read_depth(folder / depth[index][1])
                raw, unit = register(raw, unit_m) if register else (raw, unit_m)
                yield Frame(index, stamp_ns, pixels, camera, raw, unit)
            except DataError as error:
                yield error

    return Sequence(
        folder.resolve().name,
        camera,
        stamps_ns[chosen],
        truth,
        source,
        np.array([stamp for stamp, _ in depth], np.int64) if depth else None,
        notes=(*notes, *said, *said_of_truth, *_doubt(folder, depth, unit_m)),
        image_files=tuple(folder / name for _, name in colour),
    )


def _size_of(folder: Path, colour: Listing) -> tuple[int, int]:
    """Width and height of the first image."""
    height, width = read_colour(folder / colour[0][1]).shape[:2]
    return width, height


def _first_depth(folder: Path, depth: Listing) -> np.ndarray | None:
    """The first readable one of the first depth images."""
    for _, name in depth[:3]:
        try:
            return read_depth(folder / name)
        except DataError:
            continue
    return None


def _registration(folder: Path, depth: Listing, camera: Camera) -> Registration | None:
    """Scales depth of another size with the same aspect ratio."""
    first = _first_depth(folder, depth)
    size_px = (first.shape[1], first.shape[0]) if first is not None else (camera.width, camera.height)
    if size_px == (camera.width, camera.height) or not alike(size_px, (camera.width, camera.height)):
        return None
    return scaled(size_px, camera)


def _doubt(folder: Path, depth: Listing, unit_m: float) -> tuple[str, ...]:
    first = _first_depth(folder, depth)
    return depth_check.doubt(depth_check.median_of(first) * unit_m, unit_m, str(folder)) if first is not None else ()


def _listed(folder: Path, reading: DepthReading) -> tuple[Listing, Listing, tuple[str, ...]]:
    """Colour and depth files, one to one, in order of the colour stamps, and notes; depth may be empty."""
    if (folder / "associations.txt").is_file() or (folder / "depth.txt").is_file():
        colour, depth, notes = _pairs(folder, reading)
        return colour, ([] if reading.alone else depth), notes
    colour, notes = _list(folder / "rgb.txt")
    if not colour:
        raise DataError(f"{folder / 'rgb.txt'}: lists no image; copy the list of images again")
    return colour, [], notes if reading.alone else (*notes, without_depth(str(folder), "no depth.txt"))


def _pairs(folder: Path, reading: DepthReading) -> tuple[Listing, Listing, tuple[str, ...]]:
    """Colour and depth files, one to one, in order of the colour stamps, and notes."""
    associations = folder / "associations.txt"
    if associations.is_file():
        rows = _rows(associations, 4, "t_rgb rgb t_depth depth")
        left = [(parse_stamp(row[0], where), row[1]) for where, row in rows]
        right = [(parse_stamp(row[2], where), row[3]) for where, row in rows]
        # some tools list depth first
        colour, depth = (right, left) if left and left[0][1].startswith("depth") else (left, right)
        keep, notes = _increasing(associations, colour)
        colour, depth = [colour[k] for k in keep], [depth[k] for k in keep]
    else:
        colour, notes = _list(folder / "rgb.txt")
        depth, said = _list(folder / "depth.txt")
        colour_ns, depth_ns = (np.array([stamp for stamp, _ in listing], np.int64) for listing in (colour, depth))
        i, j, measured = paired(colour_ns, depth_ns, reading, str(folder))
        colour, depth, notes = [colour[k] for k in i], [depth[k] for k in j], (*notes, *said, *measured)
    if not colour:
        raise DataError(
            f"{folder}: no colour image has a depth image within {reading.tolerance_s:g} s; check the stamps in "
            "its lists, or give depth_offset_s or depth_tolerance_s"
        )
    return colour, depth, notes


def _list(path: Path) -> tuple[Listing, tuple[str, ...]]:
    """`rgb.txt` or `depth.txt`, in order, and notes."""
    listing = [(parse_stamp(row[0], where), row[1]) for where, row in _rows(path, 2, "t file")]
    keep, notes = _increasing(path, listing)
    return [listing[k] for k in keep], notes


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


def _increasing(path: Path, listing: Listing) -> tuple[list[int], tuple[str, ...]]:
    """The entries in order of their stamps, one per stamp, and a note on those out of order."""
    stamps = np.array([stamp for stamp, _ in listing], np.int64)
    keep = np.unique(stamps, return_index=True)[1]
    odd = int((np.diff(stamps) <= 0).sum())
    note = f"{path}: {odd} stamps do not increase: sorted, {len(stamps) - len(keep)} repeated ones skipped"
    return keep.tolist(), (note,) if odd else ()


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
            "channel of 16 bits; was it saved as a picture for display?"
        )
    return depth


def _bytes(path: Path) -> bytes:
    remedy = "the sequence lists it, so copy it again or remove its line"
    return read_regular(path, LARGEST_FILE, DataError, remedy)
