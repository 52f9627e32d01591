# SPDX-License-Identifier: Apache-2.0
"""How far map points are trusted to be static.

A point earns trust by agreeing with the camera's motion frame by frame and loses it, faster, by
disagreeing. Where groups of matches contradict each other, trust is the weight of a point's vote: what
has just come into view cannot outvote what has been static for long. A refuted point is removed.
"""

from __future__ import annotations

import numpy as np

from drp_slam.slam.compiled import NO_MARKS, native
from drp_slam.slam.optimize import CHI2_PIXEL, DEPTH_GATE2

FULL = 20.0
"""Largest trust, counted in agreeing frames."""
HALF = 5.0
"""A point with this trust has about half of the largest possible vote."""
FIRST = 5.0
"""Trust of the points of a map's first frame: there is no better evidence yet."""
KEPT, LOST = 0.6, 0.5
"""A disagreement multiplies the trust by the first, then subtracts the second."""
REFUTED = -1.5
"""With less trust than this, a point is removed: it has moved, or never existed."""
DISAGREES = 4.0
"""Errors between the gate and this multiple of it (squared) are not evidence: noise has heavy tails."""
UNTRIED = 0.02
"""Weight of a point that no frame has agreed with yet, and the minimum weight."""
IGNORED = -1.2
"""A point with this trust has almost no weight."""
DOUBTED = 0.1
"""Factor on the vote of a point that has disagreed more often than agreed."""

_JUDGED = np.array([CHI2_PIXEL, DEPTH_GATE2, DISAGREES, KEPT, LOST, REFUTED, FULL, 0.0])


def standing(trust: np.ndarray) -> np.ndarray:
    """(N,) in (0, 1): weights of the votes of points with a trust (N,)."""
    earned = np.maximum(trust, 0.0)
    return np.where(trust < 0.0, DOUBTED, 1.0) * (earned + 0.5) / (earned + HALF)


def weights(trust: np.ndarray) -> np.ndarray:
    """(N,) in (0, 1]: weights of points with a trust (N,) in a pose.

    Small until a first frame has agreed, 1 after it; falls gradually where frames disagree.
    """
    return np.clip(np.where(trust < 0.0, 1.0 - trust / IGNORED, trust + UNTRIED), UNTRIED, 1.0)


def updated(trust: np.ndarray, error2_px: np.ndarray, error2_depth: np.ndarray) -> np.ndarray:
    """(N,) trust after a frame that saw the points with these squared errors in standard deviations."""
    agreement = np.where(error2_depth < DEPTH_GATE2, np.maximum(1.0 - error2_px / CHI2_PIXEL, 0.0), 0.0)
    disagrees = (error2_px > DISAGREES * CHI2_PIXEL) | (error2_depth > DISAGREES * DEPTH_GATE2)
    return np.where(disagrees, lowered(trust), np.minimum(trust + agreement, FULL))


def judge(
    trust: np.ndarray,
    matched: np.ndarray,
    error2_px: np.ndarray,
    error2_depth: np.ndarray,
    visible: np.ndarray,
    through: np.ndarray | None,
) -> list[int]:
    """Updates the trust (M,) of points `matched` (N,) by their errors (N,), then of `visible` ones (V,) that a frame
    looks `through` (V,). Returns the numbers of those that are refuted."""
    if native is not None:
        marks = NO_MARKS if through is None else through
        return native.judge(trust, matched, error2_px, error2_depth, visible, marks, _JUDGED)
    trust[matched] = updated(trust[matched], error2_px, error2_depth)
    if through is not None:
        trust[visible[through]] = lowered(trust[visible[through]])
    touched = np.concatenate([matched, visible])
    return touched[trust[touched] < REFUTED].tolist()


def lowered(trust: np.ndarray) -> np.ndarray:
    """(N,) trust after a disagreement."""
    return np.maximum(np.minimum(trust, KEPT * trust) - LOST, 2.0 * REFUTED)
