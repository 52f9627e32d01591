# SPDX-License-Identifier: Apache-2.0
"""Trajectories: files, association, alignment; ATE and RPE against evo."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drp_slam import geometry
from drp_slam.data import accuracy
from drp_slam.data import trajectory as tr
from drp_slam.datatypes import Trajectory
from drp_slam.errors import DataError

SECOND = 10**9


def random_walk(seed: int, n: int, step_ns: int = SECOND // 15, noise: float = 1.0) -> Trajectory:
    """Poses that wander; `noise` scales the steps."""
    rng = np.random.default_rng(seed)
    poses = np.tile(np.eye(4), (n, 1, 1))
    poses[:, :3, :3] = geometry.rotation(np.cumsum(rng.normal(0, 0.05 * noise, (n, 4)), 0) + (0, 0, 0.2, 1))
    poses[:, :3, 3] = np.cumsum(rng.normal(0, 0.02 * noise, (n, 3)), 0)
    return Trajectory(5 * SECOND + step_ns * np.arange(n, dtype=np.int64), poses)


def disturbed(reference: Trajectory, seed: int) -> Trajectory:
    """As a tracker would see it: another world frame, drift, stamps a little off, frames lost."""
    rng = np.random.default_rng(seed)
    drift = random_walk(seed + 1, len(reference), noise=0.2).T_world_camera
    world = random_walk(seed + 2, 2).T_world_camera[1]
    kept = np.sort(rng.choice(len(reference), int(len(reference) * 0.9), replace=False))
    late = rng.integers(-5_000_000, 5_000_000, len(kept))
    poses = world @ reference.T_world_camera[kept] @ drift[kept]
    return Trajectory(reference.stamps_ns[kept] + late, poses)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 40), st.integers(-(2**40), 2**61), st.integers(1, 10**12))
def test_files_keep_every_bit_of_stamps_and_positions(
    tmp_path_factory: pytest.TempPathFactory, seed: int, n: int, first: int, step: int
) -> None:
    walk = random_walk(seed, n)
    written = Trajectory(first + step * np.arange(n, dtype=np.int64), walk.T_world_camera)
    path = tmp_path_factory.mktemp("t") / "trajectory.txt"
    tr.write_tum(path, written)
    read = tr.read_tum(path)
    assert np.array_equal(read.stamps_ns, written.stamps_ns)
    assert np.array_equal(read.positions_m, written.positions_m)
    assert np.abs(read.T_world_camera - written.T_world_camera).max() < 1e-14
    assert [p.name for p in path.parent.iterdir()] == ["trajectory.txt"]


@settings(max_examples=100)
@given(st.integers(-(2**63), 2**63 - 1))
def test_stamps_survive_text(stamp_ns: int) -> None:
    assert tr.parse_stamp(tr.format_stamp(stamp_ns), "here") == stamp_ns


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1 0 0 0 0 0 0 1\n1 0 0 0 0 0 0 1\n", ("line 2", "does not increase", "sort")),
        ("1 0 0 0 0 0 1\n", ("line 1", "7 fields", "expected 8")),
        ("1 0 0 0 0 0 0 0.5\n", ("line 1", "quaternion")),
        ("1 0 nan 0 0 0 0 1\n", ("line 1", "finite")),
        ("# x\nnow 0 0 0 0 0 0 1\n", ("line 2", "'now'", "stamp")),
        ("1 0 0 zero 0 0 0 1\n", ("line 1", "zero")),
    ],
)
def test_bad_files_are_refused_with_their_line(tmp_path: Path, text: str, words: tuple[str, ...]) -> None:
    path = tmp_path / "groundtruth.txt"
    path.write_text(text)
    with pytest.raises(DataError) as error:
        tr.read_tum(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    assert all(word in str(error.value) for word in words), error.value


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        tr.write_tum(tmp_path / "nowhere" / "t.txt", random_walk(0, 3))


stamps = st.lists(st.integers(0, 10**9), max_size=40, unique=True).map(sorted)


@settings(max_examples=100)
@given(stamps, stamps, st.sampled_from([0.0, 0.001, 0.02, 1.0]))
def test_association_pairs_each_stamp_once_within_the_limit(a: list[int], b: list[int], limit_s: float) -> None:
    i, j = tr.associate(np.array(a, np.int64), np.array(b, np.int64), limit_s)
    assert len(set(i.tolist())) == len(set(j.tolist())) == len(i) == len(j)
    assert np.all(np.diff(i) > 0) and np.all(np.diff(j) > 0)
    difference = np.abs(np.array(a)[i] - np.array(b)[j]) if len(i) else np.zeros(0)
    assert np.all(difference <= limit_s * 1e9)
    if a and b:
        nearest = min(abs(x - y) for x in a for y in b)
        assert (nearest <= limit_s * 1e9) == (len(i) > 0)
        assert not len(i) or difference.min() == nearest


def test_association_loses_nothing_at_half_a_period() -> None:
    a = np.arange(50, dtype=np.int64) * 2
    i, j = tr.associate(a, a + 1, 1e-9)
    assert np.array_equal(i, np.arange(50)) and np.array_equal(j, np.arange(50))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.1, 10), st.booleans())
def test_alignment_recovers_the_transform(seed: int, scale: float, with_scale: bool) -> None:
    walk = random_walk(seed, 30)
    scale = scale if with_scale else 1.0
    world = random_walk(seed + 1, 2).T_world_camera[1]
    moved = scale * walk.positions_m @ world[:3, :3].T + world[:3, 3]
    found = accuracy.align(walk.positions_m, moved, with_scale)
    assert abs(found.scale - scale) < 1e-9
    assert np.abs(found.R - world[:3, :3]).max() < 1e-8
    assert np.abs(found.apply(walk).positions_m - moved).max() < 1e-8


def as_evo(trajectory: Trajectory):
    """The same in evo's type."""
    trajectory_type = pytest.importorskip("evo.core.trajectory").PoseTrajectory3D
    return trajectory_type(poses_se3=list(trajectory.T_world_camera), timestamps=trajectory.stamps_ns / 1e9)


