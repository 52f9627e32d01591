# SPDX-License-Identifier: Apache-2.0
"""Odometry is on disk while it is published, and results are made of what a killed node left."""

from __future__ import annotations

import numpy as np
import pytest

from drp_slam.data.trajectory import read_tum
from drp_slam.nodes.odometry import Odometry, recover
from drp_slam.reporting import folder


def pose(n: int) -> np.ndarray:
    T = np.eye(4)
    T[:3, 3] = n, 0.1 * n, -n
    return T


def test_a_killed_node_leaves_its_poses(tmp_path):
    odometry = Odometry(str(tmp_path / "new"))
    for n in range(3):
        assert odometry.add(10**9 + n, pose(n)) is None
    out = tmp_path / "new"  # no `write`: the node was killed
    assert recover(out) and not recover(out)
    for name in (folder.ODOMETRY, folder.TRAJECTORY):
        kept = read_tum(out / name)
        assert kept.stamps_ns.tolist() == [10**9, 10**9 + 1, 10**9 + 2]
        np.testing.assert_array_equal(kept.T_world_camera, [pose(n) for n in range(3)])


def test_written_odometry_needs_no_journal(tmp_path):
    odometry = Odometry(str(tmp_path))
    odometry.add(1, pose(1))
    odometry.write(tmp_path)
    assert len(read_tum(tmp_path / folder.ODOMETRY)) == len(odometry) == 1
    assert not recover(tmp_path) and not (tmp_path / folder.TRAJECTORY).exists()


def test_a_refusing_disk_is_reported_once_and_poses_go_on(tmp_path):
    (tmp_path / "file").write_text("no folder")
    odometry = Odometry(str(tmp_path / "file"))
    assert "cannot write" in (odometry.add(1, pose(1)) or "")
    assert odometry.add(2, pose(2)) is None and len(odometry) == 2


def test_without_a_folder_nothing_is_written(tmp_path):
    assert Odometry("").add(1, pose(1)) is None


@pytest.mark.parametrize("torn", ["2.00", "2.000000000 1.0 0.1 -1.0 0.0 0.0 0.0 1.", ""])
def test_a_line_that_was_cut_off_is_left_out(tmp_path, torn):
    """A full disk takes a part of a line."""
    odometry = Odometry(str(tmp_path))
    odometry.add(10**9, pose(1))
    with (tmp_path / folder.JOURNAL).open("a") as file:
        file.write(torn)
    assert recover(tmp_path) and read_tum(tmp_path / folder.TRAJECTORY).stamps_ns.tolist() == [10**9]


def test_a_journal_of_an_earlier_graph_is_no_result_of_this_one(tmp_path):
    Odometry(str(tmp_path)).add(1, pose(1))  # that graph was killed as a whole
    Odometry(str(tmp_path))  # this one tracks nothing
    assert not recover(tmp_path)
