# SPDX-License-Identifier: Apache-2.0
"""Localisation in a map that does not change: sure poses only, from anywhere, in the right room."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from point_world import CAMERA, frame, make_world, walk

from drp_slam import geometry
from drp_slam.config import Config, SlamConfig
from drp_slam.config.config_file import override
from drp_slam.data.dataset import open_sequence
from drp_slam.datatypes import Features, Frame, Track, Trajectory
from drp_slam.errors import ConfigError
from drp_slam.frontend.front_end import open_front_end
from drp_slam.slam.map import Map
from drp_slam.slam.mapfile import save
from drp_slam.slam.tracker import Tracker

STEP_NS = 66_666_667
LOCALISE = SlamConfig(map="given", localise=True)


def mapped(frames: int = 40) -> Map:
    tracker, world = Tracker(CAMERA), make_world()
    for k, pose in enumerate(walk(frames)):
        features, depth = world.see(pose)
        tracker.track(frame(k, k * STEP_NS, depth), features)
    return tracker.map


def test_localisation_never_changes_the_map() -> None:
    slam_map, poses = mapped(), walk(60)
    before, world = slam_map.copy(), make_world()
    tracker, tracks = Tracker(CAMERA, LOCALISE, slam_map), []
    for k, pose in enumerate(poses[5:]):
        features, depth = world.see(pose)
        tracks.append(tracker.track(frame(k, k * STEP_NS, depth), features))
    assert slam_map == before and not any(t.keyframe for t in tracks) and not tracker.loops
    assert all(t.tracked for t in tracks[:30]) and [t.relocalised for t in tracks[:30]] == [True] + [False] * 29
    truth = geometry.inverse(poses[0]) @ np.stack(poses[5:])
    errors = [np.linalg.norm(t.T_world_camera[:3, 3] - T[:3, 3]) for t, T in zip(tracks, truth) if t.tracked]
    assert max(errors) < 0.05


def test_a_camera_that_is_moved_away_is_found_again_and_lost_where_nothing_is_mapped() -> None:
    slam_map, poses, world = mapped(), walk(180), make_world()
    tracker = Tracker(CAMERA, LOCALISE, slam_map)
    seen = [*range(5, 15), *range(80, 90), *range(30, 38)]
    tracks = []
    for k, index in enumerate(seen):
        features, depth = world.see(poses[index])
        tracks.append(tracker.track(frame(k, k * STEP_NS, depth), features))
    assert [t.tracked for t in tracks] == [True] * 10 + [False] * 10 + [True] * 8
    truth = geometry.inverse(poses[0]) @ poses[33]
    assert tracks[23].T_world_camera is not None
    assert np.linalg.norm(tracks[23].T_world_camera[:3, 3] - truth[:3, 3]) < 0.03


def test_a_thing_that_stands_in_two_rooms_does_not_make_them_one() -> None:
    """Some features are those of a thing in the map, seen as from there; the rest was never mapped."""
    slam_map = mapped()
    features, depth = make_world().see(walk(40)[20])
    near = np.argsort(np.linalg.norm(features.uv - (200, 200), axis=1))
    for config in (LOCALISE, SlamConfig()):
        for shared, sure in ((0.11, False), (0.8, True)):
            descriptor = np.random.default_rng(1).normal(size=features.descriptor.shape).astype(np.float32)
            descriptor /= np.linalg.norm(descriptor, axis=1, keepdims=True)
            thing = near[: int(shared * len(near))]
            descriptor[thing] = features.descriptor[thing]
            tracker = Tracker(CAMERA, config, slam_map.copy())
            both = Features(features.uv, features.score, descriptor)
            assert len(thing) > 25 and tracker.track(frame(0, 0, depth), both).tracked == sure


def test_localisation_needs_a_map_and_writes_none() -> None:
    for values in ({"localise": True}, {"localise": True, "map": "a", "save_map": "b"}):
        with pytest.raises(ConfigError, match=r"slam\.localise .*--map FILE and no --save-map"):
            SlamConfig(**values)
    assert override(Config(), {"slam.map": "a", "slam.localise": True}).slam.localise


Seen = list[tuple[Frame, Features]]


@pytest.fixture(scope="module")
def rooms(data_folder: Path) -> dict[str, Seen]:
    """Features of parts of two recordings: one half of each is mapped, of the other some frames are sought."""
    front = open_front_end(Config())
    found: dict[str, Seen] = {}
    for name, part in (("tum_fr1_xyz", range(0, 399, 6)), ("icl_office3", [*range(30), *range(285, 311, 3)])):
        if not (data_folder / name).is_dir():
            pytest.skip(f"{data_folder / name} is not there")
        frames = [f for f in open_sequence(str(data_folder / name)) if f.index in set(part)]
        found[name] = [(dataclasses.replace(f, image=None), front(f)[0]) for f in frames]
    return found


HALF = {"tum_fr1_xyz": 34, "icl_office3": 30}
"""Frames that are mapped; the others are seen later in the recording."""


def sought(slam_map: Map, seen: Seen) -> list[Track]:
    """Each frame on its own: no hint of the pose."""
    return [Tracker(f.camera, LOCALISE, slam_map).track(f, features) for f, features in seen]


@pytest.mark.parametrize("name", HALF)
def test_a_map_of_one_half_serves_the_other(rooms: dict[str, Seen], name: str, data_folder: Path) -> None:
    first, second = rooms[name][: HALF[name]], rooms[name][HALF[name] :]
    tracker = Tracker(first[0][0].camera)
    for f, features in first:
        tracker.track(f, features)
    before = tracker.map.copy()
    tracks = sought(tracker.map, second)
    assert tracker.map == before
    assert sum(t.tracked for t in tracks) >= 0.8 * len(tracks)
    other = rooms["icl_office3" if name == "tum_fr1_xyz" else "tum_fr1_xyz"]
    assert not any(t.tracked for t in sought(tracker.map, other[::3]))
    truth = open_sequence(str(data_folder / name)).ground_truth
    assert truth is not None
    from drp_slam.data.accuracy import ate

    # one alignment for the mapped frames and those that were sought: a pose of another place would stand out
    mapped_poses = [(int(s), T) for s, T in zip(tracker.trajectory().stamps_ns, tracker.trajectory().T_world_camera)]
    localised = [(t.stamp_ns, t.T_world_camera) for t in tracks if t.T_world_camera is not None]
    error = ate(Trajectory.of([*mapped_poses, *localised]), truth)
    assert error.rmse_m < 0.05


def test_run_continues_and_localises_in_a_stored_map(wall: Path, tmp_path: Path) -> None:
    from drp_slam.offline import run_sequence

    sequence = open_sequence(str(wall))
    values = {"slam.depth_edge": 1.0, "slam.min_inliers": 15}
    kept = tmp_path / "kept.map"
    run_sequence(sequence, override(Config(), values | {"slam.save_map": str(kept)}), tmp_path)
    content = kept.read_bytes()
    for more in ({"slam.localise": True}, {}):
        config = override(Config(), values | {"slam.map": str(kept)} | more)
        run_sequence(sequence, config, tmp_path)
        assert (tmp_path / "odometry.txt").read_text().count("\n") > 4
    assert kept.read_bytes() == content
    save(Map(), tmp_path / "empty.map")
    config = override(Config(), values | {"slam.map": str(tmp_path / "empty.map"), "slam.localise": True})
    run_sequence(sequence, config, tmp_path)
    assert (tmp_path / "odometry.txt").read_text().count("\n") == 1
