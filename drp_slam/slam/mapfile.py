# SPDX-License-Identifier: Apache-2.0
"""A map as a file: `save` and `load`. The format is described in docs/map_format.md.

    8 bytes   magic
    32 bytes  SHA-256 of everything after it
    8 bytes   length of the header, unsigned, little-endian
    header    JSON: version, descriptor, and name, type and shape of every array
    arrays    in that order, little-endian, row by row, without gaps

Nothing in a file is executed, and nothing of a file is used before its checksum and contents are verified.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict
from pathlib import Path

import numpy as np

from drp_slam import __version__
from drp_slam.atomic import make_folder, replacing
from drp_slam.datatypes import DescriptorSpec
from drp_slam.errors import SlamError
from drp_slam.resources import regular
from drp_slam.slam.descriptors import check_spec
from drp_slam.slam.map import Map
from drp_slam.slam.maparrays import fault, from_arrays, schema, to_arrays

MAGIC = b"\x89DRPMAP\n"
VERSION = 5
READ = (1, 2, 3, 4, 5)
LABELS = ("point_label", "point_label_votes")
LACKING = {
    1: ("keyframe_descriptors", "keyframe_part", *LABELS),
    2: ("keyframe_covariance", "keyframe_unscaled", "point_measured"),
}
"""What files of a version and of earlier ones lack: version 1 has a descriptor for every feature, one part and no
labels; version 2 has no covariances."""
UNROUNDED = 3
"""Last version whose descriptors have the front end's type."""
WITH_PIXELS = 4
"""Last version that holds the pixels of features."""
LONGEST_HEADER = 1 << 20
LARGEST_FILE = 1 << 34
"""Bytes of a map: a keyframe has about 0.1 MB."""


def save(slam_map: Map, path: Path) -> None:
    """Writes a map; an existing file is replaced atomically, or kept. Raises DrpSlamError."""
    arrays = to_arrays(slam_map)
    header = {
        "version": VERSION,
        "written_by": f"drp_slam {__version__}",
        "descriptor": asdict(slam_map.spec),
        "classes": slam_map.classes,
        "arrays": [{"name": n, "dtype": a.dtype.str, "shape": a.shape} for n, a in arrays.items()],
    }
    text = json.dumps(header).encode()
    parts = [len(text).to_bytes(8, "little"), text, *(a.tobytes() for a in arrays.values())]
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    make_folder(path.parent)
    with replacing(path, SlamError) as temporary, temporary.open("wb") as file:
        file.writelines([MAGIC, digest.digest(), *parts])


def load(path: Path) -> Map:
    """Reads a map. Raises SlamError in one line for a file that is of another kind, damaged or inconsistent."""
    with regular(path, LARGEST_FILE, SlamError, "name a file written by --save-map") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise SlamError(f"{path}: not a map of drp_slam; name a file written by --save-map")
        content = memoryview(file.read())
    digest, content = content[:32], content[32:]
    if hashlib.sha256(content).digest() != digest:
        raise SlamError(f"{path}: damaged: the checksum does not match; restore a copy, or build the map again")
    length = int.from_bytes(content[:8], "little")
    try:
        header = json.loads(bytes(content[8 : 8 + min(length, LONGEST_HEADER)]))
        version, spec = header["version"], DescriptorSpec(**header["descriptor"])
        stated = [(str(a["name"]), str(a["dtype"]), tuple(map(int, a["shape"]))) for a in header["arrays"]]
        classes = _classes(header.get("classes", []))
        if version in READ:
            check_spec(spec)
    except (ValueError, KeyError, TypeError, RecursionError, SlamError) as error:
        raise _unsound(path, f"its header cannot be read: {error}") from error
    if version not in READ:
        raise SlamError(
            f"{path}: a map of version {version!r}, this program reads {READ[0]} to {READ[-1]}; build the map again"
        )
    _fit(path, spec, stated, version)
    arrays, data = {}, content[8 + length :]
    for name, dtype, shape in stated:
        size = math.prod(shape) * np.dtype(dtype).itemsize
        if size > len(data):
            raise _unsound(path, f"{name} {shape} does not fit into it")
        arrays[name], data = np.frombuffer(data[:size], dtype).reshape(shape), data[size:]
    if len(data):
        raise _unsound(path, f"{len(data)} bytes lie behind its arrays")
    rows = {"keyframe": len(arrays["keyframe_features"]), "point": len(arrays["point_xyz"])}
    for name in _lacking(version):
        dtype, of, row = schema(spec)[name]
        arrays[name] = np.zeros((rows[of], *row), dtype)
    if version == 1:
        arrays["keyframe_descriptors"] = arrays["keyframe_features"]
    if version < 3:
        arrays["point_measured"] = arrays["point_alive"]
    if wrong := fault(arrays, len(classes)):
        raise _unsound(path, wrong)
    slam_map = from_arrays(spec, arrays)
    slam_map.classes = classes
    return slam_map


def _classes(names: object) -> list[str]:
    """Names of classes from a header. Raises ValueError."""
    if not isinstance(names, list) or not all(isinstance(n, str) and n.isprintable() for n in names):
        raise ValueError("classes are no list of printable names")
    return names


def open_map(path: str, spec: DescriptorSpec) -> Map:
    """The map of a file for a front end with such descriptors, or an empty one where `path` is empty.

    Raises SlamError as `load` does, and for a map of other descriptors.
    """
    if not path:
        return Map(spec)
    slam_map = load(Path(path))
    if slam_map.spec != spec:
        raise SlamError(
            f"{path}: a map of {_spelled(slam_map.spec)} descriptors, but the front end gives "
            f"{_spelled(spec)}; choose the front end that made it with --features, or build the map again"
        )
    return slam_map


def _spelled(spec: DescriptorSpec) -> str:
    return f"{spec.length} {spec.dtype} ({spec.metric})"


def _fit(path: Path, spec: DescriptorSpec, stated: list[tuple[str, str, tuple[int, ...]]], version: int) -> None:
    """Raises SlamError unless the header has exactly the arrays of the schema, with consistent numbers of rows."""
    expected = schema(spec, rounded=version > UNROUNDED, pixels=version <= WITH_PIXELS)
    for name in _lacking(version):
        del expected[name]
    names = [name for name, _, _ in stated]
    if names != list(expected):
        other = sorted(set(names) ^ set(expected))
        raise _unsound(path, f"it lacks, or has beyond what is known, {', '.join(other)[:200] or 'an order'}")
    rows: dict[str, int] = {}
    for name, dtype, shape in stated:
        known, of, row = expected[name]
        agrees = len(shape) > 0 and shape[0] >= 0 and rows.setdefault(of, shape[0]) == shape[0]
        if dtype != known or shape[1:] != row or not agrees:
            raise _unsound(path, f"{name} is {dtype} {shape}, expected {known} ({rows.get(of, 'N')}, {row})")


def _lacking(version: int) -> list[str]:
    """The arrays that files of a version lack."""
    return [name for last, names in LACKING.items() if version <= last for name in names]


def _unsound(path: Path, what: str) -> SlamError:
    return SlamError(f"{path}: not a sound map: {what}; write it again with --save-map")
