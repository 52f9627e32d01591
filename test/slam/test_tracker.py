# SPDX-License-Identifier: Apache-2.0
"""The tracker in a world of points: accuracy, loss, relocalisation, determinism, bad input."""

from __future__ import annotations

import cProfile
import dataclasses
import gc
import sys
import types

import numpy as np
import pytest
from point_world import CAMERA, UNIT_M, frame, make_world, walk

from drp_slam import geometry
from drp_slam.config import SlamConfig
from drp_slam.datatypes import Features, Frame, Track
from drp_slam.errors import SlamError
from drp_slam.evaluation.calls import counting
from drp_slam.slam.compiled import native
from drp_slam.slam.tracker import Tracker

BLANK = Features(np.zeros((0, 2), np.float32), np.zeros(0, np.float32), np.zeros((0, 64), np.float32))
STEP_NS = 66_666_667


def play(
    poses: list[np.ndarray], blank: range = range(0), with_depth: bool = True, config: SlamConfig | None = None
) -> tuple[Tracker, list[Track]]:
    world = make_world()
    tracker, tracks = Tracker(CAMERA, config), []
    for k, pose in enumerate(poses):
        features, depth = world.see(pose)
        if k in blank:
            features, depth = BLANK, np.zeros_like(depth)
        given = depth if with_depth or k == 0 else None
        tracks.append(tracker.track(frame(k, 1000 + k * STEP_NS, given), features))
    return tracker, tracks


def errors_m(poses: list[np.ndarray], stamps_ns: np.ndarray, T: np.ndarray) -> np.ndarray:
    """Distances to the truth, in the frame of the first camera: no alignment."""
    index = (stamps_ns - 1000) // STEP_NS
    truth = geometry.inverse(poses[0]) @ np.stack(poses)[index]
    return np.linalg.norm(truth[:, :3, 3] - T[:, :3, 3], axis=1)


@pytest.fixture(scope="module")
def turn() -> tuple[list[np.ndarray], Tracker, list[Track]]:
    poses = walk(60)
    return poses, *play(poses)


def test_follows_the_camera(turn: tuple[list[np.ndarray], Tracker, list[Track]]) -> None:
    poses, tracker, tracks = turn
    assert all(t.tracked and t.state == "tracked" for t in tracks)
    np.testing.assert_array_equal(tracks[0].T_world_camera, np.eye(4))
    live = np.stack([t.T_world_camera for t in tracks if t.T_world_camera is not None])
    stamps = np.array([t.stamp_ns for t in tracks])
    assert errors_m(poses, stamps, live).max() < 0.03
    rotations = live[:, :3, :3]
    square = rotations @ rotations.transpose(0, 2, 1)
    np.testing.assert_allclose(square, np.broadcast_to(np.eye(3), square.shape), atol=1e-10)
    final = tracker.trajectory()
    np.testing.assert_array_equal(final.stamps_ns, stamps)
    assert np.sqrt((errors_m(poses, stamps, final.T_world_camera) ** 2).mean()) < 0.01


def test_map_and_keyframes(turn: tuple[list[np.ndarray], Tracker, list[Track]]) -> None:
    poses, tracker, tracks = turn
    stamps_ns = np.array([view.stamp_ns for view in tracker.map.views])
    assert len(tracker.map) == sum(t.keyframe for t in tracks) > 3
    assert errors_m(poses, stamps_ns, geometry.inverse(tracker.map.T_camera_world)).max() < 0.03
    cloud = tracker.cloud()
    assert cloud.rgb is None and len(cloud.xyz_m) > 500
    truth = geometry.apply(geometry.inverse(poses[0]), make_world().xyz)
    sample = cloud.xyz_m[::10]
    nearest = np.linalg.norm(sample[:, None] - truth, axis=2).min(axis=1)
    assert np.median(nearest) < 0.02


def test_work_is_counted(turn: tuple[list[np.ndarray], Tracker, list[Track]]) -> None:
    assert all(t.counters["flops"] > 1e5 for t in turn[2][1:])


@pytest.mark.skipif(native is None, reason="installed without a compiler")
def test_calls_into_libraries_are_counted_about_right() -> None:
    """What a frame, a keyframe and a search are said to take, within a factor of two of what the interpreter sees."""
    world, poses = make_world(), walk(30)
    tracker, made, said, ordinary = Tracker(CAMERA), [], 0.0, []
    for k, pose in enumerate(poses):
        features, depth = world.see(pose)
        given = frame(k, 1000 + k * STEP_NS, depth)
        with counting() as seen:
            track = tracker.track(given, features)
        made.append(seen.count)
        said += track.counters["calls"]
        ordinary += [] if track.keyframe else [seen.count]
    assert 0.5 * sum(made) < said < 2.0 * sum(made)
    assert np.median(ordinary) <= 90 and np.mean(made) <= 150


