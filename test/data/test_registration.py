# SPDX-License-Identifier: Apache-2.0
"""Registration of depth, against a loop over pixels with OpenCV's own projection."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from drp_slam import geometry
from drp_slam.data.registration import Lens, Moved, register_depth
from drp_slam.datatypes import Camera
from drp_slam.errors import DataError

COLOUR = [
    Camera(96, 72, 80.0, 81.0, 47.0, 36.5),
    Camera(96, 72, 80.0, 81.0, 47.0, 36.5, np.array([0.26, -0.95, -0.005, 0.003, 1.16])),
    Camera(
        96,
        72,
        80.0,
        81.0,
        47.0,
        36.5,
        np.array([0.3, -0.1, 0.001, 0.001, 0.02, 0.5, -0.1, 0.02]),
        model="rational_polynomial",
    ),
    Camera(96, 72, 60.0, 60.0, 47.0, 36.5, np.array([0.05, -0.01, 0.002, -0.001]), model="equidistant"),
]


def projected(camera: Camera, xyz: np.ndarray) -> np.ndarray:
    function = cv2.fisheye.projectPoints if camera.model == "equidistant" else cv2.projectPoints
    points = xyz[:, None] if camera.model == "equidistant" else xyz
    return function(points, np.zeros(3), np.zeros(3), camera.K, camera.distortion)[0][:, 0]


@pytest.mark.parametrize("camera", COLOUR, ids=lambda c: f"{c.model}-{c.distortion.any()}")
@pytest.mark.parametrize("size", [1, 2])
def test_every_point_falls_where_opencv_projects_it(camera: Camera, size: int) -> None:
    own = Camera(96 // size, 72 // size, 85.0 / size, 85.0 / size, 48.0 / size, 36.0 / size)
    T = geometry.exp(np.array([0.05, -0.02, 0.01, 0.02, -0.03, 0.01]))
    rng = np.random.default_rng(size)
    depth = (1500 + 500 * (rng.random((72 // size, 96 // size)) > 0.7)).astype(np.uint16)
    depth[:5] = 0
    register = register_depth((96 // size, 72 // size), own, camera, T)
    assert isinstance(register, Moved)
    found, unit_m = register(depth, 0.001)
    v, u = np.nonzero(depth)
    z = depth[v, u] * 0.001
    rays = np.stack([(u - own.cx) / own.fx, (v - own.cy) / own.fy, np.ones(len(u))], 1)
    xyz = (rays * z[:, None]) @ T[:3, :3].T + T[:3, 3]
    wanted = np.full((72, 96), np.inf)
    for (x, y), near in zip(np.floor(projected(camera, xyz)).astype(int), xyz[:, 2]):
        for down in range(register.splat):
            for across in range(register.splat):
                if 0 <= y + down < 72 and 0 <= x + across < 96:
                    wanted[y + down, x + across] = min(wanted[y + down, x + across], near)
    wanted[np.isinf(wanted)] = 0
    assert unit_m == 1.0 and found.dtype == np.float32
    assert np.mean(np.abs(found - wanted) < 1e-4) > 0.97, "but where a point falls on the edge of a pixel"


@pytest.mark.parametrize("camera", COLOUR, ids=lambda c: f"{c.model}-{c.distortion.any()}")
def test_the_table_of_a_lens_is_exact_to_a_tenth_of_a_pixel(camera: Camera) -> None:
    lens = Lens.of(camera)
    rng = np.random.default_rng(0)
    span = lens.step * (lens.table.shape[0] - 1)
    xy = (lens.origin + span * rng.uniform(0.05, 0.95, (1000, 2))).astype(np.float32)
    found = lens(xy[None, :, 0], xy[None, :, 1])[0]
    wanted = projected(camera, np.concatenate([xy, np.ones((1000, 1))], 1).astype(np.float64))
    assert np.abs(found - wanted).max() < 0.1
    assert (lens(np.full((1, 1), 1e3), np.zeros((1, 1))) < -1e5).all()


def test_invalid_depth_and_another_size() -> None:
    T = np.eye(4)
    T[0, 3] = 0.1
    register = register_depth((96, 72), COLOUR[0], COLOUR[0], T)
    depth = np.full((72, 96), np.nan, np.float32)
    depth[0, 0], depth[1, 1] = np.inf, -1.0
    assert not register(depth, 1.0)[0].any()
    with pytest.raises(DataError, match="depth is 48x36"):
        register(np.ones((36, 48), np.uint16), 0.001)
