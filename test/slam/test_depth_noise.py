# SPDX-License-Identifier: Apache-2.0
"""The noise of depth is learnt from how well it agrees with the map."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from point_world import CAMERA, frame, make_world, walk

from drp_slam.slam.depth_noise import DepthNoise
from drp_slam.slam.optimize import Noise
from drp_slam.slam.tracker import Tracker

ASSUMED = Noise(500.0, 500.0, 1.0 / 0.003)


def learnt(sigma: float, keyframes: int, pair: bool = False) -> float:
    """The deviation learnt from a sensor of this one, from points that were seen once before."""
    rng, noise = np.random.default_rng(0), DepthNoise(ASSUMED, pair)
    for _ in range(keyframes):
        noise.learn(rng.normal(scale=np.sqrt(2.0) * sigma, size=400) ** 2, np.ones(400))
    return 1.0 / noise.noise.fd


@pytest.mark.parametrize("sigma", [0.0018, 0.003, 0.009])
def test_learns_the_deviation_of_a_sensor(sigma: float) -> None:
    assert learnt(sigma, 100) == pytest.approx(sigma, rel=0.05)


def test_stays_within_its_bounds() -> None:
    assert learnt(1e-5, 100) == pytest.approx(0.0015)
    assert learnt(1e-5, 100, pair=True) == pytest.approx(0.003)
    assert learnt(1.0, 100) == pytest.approx(0.012)


def test_a_contradiction_counts_at_once_and_few_points_never() -> None:
    noise = DepthNoise(ASSUMED, pair=False)
    for _ in range(50):
        noise.learn(np.full(400, 0.0015**2), np.ones(400))
    before = noise.noise.fd
    noise.learn(np.full(20, 1.0), np.ones(20))
    assert noise.noise.fd == before
    noise.learn(np.full(400, 0.03**2), np.ones(400))
    assert noise.noise.fd < before / 2


@pytest.mark.parametrize(("relative", "low", "high"), [(0.002, 0.0015, 0.0025), (0.02, 0.007, 0.012)])
def test_a_camera_that_measures_worse_is_trusted_less(relative: float, low: float, high: float) -> None:
    """Walls 2 m away: a relative error is half of that in 1/m."""
    world, rng = make_world(), np.random.default_rng(3)
    tracker = Tracker(CAMERA)
    for k, pose in enumerate(walk(60)):
        features, depth = world.see(pose, 300)
        factor = 1.0 + rng.normal(scale=relative, size=(24, 32))
        depth = (depth * np.kron(factor, np.ones((20, 20)))).astype(np.uint16)
        assert tracker.track(frame(k, k * 66_666_667, depth), features).tracked
    noise = tracker._mapping.geometry.noise
    assert low <= 1.0 / noise.fd < high
    tracker.configure(dataclasses.replace(tracker._config, gate_px=50.0))
    assert tracker._mapping.geometry.noise == noise
