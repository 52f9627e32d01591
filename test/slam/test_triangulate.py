# SPDX-License-Identifier: Apache-2.0
"""Points without depth: triangulated as OpenCV does, and good enough to be tracked by."""

from __future__ import annotations

import cv2
import numpy as np
from point_world import CAMERA, errors_m, frame, make_world, walk

from drp_slam import geometry
from drp_slam.slam.matching import Matches
from drp_slam.slam.optimize import Noise
from drp_slam.slam.tracker import Tracker
from drp_slam.slam.triangulate import triangulated

NOISE = Noise(430.0, 430.0, 333.0)


def _matches(count: int) -> Matches:
    each = np.arange(count)
    return Matches(each, each, np.ones(count), float(count**2))


def test_points_are_those_that_opencv_finds() -> None:
    rng = np.random.default_rng(0)
    xyz = rng.uniform((-1, -1, 2), (1, 1, 4), (100, 3))
    T_b_a = geometry.exp(np.array([-0.5, 0.05, 0.1, 0.02, 0.1, -0.03]))
    there = geometry.apply(T_b_a, xyz)
    a, b = xyz[:, :2] / xyz[:, 2:], there[:, :2] / there[:, 2:]
    found = triangulated(_matches(100), a, b, T_b_a, NOISE)
    assert len(found.xyz) == 100
    np.testing.assert_allclose(found.xyz, xyz, atol=1e-9)
    noisy_a, noisy_b = (xy + rng.normal(scale=1.0 / 430, size=xy.shape) for xy in (a, b))
    found = triangulated(_matches(100), noisy_a, noisy_b, T_b_a, NOISE)
    assert len(found.xyz) > 90
    homogeneous = cv2.triangulatePoints(np.eye(4)[:3], T_b_a[:3], noisy_a[found.a].T, noisy_b[found.b].T)
    reference = (homogeneous[:3] / homogeneous[3]).T
    np.testing.assert_allclose(found.xyz, reference, atol=0.04)


def test_no_point_without_parallax_off_the_epipolar_line_or_behind() -> None:
    xyz = np.array([[0.0, 0.0, 2.0], [0.2, 0.1, 400.0], [0.1, 0.1, 2.0], [0.0, 0.2, 2.0]])
    T_b_a = geometry.exp(np.array([-0.3, 0.0, 0.0, 0.0, 0.0, 0.0]))
    there = geometry.apply(T_b_a, xyz)
    a, b = xyz[:, :2] / xyz[:, 2:], there[:, :2] / there[:, 2:]
    b[2, 1] += 10.0 / 430  # off the epipolar line
    b[3, 0] = 0.1  # the rays meet behind the cameras
    assert triangulated(_matches(4), a, b, T_b_a, NOISE).a.tolist() == [0]


def test_tracking_continues_without_depth() -> None:
    world, poses = make_world(), walk(75)
    tracker, found = Tracker(CAMERA), []
    for k, pose in enumerate(poses):
        features, depth = world.see(pose)
        found.append(tracker.track(frame(k, 1000 + k * 66_666_667, depth if k < 15 else None), features))
    assert all(track.tracked for track in found)
    T = np.stack([track.T_world_camera for track in found])
    assert errors_m(poses, np.arange(75), T).max() < 0.1  # 120 degrees later, of a path of 1.3 m
