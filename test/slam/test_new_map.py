# SPDX-License-Identifier: Apache-2.0
"""Lost in an unknown place: a new map begins, and joins the old one where they overlap; never another place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from point_world import CAMERA, World, frame, make_world, ring, round_trip, walk

from drp_slam import geometry
from drp_slam.config import SlamConfig
from drp_slam.datatypes import Track
from drp_slam.slam.mapfile import load, save
from drp_slam.slam.tracker import Tracker

STEP_NS = 66_666_667
KIDNAPPED, FOUND_AT = 30, 60
"""The camera is moved from the 30th pose of the round trip to the 60th."""


def play(tracker: Tracker, world: World, poses: list[np.ndarray], first: int = 0) -> list[Track]:
    tracks = []
    for k, pose in enumerate(poses, first):
        features, depth = world.see(pose, 300)
        tracks.append(tracker.track(frame(k, k * STEP_NS, depth), features))
    return tracks


def trip() -> list[np.ndarray]:
    poses = round_trip(140)
    return [*poses[:KIDNAPPED], *poses[FOUND_AT:]]


@pytest.fixture(scope="module")
def kidnapped() -> tuple[Tracker, list[Track]]:
    tracker = Tracker(CAMERA, SlamConfig(new_map_after_s=0.5))
    return tracker, play(tracker, ring(), trip())


def test_a_new_map_begins_after_a_while(kidnapped: tuple[Tracker, list[Track]]) -> None:
    _, tracks = kidnapped
    lost = [k for k, t in enumerate(tracks) if not t.tracked]
    assert lost == list(range(KIDNAPPED, KIDNAPPED + len(lost))) and 7 <= len(lost) <= 9
    begun = tracks[KIDNAPPED + len(lost)]
    assert begun.keyframe and begun.map == 1 and not begun.relocalised
    assert {t.map for t in tracks[:KIDNAPPED]} == {0}


def test_odometry_continues_where_the_camera_was_lost(kidnapped: tuple[Tracker, list[Track]]) -> None:
    _, tracks = kidnapped
    begun = next(k for k, t in enumerate(tracks) if t.map == 1)
    last, first = tracks[KIDNAPPED - 1].T_world_camera, tracks[begun].T_world_camera
    np.testing.assert_allclose(first, last, atol=2e-3)  # an adjustment may follow the loss
    covariance = tracks[begun].covariance
    assert covariance is not None and np.sqrt(covariance[0, 0]) > 1.0  # where it is in the first map is not known


def test_the_maps_are_joined_where_they_overlap(kidnapped: tuple[Tracker, list[Track]]) -> None:
    tracker, tracks = kidnapped
    joined = next(k for k, t in enumerate(tracks) if t.T_correction is not None)
    assert tracks[joined - 1].map == 1 and {t.map for t in tracks[joined:]} == {0}
    assert set(tracker.map.part) == {0} and tracker.map.joined == {1: 0} and len(tracker.map.origins) == 1
    # the correction is the jump: the camera itself has moved by a step
    before, after = tracks[joined - 1].T_world_camera, tracks[joined].T_world_camera
    assert before is not None and after is not None
    assert np.linalg.norm(after[:3, 3] - before[:3, 3]) > 1.0
    assert np.linalg.norm((tracks[joined].T_correction @ before)[:3, 3] - after[:3, 3]) < 0.3
    covariance = tracks[-1].covariance
    assert covariance is not None and np.sqrt(covariance[0, 0]) < 0.5
    # one trajectory, of both maps, in one world
    poses, path = trip(), tracker.trajectory()
    truth = geometry.inverse(poses[0]) @ np.stack(poses)[path.stamps_ns // STEP_NS]
    assert len(path) == sum(t.tracked for t in tracks)
    assert np.linalg.norm(truth[:, :3, 3] - path.T_world_camera[:, :3, 3], axis=1).max() < 0.15


def test_another_place_is_never_joined() -> None:
    tracker = Tracker(CAMERA, SlamConfig(new_map_after_s=0.5))
    play(tracker, make_world(0), walk(40))
    tracks = play(tracker, make_world(7), walk(90), 40)
    assert tracks[-1].map == 1 and set(tracker.map.part) == {0, 1} and not tracker.map.joined
    assert not tracker.loops and not any(t.relocalised for t in tracks)
    # back in the first, it is found there
    back = play(tracker, make_world(0), walk(10), 130)
    assert back[0].relocalised and {t.map for t in back} == {0}


def test_no_map_begins_without_features_or_while_localising() -> None:
    mapped = Tracker(CAMERA)
    play(mapped, make_world(0), walk(20))
    for config in (SlamConfig(new_map_after_s=0.0), SlamConfig(new_map_after_s=0.1, map="x.map", localise=True)):
        tracker = Tracker(CAMERA, config, mapped.map.copy())
        assert not any(t.tracked for t in play(tracker, make_world(7), walk(30), 100))
        assert tracker.map == mapped.map


def test_a_file_keeps_the_maps_apart(tmp_path: Path) -> None:
    tracker = Tracker(CAMERA, SlamConfig(new_map_after_s=0.3))
    play(tracker, make_world(0), walk(20))
    play(tracker, make_world(7), walk(30), 20)
    save(tracker.map, tmp_path / "x.map")
    again = load(tmp_path / "x.map")
    assert again == tracker.map and set(again.part) == {0, 1}
    for seed, part in ((0, 0), (7, 1)):
        found = play(Tracker(CAMERA, SlamConfig(), again.copy()), make_world(seed), walk(3), 100)
        assert {t.map for t in found} == {part}
