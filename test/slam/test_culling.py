# SPDX-License-Identifier: Apache-2.0
"""Redundant keyframes leave a map that stays whole; old ones keep what is needed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from point_world import CAMERA, World, errors_m, frame, make_world, walk

from drp_slam import geometry
from drp_slam.slam import culling
from drp_slam.slam.map import Map
from drp_slam.slam.mapfile import load, save
from drp_slam.slam.places import Places
from drp_slam.slam.tracker import Tracker
from drp_slam.slam.view import View

STEP_NS = 66_666_667
POSES = walk(80, 4.0)


def play(world: World, poses: list[np.ndarray], tracker: Tracker, first: int = 0) -> list[bool]:
    tracked = []
    for k, pose in enumerate(poses, first):
        features, depth = world.see(pose)
        tracked.append(tracker.track(frame(k, k * STEP_NS, depth), features).tracked)
    return tracked


@pytest.fixture(scope="module")
def tracker() -> Tracker:
    tracker = Tracker(CAMERA)
    assert all(play(make_world(), POSES, tracker))
    return tracker


def check(slam_map: Map) -> None:
    """Counts agree, and whoever sees a point is linked with its keyframe."""
    count = np.zeros(slam_map.points.size, dtype=np.intp)
    for k in range(len(slam_map)):
        seen = slam_map.observed(k)[1]
        assert len(np.unique(seen)) == len(seen)
        count[seen] += 1
        assert set(slam_map.points.reference[seen].tolist()) <= {k, *slam_map.covisibility.shared[k]}
        assert all(
            slam_map.covisibility.shared[j][k] == shared for j, shared in slam_map.covisibility.shared[k].items()
        )
    np.testing.assert_array_equal(count, slam_map.points.observations)
    np.testing.assert_array_equal(count > 0, slam_map.points.alive)


def test_links_are_complete(tracker: Tracker) -> None:
    check(tracker.map)
    every = np.flatnonzero(tracker.map.points.alive)
    assert tracker.map.observers(every) == list(range(len(tracker.map)))


def test_a_dropped_keyframe_leaves_a_whole_map(tracker: Tracker, tmp_path: Path) -> None:
    slam_map = tracker.map.copy()
    number = len(slam_map) // 2
    points = slam_map.observed(number)[1]
    others = points[slam_map.points.observations[points] > 1]
    culling.drop(slam_map, number)
    check(slam_map)
    assert slam_map.points.alive[others].all() and number not in slam_map.live and len(slam_map) == len(tracker.map)
    assert not (slam_map.points.reference[slam_map.points.alive] == number).any()
    # its pose follows its anchor
    np.testing.assert_allclose(slam_map.pose(number), tracker.map.T_camera_world[number], atol=1e-12)
    moved = slam_map.T_camera_world @ geometry.exp(np.array([0.1, 0.2, 0.3, 0.0, 0.1, 0.0]))
    slam_map.move(moved)
    np.testing.assert_allclose(slam_map.pose(number), moved[number], atol=1e-9)
    # a file holds the others
    save(slam_map, tmp_path / "x.map")
    again = load(tmp_path / "x.map")
    check(again)
    assert len(again) == len(slam_map) - 1
    np.testing.assert_array_equal(again.points.xyz[again.points.alive], slam_map.points.xyz[slam_map.points.alive])


def test_dropping_all_that_are_redundant_keeps_the_map_usable(tracker: Tracker) -> None:
    slam_map = tracker.map.copy()
    for number in range(2, len(slam_map) - 1, 2):
        culling.drop(slam_map, number)
    check(slam_map)
    again = Tracker(CAMERA, slam_map=slam_map)
    assert all(play(make_world(seed=0), POSES[10:60], again, 1000))
    path = again.trajectory()
    assert errors_m(POSES, path.stamps_ns // STEP_NS - 990, path.T_world_camera).max() < 0.03


def test_only_what_others_see_is_redundant(tracker: Tracker) -> None:
    slam_map = tracker.map.copy()
    newest = len(slam_map) - 1
    assert culling.drop_redundant(slam_map, newest) == []
    number = newest - culling.RECENT
    slam_map.covisibility.shared[newest][number] = slam_map.covisibility.shared[number][newest] = 50
    slam_map.points.observations[slam_map.observed(number)[1]] += culling.SEEN_BY
    assert culling.drop_redundant(slam_map, newest) == [number] and number not in slam_map.live


def test_dropped_keyframes_get_no_votes(tracker: Tracker) -> None:
    places = Places(tracker.map)
    view = tracker.map.views[5]
    assert places.votes(view, 0.8)[0][5] > 50
    places.forget(5)
    assert places.votes(view, 0.8)[0][5] == 0


def test_a_slim_keyframe_keeps_points_and_place(tracker: Tracker, tmp_path: Path) -> None:
    slam_map = tracker.map.copy()
    slam_map.forget(3, slam_map.observed(3)[0][100:200])
    before, seen = slam_map.views[3], slam_map.observed(3)[1].copy()
    votes = Places(slam_map).votes(before, 0.8)[0]
    culling.slim(slam_map, 3)
    check(slam_map)
    view = slam_map.views[3]
    np.testing.assert_array_equal(slam_map.observed(3)[1], seen)
    assert len(view) < len(before) and len(view.descriptor) == culling.DESCRIBED
    assert abs(int(Places(slam_map).votes(before, 0.8)[0][3]) - int(votes[3])) <= 2
    features, descriptor = slam_map.feature_descriptors(3, np.arange(len(view)))
    np.testing.assert_array_equal(descriptor, slam_map.points.descriptor[slam_map.point[3][features]])
    save(slam_map, tmp_path / "x.map")
    assert load(tmp_path / "x.map") == slam_map


def test_keyframes_of_a_loaded_map_grow_old(tracker: Tracker, tmp_path: Path) -> None:
    slam_map = tracker.map.copy()
    culling.slim(slam_map, 3)
    save(slam_map, tmp_path / "x.map")
    again = load(tmp_path / "x.map")
    for k in range(len(again)):
        culling.slim(slam_map, k)
        culling.slim(again, k)
    check(again)
    assert again == slam_map and all(len(view.descriptor) == culling.DESCRIBED for view in again.views)
    culling.drop(again, 3)
    check(again)


def held_bytes(arrays: list[np.ndarray]) -> int:
    """Memory behind the arrays, that of larger ones which they are parts of included."""
    owners = {}
    for array in arrays:
        while isinstance(array.base, np.ndarray):
            array = array.base
        owners[id(array)] = array.nbytes
    return sum(owners.values())


def test_an_old_keyframe_is_small() -> None:
    """A map of thousands of keyframes consists of these: 28 bytes a feature, and 64 for each of 128 descriptors."""
    rng, count = np.random.default_rng(0), 1000
    descriptor = rng.normal(size=(count, 64)).astype(np.float32)
    descriptor /= np.linalg.norm(descriptor, axis=1, keepdims=True)
    xy, rgb = rng.normal(size=(count, 2)), np.zeros((count, 3), np.uint8)
    slam_map = Map()
    slam_map.add_keyframe(View(0, 0, xy.astype(np.float32), xy, np.ones(count), descriptor, rgb), np.eye(4))
    points = slam_map.points.add(np.zeros((count, 3)), descriptor, None)
    slam_map.observe(0, np.arange(count), points)
    culling.slim(slam_map, 0)
    view = slam_map.views[0]
    kept = [view.uv, view.xy, view.inverse_depth, view.descriptor, slam_map.point[0]]
    assert len(view) == count and held_bytes(kept) < 29_000
    assert view.rgb is not None and held_bytes([view.rgb]) == 3 * count
