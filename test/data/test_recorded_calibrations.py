# SPDX-License-Identifier: Apache-2.0
"""The camera that a recording states: distortion models, parts of the sensor, and messages with gaps."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rosbags.rosbag2")

from bag_messages import TYPES
from recording import Recorder, colour, millimetres

from drp_slam.data.sequence import Sequence


@pytest.fixture
def recorder(room: Sequence) -> Recorder:
    return Recorder(room)


@pytest.mark.parametrize(
    ("model", "d"),
    [
        ("rational_polynomial", [0.1, -0.2, 0.001, 0.002, 0.05, 0.2, -0.1, 0.03]),
        ("rational_polynomial", [0.1, -0.2, 0.001, 0.002, 0.05, 0.2, -0.1, 0.03, 0, 0, 0, 0, 0, 0]),
        ("plumb_bob", [0.1, -0.2, 0.001, 0.002]),
        ("equidistant", [0.1, -0.02, 0.001, 0.002]),
        ("fisheye", [0.1, -0.02, 0.001, 0.002]),
        ("", []),
    ],
)
def test_distortion_of_a_recording(recorder: Recorder, tmp_path: Path, model: str, d: list[float]) -> None:
    recorder.info("/c/camera_info", recorder.room.camera, distortion_model=model, d=np.array(d, np.float64))
    recorder.images("/c/image_raw", colour, "bgr8").images("/c/depth", millimetres, "16UC1")
    camera = recorder.bag(tmp_path / "bag").camera
    wanted = {"fisheye": "equidistant", "": "plumb_bob"}.get(model, model)
    assert camera.model == wanted and camera.distortion[: len(d)].tolist() == d[:8]


@pytest.mark.parametrize("binning", [0, 1, 2])
def test_binning_and_region_of_interest(recorder: Recorder, tmp_path: Path, binning: int) -> None:
    """The calibration is of the full sensor; the images are a part of it, every n-th pixel."""
    camera, n = recorder.room.camera, max(binning, 1)
    full = dataclasses.replace(
        camera, width=400, height=300, fx=camera.fx * n, fy=camera.fy * n, cx=camera.cx * n + 10, cy=camera.cy * n + 20
    )
    roi = TYPES["sensor_msgs/msg/RegionOfInterest"](10, 20, camera.height * n, camera.width * n, False)
    order = {
        "x_offset": 10,
        "y_offset": 20,
        "height": camera.height * n,
        "width": camera.width * n,
        "do_rectify": False,
    }
    roi = dataclasses.replace(roi, **order)
    recorder.info("/c/camera_info", full, binning_x=binning, binning_y=binning, roi=roi)
    recorder.images("/c/image_raw", colour, "bgr8").images("/c/depth", millimetres, "16UC1")
    read = recorder.bag(tmp_path / "bag")
    assert (read.camera.width, read.camera.height) == (camera.width, camera.height)
    assert np.allclose(read.camera.K, camera.K) and len(list(read)) == 6


def test_camera_info_begins_empty(recorder: Recorder, tmp_path: Path) -> None:
    recorder.info("/c/camera_info", recorder.room.camera)
    topic, log_ns, first = recorder.messages[0]
    recorder.messages[0] = topic, log_ns, dataclasses.replace(first, k=np.zeros(9), p=np.zeros(12))
    recorder.images("/c/image_raw", colour, "bgr8").images("/c/depth", millimetres, "16UC1")
    assert recorder.bag(tmp_path / "bag").camera.fx == recorder.room.camera.fx


@pytest.mark.parametrize("topic", ["/c/image_raw", "/c/image_rect"])
@pytest.mark.parametrize("left_out", [{"k": np.zeros(9), "d": np.zeros(0)}, {"p": np.zeros(12)}], ids=["K", "P"])
def test_a_driver_that_fills_one_of_k_and_p(recorder: Recorder, tmp_path: Path, topic: str, left_out: dict) -> None:
    recorder.info("/c/camera_info", recorder.room.camera, **left_out)
    recorder.images(topic, colour, "bgr8").images("/c/depth", millimetres, "16UC1")
    read = recorder.bag(tmp_path / "bag")
    assert np.allclose(read.camera.K, recorder.room.camera.K) and not read.camera.distortion.any()
