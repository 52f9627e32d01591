# SPDX-License-Identifier: Apache-2.0
"""Camera geometry against OpenCV."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest

from drp_slam import geometry
from drp_slam.datatypes import Camera
from drp_slam.errors import SlamError
from drp_slam.slam.camera import check_camera, distort, plane_bounds, undistort

DISTORTIONS = [
    (0.0, 0.0, 0.0, 0.0, 0.0),
    (0.2624, -0.9531, -0.0054, 0.0026, 1.1633),
    (-0.28, 0.07, 0.001, -0.0005, 0.0),
]


def camera(distortion: tuple[float, ...]) -> Camera:
    return Camera(640, 480, 517.3, 516.5, 318.6, 255.3, np.array(distortion))


def grid() -> np.ndarray:
    u, v = np.meshgrid(np.linspace(0, 639, 25), np.linspace(0, 479, 19))
    return np.stack([u.ravel(), v.ravel()], axis=1)


@pytest.mark.parametrize("distortion", DISTORTIONS)
def test_undistort_inverts_opencv_projection(distortion: tuple[float, ...]) -> None:
    cam = camera(distortion)
    xy = undistort(cam, grid())
    points = np.concatenate([xy, np.ones((len(xy), 1))], axis=1)
    uv = cv2.projectPoints(points, np.zeros(3), np.zeros(3), cam.K, cam.distortion)[0][:, 0]
    np.testing.assert_allclose(uv, grid(), atol=1e-6)


@pytest.mark.parametrize("distortion", DISTORTIONS)
def test_undistort_agrees_with_opencv(distortion: tuple[float, ...]) -> None:
    cam = camera(distortion)
    middle = grid()[np.abs(grid() - (318.6, 255.3)).max(axis=1) < 200]
    theirs = cv2.undistortPoints(middle[:, None], cam.K, cam.distortion)[:, 0]
    np.testing.assert_allclose(undistort(cam, middle), theirs, atol=2e-4)


@pytest.mark.parametrize("distortion", DISTORTIONS)
def test_distort_agrees_with_opencv(distortion: tuple[float, ...]) -> None:
    rng = np.random.default_rng(3)
    cam, T = camera(distortion), geometry.exp(rng.normal(scale=0.1, size=6))
    xyz = rng.uniform([-0.7, -0.5, 1.5], [0.7, 0.5, 4.0], (200, 3))
    rvec = cv2.Rodrigues(T[:3, :3])[0]
    theirs = cv2.projectPoints(xyz, rvec, T[:3, 3], cam.K, cam.distortion)[0][:, 0]
    p = geometry.apply(T, xyz)
    np.testing.assert_allclose(distort(cam, p[:, :2] / p[:, 2:]), theirs, atol=1e-8)
    np.testing.assert_allclose(undistort(cam, distort(cam, grid() / 1000)), grid() / 1000, atol=1e-6)


def test_no_points_and_bounds() -> None:
    cam = camera(DISTORTIONS[0])
    assert undistort(cam, np.zeros((0, 2))).shape == (0, 2)
    low, high = plane_bounds(cam)
    np.testing.assert_allclose(low, [-318.6 / 517.3, -255.3 / 516.5])
    np.testing.assert_allclose(high, [(639 - 318.6) / 517.3, (479 - 255.3) / 516.5])


@pytest.mark.parametrize(
    "broken",
    [
        Camera(640, 480, 0.0, 500.0, 320.0, 240.0),
        Camera(640, 480, 500.0, float("nan"), 320.0, 240.0),
        Camera(0, 480, 500.0, 500.0, 320.0, 240.0),
        Camera(640, 480, 500.0, 500.0, 320.0, 240.0, np.zeros(4)),
    ],
)
def test_unusable_calibrations_are_refused(broken: Camera) -> None:
    with pytest.raises(SlamError):
        check_camera(broken)


@pytest.mark.parametrize(
    ("model", "distortion"),
    [
        ("rational_polynomial", [0.3, -0.1, 1e-3, -5e-4, 0.02, 0.35, -0.08, 0.01]),
        ("equidistant", [-0.01, 0.03, -0.02, 0.005]),
    ],
)
def test_other_distortion_models_are_inverted(model: str, distortion: list[float]) -> None:
    camera = Camera(640, 480, 400.0, 402.0, 321.0, 239.0, np.array(distortion), model=model)
    check_camera(camera)
    grid = np.stack(np.meshgrid(np.linspace(0, 639, 12), np.linspace(0, 479, 9)), -1).reshape(-1, 2)
    xy = undistort(camera, grid)
    assert np.abs(distort(camera, xy) - grid).max() < 1e-3
    assert undistort(camera, grid[:0]).shape == (0, 2)
    with pytest.raises(SlamError, match=model):
        check_camera(dataclasses.replace(camera, distortion=np.zeros(3)))
