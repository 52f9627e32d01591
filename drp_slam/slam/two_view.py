# SPDX-License-Identifier: Apache-2.0
"""Motion of a camera without depth, and the first points, from two of its views: read `start` first.

Two models explain the matches of two views: an essential matrix (a scene with depth) and a homography (a plane).
ORB-SLAM (Mur-Artal, Montiel and Tardos, T-RO 2015, section IV) chooses one by its score and decomposes it. Where the
camera has moved little, a scene looks like a plane, a plane has two motions, and the wrong one may have more points in
front. Here the motions of both models are refined on all matches first, and the best is accepted if no other one
explains almost as much.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from drp_slam import geometry
from drp_slam.slam import bundle
from drp_slam.slam.matching import Matches
from drp_slam.slam.optimize import CHI2_PIXEL, Noise
from drp_slam.slam.triangulate import Triangulated, triangulated

MEDIAN_DEPTH = 2.0
"""Distance from the first camera to the median of the first points in units of the map: in a room, about metres, so
that thresholds in metres (keyframes, loops) keep their meaning."""
LEAST_MATCHES, LEAST_POINTS = 100, 80
"""Minimum number of matches of the two views, and of points triangulated from them."""
LEAST_MOVED = 10.0
"""Median motion of the matches in standard deviations of a pixel below which no model is fitted."""
PARALLAX_SHARE, CELLS = 0.6, 6
"""Minimum number of inliers with parallax, and of the image's 4 x 4 cells that they cover: of a camera that only
rotates none has, and a moving object covers only part of the image."""
CLEAR = 0.9
"""The second-best motion may explain at most this share of what the best explains."""
OTHER_RAD = 0.1
"""Motions whose directions or rotations differ by more are different."""
CHI2_LINE = 3.84
"""95 % of a chi-square of one degree of freedom: the distance from an epipolar line."""
LIKELY = 0.5
"""Motions with less than this share of the best one's score are not refined."""
REFINED, ROUNDS, ITERATIONS = 10, 2, 10
"""Iterations of the refinement of a motion; adjustments of the two views with their points, of so many iterations."""
CONFIDENCE, TRIES = 0.999, 500
"""Iterations of each RANSAC."""
FLOPS_PER_TRY, FLOPS_PER_LINE = 4000.0, 60.0
"""Flops of a minimal sample with its score on some hundred matches, and of the distance of one match from its line."""


@dataclass(frozen=True)
class Start:
    """Features `a` and `b` of two views and the points xyz (N, 3) that they show, in the frame of the first camera.

    The median depth of the points is `MEDIAN_DEPTH`. `planar`: the motion comes from the homography.
    """

    a: np.ndarray
    b: np.ndarray
    xyz: np.ndarray
    T_b_a: np.ndarray
    planar: bool


@dataclass(frozen=True)
class Motion:
    """A motion with a translation of length 1, and its score: matches that it explains, each by how well."""

    T_b_a: np.ndarray
    planar: bool
    score: float


def start(
    matches: Matches, xy_a: np.ndarray, xy_b: np.ndarray, bounds: np.ndarray, noise: Noise
) -> tuple[Start | None, float]:
    """Motion and points of two views with rays xy (N, 2) and (M, 2), or None if they are ambiguous; work in flops.

    `bounds` (2, 2) are the smallest and largest ray of the image. Same input, same result.
    """
    pair = Rays.of(xy_a[matches.a], xy_b[matches.b], noise)
    if len(matches) < LEAST_MATCHES or pair.median_motion() < LEAST_MOVED:
        return None, 0.0
    motions = candidates(pair)
    best = motions[0] if motions else None
    flops = 2.0 * TRIES * FLOPS_PER_TRY + 6.0 * REFINED * FLOPS_PER_LINE * len(matches) * len(motions)
    if best is None or any(other(m, best) and m.score > CLEAR * best.score for m in motions[1:]):
        return None, flops
    T, points = best.T_b_a, triangulated(matches, xy_a, xy_b, best.T_b_a, noise)
    for _ in range(ROUNDS):
        if len(points.a) < LEAST_POINTS:
            return None, flops
        T, used = _adjusted(T, points, xy_a, xy_b, noise)
        flops += used
        points = triangulated(matches, xy_a, xy_b, T, noise)
    fits = np.count_nonzero(pair.errors2(T) < CHI2_LINE)
    if len(points.a) < max(LEAST_POINTS, PARALLAX_SHARE * fits) or _cells(xy_b[points.b], bounds) < CELLS:
        return None, flops
    size = MEDIAN_DEPTH / float(np.median(points.xyz[:, 2]))
    T_b_a = T.copy()
    T_b_a[:3, 3] *= size
    return Start(points.a, points.b, size * points.xyz, T_b_a, best.planar), flops


