# SPDX-License-Identifier: Apache-2.0
"""`evaluate`: pairs with a known answer, intervals, and the command on a rendered sequence."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from drp_slam import cli
from drp_slam.data.trajectory import interpolated
from drp_slam.datatypes import Trajectory
from drp_slam.errors import DataError
from drp_slam.evaluation import agreement, pairs
from drp_slam.geometry import exp
from drp_slam.slam.view import View


def world(seed: int, T_second_first: np.ndarray, outliers: int = 0) -> tuple[View, View]:
    """Two views of 200 random points, seen without noise; some matches are wrong."""
    rng = np.random.default_rng(seed)
    xy = rng.uniform(-0.5, 0.5, (200, 2))
    z = rng.uniform(1.0, 4.0, 200)
    xyz = np.column_stack((xy * z[:, None], z))
    moved = xyz @ T_second_first[:3, :3].T + T_second_first[:3, 3]
    descriptor = rng.standard_normal((200, 64)).astype(np.float32)
    descriptor /= np.linalg.norm(descriptor, axis=1, keepdims=True)
    seen = moved[:, :2] / moved[:, 2:]
    seen[:outliers] = rng.uniform(-0.5, 0.5, (outliers, 2))
    uv = np.zeros((200, 2), np.float32)
    return (View(0, 0, uv, xy, 1.0 / z, descriptor), View(1, 1, uv, seen, np.zeros(200), descriptor))


def test_pnp_finds_the_pose_and_the_inliers() -> None:
    T = exp(np.array([0.1, -0.05, 0.08, 0.05, 0.1, -0.08]))
    result = pairs.judge(*world(0, T, outliers=60), 500.0, T)
    assert result.matches == 200
    assert 140 <= result.inliers <= 145
    assert result.error_m < 1e-4
    assert result.error_deg < 1e-2


def test_error_is_the_distance_of_the_poses() -> None:
    T = exp(np.array([0.1, 0.0, 0.0, 0.0, 0.0, 0.0]))
    wrong = T.copy()
    wrong[:3, 3] += (0.0, 0.03, 0.04)
    assert pairs.judge(*world(1, T), 500.0, wrong).error_m == pytest.approx(0.05, abs=1e-4)


def test_too_few_points_is_no_pose() -> None:
    first, second = world(2, np.eye(4))
    empty = View(0, 0, first.uv, first.xy, np.zeros(200), first.descriptor)
    result = pairs.judge(empty, second, 500.0, np.eye(4))
    assert result.inliers == 0
    assert np.isnan(result.error_m)


def test_overlap() -> None:
    uv = np.array([[10, 10], [50, 50], [90, 10]], np.float32)
    assert pairs.overlap(uv, uv) == 1.0
    assert pairs.overlap(uv + [2.0, 2.0], uv) == 1.0
    assert pairs.overlap(uv[:1] + 2.5, uv) == 0.0
    assert pairs.overlap(uv[:2], uv) == pytest.approx(2 / 3)
    assert pairs.overlap(uv[:0], uv) == 0.0


def test_pairs_are_a_gap_apart() -> None:
    stamps = (np.arange(30) / 15.0 * 1e9).astype(np.int64)
    found = pairs.pairs_apart(stamps, 0.4)
    assert len(found) == 24
    assert (found[:, 1] - found[:, 0] == 6).all()
    with pytest.raises(DataError, match="no two frames"):
        pairs.pairs_apart(stamps, 10.0)


def test_ground_truth_between_its_stamps() -> None:
    T = np.tile(np.eye(4), (2, 1, 1))
    T[1] = exp(np.array([1.0, 0.0, 0.0, 0.0, 0.0, 0.2]))
    truth = Trajectory(np.array([0, 50_000_000]), T)
    poses = interpolated(truth, np.array([25_000_000, 60_000_000]))
    assert np.allclose(poses[0, :3, 3], T[1, :3, 3] / 2)
    assert np.allclose(poses[0, :3, :3], exp(np.array([0, 0, 0, 0, 0, 0.1]))[:3, :3], atol=1e-6)
    assert np.isnan(poses[1]).any()


def test_intervals_hold_the_mean_and_pairing_narrows_the_ratio() -> None:
    rng = np.random.default_rng(0)
    reference = rng.uniform(100, 500, 300)
    found = agreement.estimate(reference * 0.9 + rng.normal(0, 2, 300), reference)
    assert found["low"] < found["mean"] < found["high"]
    assert found["ratio_low"] < 0.9 < found["ratio_high"]
    spread = (found["high"] - found["low"]) / found["mean"]
    assert found["ratio_high"] - found["ratio_low"] < 0.2 * spread
    nothing = agreement.estimate(np.full(3, np.nan), np.ones(3))
    assert nothing["mean"] is None


def test_command_on_the_synthetic_room(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    command = [
        "evaluate",
        "xfeat-fp32",
        "xfeat-p50",
        "orb",
        "--sequence",
        "synthetic:frames=60,width=320",
        "--pairs",
        "3",
        "--out",
        str(tmp_path),
        "--json",
    ]
    assert cli.main(command) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["pairs"] == 3
    reference, pruned = (result["networks"][n]["all"] for n in ("xfeat-fp32", "xfeat-p50"))
    assert reference["overlap"]["mean"] == 1.0
    assert reference["inliers"]["ratio"] == 1.0
    assert reference["inliers"]["mean"] > 30
    assert pruned["inliers"]["ratio"] > 0.5
    orb = result["networks"]["orb"]
    assert orb["bytes"] == 0 and orb["all"]["inliers"]["mean"] > 30
    stored = {p: p.stat().st_mtime_ns for p in tmp_path.glob("*.npz")}
    assert len(stored) == 3
    assert cli.main(command) == 0  # nothing is measured twice
    assert json.loads(capsys.readouterr().out) == result
    assert {p: p.stat().st_mtime_ns for p in tmp_path.glob("*.npz")} == stored


def test_unknown_network(capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["evaluate", "nothing", "--sequence", "synthetic:frames=60,width=320", "--pairs", "1"]) == 1
    assert "nothing" in capsys.readouterr().err
