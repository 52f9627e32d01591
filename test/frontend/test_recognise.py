# SPDX-License-Identifier: Apache-2.0
"""Recognition beside localisation, offline: which frames are searched, and what it must not change."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from drp_slam.config import Config
from drp_slam.config.config_file import override
from drp_slam.data.dataset import open_sequence
from drp_slam.data.ply import read_ply, write_ply
from drp_slam.drpai3.detect import Due
from drp_slam.offline import run_sequence
from drp_slam.pipeline import Pipeline
from drp_slam.reporting import folder

DETECTOR = Path(os.environ.get("DRP_SLAM_DATA", "")) / "networks" / "fastestdet" / "FastestDet.onnx"


def test_every_nth_frame_is_due() -> None:
    due = Due(3)
    assert [due(i) for i in range(7)] == [True, False, False, True, False, False, True]


def test_a_rate_holds_on_average_whatever_the_frame_rate_and_after_a_gap() -> None:
    for fps in (30.0, 12.5, 7.0):
        due = Due(1, rate_hz=5.0)
        searched = sum(due(round(1e9 * i / fps)) for i in range(int(fps * 20)))
        assert searched == pytest.approx(100, abs=1)
    due = Due(1, rate_hz=5.0)
    assert [due(t * 10**8) for t in (0, 1, 2, 90, 91, 92, 1, 2, 3)] == [1, 0, 1, 1, 0, 1, 1, 0, 1]


@pytest.mark.skipif(not DETECTOR.is_file(), reason="set DRP_SLAM_DATA to the folder with networks/fastestdet")
def test_a_detector_leaves_the_trajectory_as_it_is_and_labels_the_map(tmp_path: Path) -> None:
    config = override(Config(), {"features": "orb"})
    with_detector = override(
        config, {"drpai3.detector": str(DETECTOR), "drpai3.detector_every": 2, "drpai3.detector_threshold": 0.2}
    )
    sequence = open_sequence("synthetic:seed=1", None, 0, 5)
    plain, searched = Pipeline(sequence.camera, config), Pipeline(sequence.camera, with_detector)
    stages = []
    for frame in sequence:
        pose = plain.process(frame).track.T_world_camera
        step = searched.process(frame)
        np.testing.assert_array_equal(step.track.T_world_camera, pose)
        stages.append([run.stage for run in step.runs])
    assert stages == [["detect", "orb", "track"], ["orb", "track"]] * 2 + [["detect", "orb", "track"]]
    cloud = searched.tracker.cloud()
    assert plain.tracker.cloud().label is None and cloud.label is not None and cloud.votes.max() >= 2
    cloud = replace(cloud, names=("person", "dining table"))
    write_ply(tmp_path / "map.ply", cloud)
    again = read_ply(tmp_path / "map.ply")
    np.testing.assert_array_equal(again.label, cloud.label)
    np.testing.assert_array_equal(again.votes, cloud.votes)
    assert again.names == cloud.names


@pytest.mark.skipif(not DETECTOR.is_file(), reason="set DRP_SLAM_DATA to the folder with networks/fastestdet")
def test_two_runs_with_recognition_give_the_same_files(tmp_path: Path) -> None:
    values = {"features": "orb", "drpai3.detector": str(DETECTOR), "drpai3.detector_every": 2}
    sequence = open_sequence("synthetic:seed=1", None, 0, 4)
    for name in ("a", "b"):
        run_sequence(sequence, override(Config(), values | {"drpai3.detector_threshold": 0.2}), tmp_path / name)
    for file in (folder.TRAJECTORY, folder.ODOMETRY, folder.MAP, folder.KERNELS):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file