@dataclass(frozen=True)
class Rays:
    """Matched rays `a` and `b` (N, 3) with z = 1, and `scale` from the plane to standard deviations."""

    a: np.ndarray
    b: np.ndarray
    scale: float

    @classmethod
    def of(cls, a: np.ndarray, b: np.ndarray, noise: Noise) -> Rays:
        """From (N, 2) each."""
        a, b = (np.concatenate([xy, np.ones((len(xy), 1))], axis=1) for xy in (a, b))
        return cls(a, b, float(np.sqrt(noise.fx * noise.fy)))

    def median_motion(self) -> float:
        """How far the features have moved, in standard deviations."""
        return self.scale * float(np.median(np.linalg.norm(self.b - self.a, axis=1))) if len(self.a) else 0.0

    def errors(self, T_b_a: np.ndarray) -> np.ndarray:
        """(N,) distances from the epipolar lines of both views together (Sampson's), in standard deviations."""
        E = geometry.hat(T_b_a[:3, 3]) @ T_b_a[:3, :3]
        in_b, in_a = self.a @ E.T, self.b @ E
        length2 = (in_b[:, :2] ** 2).sum(axis=1) + (in_a[:, :2] ** 2).sum(axis=1)
        return self.scale * (self.b * in_b).sum(axis=1) / np.sqrt(np.maximum(length2, 1e-18))

    def errors2(self, T_b_a: np.ndarray) -> np.ndarray:
        """(N,) their squares, infinite where the rays meet behind a camera."""
        turned = self.a @ T_b_a[:3, :3].T
        across = np.cross(turned, self.b)
        square = np.maximum((across * across).sum(axis=1), 1e-18)
        along_a = -(np.cross(T_b_a[:3, 3], self.b) * across).sum(axis=1) / square
        along_b = -(np.cross(T_b_a[:3, 3], turned) * across).sum(axis=1) / square
        # rays that are parallel within the noise do not intersect, neither in front nor behind
        far = square * self.scale**2 < CHI2_PIXEL * (turned * turned).sum(axis=1)
        front = far | ((along_a > 0) & (along_b > 0))
        return np.where(front, self.errors(T_b_a) ** 2, np.inf)

    def score(self, T_b_a: np.ndarray) -> float:
        """Matches that the motion explains, each by how well."""
        return float(np.maximum(1.0 - self.errors2(T_b_a) / CHI2_LINE, 0.0).sum())

    def refined(self, T_b_a: np.ndarray) -> np.ndarray:
        """The motion with the smallest distances near this one, its translation of length 1: Gauss-Newton, Cauchy."""
        T, small = T_b_a, 1e-6
        for _ in range(REFINED):
            r = self.errors(T)
            sideways = np.linalg.svd(T[:3, 3][None])[2][1:]
            steps = np.zeros((5, 6))
            steps[:2, :3], steps[2:, 3:] = sideways, np.eye(3)
            J = np.stack([(self.errors(_moved(T, small * step)) - r) / small for step in steps])
            J_weighted = J / (1.0 + r * r / CHI2_LINE)
            step = -np.linalg.solve(J_weighted @ J.T + 1e-9 * np.eye(5), J_weighted @ r)
            T = _moved(T, step @ steps)
            if np.abs(step).max() < small:
                break
        return T