def test_calls_are_counted_while_another_profiler_runs() -> None:
    with cProfile.Profile() as profiler:
        with counting() as seen:
            np.zeros(3).sum()
        np.zeros(4).tolist()
    assert 2 <= seen.count <= 4
    assert any("tolist" in str(row.code) for row in profiler.getstats())


def test_same_input_same_bits() -> None:
    poses = walk(25)
    (first, a), (second, b) = play(poses), play(poses)
    assert first.trajectory().T_world_camera.tobytes() == second.trajectory().T_world_camera.tobytes()
    assert [t.inliers for t in a] == [t.inliers for t in b]
    assert first.cloud().xyz_m.tobytes() == second.cloud().xyz_m.tobytes()


def test_loss_is_reported_and_relocalisation_recovers() -> None:
    """Blind for 20 frames, then back at a place seen before, far from the last pose."""
    poses = walk(50)
    back = poses[:30] + [poses[29]] * 20 + poses[5:15]
    _, tracks = play(back, blank=range(30, 50))
    assert all(t.state == "lost" and t.T_world_camera is None for t in tracks[30:50])
    assert all(t.tracked for t in tracks[:30] + tracks[50:])
    assert [t.relocalised for t in tracks].index(True) == 50
    live = np.stack([t.T_world_camera for t in tracks[50:] if t.T_world_camera is not None])
    stamps = np.array([t.stamp_ns for t in tracks[50:]])
    assert errors_m(back, stamps, live).max() < 0.03


def test_a_few_frames_that_show_nothing_end_no_odometry() -> None:
    poses = walk(40)
    tracker, tracks = play(poses, blank=range(20, 23))
    assert [k for k, t in enumerate(tracks) if not t.tracked] == [20, 21, 22]
    assert not any(t.relocalised for t in tracks)
    whole, _ = play(poses)
    assert len(tracker.map) <= len(whole.map) + 1


def test_a_sudden_turn_is_followed_from_the_frame_before() -> None:
    """25 degrees between two frames: half of the view is new, and the gate misses all of it."""
    poses = walk(50)
    sudden = poses[:18] + poses[30:40]
    _, tracks = play(sudden)
    assert all(t.tracked and not t.relocalised for t in tracks)
    live = np.stack([t.T_world_camera for t in tracks if t.T_world_camera is not None])
    assert errors_m(sudden, np.array([t.stamp_ns for t in tracks]), live).max() < 0.04


def test_an_unknown_place_is_lost_not_invented() -> None:
    poses = walk(100)
    tracker, _ = play(poses[:10])
    features, depth = make_world(seed=99).see(poses[50])
    track = tracker.track(frame(10, 10**12, depth), features)
    assert track.state == "lost" and track.T_world_camera is None
    assert len(tracker.trajectory()) == 10


def test_tracks_without_depth_what_depth_has_mapped() -> None:
    poses = walk(6, turn_deg=1.0)
    _, tracks = play(poses, with_depth=False)
    assert all(t.tracked for t in tracks)
    live = np.stack([t.T_world_camera for t in tracks if t.T_world_camera is not None])
    stamps = np.array([t.stamp_ns for t in tracks])
    assert errors_m(poses, stamps, live).max() < 0.02


def test_waits_for_a_first_frame_that_shows_something() -> None:
    poses = walk(5)
    _, tracks = play(poses, blank=range(2))
    assert [t.tracked for t in tracks] == [False, False, True, True, True]
    np.testing.assert_array_equal(tracks[2].T_world_camera, np.eye(4))


def test_float_metres_are_depth_too() -> None:
    world, tracker = make_world(), Tracker(CAMERA)
    for k, pose in enumerate(walk(5)):
        features, depth = world.see(pose)
        metres = depth.astype(np.float32) * np.float32(UNIT_M)
        metres[metres == 0] = np.nan
        image = np.full((480, 640, 3), (10, 20, 30), dtype=np.uint8)
        assert tracker.track(Frame(k, k * STEP_NS, image, CAMERA, metres, 1.0), features).tracked
    rgb = tracker.cloud().rgb
    assert rgb is not None and (rgb == (30, 20, 10)).all()


