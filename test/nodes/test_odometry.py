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


def test_a_write_error_is_reported_once_and_poses_are_still_published(tmp_path):
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


def test_a_restarted_node_appends_to_the_journal(tmp_path):
    Odometry(str(tmp_path)).add(1, pose(1))  # that node was killed
    again = Odometry(str(tmp_path))
    again.add(2, pose(2))
    again.write(tmp_path)
    assert read_tum(tmp_path / folder.ODOMETRY).stamps_ns.tolist() == [1, 2]


def test_a_recording_in_a_loop_gives_one_pose_a_stamp(tmp_path):
    """Its stamps repeat; the last lap's poses count."""
    odometry = Odometry(str(tmp_path))
    for n in (5, 7, 9, 5, 7):
        odometry.add(n, pose(n + len(odometry)))
    odometry.write(tmp_path)
    kept = read_tum(tmp_path / folder.ODOMETRY)
    assert kept.stamps_ns.tolist() == [5, 7, 9]
    np.testing.assert_array_equal(kept.T_world_camera, [pose(8), pose(11), pose(11)])


def test_poses_wait_for_a_disk_that_is_full(tmp_path):
    (tmp_path / "out").symlink_to("/dev/full")
    odometry = Odometry(str(tmp_path / "out"))
    assert odometry.add(1, pose(1)) is not None and odometry.add(2, pose(2)) is None
    (tmp_path / "out").unlink()
    assert odometry.add(3, pose(3)) is None
    odometry.write(tmp_path / "out")
    assert read_tum(tmp_path / "out" / folder.ODOMETRY).stamps_ns.tolist() == [1, 2, 3]