@pytest.mark.parametrize("with_scale", [False, True])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_ate_equals_evo(seed: int, with_scale: bool) -> None:
    evo_sync, evo_metrics = (pytest.importorskip("evo.core.sync"), pytest.importorskip("evo.core.metrics"))
    reference = random_walk(seed, 200)
    estimate = disturbed(reference, seed)
    ours = accuracy.ate(estimate, reference, with_scale)
    ref, est = evo_sync.associate_trajectories(as_evo(reference), as_evo(estimate), max_diff=0.02)
    est.align(ref, correct_scale=with_scale)
    metric = evo_metrics.APE(evo_metrics.PoseRelation.translation_part)
    metric.process_data((ref, est))
    theirs = metric.get_all_statistics()
    assert len(ours.errors_m) == len(metric.error) > 150
    assert np.abs(ours.errors_m - metric.error).max() < 1e-9
    for name in ("rmse", "mean", "median", "max"):
        assert abs(getattr(ours, f"{name}_m") - theirs[name]) < 1e-9
    assert np.abs(ours.aligned.positions_m - est.positions_xyz).max() < 1e-9
    assert theirs["rmse"] > 1e-3


@pytest.mark.parametrize("frames", [1, 7, 15])
def test_rpe_equals_evo(frames: int) -> None:
    evo_metrics = pytest.importorskip("evo.core.metrics")
    reference = random_walk(3, 120)
    drift = random_walk(4, 120, noise=0.2).T_world_camera
    estimate = Trajectory(reference.stamps_ns, reference.T_world_camera @ drift)
    ours = accuracy.rpe(estimate, reference, frames / 15)
    for relation, errors in (("translation_part", ours.errors_m), ("rotation_angle_deg", ours.errors_deg)):
        metric = evo_metrics.RPE(
            evo_metrics.PoseRelation[relation], delta=frames, delta_unit=evo_metrics.Unit.frames, all_pairs=True
        )
        metric.process_data((as_evo(reference), as_evo(estimate)))
        assert len(errors) == len(metric.error) == 120 - frames
        assert np.abs(errors - metric.error).max() < 1e-9
    assert abs(ours.rotation_rmse_deg - np.sqrt(np.mean(ours.errors_deg**2))) < 1e-12