def candidates(pair: Rays) -> list[Motion]:
    """Motions of both models, refined, the best first."""
    a, b = (np.ascontiguousarray(rays[:, :2]) for rays in (pair.a, pair.b))
    cv2.setRNGSeed(0)
    line, plane = (float(np.sqrt(chi2)) / pair.scale for chi2 in (CHI2_LINE, CHI2_PIXEL))
    E, _ = cv2.findEssentialMat(a, b, np.eye(3), cv2.RANSAC, CONFIDENCE, line, maxIters=TRIES)
    cv2.setRNGSeed(0)
    H, _ = cv2.findHomography(a, b, cv2.RANSAC, plane, None, TRIES, CONFIDENCE)
    found: list[tuple[np.ndarray, bool]] = []
    if E is not None and E.shape == (3, 3):
        R1, R2, t = cv2.decomposeEssentialMat(E)
        found += [(_motion(R, sign * t), False) for R in (R1, R2) for sign in (1.0, -1.0)]
    if H is not None and np.isfinite(H).all():
        _, turns, shifts, _ = cv2.decomposeHomographyMat(H, np.eye(3))
        found += [(_motion(R, t), True) for R, t in zip(turns, shifts) if np.linalg.norm(t) > 1e-9]
    scores = [pair.score(T) for T, _ in found]
    likely = [pick for pick, score in zip(found, scores) if score > LIKELY * max(scores)]
    motions = [Motion(T, planar, pair.score(T)) for T, planar in ((pair.refined(T), planar) for T, planar in likely)]
    return sorted(motions, key=lambda m: -m.score)


def other(one: Motion, two: Motion) -> bool:
    """Whether two motions differ by more than noise explains."""
    apart = geometry.rotation_vector(one.T_b_a[:3, :3] @ two.T_b_a[:3, :3].T)
    cosine = float(one.T_b_a[:3, 3] @ two.T_b_a[:3, 3])
    return bool(np.linalg.norm(apart) > OTHER_RAD or np.arccos(np.clip(cosine, -1.0, 1.0)) > 2.0 * OTHER_RAD)


def _motion(R: np.ndarray, t: np.ndarray) -> np.ndarray:
    """(4, 4) with a translation of length 1."""
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = R, t.ravel() / np.linalg.norm(t)
    return T


def _moved(T: np.ndarray, step: np.ndarray) -> np.ndarray:
    """The motion with another direction (first three) and rotation (last three of the step)."""
    return _motion(geometry.exp(np.concatenate([np.zeros(3), step[3:]]))[:3, :3] @ T[:3, :3], T[:3, 3] + step[:3])


def _adjusted(
    T_b_a: np.ndarray, found: Triangulated, xy_a: np.ndarray, xy_b: np.ndarray, noise: Noise
) -> tuple[np.ndarray, float]:
    """The motion after bundle adjustment with the points that it gives, of length 1; work in flops."""
    count = len(found.a)
    poses, camera, point = np.stack([T_b_a, np.eye(4)]), np.repeat([0, 1], count), np.tile(np.arange(count), 2)
    xy = np.concatenate([xy_b[found.b], xy_a[found.a]])
    problem = bundle.Problem(poses, found.xyz, camera, point, xy, np.zeros(2 * count), 1)
    solution = bundle.adjust(problem, noise, ITERATIONS)
    return _motion(solution.poses[0, :3, :3], solution.poses[0, :3, 3]), solution.flops


def _cells(xy: np.ndarray, bounds: np.ndarray) -> int:
    """How many of the image's 4 x 4 cells have at least two of the rays (N, 2)."""
    cell = np.clip(4.0 * (xy - bounds[0]) / (bounds[1] - bounds[0]), 0.0, 3.0).astype(np.intp)
    return int((np.bincount(4 * cell[:, 1] + cell[:, 0], minlength=16) >= 2).sum())
