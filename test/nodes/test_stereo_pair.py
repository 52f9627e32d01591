# SPDX-License-Identifier: Apache-2.0
"""Stereo pairs on topics: CameraInfo holds all of a pair, and the graph does with it what `run` does."""

from __future__ import annotations

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy")

from drp_slam import geometry
from drp_slam.data.camera_info import pair_of
from drp_slam.data.trajectory import read_tum
from drp_slam.datatypes import XFEAT_DESCRIPTOR, Camera, Features
from drp_slam.errors import DataError
from drp_slam.frontend.depth_sensor import rectification
from drp_slam.nodes import convert, feature_codec, stereo_pair
from drp_slam.reporting import folder

HEAD = convert.header(7, "left")
RECTIFIED = Camera(640, 480, 500.0, 500.0, 320.0, 240.0, baseline_m=0.12)


def raw(model: str, distortion: list[float]) -> Camera:
    one = Camera(640, 480, 510.0, 505.0, 322.0, 238.0, np.array(distortion), model=model)
    T = geometry.exp(np.array([-0.12, 0.001, 0.002, 0.01, -0.005, 0.003]))
    return replace(one, baseline_m=0.12, right=replace(one, fx=507.0), T_right_left=T)


def test_a_rectified_pair_travels_in_two_camera_infos():
    camera = pair_of(*stereo_pair.infos(RECTIFIED, HEAD))
    assert camera.right is None and camera.baseline_m == pytest.approx(0.12)
    assert np.array_equal(camera.K, RECTIFIED.K)


@pytest.mark.parametrize(
    ("model", "distortion"), [("plumb_bob", [-0.28, 0.07, 1e-4, 2e-5, 0.0]), ("equidistant", [0.01, -0.02, 0.003, 0.0])]
)
def test_a_raw_pair_is_rectified_as_it_was_calibrated(model, distortion):
    camera = raw(model, distortion)
    left, right = stereo_pair.infos(camera, HEAD)
    back = pair_of(left, right)
    assert back.right is not None and np.allclose(back.T_right_left, camera.T_right_left, atol=1e-12)
    ours, theirs = rectification(back), rectification(camera)
    assert ours[1].baseline_m == pytest.approx(theirs[1].baseline_m) and np.allclose(ours[1].K, theirs[1].K)
    # ROS's image_proc rectifies with these R and P
    undistort = cv2.fisheye if model == "equidistant" else cv2
    for message, table in zip((left, right), ours[0]):
        K, d, R, P = (np.array(v) for v in (message.k, message.d, message.r, message.p))
        size = (camera.width, camera.height)
        expected = undistort.initUndistortRectifyMap(
            K.reshape(3, 3), d, R.reshape(3, 3), P.reshape(3, 4)[:, :3], size, cv2.CV_32FC1
        )
        assert np.allclose(table, np.dstack(expected), atol=1e-3)
    # of images that image_proc has rectified, P alone counts
    plain = pair_of(left, right, rectified=True)
    assert plain.right is None and not plain.distortion.any() and plain.fx == pytest.approx(ours[1].fx)


def test_a_pair_without_a_baseline_is_refused():
    left, right = stereo_pair.infos(RECTIFIED, HEAD)
    with pytest.raises(DataError, match="no baseline"):
        pair_of(right, left)


@pytest.mark.parametrize("measured", [False, True])
def test_features_carry_the_depth_that_a_pair_measures(measured):
    rng = np.random.default_rng(1)
    uv, score, descriptor, depth = (
        rng.random((5, *shape), dtype=np.float32) for shape in ((2,), (), (XFEAT_DESCRIPTOR.length,), ())
    )
    features = Features(uv, score, descriptor, depth if measured else None)
    back = feature_codec.from_message(feature_codec.to_message(features, XFEAT_DESCRIPTOR, HEAD), XFEAT_DESCRIPTOR)
    assert np.array_equal(back.uv, uv) and np.array_equal(back.descriptor, descriptor)
    assert np.array_equal(back.depth_m, depth) if measured else back.depth_m is None


@pytest.mark.system
@pytest.mark.parametrize("way", ["keypoints", "dense"])
def test_the_graph_tracks_a_pair_as_run_does(command, data_folder, tmp_path, way):
    common = ("--frames", 8, "--set", f"drp.stereo={way}", "--json")
    sequence = data_folder / "kitti_clip"
    code, out, err = command("up", "--sequence", sequence, "--rate", "max", *common, "--out", tmp_path / "up").finish()
    assert code == 0, err
    report = json.loads(out)
    assert report["frames"] == report["tracked"] == report["stages"]["stereo"]["frames"] == 8
    code, out, err = command("run", sequence, *common, "--out", tmp_path / "run").finish()
    assert code == 0, err
    graph, alone = (read_tum(tmp_path / d / folder.ODOMETRY) for d in ("up", "run"))
    assert np.array_equal(graph.stamps_ns, alone.stamps_ns)
    assert np.abs(graph.T_world_camera - alone.T_world_camera).max() < 1e-6
