# SPDX-License-Identifier: Apache-2.0
"""Estimates every ONNX file of a folder: complete, incomplete or refused, and why."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from drp_slam.chip.constants import Constants
from drp_slam.drpai3.estimate import estimate
from drp_slam.drpai3.graph import load
from drp_slam.errors import DrpAi3Error

SUFFIXES = (".onnx", ".onnx.gz")


def survey(folder: Path, constants: Constants, dims: Mapping[str, int], **options: Any) -> list[dict[str, Any]]:
    """One row per file below `folder`: `file`, `outcome`, `why`, `gmacs`, `total_ms`, `on_cpu`, `wall_s`.

    `total_ms` is modelled, `wall_s` measured here. `options` are those of `estimate.estimate`.
    Raises DrpAi3Error for a folder without ONNX files.
    """
    paths = sorted(p for p in folder.rglob("*") if p.name.endswith(SUFFIXES) and p.is_file())
    if not paths:
        raise DrpAi3Error(f"{folder}: has no {' or '.join(SUFFIXES)} file; name a folder of ONNX files")
    return [_row(path, folder, constants, dims, options) for path in paths]


def _row(
    path: Path, folder: Path, constants: Constants, dims: Mapping[str, int], options: Mapping[str, Any]
) -> dict[str, Any]:
    start = time.perf_counter()
    row: dict[str, Any] = {"file": str(path.relative_to(folder)), "gmacs": None, "total_ms": None, "on_cpu": None}
    try:
        found = estimate(load(path, dims=dims), constants, **options)
        why = "; ".join((*found.incomplete[:1], *found.notes))
        row |= {"outcome": "incomplete" if found.incomplete else "answered", "why": why}
        row |= {"gmacs": found.macs * 1e-9, "total_ms": found.total_s * 1e3, "on_cpu": len(found.fallbacks)}
    except DrpAi3Error as error:
        row |= {"outcome": "refused", "why": str(error).removeprefix(f"{path}: ")}
    return row | {"wall_s": time.perf_counter() - start}
