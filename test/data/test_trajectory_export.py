# SPDX-License-Identifier: Apache-2.0
"""KITTI's and EuRoC's forms of a trajectory, read back by evo and by this package."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from drp_slam.cli import main
from drp_slam.data.trajectory import write_tum
from drp_slam.data.trajectory_export import NAMES, export, export_results
from drp_slam.data.truth import read_truth
from drp_slam.datatypes import Trajectory


def made(count: int = 7) -> Trajectory:
    rng = np.random.default_rng(3)
    poses = np.tile(np.eye(4), (count, 1, 1))
    poses[:, :3, :3] = Rotation.random(count, rng=rng).as_matrix()
    poses[:, :3, 3] = rng.normal(size=(count, 3))
    return Trajectory(1305031102_175304001 + np.arange(count, dtype=np.int64) * 33_333_333, poses)


def test_evo_reads_what_is_written(tmp_path: Path) -> None:
    file_interface = pytest.importorskip("evo.tools.file_interface")
    wanted = made()
    kitti, times = export(tmp_path / "k.txt", wanted, "kitti")
    read = file_interface.read_kitti_poses_file(str(kitti))
    assert np.array_equal(np.array(read.poses_se3), wanted.T_world_camera)
    assert np.abs(np.loadtxt(times) - wanted.stamps_ns * 1e-9).max() < 1e-6
    (euroc,) = export(tmp_path / "e.csv", wanted, "euroc")
    read = file_interface.read_euroc_csv_trajectory(str(euroc))
    assert np.abs(np.array(read.poses_se3) - wanted.T_world_camera).max() < 1e-12
    assert np.abs(read.timestamps - wanted.stamps_ns * 1e-9).max() < 1e-6


def test_euroc_comes_back_as_ground_truth_to_the_nanosecond(tmp_path: Path) -> None:
    wanted = made()
    (path,) = export(tmp_path / "e.csv", wanted, "euroc")
    read, notes = read_truth(path)
    assert read is not None and not notes
    assert np.array_equal(read.stamps_ns, wanted.stamps_ns)
    assert np.abs(read.T_world_camera - wanted.T_world_camera).max() < 1e-12


def test_a_folder_of_results_and_its_keyframes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = made()
    write_tum(tmp_path / "trajectory.txt", wanted)
    keys = [1, 0, 0, 1, 0, 1, 0]
    rows = [f"{k},{s},tracked,9,9,{keys[k]},0.1\n" for k, s in enumerate(wanted.stamps_ns.tolist())]
    (tmp_path / "frames.csv").write_text("index,stamp_ns,state,matches,inliers,keyframe,latency_s\n" + "".join(rows))
    assert export_results(tmp_path, ["kitti", "euroc", "kitti"]) == [
        NAMES["kitti"],
        "trajectory_kitti_times.txt",
        NAMES["euroc"],
    ]
    out = tmp_path / "keys.txt"
    assert main(["convert", str(tmp_path), str(out), "--format", "kitti", "--keyframes", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["poses"] == 3
    assert np.abs(np.loadtxt(out).reshape(-1, 3, 4) - wanted.T_world_camera[np.array(keys) == 1, :3]).max() < 1e-12
    assert main(["convert", str(tmp_path / "nowhere"), str(out), "--format", "kitti"]) == 1
    assert "neither a trajectory" in capsys.readouterr().err
