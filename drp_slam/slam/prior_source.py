# SPDX-License-Identifier: Apache-2.0
"""A prior from a table of samples, as files and messages hold them."""

from __future__ import annotations

import numpy as np

from drp_slam import geometry
from drp_slam.slam.prior import Prior, Stream


def pose_of(position_m: np.ndarray, quaternion: np.ndarray) -> np.ndarray:
    """(4, 4) of a position (3,) and a quaternion (4,) x y z w; NaN where its length is not 1 within 1 %."""
    T = np.eye(4)
    if not abs(float(np.linalg.norm(quaternion)) - 1.0) < 0.01:
        return np.full((4, 4), np.nan)
    T[:3, :3], T[:3, 3] = geometry.rotation(quaternion), position_m
    return T


def prior_of(stamps_ns: np.ndarray, rows: np.ndarray, T_body_camera: np.ndarray) -> tuple[Prior, list[str]]:
    """The prior of `data.prior_file.read_prior` for a camera at (4, 4) `T_body_camera`, and remarks on its samples."""
    stream = Stream(T_body_camera, kept=len(rows))
    told = []
    for stamp_ns, row in zip(stamps_ns.tolist(), rows):
        if len(row) == 3:
            said = stream.turn(stamp_ns, row)
        else:
            said = stream.add(stamp_ns, pose_of(row[:-4] if len(row) == 7 else np.zeros(3), row[-4:]))
        if said:
            told.append(f"at {stamp_ns * 1e-9:.3f} s {said}")
    return (Prior(poses=stream) if rows.shape[1] == 7 else Prior(turns=stream)), told
