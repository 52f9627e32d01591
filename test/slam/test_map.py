# SPDX-License-Identifier: Apache-2.0
"""The map as data: compared, copied, pickled, and given to another tracker."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from point_world import CAMERA, World, binary, errors_m, frame, make_world, walk

from drp_slam import geometry
from drp_slam.config import SlamConfig
from drp_slam.datatypes import DescriptorSpec, Track
from drp_slam.errors import SlamError
from drp_slam.slam.map import Map
from drp_slam.slam.places import Places
from drp_slam.slam.tracker import Tracker

STEP_NS = 66_666_667
ORB = DescriptorSpec(32, "uint8", "hamming")


def play(tracker: Tracker, world: World, poses: list[np.ndarray], first: int = 0) -> list[Track]:
    tracks = []
    for k, pose in enumerate(poses, first):
        features, depth = world.see(pose)
        if tracker.map.spec == ORB:
            features = binary(features)
        tracks.append(tracker.track(frame(k, k * STEP_NS, depth), features))
    return tracks


@pytest.fixture(scope="module")
def mapped() -> Map:
    """A map of forty frames."""
    tracker = Tracker(CAMERA)
    play(tracker, make_world(), walk(40))
    return tracker.map


def test_a_copy_is_equal_and_apart(mapped: Map) -> None:
    other = mapped.copy()
    assert other == mapped and len(other) == len(mapped) > 3
    other.points.xyz[7] += 1e-9
    assert other != mapped
    for change in (
        lambda m: m.forget(2, m.observed(2)[0][:1]),
        lambda m: m.T_camera_world.__setitem__((1, 0, 3), 0.5),
        lambda m: m.add_keyframe(m.views[0], np.eye(4)),
        lambda m: m.points.found.__setitem__(0, 99),
    ):
        other = mapped.copy()
        change(other)
        assert other != mapped
    assert mapped != Map() and mapped != "map"


def test_a_tracker_continues_in_a_stored_map(mapped: Map) -> None:
    """The same frames give the same poses and the same map, bit for bit."""
    poses = walk(60)
    results = []
    for start in (mapped.copy(), pickle.loads(pickle.dumps(mapped))):
        tracker = Tracker(CAMERA, slam_map=start)
        tracks = play(tracker, make_world(), poses[20:60], 1000)
        assert all(t.tracked for t in tracks) and [t.relocalised for t in tracks] == [True] + [False] * 39
        results.append((tracker, tracks))
    (first, a), (second, b) = results
    assert first.trajectory().T_world_camera.tobytes() == second.trajectory().T_world_camera.tobytes()
    assert [(t.inliers, t.keyframe) for t in a] == [(t.inliers, t.keyframe) for t in b]
    assert first.map == second.map and len(first.map) > len(mapped)
    live = np.stack([t.T_world_camera for t in a if t.T_world_camera is not None])
    truth = geometry.inverse(poses[0]) @ np.stack(poses[20:60])
    assert np.linalg.norm(live[:, :3, 3] - truth[:, :3, 3], axis=1).max() < 0.03


def test_a_tracker_in_a_map_of_another_place_is_lost(mapped: Map) -> None:
    tracker = Tracker(CAMERA, slam_map=mapped.copy())
    tracks = play(tracker, make_world(seed=99), walk(10))
    assert not any(t.tracked for t in tracks)
    assert tracker.map == mapped and len(tracker.trajectory()) == 0


def test_the_recognition_index_is_derived_from_the_map(mapped: Map) -> None:
    slam_map = Map()
    grown = Places(slam_map)
    for view in mapped.views:
        slam_map.add_keyframe(view, np.eye(4))
        grown.update()
    anew = Places(mapped)
    view = mapped.views[3]
    votes, work = anew.votes(view, 0.8)
    np.testing.assert_array_equal(grown.votes(view, 0.8)[0], votes)
    assert votes.argmax() == 3 and work["flops"] > 0


def test_binary_descriptors_track_map_and_relocalise() -> None:
    config, poses = SlamConfig(min_cosine=0.6), walk(40)
    tracker = Tracker(CAMERA, config, Map(ORB))
    tracks = play(tracker, make_world(), poses)
    assert all(t.tracked for t in tracks) and tracker.map.points.descriptor.dtype == np.uint8
    path = tracker.trajectory()
    assert errors_m(poses, np.arange(40), path.T_world_camera).max() < 0.03
    again = Tracker(CAMERA, config, pickle.loads(pickle.dumps(tracker.map)))
    back = play(again, make_world(), poses[10:20], 100)
    assert all(t.tracked for t in back) and back[0].relocalised


def test_features_of_another_front_end_are_refused(mapped: Map) -> None:
    features, depth = make_world().see(walk(1)[0])
    tracker = Tracker(CAMERA, slam_map=mapped.copy())
    with pytest.raises(SlamError, match=r"uint8.*expected .*64.* float32.*front end"):
        tracker.track(frame(0, 0, depth), binary(features))
