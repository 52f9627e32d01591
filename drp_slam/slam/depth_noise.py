# SPDX-License-Identifier: Apache-2.0
"""How well the sensor measures depth, by how well its depths agree with the map's points."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from drp_slam.slam.compiled import median
from drp_slam.slam.optimize import Noise

LEAST_MEASURED = 50
"""A keyframe with fewer depths of known points says nothing about the noise."""
ASSUMED_KEYFRAMES = 3
"""The noise that was assumed counts as much as so many keyframes."""
REMEMBERED_KEYFRAMES = 30
"""From so many keyframes on, older ones count less and less."""
NORMAL_MEDIAN2 = 0.4549
"""Median of the square of a standard normal variable."""
LEAST_TIMES, MOST_TIMES = 0.5, 4.0
"""Bounds of the learnt noise in multiples of the assumed one, half of which is calibration (docs/slam.md)."""


class DepthNoise:
    """Running mean of the variance of inverse depths over keyframes; a few that contradict the map raise it at once.

    Sensors differ by a factor of ten, and the ratio of depth noise to that of keypoints decides how a pose and the
    points share an error. A depth is compared with its point as the map had it before, so a weight that is too
    large does not confirm itself. With a stereo `pair` the noise is never less than assumed: disparities have a bias
    of a fraction of a pixel, on which all views of a point agree.
    """

    def __init__(self, assumed: Noise, pair: bool) -> None:
        self._assumed, self._least = assumed, 1.0 if pair else LEAST_TIMES
        self._keyframes, self._variance = ASSUMED_KEYFRAMES, 1.0

    def learn(self, error2: np.ndarray, observations: np.ndarray) -> None:
        """Squared errors (N,) in 1/m² of a frame's inverse depths; `observations` (N,) of their points before it."""
        if len(error2) < LEAST_MEASURED:
            return
        # a point that k keyframes have measured has an error of its own
        square = error2 * self._assumed.fd**2 / (1.0 + 1.0 / observations)
        self._keyframes = min(self._keyframes + 1, REMEMBERED_KEYFRAMES)
        self._variance += (median(square) / NORMAL_MEDIAN2 - self._variance) / self._keyframes

    @property
    def noise(self) -> Noise:
        """The assumed noise with that of depth as learnt."""
        times = min(max(float(np.sqrt(self._variance)), self._least), MOST_TIMES)
        return replace(self._assumed, fd=self._assumed.fd / times)
