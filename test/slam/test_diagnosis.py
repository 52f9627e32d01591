# SPDX-License-Identifier: Apache-2.0
"""Every lost frame says why, and what to do."""

from __future__ import annotations

import dataclasses

import numpy as np
from point_world import CAMERA, frame, make_world, walk

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
