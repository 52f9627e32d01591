# SPDX-License-Identifier: Apache-2.0
"""Things that move before the camera: the pose stays with the world, or says that it may not."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import pytest
from point_world import CAMERA, UNIT_M, World, frame, make_world, walk

from drp_slam import geometry
from drp_slam.datatypes import Features, Track
from drp_slam.slam import consensus, freespace, trust, uncertainty, votes
from drp_slam.slam.camera import Geometry
from drp_slam.slam.map import Map
from drp_slam.slam.optimize import CHI2_PIXEL, DEPTH_GATE2, Noise, refine_pose
from drp_slam.slam.tracker import Tracker

STEP_NS = 66_666_667


@dataclass
class Panel:
    """A board with texture at `depth_m`, `size_px` wide and high, in front of the world."""

    size_px: tuple[float, float]
    depth_m: float
    count: int
    seed: int = 7

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        self.at = rng.uniform((0, 0), self.size_px, (self.count, 2))
        d = rng.normal(size=(self.count, 64))
        self.descriptor = d / np.linalg.norm(d, axis=1, keepdims=True)

    def before(self, features: Features, depth: np.ndarray, left: float, top: float, rng: np.random.Generator):
        """Features and depth with the board's left upper corner at a pixel."""
        width, height = self.size_px
        u, v = features.uv.T
        kept = ~((u >= left) & (u <= left + width) & (v >= top) & (v <= top + height))
        uv = self.at + (left, top)
        seen = ((uv > 3) & (uv < (636, 476))).all(axis=1)
        uv = uv[seen] + rng.normal(scale=0.4, size=(seen.sum(), 2))
        d = self.descriptor[seen] + rng.normal(scale=0.03, size=(seen.sum(), 64))
        d /= np.linalg.norm(d, axis=1, keepdims=True)
        depth = depth.copy()
        x0, x1, y0, y1 = (
            int(np.clip(e, 0, s)) for e, s in ((left, 640), (left + width, 640), (top, 480), (top + height, 480))
        )
        depth[y0:y1, x0:x1] = round(self.depth_m / UNIT_M)
        every = [np.concatenate([a[kept], b]) for a, b in ((features.uv, uv), (features.descriptor, d))]
        score = np.linspace(1.0, 0.1, len(every[0]))
        return Features(every[0].astype(np.float32), score.astype(np.float32), every[1].astype(np.float32)), depth


def play(
    poses: list[np.ndarray], panel: Panel, lefts: np.ndarray, world: World | None = None
) -> tuple[list[Track], float]:
    """Tracks of a camera with a panel whose left edge is at `lefts`, and the panel's largest share of features."""
    world, tracker, tracks, share = world or make_world(), Tracker(CAMERA), [], 0.0
    rng = np.random.default_rng(3)
    for k, (pose, left) in enumerate(zip(poses, lefts)):
        clean, depth = world.see(pose)
        features, depth = panel.before(clean, depth, float(left), 30.0, rng)
        on = ((features.uv[:, 0] >= left) & (features.uv[:, 0] <= left + panel.size_px[0])).mean()
        share = max(share, float(on))
        tracks.append(tracker.track(frame(k, 1000 + k * STEP_NS, depth), features))
    return tracks, share


def offsets_m(poses: list[np.ndarray], tracks: list[Track]) -> np.ndarray:
    """Distances of the tracked frames from the truth, in the frame of the first camera."""
    truth = geometry.inverse(poses[0]) @ np.stack(poses)
    return np.array(
        [np.linalg.norm(truth[k, :3, 3] - t.T_world_camera[:3, 3]) for k, t in enumerate(tracks) if t.tracked]
    )


def sigmas_m(tracks: list[Track]) -> np.ndarray:
    """Standard deviations of the tracked frames' positions."""
    return np.array([np.sqrt(np.trace(t.covariance[:3, :3])) for t in tracks if t.covariance is not None])


def check_stays_with_the_world(poses: list[np.ndarray], tracks: list[Track]) -> None:
    """All frames tracked, nearly all within 20 mm, none beyond 25 mm."""
    assert all(t.tracked for t in tracks)
    offset, sigma = offsets_m(poses, tracks), sigmas_m(tracks)
    assert np.median(offset) < 0.005 and (offset < 0.02).mean() > 0.98 and offset.max() < 0.025
    assert ((offset < 0.02) | (offset < 2.0 * sigma)).all()


