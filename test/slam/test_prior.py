# SPDX-License-Identifier: Apache-2.0
"""A prior from wheels or an IMU: it bridges what vision does not see, and cannot make vision worse."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from point_world import CAMERA, errors_m, frame, make_world, walk

from drp_slam import geometry
from drp_slam.config import SlamConfig
from drp_slam.datatypes import Features, Track
from drp_slam.slam.extrinsic import T_LINK_OPTICAL, mount
from drp_slam.slam.prior import Prior, Stream
from drp_slam.slam.tracker import Tracker

BLANK = Features(np.zeros((0, 2), np.float32), np.zeros(0, np.float32), np.zeros((0, 64), np.float32))
STEP_NS = 66_666_667
T_BASE_CAMERA = mount("0.2 -0.05 0.4 0 10 5") @ T_LINK_OPTICAL
BLIND = range(40, 62)
"""1.5 s without a feature."""
Samples = list[tuple[int, np.ndarray]]


def base_at(poses: list[np.ndarray], k: int) -> np.ndarray:
    """The base of a robot in a frame of its own, not the camera's."""
    T_odom_world = mount("3 -2 0.5 0 0 70")
    return T_odom_world @ poses[k] @ geometry.inverse(T_BASE_CAMERA)


def odometry(poses: list[np.ndarray], slip: float = 1.02) -> Samples:
    """Wheels at the frames and between them, that turn `slip` times as far."""
    truth = [base_at(poses, k) for k in range(len(poses))]
    T, samples = truth[0], []
    for k in range(len(poses) - 1):
        step = slip * geometry.log(geometry.inverse(truth[k]) @ truth[k + 1])
        samples += [(1000 + k * STEP_NS, T), (1000 + k * STEP_NS + STEP_NS // 2, T @ geometry.exp(0.5 * step))]
        T = T @ geometry.exp(step)
    return [*samples, (1000 + (len(poses) - 1) * STEP_NS, T)]


def play(
    poses: list[np.ndarray], samples: Samples | None, blind: range, turns: bool = False, bridge_s: float = 2.0
) -> list[Track]:
    """Frames with what the prior has said until shortly after each of them."""
    world, stream = make_world(), Stream(T_BASE_CAMERA)
    prior = None if samples is None else Prior(turns=stream) if turns else Prior(poses=stream)
    tracker, tracks, waiting = Tracker(CAMERA, SlamConfig(bridge_s=bridge_s), None, prior), [], list(samples or [])
    for k, pose in enumerate(poses):
        features, depth = world.see(pose)
        if k in blind:
            features, depth = BLANK, np.zeros_like(depth)
        while waiting and waiting[0][0] <= 1000 + (k + 1) * STEP_NS:
            stream.add(*waiting.pop(0))
        tracks.append(tracker.track(frame(k, 1000 + k * STEP_NS, depth), features))
    return tracks


def off_m(poses: list[np.ndarray], tracks: list[Track]) -> np.ndarray:
    """Error of each pose that there is."""
    index = np.array([t.index for t in tracks if t.T_world_camera is not None])
    return errors_m(poses, index, np.stack([t.T_world_camera for t in tracks if t.T_world_camera is not None]))


def sigma_m(track: Track) -> float:
    assert track.covariance is not None
    return float(np.sqrt(np.trace(track.covariance[:3, :3])))


@pytest.fixture(scope="module")
def poses() -> list[np.ndarray]:
    return walk(75, 1.0)


@pytest.fixture(scope="module")
def unaided(poses: list[np.ndarray]) -> list[Track]:
    return play(poses, None, BLIND)


def test_a_prior_bridges_a_blackout_within_its_covariance(poses: list[np.ndarray], unaided: list[Track]) -> None:
    assert {unaided[k].state for k in BLIND} == {"lost"}
    tracks = play(poses, odometry(poses), BLIND)
    blind = [tracks[k] for k in BLIND]
    assert {t.state for t in blind} == {"predicted"} and {t.reason.value for t in blind} == {"few_features"}
    assert not any(t.tracked or t.keyframe for t in blind)
    sigmas = [sigma_m(t) for t in blind]
    assert all(a < b for a, b in itertools.pairwise(sigmas)) and sigmas[-1] < 0.3
    errors = off_m(poses, blind)
    assert (errors <= sigmas).all() and errors[-1] < 0.05
    after = tracks[BLIND.stop :]
    assert all(t.tracked and not t.relocalised for t in after) and off_m(poses, after).max() < 0.04
    # what is published stays continuous: the drift of the blackout is corrected, not moved
    first, last = after[0], blind[-1]
    assert first.T_correction is not None and first.T_world_camera is not None and last.T_world_camera is not None
    step = geometry.inverse(first.T_correction @ last.T_world_camera) @ first.T_world_camera
    assert np.linalg.norm(geometry.log(step)[:3]) < 0.03


def test_after_two_seconds_a_prior_is_not_believed(poses: list[np.ndarray]) -> None:
    tracks = play(walk(90, 1.0), odometry(walk(90, 1.0)), range(40, 85))
    states = [t.state for t in tracks[40:85]]
    assert states == ["predicted"] * 29 + ["lost"] * 16
    assert {t.state for t in play(poses, odometry(poses), BLIND, bridge_s=0.0)[40:62]} == {"lost"}


def test_orientation_alone_bridges_with_a_covariance_that_grows_faster(poses: list[np.ndarray]) -> None:
    turns = [(stamp, np.block([[T[:3, :3], np.zeros((3, 1))], [np.eye(4)[3:]]])) for stamp, T in odometry(poses, 1.0)]
    tracks = play(poses, turns, BLIND, turns=True)
    blind = [tracks[k] for k in BLIND]
    assert {t.state for t in blind} == {"predicted"}
    sigmas = np.array([sigma_m(t) for t in blind])
    assert (off_m(poses, blind) <= 2.0 * sigmas).all()
    by_wheels = play(poses, odometry(poses), BLIND)
    assert sigmas[-1] > 2.0 * sigma_m(by_wheels[BLIND[-1]])


def turned(samples: Samples, by: np.ndarray) -> Samples:
    """A frame that is turned on the robot: the wrong extrinsic."""
    return [(stamp, T @ by) for stamp, T in samples]


def jumping(samples: Samples) -> Samples:
    """Half a metre aside now and then."""
    aside = mount("0.5 0.5 0 0 0 30")
    return [(stamp, aside @ T if k % 14 in (5, 6) else T) for k, (stamp, T) in enumerate(samples)]


def nans(samples: Samples) -> Samples:
    return [(stamp, np.full((4, 4), np.nan) if k % 3 == 0 else T) for k, (stamp, T) in enumerate(samples)]


def shuffled(samples: Samples) -> Samples:
    """Pairs in the wrong order, some of them twice."""
    return [samples[k + (1, -1, 0)[k % 3]] for k in range(len(samples) - 1)]


def noise(samples: Samples) -> Samples:
    rng = np.random.default_rng(2)
    return [(stamp, T @ geometry.exp(rng.normal(0, 0.1, 6))) for stamp, T in samples]


WRONG: dict[str, Callable[[Samples], Samples]] = {
    "ten degrees off": lambda s: turned(s, mount("0 0 0 0 0 10")),
    "another frame": lambda s: turned(s, mount("0 0 0 90 0 90")),
    "frozen": lambda s: [(stamp, s[0][1]) for stamp, _ in s],
    "hangs before the blackout": lambda s: [(stamp, s[min(k, 76)][1]) for k, (stamp, _) in enumerate(s)],
    "hangs in the blackout": lambda s: [(stamp, s[min(k, 96)][1]) for k, (stamp, _) in enumerate(s)],
    "jumping": jumping,
    "late by a second": lambda s: [(stamp + 10**9, T) for stamp, T in s],
    "backwards": lambda s: [(stamp, T) for (stamp, _), (_, T) in zip(s, s[::-1], strict=True)],
    "out of order": shuffled,
    "not a number": nans,
    "noise": noise,
    "nothing": lambda s: [],
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_prior_makes_nothing_worse(poses: list[np.ndarray], unaided: list[Track], kind: str) -> None:
    tracks = play(poses, WRONG[kind](odometry(poses)), BLIND)
    assert [t.tracked for t in tracks[:40]] == [t.tracked for t in unaided[:40]]
    assert sum(t.tracked for t in tracks) >= sum(t.tracked for t in unaided)
    seen = [t for t in tracks if t.tracked]
    assert off_m(poses, seen).max() < max(0.03, 1.3 * off_m(poses, [t for t in unaided if t.tracked]).max())
    guessed = [t for t in tracks if t.state == "predicted"]
    assert all(e <= 2.0 * sigma_m(t) for t, e in zip(guessed, off_m(poses, guessed) if guessed else []))


def test_a_prior_that_contradicts_vision_is_reported(poses: list[np.ndarray]) -> None:
    world, stream = make_world(), Stream(T_BASE_CAMERA)
    for stamp, T in turned(odometry(poses), mount("0 0 0 90 0 90")):
        stream.add(stamp, T)
    tracker = Tracker(CAMERA, None, None, Prior(poses=stream))
    for k, pose in enumerate(poses[:40]):
        features, depth = world.see(pose)
        tracker.track(frame(k, 1000 + k * STEP_NS, depth), features)
    assert "°" in tracker.reckoning.disagreement and not tracker.reckoning.agrees


def test_gyroscope_rates_give_the_turn() -> None:
    stream = Stream(np.eye(4))
    for k in range(101):
        assert not stream.turn(k * 10_000_000, np.array([0.0, 0.3, 0.0]))
    motion = stream.motion(5_000_000, 995_000_000)
    assert motion is not None and np.allclose(geometry.log(motion.T_from_to)[3:], (0.0, 0.297, 0.0), atol=1e-9)
    assert stream.motion(0, 2_000_000_000) is None


def test_a_gap_of_frames_is_crossed_with_a_prior(poses: list[np.ndarray], unaided: list[Track]) -> None:
    """Twelve frames are missing: constant motion would have to be extrapolated over 0.8 s."""
    world, stream = make_world(), Stream(T_BASE_CAMERA)
    for stamp, T in odometry(poses):
        stream.add(stamp, T)
    tracker = Tracker(CAMERA, None, None, Prior(poses=stream))
    tracks = []
    for k in [*range(30), *range(42, 60)]:
        features, depth = world.see(poses[k])
        tracks.append(tracker.track(frame(k, 1000 + k * STEP_NS, depth), features))
    assert all(t.tracked and not t.relocalised for t in tracks)
    assert off_m(poses, tracks).max() < 0.04
