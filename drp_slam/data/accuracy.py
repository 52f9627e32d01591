# SPDX-License-Identifier: Apache-2.0
"""Accuracy of a trajectory against ground truth: alignment, ATE and RPE."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from drp_slam import geometry
from drp_slam.data.trajectory import MAX_DIFFERENCE_S, associate
from drp_slam.datatypes import Trajectory
from drp_slam.errors import DataError

MIRRORED, NOTABLE_M = 0.5, 1e-4
"""Ground truth is mirrored when its mirror image has less than this share of an error of at least this size, in m."""


@dataclass(frozen=True)
class Alignment:
    """`p_reference = scale * R @ p_estimate + t`; R (3, 3), t (3,) float64."""

    R: np.ndarray
    t: np.ndarray
    scale: float

    def apply(self, trajectory: Trajectory) -> Trajectory:
        """The trajectory in the reference's frame: rotations are rotated, positions rotated and scaled."""
        poses = trajectory.T_world_camera.copy()
        poses[:, :3, :3] = self.R @ poses[:, :3, :3]
        poses[:, :3, 3] = self.scale * poses[:, :3, 3] @ self.R.T + self.t
        return Trajectory(trajectory.stamps_ns, poses)


def align(
    estimate: np.ndarray, reference: np.ndarray, with_scale: bool = False, weight: np.ndarray | None = None
) -> Alignment:
    """Least-squares alignment of (N, 3) positions in metres, index by index (Umeyama 1991), with weights (N,) or equal.

    Estimates all at one point, or on one line, leave the rotation partly free; one is chosen.
    """
    part = np.full(len(estimate), 1.0 / len(estimate)) if weight is None else weight / weight.sum()
    mean_e, mean_r = part @ estimate, part @ reference
    centred = estimate - mean_e
    U, singular, Vt = np.linalg.svd(((reference - mean_r) * part[:, None]).T @ centred)
    sign = np.ones(3)
    if np.linalg.det(U) * np.linalg.det(Vt) < 0:
        sign[2] = -1.0
    R = U @ np.diag(sign) @ Vt
    variance = float(part @ (centred**2).sum(1))
    scale = float(singular @ sign / variance) if with_scale and variance > 0 else 1.0
    return Alignment(R, mean_r - scale * R @ mean_e, scale)


@dataclass(frozen=True)
class Ate:
    """Absolute trajectory error over the N stamps that have a ground truth.

    `errors_m` (N,), `stamps_ns` (N,) and `aligned` (N poses) are the estimate's; `reference_m`
    is (N, 3). `alignment` maps the estimate's world to the reference's.
    """

    rmse_m: float
    mean_m: float
    median_m: float
    max_m: float
    errors_m: np.ndarray
    stamps_ns: np.ndarray
    aligned: Trajectory
    reference_m: np.ndarray
    alignment: Alignment


def ate(
    estimate: Trajectory, reference: Trajectory, with_scale: bool = False, max_difference_s: float = MAX_DIFFERENCE_S
) -> Ate:
    """Absolute trajectory error (Sturm et al., IROS 2012) after SE(3) or Sim(3) alignment.

    Raises DataError where fewer than 3 stamps agree.
    """
    est, ref = _matched(estimate, reference, max_difference_s)
    alignment = align(est.positions_m, ref.positions_m, with_scale)
    aligned = alignment.apply(est)
    errors_m = np.linalg.norm(aligned.positions_m - ref.positions_m, axis=1)
    return Ate(
        float(np.sqrt(np.mean(errors_m**2))),
        float(errors_m.mean()),
        float(np.median(errors_m)),
        float(errors_m.max()),
        errors_m,
        est.stamps_ns,
        aligned,
        ref.positions_m,
        alignment,
    )


def mirror_image(truth: Trajectory) -> Trajectory:
    """The mirror image of a ground truth of a left-handed world: the same way with x reversed.

    Rotations are those of the mirrored camera whose own x axis is reversed too.
    """
    flip = np.diag([-1.0, 1.0, 1.0, 1.0])
    return Trajectory(truth.stamps_ns, flip @ truth.T_world_camera @ flip)


