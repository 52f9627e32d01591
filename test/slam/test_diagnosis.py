# SPDX-License-Identifier: Apache-2.0
"""Every lost frame says why, and what to do."""

from __future__ import annotations

import dataclasses

import numpy as np
from point_world import CAMERA, errors_m, frame, make_world, ring, round_trip, walk

from drp_slam.datatypes import Features, Reason
from drp_slam.slam.tracker import Tracker

STEP_NS = 66_666_667
TEXTURE = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
BLANK = Features(np.zeros((0, 2), np.float32), np.zeros(0, np.float32), np.zeros((0, 64), np.float32))


def started() -> tuple[Tracker, int]:
    """A tracker that has seen ten frames, and the stamp of the last."""
    world, tracker = make_world(), Tracker(CAMERA)
    for k, pose in enumerate(walk(10)):
        features, depth = world.see(pose)
        track = tracker.track(dataclasses.replace(frame(k, 1000 + k * STEP_NS, depth), image=TEXTURE), features)
        assert track.reason is (Reason.STARTING if k == 0 else Reason.OK)
    return tracker, 1000 + 9 * STEP_NS


def reason(tracker: Tracker, stamp_ns: int, features: Features, image: np.ndarray | None) -> Reason:
    track = tracker.track(dataclasses.replace(frame(99, stamp_ns, None), image=image), features)
    assert not track.tracked and track.covariance is None and track.reason.remedy
    return track.reason


def elsewhere() -> Features:
    """Another world: nothing of it is known."""
    return make_world(seed=5).see(np.eye(4))[0]


def test_what_the_image_shows_comes_first() -> None:
    tracker, at_ns = started()
    black, smooth = np.full_like(TEXTURE, 3), np.full_like(TEXTURE, 120)
    cases = ((BLANK, black, Reason.TOO_DARK), (BLANK, np.full_like(TEXTURE, 254), Reason.TOO_BRIGHT))
    cases += (
        (BLANK, smooth, Reason.BLURRED),
        (BLANK, TEXTURE, Reason.FEW_FEATURES),
        (BLANK, None, Reason.FEW_FEATURES),
    )
    cases += ((elsewhere(), smooth[..., 0], Reason.BLURRED), (elsewhere(), TEXTURE, Reason.NO_OVERLAP))
    for k, (features, image, expected) in enumerate(cases):
        assert reason(tracker, at_ns + (k + 1) * STEP_NS, features, image) is expected


def test_a_gap_in_time_and_a_start_without_depth() -> None:
    tracker, at_ns = started()
    assert reason(tracker, at_ns + 3_000_000_000, elsewhere(), TEXTURE) is Reason.TIME_GAP
    assert reason(Tracker(CAMERA), 1000, elsewhere(), TEXTURE) is Reason.NO_DEPTH
    assert reason(Tracker(CAMERA), 1000, BLANK, TEXTURE) is Reason.FEW_FEATURES


def test_the_twist_is_the_motion_and_begins_anew_after_a_jump() -> None:
    world, tracker = make_world(), Tracker(CAMERA)
    tracks = []
    for k, pose in enumerate(walk(12)):
        features, depth = world.see(pose)
        tracks.append(tracker.track(frame(k, 1000 + k * STEP_NS, depth), features))
    assert tracks[0].twist is None
    last = tracks[-1]
    assert last.twist is not None and last.twist_covariance is not None
    turn_rad_s = np.radians(2.0) * 15.0
    assert abs(last.twist[4] - turn_rad_s) < 0.05 and abs(last.twist[[3, 5]]).max() < 0.05
    tracker.begin_epoch()
    features, depth = world.see(walk(12)[-1])
    assert tracker.track(frame(12, 5, depth), features).twist is None


def test_the_scale_of_points_without_depth_is_uncertain() -> None:
    """Depth for a few frames only: what is triangulated afterwards leans on what was triangulated before."""
    poses, config = round_trip(70, 2.0, 1.5), None
    tracks = {}
    for ends in (12, 70):
        world, tracker = ring(), Tracker(CAMERA, config)
        for k, pose in enumerate(poses):
            features, depth = world.see(pose)
            track = tracker.track(frame(k, 1000 + k * STEP_NS, depth if k < ends else None), features)
            tracks[ends, k] = track
        assert (tracker.map.unscaled[:, 0] > 0).any() == (ends == 12)
        assert (tracker.map.points.measured.mean() > 0.9) == (ends == 70)
    assert all(track.tracked for track in tracks.values())
    sigma = {key: np.sqrt(np.trace(track.covariance[:3, :3])) for key, track in tracks.items()}
    assert sigma[12, 69] > 3.0 * sigma[70, 69]
    late = [tracks[12, k] for k in range(12, 70)]
    errors = errors_m(poses, np.arange(12, 70), np.stack([t.T_world_camera for t in late]))
    assert (errors <= 2.0 * np.array([sigma[12, k] for k in range(12, 70)])).all()


def test_a_map_that_is_continued_knows_how_sure_it_is() -> None:
    poses, world = walk(40), make_world()
    tracker = Tracker(CAMERA)
    for k, pose in enumerate(poses):
        features, depth = world.see(pose)
        last = tracker.track(frame(k, 1000 + k * STEP_NS, depth), features)
    again = Tracker(CAMERA, None, tracker.map.copy())
    features, depth = world.see(poses[-1])
    found = again.track(frame(0, 1000, depth), features)
    assert found.relocalised and found.covariance is not None and last.covariance is not None
    assert np.trace(found.covariance) > 0.5 * np.trace(last.covariance)
