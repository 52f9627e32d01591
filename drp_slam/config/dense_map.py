# SPDX-License-Identifier: Apache-2.0
"""Parameters of the dense map."""

from __future__ import annotations

from dataclasses import dataclass

from drp_slam.config.parameter import check, param


@dataclass(frozen=True)
class DenseConfig:
    """The dense map of a running graph (`dense_node`)."""

    voxel_m: float = param(
        0.02, "size of a voxel; doubled where memory_mb is not enough", unit="m", low=0.001, high=1.0
    )
    range_m: float = param(5.0, "fuse depth up to this", unit="m", low=0.1, high=200.0)
    memory_mb: int = param(400, "limit of the voxels", unit="MB", low=10, high=16000)
    keyframes: int = param(
        2000, "keep this many keyframes to fuse again when a loop moves them, about 0.1 MB each", low=10, high=100_000
    )
    period_s: float = param(2.0, "publish dense_cloud at most once in this time", unit="s", low=0.1, high=600.0)

    def __post_init__(self) -> None:
        check("dense", self)