def test_arrays_that_do_not_fit_are_refused() -> None:
    features, depth = make_world().see(walk(1)[0])
    bad = [
        (dataclasses.replace(features, descriptor=features.descriptor[:-1]), depth, UNIT_M, None),
        (dataclasses.replace(features, descriptor=features.descriptor[:, :32]), depth, UNIT_M, None),
        (dataclasses.replace(features, uv=features.uv * np.float32(np.nan)), depth, UNIT_M, None),
        (dataclasses.replace(features, uv=features.uv + np.float32(1e30)), depth, UNIT_M, None),
        (dataclasses.replace(features, uv=features.uv * np.float32(1.2)), depth, UNIT_M, None),
        (features, depth[:-1], UNIT_M, None),
        (features, depth.astype(np.int32), UNIT_M, None),
        (features, depth, 0.0, None),
        (features, depth, UNIT_M, np.zeros((100, 100, 3), np.uint8)),
    ]
    for f, d, unit, image in bad:
        with pytest.raises(SlamError):
            Tracker(CAMERA).track(Frame(0, 0, image, CAMERA, d, unit), f)


def test_stamps_must_grow() -> None:
    poses = walk(3)
    tracker, _ = play(poses)
    features, depth = make_world().see(poses[2])
    with pytest.raises(SlamError, match="stamp"):
        tracker.track(frame(3, 1000, depth), features)


def test_a_new_epoch_continues_in_the_same_map() -> None:
    """A recording in a loop: the same stamps again, from a place far from where the lap before ended."""
    poses = walk(40)
    tracker, first = play(poses)
    world, keyframes = make_world(), len(tracker.map)
    tracker.begin_epoch()
    second = []
    for k, pose in enumerate(poses):
        features, depth = world.see(pose)
        second.append(tracker.track(frame(k, 1000 + k * STEP_NS, depth), features))
    assert second[0].relocalised and all(t.tracked for t in second)
    assert not any(t.relocalised for t in second[1:])
    assert len(tracker.map) <= keyframes + 2
    live = np.stack([t.T_world_camera for t in second if t.T_world_camera is not None])
    assert errors_m(poses, np.array([t.stamp_ns for t in second]), live).max() < 0.03
    assert tracker.trajectory().stamps_ns.tolist() == [t.stamp_ns for t in first]


def test_frames_of_another_camera_are_refused() -> None:
    features, depth = make_world().see(walk(1)[0])
    other = dataclasses.replace(CAMERA, fx=CAMERA.fx + 1.0)
    same = dataclasses.replace(CAMERA, distortion=CAMERA.distortion.copy(), depth_scale=1.0)
    with pytest.raises(SlamError, match="another camera"):
        Tracker(CAMERA).track(dataclasses.replace(frame(0, 0, depth), camera=other), features)
    assert Tracker(CAMERA).track(dataclasses.replace(frame(0, 0, depth), camera=same), features).tracked


def held_bytes(root: object) -> int:
    """Bytes of all objects that one object holds, numpy's buffers included."""
    seen, waiting, total = {id(root)}, [root], 0
    while waiting:
        one = waiting.pop()
        total += sys.getsizeof(one)
        for part in gc.get_referents(one):
            if id(part) not in seen and not isinstance(part, type | types.ModuleType | types.FunctionType):
                seen.add(id(part))
                waiting.append(part)
    return total


def test_a_known_room_costs_a_pose_a_frame_and_nothing_else() -> None:
    """The same walk again and again, in which every tenth thing has been moved since: its points are refuted."""
    world, there = make_world(), walk(12)
    poses = [*there, *there[::-1]]
    tracker, held, keyframes = Tracker(CAMERA, SlamConfig()), [], []
    for k in range(12 * len(poses)):
        features, depth = world.see(poses[k % len(poses)])
        if k >= len(poses):
            moved = (features.descriptor[:, 0] > np.quantile(features.descriptor[:, 0], 0.9))[:, None]
            uv = np.minimum(features.uv + 6 * moved, (639, 479)).astype(np.float32)
            features = dataclasses.replace(features, uv=uv)
        tracker.track(frame(k, 1000 + k * STEP_NS, depth), features)
        if (k + 1) % len(poses) == 0:
            held.append(held_bytes(tracker))
            keyframes.append(len(tracker.map))
    assert keyframes[3] == keyframes[-1]
    assert (held[-1] - held[3]) / (8 * len(poses)) < 250, held