def mirrored_rmse_m(found: Ate) -> float | None:
    """RMSE against the mirror image of the ground truth if that fits much better, else None.

    Trajectories from left-handed worlds (ICL-NUIM's, rendered with fy < 0) are mirrored. A planar path
    equals its mirror image and is not reported. The scale is estimated if it was for `found`.
    """
    estimate, reference = found.aligned.positions_m, found.reference_m
    a, b = estimate - estimate.mean(0), reference - reference.mean(0)
    singular = np.linalg.svd(b.T @ a, compute_uv=False)
    # rotation or reflection, whichever is better
    if found.alignment.scale != 1.0:
        freely = (b**2).sum() - singular.sum() ** 2 / max(float((a**2).sum()), 1e-30)
    else:
        freely = (a**2).sum() + (b**2).sum() - 2.0 * singular.sum()
    rmse_m = float(np.sqrt(max(freely, 0.0) / len(a)))
    return rmse_m if rmse_m < MIRRORED * found.rmse_m and found.rmse_m > NOTABLE_M else None


@dataclass(frozen=True)
class Rpe:
    """Relative pose error over `delta_s`; `errors_m`, `errors_deg` and `stamps_ns` are (N,)."""

    translation_rmse_m: float
    rotation_rmse_deg: float
    errors_m: np.ndarray
    errors_deg: np.ndarray
    stamps_ns: np.ndarray


def rpe(
    estimate: Trajectory, reference: Trajectory, delta_s: float = 1.0, max_difference_s: float = MAX_DIFFERENCE_S
) -> Rpe:
    """Drift of each pose against the one `delta_s` later (Sturm et al., IROS 2012).

    Uses all pairs whose distance in time is `delta_s` within `max_difference_s`, with the nearest
    stamp. Raises DataError if there is none.
    """
    est, ref = _matched(estimate, reference, max_difference_s)
    stamps = est.stamps_ns
    target = stamps + round(delta_s * 1e9)
    later = np.clip(np.searchsorted(stamps, target), 1, len(stamps) - 1)
    later -= target - stamps[later - 1] <= np.abs(stamps[later] - target)
    tolerance_ns = round(max_difference_s * 1e9)
    first = np.flatnonzero((np.abs(stamps[later] - target) <= tolerance_ns) & (later > np.arange(len(stamps))))
    if not len(first):
        raise DataError(
            f"no two poses lie {delta_s:g} s apart within {max_difference_s:g} s; the "
            f"trajectory spans {(stamps[-1] - stamps[0]) / 1e9:g} s"
        )
    second = later[first]
    E, P = est.T_world_camera, ref.T_world_camera
    error = np.linalg.inv(np.linalg.inv(P[first]) @ P[second]) @ np.linalg.inv(E[first]) @ E[second]
    errors_m = np.linalg.norm(error[:, :3, 3], axis=1)
    # 2 atan2(|xyz|, w) is accurate at small angles, where arccos of the trace is not
    q = geometry.quaternion(error[:, :3, :3])
    errors_deg = np.degrees(2 * np.arctan2(np.linalg.norm(q[:, :3], axis=1), q[:, 3]))
    return Rpe(
        float(np.sqrt(np.mean(errors_m**2))),
        float(np.sqrt(np.mean(errors_deg**2))),
        errors_m,
        errors_deg,
        stamps[first],
    )


def _matched(estimate: Trajectory, reference: Trajectory, max_difference_s: float) -> tuple[Trajectory, Trajectory]:
    """Both trajectories at the stamps they share. Raises DataError where fewer than 3 are shared."""
    if len(estimate) < 3:
        raise DataError(f"{len(estimate)} of at least 3 poses: too short to be aligned")
    i, j = associate(estimate.stamps_ns, reference.stamps_ns, max_difference_s)
    if len(i) < 3:
        raise DataError(
            f"only {len(i)} of {len(estimate)} poses have ground truth within "
            f"{max_difference_s:g} s, at least 3 are needed; do both files use the same clock?"
        )
    return (
        Trajectory(estimate.stamps_ns[i], estimate.T_world_camera[i]),
        Trajectory(reference.stamps_ns[j], reference.T_world_camera[j]),
    )
