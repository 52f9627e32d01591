# SPDX-License-Identifier: Apache-2.0
"""The generated building, and a short tour of it through the tracker."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from drp_slam.data.building import CAMERA, DOOR_M, HEIGHT_M, ROOM_M, make_building, tour
from drp_slam.errors import DataError
from drp_slam.evaluation.scale import measure


def test_the_tour_stays_in_the_building_and_passes_walls_only_through_doors() -> None:
    building = make_building(3, 4)
    position = tour(building, 2000)[:, :3, 3]
    size = ROOM_M * (4, 3)
    assert (position[:, :2] > 0.2).all() and (position[:, :2] < size - 0.2).all()
    assert ((position[:, 2] > 1.0) & (position[:, 2] < HEIGHT_M)).all()
    room = np.floor(position[:, :2] / ROOM_M).astype(int)
    assert len(np.unique(room, axis=0)) == 12
    for k in np.flatnonzero((np.diff(room, axis=0) != 0).any(axis=1)):
        across = 1 - int(np.argmax(room[k] != room[k + 1]))  # along the wall
        middle = (room[k, across] + 0.5) * ROOM_M[across]
        assert abs(position[k, across] - middle) < DOOR_M[0] / 2


def test_features_are_what_the_camera_sees() -> None:
    building = make_building(2, 2)
    T = tour(building, 100)[50]
    features = building.see(T, np.random.default_rng(0))
    assert features.depth_m is not None and 200 < len(features) <= 1000
    assert (features.uv > -2).all() and (features.uv < (CAMERA.width + 2, CAMERA.height + 2)).all()
    # a point through a wall is not seen: no depth leads out of the building
    ray = np.c_[(features.uv - (CAMERA.cx, CAMERA.cy)) / CAMERA.fx, np.ones(len(features))] * features.depth_m[:, None]
    world = ray @ T[:3, :3].T + T[:3, 3]
    assert np.percentile(np.abs(world - np.clip(world, 0, [*ROOM_M * 2, HEIGHT_M])).max(axis=1), 99) < 0.2


def test_a_short_tour_is_tracked_with_loops_and_stays_small(tmp_path: Path) -> None:
    scale = measure(400, tmp_path)
    assert scale.tracked == 400 and scale.loops >= 1
    assert scale.live < scale.keyframes and scale.keyframes > 100
    assert scale.ate_share < 0.005
    assert len(scale.p95_ms) == 10 and scale.rss_growth_mb > 0
    stored = scale.stored
    assert stored.keyframes == scale.live and stored.file_mb > 0.01 * scale.live
    assert stored.found == stored.sought == 50 and stored.wrong == 0


def test_too_few_frames_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="50"):
        measure(50, tmp_path)
