# SPDX-License-Identifier: Apache-2.0
"""Loops in worlds of points: closed where drift is injected, never where texture repeats."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
from point_world import CAMERA, World, corridor, errors_m, frame, ring, round_trip, sideways

from drp_slam import geometry
from drp_slam.config import SlamConfig
from drp_slam.datatypes import Track
from drp_slam.slam.edges import AT_ONCE, Edges
from drp_slam.slam.join import FUSED_PER_FRAME, JOINED, SWEEPS, WINDOW, Join, Loop
from drp_slam.slam.map import Map
from drp_slam.slam.mapping import Mapping
from drp_slam.slam.points import LARGEST_STEP, Points, grow
from drp_slam.slam.tracker import Tracker
from drp_slam.slam.view import View

STEP_NS = 66_666_667
DRIFTING = slice(30, 90)
"""Frames whose depth is 4 % too large."""


def play(
    world: World, poses: list[np.ndarray], config: SlamConfig | None = None, drifting: slice = slice(0, 0)
) -> tuple[Tracker, list[Track]]:
    tracker, tracks = Tracker(CAMERA, config), []
    off = range(len(poses))[drifting]
    for k, pose in enumerate(poses):
        features, depth = world.see(pose, 300)
        if k in off:
            depth = (depth * 1.04).astype(np.uint16)
        tracks.append(tracker.track(frame(k, k * STEP_NS, depth), features))
    return tracker, tracks


def error_m(poses: list[np.ndarray], tracker: Tracker) -> float:
    """Largest distance to the truth, in the frame of the first camera."""
    path = tracker.trajectory()
    return float(errors_m(poses, path.stamps_ns // STEP_NS, path.T_world_camera).max())


@pytest.fixture(scope="module")
def closed() -> tuple[list[np.ndarray], Tracker, list[Track]]:
    poses = round_trip()
    return poses, *play(ring(), poses, drifting=DRIFTING)


def test_a_loop_takes_the_drift_back(closed: tuple[list[np.ndarray], Tracker, list[Track]]) -> None:
    poses, tracker, tracks = closed
    assert all(t.tracked for t in tracks) and len(tracker.loops) >= 1
    assert not any(t.relocalised for t in tracks)
    open_, _ = play(ring(), poses, SlamConfig(close_loops=False), DRIFTING)
    assert not open_.loops
    last = slice(len(poses) - 8, None)
    drift, left = (
        errors_m(poses, np.arange(len(poses)), t.trajectory().T_world_camera)[last].mean() for t in (open_, tracker)
    )
    assert drift > 0.1 and left < 0.25 * drift


def test_both_sides_of_a_loop_share_their_points(closed: tuple[list[np.ndarray], Tracker, list[Track]]) -> None:
    slam_map = closed[1].map
    (old, new), *_ = closed[1].loops
    assert old in slam_map.covisibility.reach(new, 2)
    count = np.zeros(slam_map.points.size, dtype=np.intp)
    for keyframe in range(len(slam_map)):
        seen = slam_map.observed(keyframe)[1]
        assert len(np.unique(seen)) == len(seen)
        count[seen] += 1
    np.testing.assert_array_equal(count, slam_map.points.observations)
    np.testing.assert_array_equal(count > 0, slam_map.points.alive)


def test_odometry_does_not_jump(closed: tuple[list[np.ndarray], Tracker, list[Track]]) -> None:
    """What the correction leaves between two frames is the motion of the camera."""
    poses, _, tracks = closed
    corrections = [k for k, t in enumerate(tracks) if t.T_correction is not None]
    assert len(corrections) == len(closed[1].loops)
    k = corrections[0]
    correction, before, after = tracks[k].T_correction, tracks[k - 1], tracks[k]
    assert before.T_world_camera is not None and after.T_world_camera is not None
    true = np.linalg.norm((geometry.inverse(poses[k - 1]) @ poses[k])[:3, 3])
    jump = np.linalg.norm((after.T_world_camera - before.T_world_camera)[:3, 3])
    step = np.linalg.norm((after.T_world_camera - correction @ before.T_world_camera)[:3, 3])
    assert jump > 0.1 and abs(step - true) < 0.03


def test_keyframes_leave_the_work_for_loops_to_the_frames_after_them(
    closed: tuple[list[np.ndarray], Tracker, list[Track]],
) -> None:
    tracks = closed[2]
    moved = [k for k, t in enumerate(tracks) if t.T_correction is not None]
    assert moved and not any(tracks[k].keyframe and not tracks[k - 1].keyframe for k in moved)


class Counting(Mapping):
    """Counts what a frame does."""

    fused = adjusted = 0

    def fuse(self, number: int, keyframes: np.ndarray, features: np.ndarray, gate_px: float) -> None:
        self.fused += 1
        super().fuse(number, keyframes, features, gate_px)

    def adjust(self, window: list[int], fixed_limit: int, iterations: int) -> None:
        self.adjusted += 1
        super().adjust(window, fixed_limit, iterations)


def test_a_frame_does_a_small_share_of_closing_a_loop(closed: tuple[list[np.ndarray], Tracker, list[Track]]) -> None:
    slam_map, geometry_ = closed[1].map.copy(), closed[1]._mapping.geometry
    mapping, edges = Counting(slam_map, geometry_, SlamConfig(min_cosine=0.8)), Edges(slam_map)
    (old, new), *_ = closed[1].loops
    T, points = slam_map.T_camera_world[new].copy(), slam_map.observed(new)[1]
    join = Join(mapping, edges, Loop(old, new, T, np.eye(4), slam_map.points.xyz[points]))
    shares = []
    while not join.done:
        before, known = (mapping.fused, mapping.adjusted), edges.complete
        join.step()
        shares.append((mapping.fused - before[0], mapping.adjusted - before[1], not known))
    fused, adjusted, edged = np.array(shares).T
    # edges of 8 keyframes a frame, then two fused, or one window of four adjusted
    assert edged.sum() == -(-len(slam_map) // AT_ONCE)
    assert fused.max() == FUSED_PER_FRAME and adjusted.max() == 1 and not (fused * adjusted).any()
    assert fused.sum() == JOINED and adjusted.sum() >= SWEEPS * 2 * JOINED // WINDOW - SWEEPS


def test_same_input_same_bits_with_a_loop(closed: tuple[list[np.ndarray], Tracker, list[Track]]) -> None:
    again, _ = play(ring(), closed[0], drifting=DRIFTING)
    assert again.loops == closed[1].loops
    assert again.trajectory().T_world_camera.tobytes() == closed[1].trajectory().T_world_camera.tobytes()


@pytest.mark.parametrize("period_m", [1.0, 2.0, 3.0])
def test_a_corridor_of_repeated_texture_is_no_loop(period_m: float) -> None:
    poses = sideways(90)
    tracker, tracks = play(corridor(period_m), poses)
    assert all(t.tracked for t in tracks) and not tracker.loops
    assert error_m(poses, tracker) < 0.1


def test_two_places_that_look_alike_are_not_joined() -> None:
    """A ring of which every quarter looks like the others, seen once and a little more."""
    poses = round_trip(100)
    world = ring()
    angle = np.arctan2(world.xyz[:, 0], world.xyz[:, 2])
    quarter = np.floor(angle / (np.pi / 2)).astype(int)
    first = np.flatnonzero(quarter == 0)
    turns = [geometry.exp(np.array([0, 0, 0, 0, k * np.pi / 2, 0.0])) for k in range(4)]
    same = dataclasses.replace(
        world,
        xyz=np.concatenate([geometry.apply(T, world.xyz[first]) for T in turns]),
        descriptor=np.concatenate([world.descriptor[first]] * 4),
    )
    tracker, _ = play(same, poses)
    assert not tracker.loops and error_m(poses, tracker) < 0.15


def test_points_seen_once_stay_where_their_keyframe_sees_them(
    closed: tuple[list[np.ndarray], Tracker, list[Track]],
) -> None:
    """Neither adjustments nor loops leave them behind."""
    slam_map, apart = closed[1].map, []
    for keyframe, view in enumerate(slam_map.views):
        features, points = slam_map.observed(keyframe)
        lone = (slam_map.points.observations[points] == 1) & (slam_map.points.reference[points] == keyframe)
        p = geometry.apply(slam_map.T_camera_world[keyframe], slam_map.points.xyz[points[lone]])
        apart.append(np.linalg.norm(p - view.xyz()[features[lone]], axis=1))
    every = np.concatenate(apart)
    assert len(every) > 100 and np.median(every) < 1e-9


def blank(count: int) -> View:
    """A view of `count` features that are all alike."""
    plane = np.zeros((count, 2))
    return View(0, 0, plane.astype(np.float32), plane, np.ones(count), np.eye(count, 64, dtype=np.float32))


def test_culled_points_make_room() -> None:
    slam_map = Map()
    numbers = slam_map.points.add(np.zeros((4, 3)), np.eye(4, 64, dtype=np.float32), None)
    for seen in (numbers, numbers[:1]):
        keyframe = slam_map.add_keyframe(blank(4), np.eye(4))
        slam_map.observe(keyframe, np.arange(len(seen)), seen)
    slam_map.points.found[:] = 0, 2, 3, 0
    slam_map.cull(0, 3)
    assert slam_map.points.alive.tolist() == [True, False, True, False]
    assert [point.tolist() for point in slam_map.point] == [[0, -1, 2, -1], [0, -1, -1, -1]]
    again = slam_map.points.add(np.ones((3, 3)), np.eye(3, 64, dtype=np.float32), None, 1)
    assert again.tolist() == [1, 3, 4] and slam_map.points.alive.all()
    assert slam_map.points.reference.tolist() == [0, 1, 0, 1, 1] and slam_map.points.found.tolist() == [0, 0, 3, 0, 0]


def test_a_table_of_points_grows_in_place_and_by_small_steps() -> None:
    points, steps, before = Points(Map().spec), [], 0
    for _ in range(30):
        points.add(np.ones((4000, 3)), np.ones((4000, 64), np.float32), None)
        capacity = len(points._rows["xyz"])
        steps.append(capacity - before)
        before = capacity
    assert points.size == 120_000 and (points.xyz == 1.0).all()
    assert max(steps) <= LARGEST_STEP + max(steps[0], 4000) and before < 120_000 + 2 * LARGEST_STEP
    rows = {"free": np.ones((3, 2)), "used": np.arange(3)}
    free, view = id(rows["free"]), rows["used"][1:]
    grow(rows, 5)
    assert id(rows["free"]) == free and rows["free"].tolist() == 3 * [[1, 1]] + 2 * [[0, 0]]
    rows["used"][:] = 7  # a view of the old array keeps what it showed
    assert view.tolist() == [1, 2] and len(rows["used"]) == 5


def test_merging_points_keeps_one_feature_a_keyframe() -> None:
    slam_map = Map()
    numbers = slam_map.points.add(np.zeros((4, 3)), np.eye(4, 64, dtype=np.float32), None)
    for seen in ([0, 1, -1], [1, 2, 3], [2, -1, 0]):
        points = np.array(seen)
        features = np.flatnonzero(points >= 0)
        slam_map.observe(number := slam_map.add_keyframe(blank(3), np.eye(4)), features, points[features])
        slam_map.link(number)
    slam_map.merge(numbers[[1, 2]], numbers[[0, 3]])
    assert [point.tolist() for point in slam_map.point] == [[0, -1, -1], [0, -1, 3], [3, -1, 0]]
    assert slam_map.points.observations.tolist() == [3, 0, 0, 2]
    assert slam_map.points.alive.tolist() == [True, False, False, True]


def test_a_loop_that_tears_the_map_is_refused_and_its_work_is_counted(
    closed: tuple[list[np.ndarray], Tracker, list[Track]],
) -> None:
    tracker = copy.deepcopy(closed[1])
    mapping, slam_map = tracker._mapping, tracker.map
    old, new = 0, len(slam_map) - 1
    T = slam_map.T_camera_world[new]
    torn = geometry.exp(np.array([3.0, 0.0, 0.0, 0.0, 0.0, 0.0])) @ T
    xyz = slam_map.points.xyz[slam_map.observed(new)[1]]
    before = slam_map.copy()
    loop = Loop(old, new, torn, geometry.inverse(torn) @ T, xyz)
    mapping.work.take()
    join = Join(mapping, Edges(slam_map), loop)
    while not join.done:
        assert join.step() is None
    assert mapping.work.take()["flops"] > 0
    assert slam_map == before
