# SPDX-License-Identifier: Apache-2.0
"""Stereo pairs: rectification against projected points, and both ways to depth, end to end."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from drp_slam.config import Config, DrpConfig
from drp_slam.config.config_file import override
from drp_slam.data.accuracy import ate
from drp_slam.data.dataset import open_sequence
from drp_slam.datatypes import Camera, Features, Frame
from drp_slam.errors import ConfigError, DrpError
from drp_slam.frontend.depth_sensor import Sensor, StereoSensor, open_sensor, rectification
from drp_slam.pipeline import Pipeline
from drp_slam.slam.camera import distort

CLIP = Path(os.environ.get("DRP_SLAM_DATA") or "absent") / "kitti_clip"


def rig(model: str, distortion: list[float]) -> Camera:
    """A raw pair, 0.12 m apart and turned against each other by two degrees."""
    T = np.eye(4)
    T[:3, :3] = cv2.Rodrigues(np.array([0.01, 0.035, -0.008]))[0]
    T[:3, 3] = [-0.12, 0.002, 0.001]
    right = Camera(320, 240, 210.0, 211.0, 158.0, 121.0, np.array(distortion), model=model)
    return replace(right, fx=205.0, fy=206.0, cx=161.0, baseline_m=0.12, right=right, T_right_left=T)


@pytest.mark.parametrize(
    ("model", "distortion"),
    [
        ("plumb_bob", [-0.28, 0.07, 2e-4, 1e-5, 0.0]),
        ("rational_polynomial", [0.1, -0.05, 1e-4, 2e-4, 0.01, 0.2, -0.03, 0.005]),
        ("equidistant", [-0.01, 0.02, -0.01, 0.003]),
    ],
)
def test_rectified_pixels_come_from_where_the_raw_cameras_see_the_point(model: str, distortion: list[float]) -> None:
    camera = rig(model, distortion)
    maps, left = rectification(camera)
    assert left.right is None and left.baseline_m == pytest.approx(0.12, abs=1e-3) and left.model == "plumb_bob"
    rng = np.random.default_rng(0)
    xyz = np.stack([rng.uniform(-0.7, 0.7, 60), rng.uniform(-0.5, 0.5, 60), rng.uniform(2.0, 4.0, 60)], 1)
    raw_left = distort(camera, xyz[:, :2] / xyz[:, 2:])
    other = xyz @ camera.T_right_left[:3, :3].T + camera.T_right_left[:3, 3]
    raw_right = distort(camera.right, other[:, :2] / other[:, 2:])

    def found(table: np.ndarray, raw: np.ndarray) -> np.ndarray:
        """The rectified pixel whose entry is nearest to the raw one, refined by the local spacing."""
        distance = np.linalg.norm(table.reshape(-1, 1, 2) - raw[None], axis=2)
        best = distance.argmin(axis=0)
        assert distance.min(axis=0).max() < 1.0
        y, x = np.divmod(best, table.shape[1])
        return np.stack([x, y], 1)

    one, two = found(maps[0], raw_left), found(maps[1], raw_right)
    assert np.abs(one[:, 1] - two[:, 1]).max() <= 1  # the same row, but for rounding
    disparity = one[:, 0] - two[:, 0]
    depth = left.fx * left.baseline_m / np.maximum(disparity, 1)
    assert np.median(np.abs(depth - xyz[:, 2]) / xyz[:, 2]) < 0.1


def test_a_rectified_pair_is_left_as_it_is_and_rgb_d_needs_nothing() -> None:
    camera = Camera(64, 48, 50.0, 50.0, 32.0, 24.0, baseline_m=0.1)
    assert rectification(camera) == ((), camera)
    sensor = open_sensor(replace(camera, baseline_m=None), DrpConfig())
    frame = Frame(0, 0, np.zeros((48, 64), np.uint8), camera)
    assert type(sensor) is Sensor and sensor.before(frame) == (frame, ())


@pytest.mark.parametrize("way", ["keypoints", "dense"])
def test_depth_of_a_plane(way: str) -> None:
    camera = Camera(322, 120, 200.0, 200.0, 160.0, 60.0, baseline_m=0.5)
    noise = np.random.default_rng(1).integers(0, 256, (120, 400)).astype(np.uint8)
    wide = cv2.GaussianBlur(noise, (0, 0), 1.2)
    left, right = wide[:, :322], wide[:, 20 : 20 + 322]  # 20 px of disparity: 5 m
    sensor = StereoSensor(camera, DrpConfig(stereo=way, disparities=64))
    frame, runs = sensor.before(Frame(0, 0, np.dstack([left] * 3), camera, right=np.dstack([right] * 3)))
    uv = np.stack([np.linspace(110, 300, 50), np.linspace(10, 110, 50)], 1).astype(np.float32)
    features, more = sensor.after(frame, Features(uv, np.ones(50, np.float32), np.zeros((50, 64), np.float32)))
    names = [run.work.name for run in runs + more]
    if way == "dense":
        assert names == ["grey", "grey", "StereoSGBM", "disparity_depth"] and features.depth_m is None
        assert frame.depth is not None and frame.depth.shape == (120, 322)
        assert np.median(frame.depth[10:110, 110:300]) == pytest.approx(5.0, rel=0.02)
        assert not (runs + more)[2].work.reasons  # the DRP takes it
    else:
        assert names == ["grey", "grey", "match_rows"] and frame.depth is None
        assert features.depth_m is not None and np.median(features.depth_m) == pytest.approx(5.0, rel=0.02)


def test_bad_pairs_and_settings_are_one_line() -> None:
    camera = Camera(322, 120, 200.0, 200.0, 160.0, 60.0, baseline_m=0.5)
    with pytest.raises(ConfigError, match="multiple of 16"):
        StereoSensor(camera, DrpConfig(disparities=100))
    with pytest.raises(ConfigError, match="wider than 1280"):
        StereoSensor(replace(camera, width=1920), DrpConfig(disparities=256))
    with pytest.raises(DrpError, match="no right image"):
        StereoSensor(camera, DrpConfig()).before(Frame(3, 0, np.zeros((120, 322), np.uint8), camera))
    turned = rig("plumb_bob", [0.0] * 5)
    swapped = np.linalg.inv(turned.T_right_left)
    with pytest.raises(DrpError, match="side by side|right camera"):
        rectification(replace(turned, T_right_left=swapped))


@pytest.mark.skipif(not CLIP.is_dir(), reason="needs the KITTI clip: set DRP_SLAM_DATA")
@pytest.mark.parametrize("way", ["keypoints", "dense"])
def test_the_kitti_clip_is_tracked_within_half_a_percent_of_its_path(way: str) -> None:
    frames = 51 if way == "keypoints" else 20
    sequence = open_sequence(str(CLIP), frames=frames)
    pipeline = Pipeline(sequence.camera, override(Config(), {"drp.stereo": way}))
    tracks = [pipeline.process(frame).track for frame in sequence]
    assert all(track.tracked for track in tracks)
    truth = sequence.ground_truth
    path_m = np.linalg.norm(np.diff(truth.positions_m[:frames], axis=0), axis=1).sum()
    assert ate(pipeline.tracker.trajectory(), truth).rmse_m < 0.005 * path_m
