# SPDX-License-Identifier: Apache-2.0
"""Groups of matches that agree on a pose: what each explains, and the search for others than the first."""

from __future__ import annotations

import numpy as np

from drp_slam import geometry
from drp_slam.slam.compiled import NO_MARKS, native
from drp_slam.slam.optimize import (
    CHI2_PIXEL,
    DEPTH_GATE2,
    FLOPS_PER_ROW,
    NEAR_M,
    Noise,
    PoseFit,
    errors2,
    ransac_pose,
    refine_pose,
)
from drp_slam.slam.votes import Pairs

DRAWN = 120
"""Upper limit of the matches that RANSAC samples from; the refinement after it uses all."""
GROUPS = 2
"""Number of groups that are searched for, each among the matches that do not fit the groups before."""
LEAST = 12
"""Minimum number of matches in a group."""
TIGHT = 1.5
"""Largest reprojection error of a group's matches in standard deviations: tighter than the gate of a match."""
NEAR, ROUNDS = 2.0 * CHI2_PIXEL, (3, 12)
"""Rounds in which a group's pose is refined: number of iterations, and the gate on the squared error in that round."""
APART = 2.0 * CHI2_PIXEL
"""Poses are rivals if they put a share `OWN` of the matches at pixels further apart than this (squared), or at a depth
beyond the depth gate."""
BETTER = 0.02
"""A pose that is not that far from the first one counts only if its share of the votes is larger by this."""
OWN = 0.1
"""A group has at least this share of the votes."""


_ROUNDS = np.array(ROUNDS)


def other_groups(starts: list[np.ndarray], first: PoseFit, share: float, pairs: Pairs, noise: Noise) -> list[PoseFit]:
    """Poses other than the first that groups of the matches agree on, each refined with its own group alone."""
    left = np.arange(len(pairs))
    for _ in range(GROUPS):
        T = drawn_pose(pairs.part(left), noise)
        if T is None:
            break
        starts = [*starts, T]
        left = left[~near_pose(T, pairs.part(left), noise)]
    groups = (
        gathered(T, pairs, noise) for T in starts if _another(at_pose(T, pairs, noise), first, share, pairs, noise)
    )
    return [fit for fit in groups if fit is not None and _another(fit, first, share, pairs, noise)]


def far_group(first: PoseFit, share: float, pairs: Pairs, noise: Noise) -> PoseFit | None:
    """The pose that fits the far matches, None if it differs little."""
    T = geometry.exp(first.pull) @ first.T_camera_world
    fit = gathered(T, pairs, noise, pairs.far)
    return fit if fit is not None and _another(fit, first, share, pairs, noise) else None


def _another(fit: PoseFit, first: PoseFit, share: float, pairs: Pairs, noise: Noise) -> bool:
    """Whether a fit is another motion than the first, which has a `share` of the votes, or has more of them.

    A pose that an object has pulled away may still keep a far background within the gate: only the votes differ then.
    """
    return share_of(fit, pairs) > share + BETTER or are_apart(fit.T_camera_world, first.T_camera_world, pairs, noise)


def at_pose(T: np.ndarray, pairs: Pairs, noise: Noise) -> PoseFit:
    """A pose with the errors of the matches, not refined."""
    return PoseFit(T, np.zeros((6, 6)), *errors2(T, pairs.xyz, pairs.xy, pairs.inverse_depth, noise), 0.0)


def gathered(T: np.ndarray, pairs: Pairs, noise: Noise, among: np.ndarray | None = None) -> PoseFit | None:
    """The pose of the group of matches around a pose, at first of those marked in `among`; None where there is none."""
    if native is not None:
        return _group(T, pairs, noise, among)
    flops, needed = 0.0, OWN * float(pairs.vote.sum())
    for iterations in ROUNDS:
        near = near_pose(T, pairs, noise)
        group = pairs.part(near if among is None else near & among)
        among = None
        if len(group) < LEAST or group.vote.sum() < needed:
            return None
        fit = refine_pose(T, group.xyz, group.xy, group.inverse_depth, noise, iterations)
        T, flops = fit.T_camera_world, flops + fit.flops
    return PoseFit(T, fit.covariance, *errors2(T, pairs.xyz, pairs.xy, pairs.inverse_depth, noise), flops)


def _group(T: np.ndarray, pairs: Pairs, noise: Noise, among: np.ndarray | None) -> PoseFit | None:
    """`gathered` compiled."""
    assert native is not None
    fitted, covariance, errors = np.empty((4, 4)), np.empty((6, 6)), np.empty((2, len(pairs)))
    marks = NO_MARKS if among is None else among
    made = native.group(
        T,
        pairs.xyz,
        pairs.xy,
        pairs.inverse_depth,
        pairs.vote,
        marks,
        noise.row,
        NEAR,
        DEPTH_GATE2,
        LEAST,
        OWN,
        _ROUNDS,
        fitted,
        covariance,
        errors[0],
        errors[1],
    )
    return None if made < 0 else PoseFit(fitted, covariance, errors[0], errors[1], FLOPS_PER_ROW * made)


def explained(fit: PoseFit) -> np.ndarray:
    """(N,) in 0 to 1: 1 where a match fits a pose exactly, 0 from the gate on.

    A pose between two groups, with both just inside the gate, scores less than the right pose with its own group alone.
    """
    return np.where(fit.depth_fits, np.maximum(1.0 - fit.error2_px / CHI2_PIXEL, 0.0), 0.0)


def share_of(fit: PoseFit, pairs: Pairs) -> float:
    """Share of the votes for a fit."""
    if native is not None:
        return native.share(fit.error2_px, fit.error2_depth, pairs.vote, CHI2_PIXEL, DEPTH_GATE2)
    return float(pairs.vote @ explained(fit)) / max(float(pairs.vote.sum()), 1e-9)


def drawn_pose(pairs: Pairs, noise: Noise) -> np.ndarray | None:
    """A pose that a group of the matches agrees on, of those with most votes."""
    if len(pairs) < LEAST:
        return None
    drawn = pairs.part(np.sort(np.argsort(-pairs.vote, kind="stable")[:DRAWN]))
    pose = ransac_pose(drawn.xyz, drawn.xy, TIGHT / noise.fx)
    return None if pose is None or pose[1].sum() < LEAST // 2 else pose[0]


def near_pose(T: np.ndarray, pairs: Pairs, noise: Noise) -> np.ndarray:
    """(N,) bool: matches close enough to a pose to be used in its refinement."""
    pixel2, depth2 = errors2(T, pairs.xyz, pairs.xy, pairs.inverse_depth, noise)
    return (pixel2 < NEAR) & (depth2 < DEPTH_GATE2)


def are_apart(Ta: np.ndarray, Tb: np.ndarray, pairs: Pairs, noise: Noise) -> bool:
    """Whether two poses put enough of the matches at clearly different places."""
    if native is not None:
        return native.apart(Ta, Tb, pairs.xyz, noise.row, APART, DEPTH_GATE2) > OWN
    p = Tb[:3, :3] @ pairs.xyz.T + Tb[:3, 3:]
    q = 1.0 / np.maximum(p[2], NEAR_M)
    pixel2, depth2 = errors2(Ta, pairs.xyz, (p[:2] * q).T, q, noise)
    return float(((pixel2 > APART) | (depth2 > DEPTH_GATE2)).mean()) > OWN
