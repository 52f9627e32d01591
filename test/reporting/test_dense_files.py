# SPDX-License-Identifier: Apache-2.0
"""`run --dense`: the mesh, the cloud and the grid of a wall whose place is known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from drp_slam import cli
from drp_slam.errors import DrpSlamError
from drp_slam.reporting.dense_files import chosen, write_dense


def test_a_run_leaves_mesh_cloud_and_grid(wall: Path, tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    o3d = pytest.importorskip("open3d", reason="the dense map needs Open3D")
    assert cli.main(["run", str(wall), "--dense", "--out", str(tmp_path), "--json"]) == 0
    dense = json.loads(capfd.readouterr().out)["dense"]
    assert {Path(p).name for p in dense["files"]} == {"mesh.ply", "mesh.glb", "cloud.ply", "cloud.pcd", "grid.yaml"}
    assert all(Path(p).stat().st_size for p in dense["files"]) and (tmp_path / "grid.pgm").is_file()
    points = o3d.t.io.read_point_cloud(str(tmp_path / "cloud.ply")).point.positions.numpy()
    assert np.abs(points[:, 2] - 2.0).mean() < 0.02  # the wall stands 2 m before the first camera


def test_a_folder_that_names_no_sequence_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"sequence": "no/such/place"}')
    with pytest.raises(DrpSlamError, match="no/such/place"):
        write_dense(tmp_path)


def test_frames_are_chosen_by_motion() -> None:
    from drp_slam.datatypes import Trajectory

    T = np.tile(np.eye(4), (50, 1, 1))
    T[:, 0, 3] = np.arange(50) * 0.02
    stamps = np.arange(50, dtype=np.int64)
    assert np.diff(chosen(Trajectory(stamps, T))).tolist() == [2] * 24
