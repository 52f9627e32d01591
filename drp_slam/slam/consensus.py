# SPDX-License-Identifier: Apache-2.0
"""Chooses the camera's motion when groups of matches disagree: read `choose` first.

A moving object carries its points along: they agree with each other, but the pose that they imply is wrong. Each
group of agreeing matches is a hypothesis. The camera's motion is the one that most of the image supports, with
points that have been static for long and lie behind the others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from drp_slam import geometry
from drp_slam.slam.compiled import median, native
from drp_slam.slam.motion_groups import (
    LEAST,
    OWN,
    are_apart,
    at_pose,
    drawn_pose,
    explained,
    far_group,
    other_groups,
    share_of,
)
from drp_slam.slam.optimize import CHI2_PIXEL, DEPTH_GATE2, NEAR_M, Noise, PoseFit, refine_pose
from drp_slam.slam.trust import DISAGREES
from drp_slam.slam.votes import Pairs

MUCH, RIVAL, PART = 0.4, 0.05, 0.33
"""A rival has at least share `MUCH` of the votes, or share `OWN` of matches that do not fit the chosen pose; or share
`RIVAL`, if that is this part of what the chosen pose contradicts: mismatches do not agree with each other."""
ODDS = 8.0
"""Of two groups, what is farther counts more by the squared ratio of their median depths, at most so many times: what
moves stands before the world."""
MOST = 0.6
"""A pose is doubted if this share of the votes of points that stood still so far contradicts it (freiburg1_xyz: at most
0.36, with every third frame 0.55)."""
TOGETHER, AROUND = 0.7, 900.0
"""Matches move together if the length of their mean error is this ratio of the mean length of their errors; those with
larger squared errors are mismatches."""
TORN = 40.0
"""The far matches are fitted alone if they would move the pose by two standard deviations (squared), where ten matches
count as one (`uncertainty.CORRELATED`)."""
AMBIGUOUS, SETTLED = 0.15, 0.08
"""The rival may be right from the first share of the votes for one of the two on, until it falls below the second."""


@dataclass(frozen=True)
class Consensus:
    """The chosen fit with its share of the votes, in 0 to 1, and its rival.

    `rival` is the pose `T_camera_world` of the best group that contradicts it, or None;
    `rival_share` is that group's part of the votes for one of the two, 0 without one. `searched`: other groups
    were searched for.
    """

    fit: PoseFit
    share: float
    rival: np.ndarray | None = None
    rival_share: float = 0.0
    searched: bool = False
    flops: float = 0.0

    @property
    def ambiguous(self) -> bool:
        """The rival may be right."""
        return self.rival_share > AMBIGUOUS


def agreeing(
    fit: PoseFit, a_px: np.ndarray, a: np.ndarray, b_px: np.ndarray, b: np.ndarray
) -> tuple[np.ndarray, float]:
    """Numbers of the matches that fit in the image and in depth, and the median distance in pixels of those that fit in
    the image, of features `a` (N,) at a_px from points `b` (N,) at b_px."""
    if native is not None:
        good = np.empty(len(a), np.int64)
        count, offset_px = native.offset(
            fit.error2_px, fit.error2_depth, CHI2_PIXEL, DEPTH_GATE2, a_px, a, b_px, b, good
        )
        return good[:count], offset_px
    offset_px = np.linalg.norm(a_px[a[fit.inliers]] - b_px[b[fit.inliers]], axis=1)
    return np.flatnonzero(fit.inliers & fit.depth_fits), float(np.median(offset_px))


def choose(T_predicted: np.ndarray, others: list[np.ndarray], pairs: Pairs, noise: Noise, doubt: float) -> Consensus:
    """The camera's pose from the matches, starting at a prediction.

    Where that has a smaller share of the votes than `doubt`, other groups are searched for: near the prediction, around
    the poses `others`, and by RANSAC. Where far matches contradict near ones, their group is a candidate too.
    """
    first = refine_pose(
        T_predicted, pairs.xyz, pairs.xy, pairs.inverse_depth, noise, weight=pairs.weight, part=pairs.far
    )
    share, torn = share_of(first, pairs), first.pull2 > TORN
    searched = share < doubt or _leaves_together(first, pairs, noise)
    if len(pairs) < LEAST or not (searched or torn):
        return Consensus(first, share, flops=first.flops)
    known = first, share
    groups = other_groups([T_predicted, *others], *known, pairs, noise) if searched else []
    behind = far_group(*known, pairs, noise) if torn else None
    fits = [first, *groups] if behind is None else [first, *groups, behind]
    shares = [share, *(share_of(fit, pairs) for fit in fits[1:])]
    best = shares.index(max(shares))
    if behind is not None and _explains_more(behind, fits[best], pairs):
        best = len(fits) - 1
    best, rivals = _farthest(fits, shares, best, pairs, noise)
    rival = rivals.index(max(rivals))
    part = rivals[rival] / max(rivals[rival] + shares[best], 1e-9)
    T_rival = fits[rival].T_camera_world if part > 0 else None
    left = _left_behind(fits[best], T_predicted, pairs, noise)
    if left is not None and left[1] > part:
        T_rival, part = left
    flops = sum(fit.flops for fit in fits)
    return Consensus(fits[best], shares[best], T_rival, part, searched, flops)


def _farthest(
    fits: list[PoseFit], shares: list[float], best: int, pairs: Pairs, noise: Noise
) -> tuple[int, list[float]]:
    """Which fit is the camera's motion where groups contradict the one with most votes, and the votes of its rivals.

    What only one of two fits explains is compared, weighed by its depth (`ODDS`): a thing that moves hides the world,
    and is not behind it.
    """
    rivals = [_votes_against(fits[best], fit, s, pairs, noise) for fit, s in zip(fits, shares)]
    ratios = [_farther_votes(fit, fits[best], pairs) if r > s else 0.0 for fit, r, s in zip(fits, rivals, shares)]
    strongest = ratios.index(max(ratios))
    if ratios[strongest] <= 1.0:
        return best, rivals
    return strongest, [_votes_against(fits[strongest], fit, s, pairs, noise) for fit, s in zip(fits, shares)]


def _votes_against(chosen: PoseFit, fit: PoseFit, share: float, pairs: Pairs, noise: Noise) -> float:
    """The share of the votes for a fit, weighed by depth, as a rival of the chosen one; 0 if it is none."""
    if fit is chosen or not are_apart(fit.T_camera_world, chosen.T_camera_world, pairs, noise):
        return 0.0
    odds = _odds(fit, chosen, pairs)
    return share * odds if _rivals(fit, chosen, share, odds, pairs, noise) else 0.0


def _farther_votes(fit: PoseFit, other: PoseFit, pairs: Pairs) -> float:
    """Ratio of the votes that only a fit explains, weighed by depth, to those that only the other explains."""
    own, others = _of_one(fit, other)
    return _odds(fit, other, pairs) * float(pairs.vote @ own) / max(float(pairs.vote @ others), 1e-9)


def _odds(fit: PoseFit, other: PoseFit, pairs: Pairs) -> float:
    """By how much the matches that only one of two fits explains speak for it, by their depth."""
    own, others = _of_one(fit, other)
    if int(np.count_nonzero(own)) < LEAST or int(np.count_nonzero(others)) < LEAST:
        return 1.0
    z = fit.T_camera_world[2, :3] @ pairs.xyz.T + fit.T_camera_world[2, 3]
    ratio = median(z[own]) / max(median(z[others]), NEAR_M)
    return min(max(ratio * ratio, 1.0 / ODDS), ODDS)


def _of_one(fit: PoseFit, other: PoseFit) -> tuple[np.ndarray, np.ndarray]:
    """(N,) bool: the matches that only the first of two fits explains, and those that only the second does."""
    mine, theirs = fit.inliers & fit.depth_fits, other.inliers & other.depth_fits
    return mine & ~theirs, theirs & ~mine


def _contradicted(fit: PoseFit) -> np.ndarray:
    """(N,) bool: matches that are clearly off."""
    return (fit.error2_px > DISAGREES * CHI2_PIXEL) | (fit.error2_depth > DISAGREES * DEPTH_GATE2)


def _left_behind(
    chosen: PoseFit, T_predicted: np.ndarray, pairs: Pairs, noise: Noise
) -> tuple[np.ndarray, float] | None:
    """The pose of the points that stood still so far, and the share of their votes that contradicts the chosen one.

    None unless most of these points contradict the chosen pose. New points agree with any pose that they were mapped
    from, so they must not outvote the old ones unnoticed.
    """
    known = pairs.weight >= 1.0
    against = known & _contradicted(chosen)
    part = float(pairs.vote @ against) / max(float(pairs.vote @ known), 1e-9)
    if int(np.count_nonzero(against)) < LEAST or part < MOST:
        return None
    T = drawn_pose(pairs.part(known), noise)
    return T_predicted if T is None else T, part


def _leaves_together(first: PoseFit, pairs: Pairs, noise: Noise) -> bool:
    """Whether trusted matches that a fit contradicts are off in one direction: mismatches are off in all directions.

    An object with most of the features pulls the pose along without a loss of votes; the background then moves
    consistently, and has to be tried as a hypothesis before its points lose their trust.
    """
    if native is not None:
        of_pairs = pairs.xyz, pairs.xy, pairs.weight, pairs.vote, first.error2_px
        ratio = native.together(first.T_camera_world, *of_pairs, noise.row, CHI2_PIXEL, AROUND, LEAST, OWN)
        return ratio > TOGETHER
    off = (pairs.weight >= 1.0) & ~first.inliers & (first.error2_px < AROUND)
    if int(off.sum()) < LEAST or float(pairs.vote @ off) < OWN * float(pairs.vote.sum()):
        return False
    xyz, T = pairs.xyz[off], first.T_camera_world
    p = T[:3, :3] @ xyz.T + T[:3, 3:]
    away = (p[:2] / np.maximum(p[2], NEAR_M) - pairs.xy[off].T) * np.array([[noise.fx], [noise.fy]])
    vote = pairs.vote[off]
    together = np.linalg.norm(away @ vote)
    return bool(together > TOGETHER * float(vote @ np.sqrt((away * away).sum(axis=0))))


def _explains_more(behind: PoseFit, best: PoseFit, pairs: Pairs) -> bool:
    """Whether the background's pose fits most of the matches that fit one of the two.

    A pose that a near object pulls away still fits half of the background, because distance hides the error, and has
    more votes; but the background alone contradicts it, so matches that fit both belong to the background.
    """
    own = behind.inliers & behind.depth_fits
    return 2.0 * float(pairs.vote @ own) > float(pairs.vote @ (own | best.inliers & best.depth_fits))


def _rivals(fit: PoseFit, chosen: PoseFit, share: float, odds: float, pairs: Pairs, noise: Noise) -> bool:
    """Whether a fit with this share is a motion different from the chosen one, with enough matches of its own.

    These count by their `odds`.
    """
    if not _valley(fit, chosen, share, pairs, noise):
        return False
    own = odds * float(pairs.vote @ (explained(fit) * ~(chosen.inliers & chosen.depth_fits)))
    if share > MUCH or own > OWN * float(pairs.vote.sum()):
        return True
    return own > RIVAL * float(pairs.vote.sum()) and own > PART * float(pairs.vote @ _contradicted(chosen))


def _valley(fit: PoseFit, chosen: PoseFit, share: float, pairs: Pairs, noise: Noise) -> bool:
    """Whether a pose between two fits has fewer votes than the fit with this share.

    Otherwise the two differ by the errors of one group, not by a motion.
    """
    T = chosen.T_camera_world
    apart = geometry.log(fit.T_camera_world @ geometry.inverse(T))
    between = (share_of(at_pose(geometry.exp(part * apart) @ T, pairs, noise), pairs) for part in (0.5, 0.75))
    return min(between) < share