def test_ate_of_the_real_ground_truth_equals_evo(tum_fr1_xyz: Path) -> None:
    evo_sync, evo_metrics = (pytest.importorskip("evo.core.sync"), pytest.importorskip("evo.core.metrics"))
    reference = tr.read_tum(tum_fr1_xyz / "groundtruth.txt")
    sparse = Trajectory(reference.stamps_ns[::7] + 3_000_000, reference.T_world_camera[::7])
    estimate = disturbed(sparse, 5)
    ours = accuracy.ate(estimate, reference)
    ref, est = evo_sync.associate_trajectories(as_evo(reference), as_evo(estimate), max_diff=0.02)
    est.align(ref)
    metric = evo_metrics.APE(evo_metrics.PoseRelation.translation_part)
    metric.process_data((ref, est))
    assert len(ours.errors_m) == len(metric.error) > 300
    assert np.abs(ours.errors_m - metric.error).max() < 1e-9


def test_a_mirrored_ground_truth_is_recognised_and_a_plane_is_not() -> None:
    rng = np.random.default_rng(0)
    T = np.tile(np.eye(4), (60, 1, 1))
    T[:, :3, 3] = np.cumsum(rng.normal(scale=0.05, size=(60, 3)), axis=0)
    stamps_ns = np.arange(60) * 50_000_000
    noisy, left, flat = T.copy(), T.copy(), T.copy()
    noisy[:, :3, 3] += rng.normal(scale=0.003, size=(60, 3))
    left[:, 1, 3] *= -1.0
    flat[:, 1, 3] = 0.0
    estimate = Trajectory(stamps_ns, noisy)
    assert accuracy.mirrored_rmse_m(accuracy.ate(estimate, Trajectory(stamps_ns, T))) is None
    against = accuracy.ate(estimate, Trajectory(stamps_ns, left))
    mirrored_m = accuracy.mirrored_rmse_m(against)
    assert mirrored_m is not None and mirrored_m < 0.007 < against.rmse_m
    assert accuracy.mirrored_rmse_m(accuracy.ate(Trajectory(stamps_ns, flat), Trajectory(stamps_ns, flat))) is None


def test_other_clocks_are_refused() -> None:
    walk = random_walk(0, 20)
    other = Trajectory(walk.stamps_ns + 10**15, walk.T_world_camera)
    for measure in (accuracy.ate, accuracy.rpe):
        with pytest.raises(DataError, match="same clock"):
            measure(walk, other)
    with pytest.raises(DataError, match="spans"):
        accuracy.rpe(walk, walk, 100.0)


def test_too_few_poses_are_not_blamed_on_the_clock() -> None:
    walk = random_walk(0, 2)
    with pytest.raises(DataError, match="2 of at least 3 poses: too short to be aligned"):
        accuracy.ate(walk, walk)


def test_a_camera_that_stands_still_has_an_error() -> None:
    walk = random_walk(0, 20)
    still = Trajectory(walk.stamps_ns, np.tile(np.eye(4), (20, 1, 1)))
    centred = walk.positions_m - walk.positions_m.mean(0)
    assert abs(accuracy.ate(still, walk).rmse_m - np.sqrt((centred**2).sum(1).mean())) < 1e-12
    assert accuracy.ate(still, walk, with_scale=True).alignment.scale == 1.0