@pytest.mark.parametrize("speed_px", [2.0, 9.0, 30.0])
def test_a_still_camera_stays_while_something_crosses(speed_px: float) -> None:
    panel = Panel((260, 420), 0.8, 260)
    lefts = np.arange(-250.0, 645.0, speed_px)[:90]
    poses = [np.eye(4)] * len(lefts)
    tracks, share = play(poses, panel, lefts)
    assert share > 0.38
    check_stays_with_the_world(poses, tracks)


def test_something_that_stood_still_from_the_first_frame_goes_away() -> None:
    panel = Panel((240, 420), 0.8, 200)
    lefts = np.concatenate([np.full(20, 180.0), np.arange(180.0, 645.0, 9.0)])
    poses = [np.eye(4)] * len(lefts)
    tracks, share = play(poses, panel, lefts)
    assert share > 0.33
    check_stays_with_the_world(poses, tracks)


@pytest.mark.parametrize("speed_px", [2.0, 5.0, 15.0])
def test_what_moves_from_the_first_frame_on_is_not_taken_for_the_world(speed_px: float) -> None:
    panel = Panel((280, 440), 0.5, 220)
    lefts = np.arange(60.0, 645.0, speed_px)[:60]
    poses = [np.eye(4)] * len(lefts)
    tracks, share = play(poses, panel, lefts)
    assert share > 0.4
    offset, sigma = offsets_m(poses, tracks), sigmas_m(tracks)
    assert offset.max() < 0.025 and ((offset < 0.02) | (offset < 2.0 * sigma)).all()


def test_a_near_thing_with_most_of_the_information_contradicts_the_background() -> None:
    rng = np.random.default_rng(1)
    near, far = (
        rng.uniform((-0.1, -0.15, 0.45), (0.12, 0.15, 0.55), (150, 3)),
        rng.uniform((-1, -1, 2), (1, 1, 3), (150, 3)),
    )
    noise = Noise(430.0, 430.0, 333.0)
    seen = np.concatenate([near + (0.0, 0.0, 0.04), far])  # the thing has moved away by 40 mm, the camera stands
    xy = seen[:, :2] / seen[:, 2:] + rng.normal(size=(300, 2)) / noise.fx
    depth = 1.0 / seen[:, 2] + rng.normal(size=300) / noise.fd
    bounds = np.array([[-0.6, -0.6], [0.6, 0.6]])
    vote, behind = votes.votes(np.ones(300), xy, seen[:, 2], bounds)
    pairs = votes.Pairs(np.concatenate([near, far]), xy, depth, np.ones(300), vote, behind)
    alone = refine_pose(np.eye(4), pairs.xyz, xy, depth, noise)
    assert np.linalg.norm(alone.T_camera_world[:3, 3]) > 0.03  # the thing leads the fit away
    found = consensus.choose(alone.T_camera_world, [], pairs, noise, 0.0)
    assert np.linalg.norm(found.fit.T_camera_world[:3, 3]) < 0.01


def two_motions(near_count: int, far_count: int, moved_m: float, far_m: float) -> tuple[votes.Pairs, Noise]:
    """Matches of a still camera: a near object that has moved sideways, and the background behind it."""
    rng, count = np.random.default_rng(1), near_count + far_count
    near = rng.uniform((-0.2, -0.2, 0.45), (0.2, 0.2, 0.55), (near_count, 3))
    far = rng.uniform((-0.5 * far_m, -0.4 * far_m, far_m), (0.5 * far_m, 0.4 * far_m, far_m + 1.0), (far_count, 3))
    noise, seen = Noise(430.0, 430.0, 333.0), np.concatenate([near + (moved_m, 0.0, 0.0), far])
    xy = seen[:, :2] / seen[:, 2:] + rng.normal(size=(count, 2)) / noise.fx
    depth = 1.0 / seen[:, 2] + rng.normal(size=count) / noise.fd
    bounds = np.array([[-0.6, -0.6], [0.6, 0.6]])
    vote, behind = votes.votes(np.ones(count), xy, seen[:, 2], bounds)
    return votes.Pairs(np.concatenate([near, far]), xy, depth, np.ones(count), vote, behind), noise


