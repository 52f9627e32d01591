# SPDX-License-Identifier: Apache-2.0
"""Measures how useful a network's features are to SLAM on fixed pairs of frames, without a tracker.

For each pair: mutual nearest neighbours, the first frame's depth, PnP with RANSAC, and the pose
found against the ground truth.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from drp_slam.datatypes import XFEAT_DESCRIPTOR, DescriptorSpec
from drp_slam.errors import DataError
from drp_slam.slam.matching import match
from drp_slam.slam.view import View

REPROJECTION_PX, ITERATIONS, CONFIDENCE, OVERLAP_PX = 3.0, 400, 0.999, 3.0
MIN_POINTS = 6
"""Least number of matches with depth to estimate a pose."""


@dataclass(frozen=True)
class PairResult:
    """One pair of one network. Errors are NaN without a pose or ground truth."""

    matches: int
    inliers: int
    error_m: float
    error_deg: float


def pairs_apart(stamps_ns: np.ndarray, gap_s: float) -> np.ndarray:
    """(N, 2) indices of all frames and the frame nearest to `gap_s` later (within half a frame).

    Raises DataError if there is none.
    """
    target = stamps_ns + round(gap_s * 1e9)
    later = np.clip(np.searchsorted(stamps_ns, target), 1, len(stamps_ns) - 1)
    later -= target - stamps_ns[later - 1] <= np.abs(stamps_ns[later] - target)
    tolerance = np.median(np.diff(stamps_ns)) * 0.51
    first = np.arange(len(stamps_ns))
    good = (np.abs(stamps_ns[later] - target) <= tolerance) & (later > first)
    if not good.any():
        raise DataError(f"no two frames are {gap_s:g} s apart; give a longer sequence or a smaller gap")
    return np.stack([first[good], later[good]], 1)


def judge(
    first: View,
    second: View,
    focal_px: float,
    T_second_first: np.ndarray | None,
    spec: DescriptorSpec = XFEAT_DESCRIPTOR,
) -> PairResult:
    """PnP of `second` against the points of `first` (RANSAC of OpenCV, fixed seed, 3 px)."""
    found = match(first.descriptor, second.descriptor, -1.0, spec=spec)
    with_depth = first.inverse_depth[found.a] > 0
    a, b = found.a[with_depth], found.b[with_depth]
    nothing = PairResult(len(found), 0, float("nan"), float("nan"))
    if len(a) < MIN_POINTS:
        return nothing
    cv2.setRNGSeed(0)
    ok, rotation, shift, inliers = cv2.solvePnPRansac(
        first.xyz()[a],
        second.xy[b],
        np.eye(3),
        None,
        iterationsCount=ITERATIONS,
        reprojectionError=REPROJECTION_PX / focal_px,
        confidence=CONFIDENCE,
        flags=cv2.SOLVEPNP_EPNP,
    )
    if not ok or inliers is None or len(inliers) < MIN_POINTS:
        return nothing
    inliers = inliers.ravel()
    rotation, shift = cv2.solvePnPRefineLM(
        first.xyz()[a[inliers]], second.xy[b[inliers]], np.eye(3), None, rotation, shift
    )
    if T_second_first is None:
        return PairResult(len(found), len(inliers), float("nan"), float("nan"))
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = cv2.Rodrigues(rotation)[0], shift.ravel()
    error = T @ np.linalg.inv(T_second_first)
    angle = np.linalg.norm(cv2.Rodrigues(error[:3, :3])[0])
    return PairResult(len(found), len(inliers), float(np.linalg.norm(error[:3, 3])), float(np.degrees(angle)))


def overlap(uv: np.ndarray, reference: np.ndarray) -> float:
    """Share of the (N, 2) pixels `reference` that have one of `uv` within 3 px (1 if N is 0)."""
    if not len(reference):
        return 1.0
    if not len(uv):
        return 0.0
    apart = reference[:, None] - uv[None]
    return float((np.einsum("ijk,ijk->ij", apart, apart).min(1) <= OVERLAP_PX**2).mean())
