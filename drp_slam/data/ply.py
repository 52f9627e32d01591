# SPDX-License-Identifier: Apache-2.0
"""Point clouds as PLY files (binary, little-endian), as MeshLab and Open3D read them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from drp_slam.atomic import replacing
from drp_slam.datatypes import MapCloud
from drp_slam.errors import DataError
from drp_slam.resources import read_regular

_XYZ = [("x", "<f4"), ("y", "<f4"), ("z", "<f4")]
_RGB = [("red", "u1"), ("green", "u1"), ("blue", "u1")]
LARGEST = 1 << 30
"""Largest file in bytes."""
FARTHEST_M = 1e6
_LABELS = [("label", "<i2"), ("votes", "<i2")]
_TYPES = {"float": "<f4", "double": "<f8", "uchar": "u1", "short": "<i2"}
_NAMES = {kind: name for name, kind in _TYPES.items()}
_CLASS = "comment class "


def write_ply(path: Path, cloud: MapCloud) -> None:
    """Writes `cloud`: positions as float32 metres, colours as uchar and classes with votes as short if it has any.

    Class names are comments, `class 0 person`, numbered as in `label`. The file is written through a
    temporary name. Raises DataError if it cannot be written.
    """
    labelled = cloud.label is not None
    fields = _XYZ + (_RGB if cloud.rgb is not None else []) + (_LABELS if labelled else [])
    rows = np.zeros(len(cloud.xyz_m), fields)
    for axis, (name, _) in enumerate(_XYZ):
        rows[name] = cloud.xyz_m[:, axis]
    if cloud.rgb is not None:
        for channel, (name, _) in enumerate(_RGB):
            rows[name] = cloud.rgb[:, channel]
    if labelled:
        rows["label"], rows["votes"] = cloud.label, cloud.votes
    properties = "".join(f"property {_NAMES[kind]} {name}\n" for name, kind in fields)
    classes = "".join(f"{_CLASS}{i} {_plain(name)}\n" for i, name in enumerate(cloud.names))
    header = (
        f"ply\nformat binary_little_endian 1.0\ncomment drp_slam, metres\n{classes}"
        f"element vertex {len(rows)}\n{properties}end_header\n"
    )
    with replacing(path, DataError) as temporary:
        temporary.write_bytes(header.encode("ascii") + rows.tobytes())


def _plain(name: str) -> str:
    """A class name in characters that are valid in a header."""
    return " ".join(name.encode("ascii", "replace").decode().split())


def read_ply(path: Path) -> MapCloud:
    """Reads the points of a binary little-endian PLY with x, y, z and optional colours.

    Raises DataError for anything else and for a truncated file.
    """
    data = read_regular(path, LARGEST, DataError, "map it again")
    head, end, body = data.partition(b"end_header\n")
    lines = head.decode("ascii", "replace").split("\n")
    if not end or lines[0] != "ply" or "format binary_little_endian 1.0" not in lines:
        raise DataError(f"{path}: not a binary little-endian PLY; convert it, or map it again")
    words = [line.split() for line in lines if line.startswith(("element", "property"))]
    if (
        not words
        or words[0][:2] != ["element", "vertex"]
        or any(len(w) != 3 or w[0] != "property" or w[1] not in _TYPES for w in words[1:])
    ):
        raise DataError(f"{path}: expected one element, vertex, of float, double, uchar and short properties")
    if not words[0][2].isdecimal() or len({w[2] for w in words[1:]}) < len(words) - 1:
        raise DataError(f"{path}: {words[0][2][:20]} vertices, or two properties of one name; map it again")
    fields = np.dtype([(w[2], _TYPES[w[1]]) for w in words[1:]])
    count, names = int(words[0][2]), fields.names or ()
    if not {"x", "y", "z"} <= set(names) or len(body) < count * fields.itemsize:
        raise DataError(
            f"{path}: {len(body)} bytes of points with {', '.join(names)}, expected "
            f"{count * fields.itemsize} with x, y, z; the file is truncated"
        )
    rows = np.frombuffer(body, fields, count)
    with np.errstate(invalid="ignore"):  # a signalling NaN warns; it is refused below
        xyz_m = np.stack([rows[axis].astype(np.float64) for axis in "xyz"], axis=1)
    if not np.all(np.abs(xyz_m) < FARTHEST_M):  # NaN, too
        raise DataError(f"{path}: a point further than {FARTHEST_M:g} m or not finite; map it again")
    colours = [name for name, _ in _RGB]
    rgb = np.stack([rows[c] for c in colours], 1) if set(colours) <= set(names) else None
    if not {"label", "votes"} <= set(names):
        return MapCloud(xyz_m, rgb)
    classes = tuple(line[len(_CLASS) :].partition(" ")[2] for line in lines if line.startswith(_CLASS))
    return MapCloud(xyz_m, rgb, rows["label"].astype(np.int16), rows["votes"].astype(np.int16), classes)
