# SPDX-License-Identifier: Apache-2.0
"""The four stages on a real recording."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from drp_slam.config import Config
from drp_slam.data.accuracy import ate
from drp_slam.data.dataset import open_sequence
from drp_slam.datatypes import Trajectory
from drp_slam.pipeline import Pipeline


def test_first_seconds_of_freiburg1_xyz(tum_fr1_xyz: Path) -> None:
    sequence = open_sequence(str(tum_fr1_xyz), frames=45)
    pipeline = Pipeline(sequence.camera, Config())
    tracks = [pipeline.process(frame).track for frame in sequence]
    assert all(track.tracked for track in tracks)
    live = Trajectory(
        np.array([t.stamp_ns for t in tracks]),
        np.stack([t.T_world_camera for t in tracks if t.T_world_camera is not None]),
    )
    assert sequence.ground_truth is not None
    for trajectory in (live, pipeline.tracker.trajectory()):
        assert ate(trajectory, sequence.ground_truth).rmse_m < 0.02
