# SPDX-License-Identifier: Apache-2.0
"""The measurement of one network on one sequence, cached in a file by `evaluate` and `sweep`."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from drp_slam import resources
from drp_slam.atomic import replacing
from drp_slam.errors import DataError

if TYPE_CHECKING:
    from drp_slam.config import Config
    from drp_slam.data.sequence import Sequence as Recording

THRESHOLDS = (0.55, 0.6, 0.65, 0.7, 0.75)
"""Keyframe ratios of the perturbed configurations."""


@dataclass(frozen=True)
class Measured:
    """One network on one sequence. `table` (N, len(METRICS)), a row per pair; `paths` (C, 2) ATE in
    metres and share of frames tracked, a row per configuration; `uv` keypoints by frame."""

    table: np.ndarray
    paths: np.ndarray
    uv: dict[int, np.ndarray]


def file_name(
    name: str, reference: str, recording: Recording, pairs: np.ndarray, configurations: int, config: Config
) -> str:
    """File name that changes with everything that affects the measurement."""
    from drp_slam.frontend.front_end import without_network

    digest = hashlib.sha256()
    for part in (name, reference):
        digest.update(part.encode() if without_network(part) else resources.network(part).read_bytes())
    slam = {k: v for k, v in dataclasses.asdict(config.slam).items() if configurations or k.startswith("depth_")}
    drp = (config.graph.features, config.drp.top_k, config.drp.threshold, config.drp.nms_px, config.drp.subpixel)
    about = (recording.name, configurations, drp, slam, THRESHOLDS)
    digest.update(repr(about).encode() + recording.stamps_ns.tobytes() + pairs.tobytes())
    return f"{Path(name).stem}-{digest.hexdigest()[:12]}.npz"


def store(measured: Measured, path: Path) -> None:
    """Writes a measurement through a temporary name."""
    uv = list(measured.uv.values())
    parts: dict[str, Any] = {
        "frames": np.array(list(measured.uv)),
        "sizes": [len(part) for part in uv],
        "uv": np.concatenate(uv),
    }
    with replacing(path, DataError) as temporary, temporary.open("wb") as file:
        np.savez(file, table=measured.table, paths=measured.paths, **parts)


def stored(path: Path) -> Measured:
    """Reads what `store` wrote. Raises DataError for another file."""
    found = resources.read_npz(path, DataError, remedy="delete it; the next run measures again")
    try:
        parts = np.split(found["uv"], np.cumsum(found["sizes"])[:-1])
        uv = dict(zip(found["frames"].tolist(), parts, strict=True))
        return Measured(found["table"], found["paths"], uv)
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: not a measurement of this version ({error}); delete it; the next run measures again"
        ) from error
