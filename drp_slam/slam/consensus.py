# SPDX-License-Identifier: Apache-2.0
"""Which motion is the camera's, where the matches of a frame tell of several: read `choose` first.

A thing that moves takes its points along: they agree among each other, and the pose that they ask for
is wrong. Each group that agrees is a hypothesis. The camera's is the one that most of the image
supports, by points that have long been still and lie behind the others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from drp_slam.slam.optimize import CHI2_PIXEL, NEAR_M, Noise, PoseFit, errors2, ransac_pose, refine_pose

CELLS = 12
"""The image's width in cells. All matches in one cell share one vote: the area counts, not the texture."""
FARTHER = 2.0
"""A match counts in proportion to its depth, up to so many times more or less than at the median depth."""
DRAWN = 120
"""Matches that a RANSAC gets at most: the refinement after it uses all."""
GROUPS = 2
"""Groups that are searched for, each among what does not fit those before."""
LEAST = 12
"""Matches that make a group."""
TIGHT = 1.5
"""Largest reprojection error of a group's matches in standard deviations: tighter than where a match fits."""
NEAR, ROUNDS = 2.0 * CHI2_PIXEL, (3, 12)
"""A group's pose is refined in rounds of so many iterations, with matches that have a smaller squared error then."""
APART = 2.0 * CHI2_PIXEL
"""Poses are rivals where the median match lies at places of a larger squared distance."""
MUCH, OWN = 0.4, 0.1
"""A rival has this share of the votes, or this one of matches that do not fit the chosen pose: less is noise."""
AMBIGUOUS, SETTLED = 0.3, 0.15
"""A rival with more than the first part of the votes for one of the two may be right; then, until it has less than
the second."""


@dataclass(frozen=True)
class Pairs:
    """Matches of a frame: map points xyz (N, 3), rays xy (N, 2), inverse_depth (N,), 0 for none.

    `weight` (N,) is what each weighs in the fit from the prediction, `vote` (N,) in the choice between fits.
    """

    xyz: np.ndarray
    xy: np.ndarray
    inverse_depth: np.ndarray
    weight: np.ndarray
    vote: np.ndarray

    def __len__(self) -> int:
        return len(self.xyz)

    def part(self, kept: np.ndarray) -> Pairs:
        """The matches marked or numbered in `kept`."""
        return Pairs(self.xyz[kept], self.xy[kept], self.inverse_depth[kept], self.weight[kept], self.vote[kept])


@dataclass(frozen=True)
class Consensus:
    """The chosen fit with its share of the votes, in 0 to 1, and its rival.

    `rival` is the pose `T_camera_world` of the best group that contradicts it, or None;
    `rival_share` is that group's part of the votes for one of the two, 0 without one.
    """

    fit: PoseFit
    share: float
    rival: np.ndarray | None = None
    rival_share: float = 0.0
    flops: float = 0.0

    @property
    def ambiguous(self) -> bool:
        """The rival may be right."""
        return self.rival_share > AMBIGUOUS


