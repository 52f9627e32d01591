# SPDX-License-Identifier: Apache-2.0
"""Converts a recording from one format into another."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from drp_slam.data.sequence import Sequence
from drp_slam.datatypes import Frame
from drp_slam.errors import DataError

TUM_DEPTH_SCALE = 5000.0
"""Raw units per metre when depth in metres is written in the TUM format."""


def convert(
    sequence: Sequence, source: str, destination: Path, form: str | None, compressed: bool, depth: str | None
) -> dict[str, Any]:
    """Writes `sequence`, opened from `source`, to `destination`; reports what was rounded.

    `form` is tum, mcap or sqlite3, by default the respective other one. Stamps are copied exactly. Raw units of
    depth are kept in a TUM folder; in a bag they become 32FC1 metres that round back to them, and
    millimetres stay 16UC1. Raises DataError.
    """
    form = form or _by_name(source, destination)
    began = time.perf_counter()
    if form == "tum":
        details = _to_tum(destination, sequence, compressed)
    else:
        from drp_slam.data.bag_writer import write_bag

        details = write_bag(destination, sequence, form, compressed, depth)
    return {
        "format": form,
        "frames": len(sequence) - len(sequence.skipped),
        "ground_truth": len(sequence.ground_truth or ()),
        **details,
        "megabytes": sum(f.stat().st_size for f in destination.rglob("*") if f.is_file()) / 1e6,
        "wall_s": time.perf_counter() - began,
    }


def convert_trajectory(source: str, destination: Path, form: str, keyframes: bool) -> dict[str, Any]:
    """Writes a trajectory, from a file in TUM's format or a results folder, as `form`. Raises DataError."""
    from drp_slam.data.trajectory import read_tum
    from drp_slam.data.trajectory_export import export, only_keyframes, trajectory_file

    path = trajectory_file(Path(source).expanduser())
    if path is None:
        raise DataError(f"{source}: neither a trajectory in TUM's format (.txt) nor a results folder with one")
    trajectory = read_tum(path)
    if keyframes:
        trajectory = only_keyframes(trajectory, path)
    written = export(destination, trajectory, form)
    return {"format": form, "poses": len(trajectory), "files": ", ".join(p.name for p in written)}


def _by_name(source: str, destination: Path) -> str:
    """The default format: a bag becomes a TUM folder, anything else MCAP."""
    from drp_slam.data.bag_storage import is_bag

    path = Path(source.split(":", 1)[0]).expanduser()
    return "tum" if path.exists() and is_bag(path) else "mcap"


def _to_tum(folder: Path, sequence: Sequence, compressed: bool) -> dict[str, Any]:
    """Writes the folder; rounds depth in metres to 5000 units per metre and measures the error."""
    from drp_slam.data.tum_writer import raw_depth, write_folder

    worst_m = 0.0
    camera = sequence.camera
    if camera.depth_scale == 1.0:
        camera = dataclasses.replace(camera, depth_scale=TUM_DEPTH_SCALE)

    def source() -> Iterator[Frame]:
        nonlocal worst_m
        for frame in sequence:
            frame = dataclasses.replace(frame, camera=camera)
            if frame.depth is not None and frame.depth.dtype != np.uint16:
                raw = raw_depth(frame)
                metres = np.nan_to_num(frame.depth, posinf=0.0, neginf=0.0).clip(0)
                worst_m = max(worst_m, float(np.abs(raw / camera.depth_scale - metres).max()))
                frame = dataclasses.replace(frame, depth=raw, depth_unit_m=1 / camera.depth_scale)
            yield frame

    converted = dataclasses.replace(sequence, camera=camera, source=source)
    write_folder(folder, converted, ".jpg" if compressed else ".png", "writing the folder")
    colour = "jpeg, quality 95" if compressed else "exact"
    return {
        "colour": colour,
        "depth_encoding": f"uint16, {camera.depth_scale:g} per metre",
        "depth_rounding_m": worst_m,
    }