def test_a_pose_that_keeps_the_background_within_the_gate_is_compared_by_votes() -> None:
    pairs, noise = two_motions(60, 600, 0.03, 2.0)
    alone = refine_pose(np.eye(4), pairs.xyz, pairs.xy, pairs.inverse_depth, noise)
    assert np.linalg.norm(alone.T_camera_world[:3, 3]) > 0.03 and alone.inliers[60:].mean() > 0.9
    found = consensus.choose(np.eye(4), [], pairs, noise, 1.0)
    assert np.linalg.norm(found.fit.T_camera_world[:3, 3]) < 0.01


def test_new_points_do_not_outvote_unnoticed_what_stood_still() -> None:
    pairs, noise = two_motions(300, 40, 0.1, 2.0)
    untried = np.repeat([trust.UNTRIED, 1.0], [300, 40])
    pairs = dataclasses.replace(pairs, weight=untried, vote=pairs.vote * np.repeat([1.0, 0.2], [300, 40]))
    of_the_object = geometry.exp(np.array([0.1, 0.0, 0.0, 0.0, 0.0, 0.0]))
    found = consensus.choose(of_the_object, [], pairs, noise, 1.0)
    assert np.linalg.norm(found.fit.T_camera_world[:3, 3] - (0.1, 0.0, 0.0)) < 0.02
    assert found.rival is not None and found.ambiguous
    assert np.linalg.norm(found.rival[:3, 3]) < 0.05
    sigma_m = np.sqrt(np.trace(uncertainty.own_covariance(found)[:3, :3]))
    assert sigma_m > 0.04  # the camera has not moved


def test_something_that_stops_and_goes_again() -> None:
    panel = Panel((240, 420), 0.8, 200)
    lefts = np.concatenate([np.arange(-230.0, 200.0, 12.0), np.full(25, 200.0), np.arange(200.0, 645.0, 12.0)])
    poses = [np.eye(4)] * len(lefts)
    tracks, _ = play(poses, panel, lefts)
    check_stays_with_the_world(poses, tracks)


def test_a_turning_camera_is_not_led_astray() -> None:
    poses = walk(70)
    lefts = np.concatenate([np.linspace(-250.0, 645.0, 35), np.linspace(645.0, -250.0, 35)])
    tracks, share = play(poses, Panel((250, 420), 0.7, 220), lefts)
    assert share > 0.33
    check_stays_with_the_world(poses, tracks)


@pytest.mark.parametrize(
    ("width_px", "count", "depth_m", "still", "speed_px"),
    [(420, 350, 0.8, 8, 9.0), (480, 420, 0.8, 8, 9.0), (520, 450, 0.8, 15, 6.0), (400, 260, 0.8, 8, 9.0)],
)
def test_where_most_of_the_image_moves_the_covariance_says_so(
    width_px: float, count: int, depth_m: float, still: int, speed_px: float
) -> None:
    """86 to 96 % of the features stand still from the first frame on, and then move: nobody can know which moves."""
    panel = Panel((width_px, 470), depth_m, count)
    lefts = np.concatenate([np.full(still, 40.0), np.arange(40.0, 300.0, speed_px)])
    poses = [np.eye(4)] * len(lefts)
    tracks, share = play(poses, panel, lefts, make_world(count=3000))
    assert share > 0.8 and all(t.tracked for t in tracks)
    offset, sigma = offsets_m(poses, tracks), sigmas_m(tracks)
    assert ((offset < 0.02) | (offset < 2.0 * sigma)).all()


def test_votes_count_area_and_distance_not_texture() -> None:
    bounds = np.array([[-0.6, -0.45], [0.6, 0.45]])
    rng = np.random.default_rng(0)
    near = rng.uniform((-0.2, -0.2), (0.0, 0.0), (400, 2))
    far = rng.uniform((-0.6, -0.45), (0.6, 0.45), (100, 2))
    z_m = np.repeat([0.5, 3.0], [400, 100])
    vote, behind = votes.votes(np.ones(500), np.concatenate([near, far]), z_m, bounds)
    assert vote[400:].sum() > 4 * vote[:400].sum()
    assert not behind[:400].any() and behind[400:].mean() > 0.5


def test_trust_falls_faster_than_it_rises_and_rejects() -> None:
    agreeing, wrong = np.zeros(1), np.full(1, 10 * CHI2_PIXEL)
    t = np.zeros(1)
    for _ in range(30):
        t = trust.updated(t, agreeing, agreeing)
    assert t[0] == trust.FULL
    history = [t[0]]
    while history[-1] > trust.REFUTED:
        history.append(trust.updated(np.array(history[-1:]), wrong, agreeing)[0])
    assert 4 < len(history) < 15 and (np.diff(history) < 0).all()
    unsure = np.array([2 * CHI2_PIXEL])
    assert trust.updated(np.full(1, 3.0), unsure, agreeing)[0] == 3.0
    assert trust.updated(np.full(1, 3.0), agreeing, np.full(1, 10 * DEPTH_GATE2))[0] < 3.0


