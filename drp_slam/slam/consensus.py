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
from drp_slam.slam.compiled import NO_MARKS, median, native
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
from drp_slam.slam.trust import DISAGREES
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
MUCH, OWN, RIVAL, PART = 0.4, 0.1, 0.05, 0.33
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


_ROUNDS = np.array(ROUNDS)


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
    share, torn = _share(first, pairs), first.pull2 > TORN
    searched = share < doubt or _leaves_together(first, pairs, noise)
    if len(pairs) < LEAST or not (searched or torn):
        return Consensus(first, share, flops=first.flops)
    known = first, share
    groups = _groups([T_predicted, *others], *known, pairs, noise) if searched else []
    behind = _background(*known, pairs, noise) if torn else None
    fits = [first, *groups] if behind is None else [first, *groups, behind]
    shares = [share, *(_share(fit, pairs) for fit in fits[1:])]
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
    if fit is chosen or not _apart(fit.T_camera_world, chosen.T_camera_world, pairs, noise):
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
    T = _ransac(pairs.part(known), noise)
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


def _groups(starts: list[np.ndarray], first: PoseFit, share: float, pairs: Pairs, noise: Noise) -> list[PoseFit]:
    """Poses other than the first that groups of the matches agree on, each refined with its own group alone."""
    left = np.arange(len(pairs))
    for _ in range(GROUPS):
        T = _ransac(pairs.part(left), noise)
        if T is None:
            break
        starts = [*starts, T]
        left = left[~_near(T, pairs.part(left), noise)]
    groups = (_gathered(T, pairs, noise) for T in starts if _another(_at(T, pairs, noise), first, share, pairs, noise))
    return [fit for fit in groups if fit is not None and _another(fit, first, share, pairs, noise)]


def _background(first: PoseFit, share: float, pairs: Pairs, noise: Noise) -> PoseFit | None:
    """The pose that fits the far matches, None if it differs little."""
    T = geometry.exp(first.pull) @ first.T_camera_world
    fit = _gathered(T, pairs, noise, pairs.far)
    return fit if fit is not None and _another(fit, first, share, pairs, noise) else None


def _another(fit: PoseFit, first: PoseFit, share: float, pairs: Pairs, noise: Noise) -> bool:
    """Whether a fit is another motion than the first, which has a `share` of the votes, or has more of them.

    A pose that an object has pulled away may still keep a far background within the gate: only the votes differ then.
    """
    return _share(fit, pairs) > share + BETTER or _apart(fit.T_camera_world, first.T_camera_world, pairs, noise)


def _at(T: np.ndarray, pairs: Pairs, noise: Noise) -> PoseFit:
    """A pose with the errors of the matches, not refined."""
    return PoseFit(T, np.zeros((6, 6)), *errors2(T, pairs.xyz, pairs.xy, pairs.inverse_depth, noise), 0.0)


def _gathered(T: np.ndarray, pairs: Pairs, noise: Noise, among: np.ndarray | None = None) -> PoseFit | None:
    """The pose of the group of matches around a pose, at first of those marked in `among`; None where there is none."""
    if native is not None:
        return _group(T, pairs, noise, among)
    flops, needed = 0.0, OWN * float(pairs.vote.sum())
    for iterations in ROUNDS:
        near = _near(T, pairs, noise)
        group = pairs.part(near if among is None else near & among)
        among = None
        if len(group) < LEAST or group.vote.sum() < needed:
            return None
        fit = refine_pose(T, group.xyz, group.xy, group.inverse_depth, noise, iterations)
        T, flops = fit.T_camera_world, flops + fit.flops
    return PoseFit(T, fit.covariance, *errors2(T, pairs.xyz, pairs.xy, pairs.inverse_depth, noise), flops)


def _group(T: np.ndarray, pairs: Pairs, noise: Noise, among: np.ndarray | None) -> PoseFit | None:
    """`_gathered` compiled."""
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


def _fits(fit: PoseFit) -> np.ndarray:
    """(N,) in 0 to 1: 1 where a match fits a pose exactly, 0 from the gate on.

    A pose between two groups, with both just inside the gate, scores less than the right pose with its own group alone.
    """
    return np.where(fit.depth_fits, np.maximum(1.0 - fit.error2_px / CHI2_PIXEL, 0.0), 0.0)


def _share(fit: PoseFit, pairs: Pairs) -> float:
    """Share of the votes for a fit."""
    if native is not None:
        return native.share(fit.error2_px, fit.error2_depth, pairs.vote, CHI2_PIXEL, DEPTH_GATE2)
    return float(pairs.vote @ _fits(fit)) / max(float(pairs.vote.sum()), 1e-9)


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
    own = odds * float(pairs.vote @ (_fits(fit) * ~(chosen.inliers & chosen.depth_fits)))
    if share > MUCH or own > OWN * float(pairs.vote.sum()):
        return True
    return own > RIVAL * float(pairs.vote.sum()) and own > PART * float(pairs.vote @ _contradicted(chosen))


def _valley(fit: PoseFit, chosen: PoseFit, share: float, pairs: Pairs, noise: Noise) -> bool:
    """Whether a pose between two fits has fewer votes than the fit with this share.

    Otherwise the two differ by the errors of one group, not by a motion.
    """
    T = chosen.T_camera_world
    apart = geometry.log(fit.T_camera_world @ geometry.inverse(T))
    between = (_share(_at(geometry.exp(part * apart) @ T, pairs, noise), pairs) for part in (0.5, 0.75))
    return min(between) < share


def _ransac(pairs: Pairs, noise: Noise) -> np.ndarray | None:
    """A pose that a group of the matches agrees on, of those with most votes."""
    if len(pairs) < LEAST:
        return None
    drawn = pairs.part(np.sort(np.argsort(-pairs.vote, kind="stable")[:DRAWN]))
    pose = ransac_pose(drawn.xyz, drawn.xy, TIGHT / noise.fx)
    return None if pose is None or pose[1].sum() < LEAST // 2 else pose[0]


def _near(T: np.ndarray, pairs: Pairs, noise: Noise) -> np.ndarray:
    """(N,) bool: matches close enough to a pose to be used in its refinement."""
    pixel2, depth2 = errors2(T, pairs.xyz, pairs.xy, pairs.inverse_depth, noise)
    return (pixel2 < NEAR) & (depth2 < DEPTH_GATE2)


def _apart(Ta: np.ndarray, Tb: np.ndarray, pairs: Pairs, noise: Noise) -> bool:
    """Whether two poses put enough of the matches at clearly different places."""
    if native is not None:
        return native.apart(Ta, Tb, pairs.xyz, noise.row, APART, DEPTH_GATE2) > OWN
    p = Tb[:3, :3] @ pairs.xyz.T + Tb[:3, 3:]
    q = 1.0 / np.maximum(p[2], NEAR_M)
    pixel2, depth2 = errors2(Ta, pairs.xyz, (p[:2] * q).T, q, noise)
    return float(((pixel2 > APART) | (depth2 > DEPTH_GATE2)).mean()) > OWN