def votes(standing: np.ndarray, xy: np.ndarray, z_m: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """(N,) votes of matches at rays xy (N, 2) and depths z_m (N,) with points of a `standing` (N,).

    `bounds` (2, 2) are the smallest and largest ray of the image.
    """
    step = (bounds[1, 0] - bounds[0, 0]) / CELLS
    cell = np.maximum((xy - bounds[0]) / step, 0.0).astype(np.intp)
    cell = cell[:, 0] + (CELLS + 1) * cell[:, 1]
    crowd = np.bincount(cell)[cell]
    far = np.clip(z_m / max(float(np.median(z_m)), NEAR_M), 1.0 / FARTHER, FARTHER)
    return standing * far / crowd


def choose(T_predicted: np.ndarray, others: list[np.ndarray], pairs: Pairs, noise: Noise, doubt: float) -> Consensus:
    """The camera's pose by the matches, which starts from a prediction.

    Where that has a smaller share of the votes than `doubt`, groups are looked for: near the
    prediction, around the poses `others`, and by RANSAC.
    """
    first = refine_pose(T_predicted, pairs.xyz, pairs.xy, pairs.inverse_depth, noise, weight=pairs.weight)
    share = _share(first, pairs)
    if share >= doubt or len(pairs) < LEAST:
        return Consensus(first, share, flops=first.flops)
    groups = _groups([T_predicted, *others], pairs, noise)
    fits = [first, *(fit for fit in groups if _apart(fit, first, pairs, noise))]
    shares = [_share(fit, pairs) for fit in fits]
    best = int(np.argmax(shares))
    rivals = [s if _rivals(fit, fits[best], s, pairs, noise) else 0.0 for s, fit in zip(shares, fits)]
    rival = int(np.argmax(rivals))
    part = rivals[rival] / max(rivals[rival] + shares[best], 1e-9)
    T_rival = fits[rival].T_camera_world if part > 0 else None
    return Consensus(fits[best], shares[best], T_rival, part, first.flops + sum(fit.flops for fit in groups))


def _groups(starts: list[np.ndarray], pairs: Pairs, noise: Noise) -> list[PoseFit]:
    """Poses that groups of the matches agree on, each refined with its own group alone."""
    left = np.arange(len(pairs))
    for _ in range(GROUPS):
        T = _ransac(pairs.part(left), noise)
        if T is None:
            break
        starts = [*starts, T]
        left = left[~_near(T, pairs.part(left), noise)]
    groups = (_gathered(T, pairs, noise) for T in starts)
    return [fit for fit in groups if fit is not None]


def _gathered(T: np.ndarray, pairs: Pairs, noise: Noise) -> PoseFit | None:
    """The pose of the group of matches around a pose, None where there is none."""
    flops = 0.0
    for iterations in ROUNDS:
        group = pairs.part(_near(T, pairs, noise))
        if len(group) < LEAST:
            return None
        fit = refine_pose(T, group.xyz, group.xy, group.inverse_depth, noise, iterations)
        T, flops = fit.T_camera_world, flops + fit.flops
    return PoseFit(T, fit.covariance, *errors2(T, pairs.xyz, pairs.xy, pairs.inverse_depth, noise), flops)


def _fits(fit: PoseFit) -> np.ndarray:
    """(N,) in 0 to 1: all where a match fits a pose exactly, nothing from the gate on.

    A pose between two groups, which has both just inside the gate, gets less than the right one from its own.
    """
    return np.where(fit.depth_fits, np.maximum(1.0 - fit.error2_px / CHI2_PIXEL, 0.0), 0.0)


def _share(fit: PoseFit, pairs: Pairs) -> float:
    """Part of the votes that a fit has."""
    return float(pairs.vote @ _fits(fit)) / max(float(pairs.vote.sum()), 1e-9)


def _rivals(fit: PoseFit, chosen: PoseFit, share: float, pairs: Pairs, noise: Noise) -> bool:
    """Whether a fit with this share is another motion than the chosen one, and has enough of its own."""
    if not _apart(fit, chosen, pairs, noise):
        return False
    own = pairs.vote @ (_fits(fit) * ~(chosen.inliers & chosen.depth_fits))
    return share > MUCH or float(own) > OWN * float(pairs.vote.sum())


def _ransac(pairs: Pairs, noise: Noise) -> np.ndarray | None:
    """A pose that a group of the matches agrees on, of those with most votes."""
    if len(pairs) < LEAST:
        return None
    drawn = pairs.part(np.sort(np.argsort(-pairs.vote, kind="stable")[:DRAWN]))
    pose = ransac_pose(drawn.xyz, drawn.xy, TIGHT / noise.fx)
    return None if pose is None or pose[1].sum() < LEAST // 2 else pose[0]


def _near(T: np.ndarray, pairs: Pairs, noise: Noise) -> np.ndarray:
    """(N,) bool: matches near enough to a pose to take part in its refinement."""
    return errors2(T, pairs.xyz, pairs.xy, pairs.inverse_depth, noise)[0] < NEAR


def _apart(a: PoseFit, b: PoseFit, pairs: Pairs, noise: Noise) -> bool:
    """Whether two poses put the matches at places that cannot be confused."""
    p = b.T_camera_world[:3, :3] @ pairs.xyz.T + b.T_camera_world[:3, 3:]
    xy = (p[:2] / np.maximum(p[2], NEAR_M)).T
    return float(np.median(errors2(a.T_camera_world, pairs.xyz, xy, np.zeros(len(pairs)), noise)[0])) > APART