def test_what_depth_looks_through_is_empty_and_edges_are_not() -> None:
    from drp_slam.config import SlamConfig

    camera = Geometry.of(CAMERA, SlamConfig())
    depth = np.full((480, 640), round(2.0 / UNIT_M), np.uint16)
    depth[:, 400:] = round(1.0 / UNIT_M)
    depth[:100] = 0
    grid = freespace.nearest(depth, UNIT_M)
    xyz = np.array(
        [[-0.3, 0.0, 1.0], [0.25, 0.0, 1.0], [-0.3, 0.0, 1.95], [-0.3, 0.0, 3.0], [0.15, 0.0, 1.0], [0, -0.45, 1.0]]
    )
    through = freespace.seen_through(grid, np.eye(4), xyz, camera, np.arange(len(xyz)))
    assert through.tolist() == [True, False, False, False, False, False]
    as_float = freespace.nearest((depth * np.float32(UNIT_M)).astype(np.float32), 1.0)
    np.testing.assert_allclose(as_float, grid, rtol=1e-6)


@pytest.mark.parametrize(("near_count", "far_count"), [(300, 100), (400, 60)])
def test_of_two_motions_the_farther_one_is_the_cameras(near_count: int, far_count: int) -> None:
    pairs, noise = two_motions(near_count, far_count, 0.1, 2.0)
    of_the_object = geometry.exp(np.array([0.1, 0.0, 0.0, 0.0, 0.0, 0.0]))
    for start in (np.eye(4), of_the_object):
        found = consensus.choose(start, [np.eye(4)], pairs, noise, 1.0)
        assert np.linalg.norm(found.fit.T_camera_world[:3, 3]) < 0.02


def test_poses_that_differ_by_the_errors_of_one_group_are_no_rivals() -> None:
    rng = np.random.default_rng(2)
    xyz, noise = rng.uniform((-3, -1, 4), (3, 1, 20), (400, 3)), Noise(430.0, 430.0, 333.0)
    xy = xyz[:, :2] / xyz[:, 2:] + 2.5 * rng.normal(size=(400, 2)) / noise.fx  # worse than assumed, as driving past
    bounds = np.array([[-0.8, -0.4], [0.8, 0.4]])
    vote, far = votes.votes(np.ones(400), xy, xyz[:, 2], bounds)
    pairs = votes.Pairs(xyz, xy, np.zeros(400), np.ones(400), vote, far)
    others = [geometry.exp(np.array([0.0, 0.0, z, 0.0, 0.0, 0.0])) for z in (-0.3, -0.15, 0.15, 0.3)]
    found = consensus.choose(np.eye(4), others, pairs, noise, 1.0)
    assert found.searched and not found.ambiguous


@pytest.mark.parametrize(
    ("support", "step_m", "least_m", "most_m"),
    [
        (0.9, 0.1, 0.0, 0.025),  # the camera has moved
        (0.45, 0.1, 0.06, 0.12),  # something may have taken it along
        (0.45, 0.0, 0.0, 0.025),  # it goes on as before
    ],
)
def test_a_pose_that_loses_support_is_as_uncertain_as_it_departs(
    support: float, step_m: float, least_m: float, most_m: float
) -> None:
    pairs, noise = two_motions(0, 300, 0.0, 2.0)
    fit = refine_pose(np.eye(4), pairs.xyz, pairs.xy, pairs.inverse_depth, noise, part=pairs.far)
    sure, none = consensus.Consensus(fit, 0.9), np.zeros(0, np.intp)
    stated = uncertainty.Uncertainty(Map())
    T = np.eye(4)
    for k in range(8):
        T[0, 3] = 0.01 * k  # 10 mm a frame
        covariance = stated.pose(k * STEP_NS, T.copy(), sure, none, 0.9)
    T[0, 3] += 0.01 + step_m
    covariance = stated.pose(8 * STEP_NS, T.copy(), sure, none, support)
    assert least_m <= np.sqrt(np.trace(covariance[:3, :3])) < most_m
