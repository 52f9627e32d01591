# SPDX-License-Identifier: Apache-2.0
"""Ground truth as people have it: it only scores, so nothing in it refuses a recording."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from drp_slam.data.dataset import open_sequence
from drp_slam.data.trajectory import read_tum
from drp_slam.data.truth import read_truth


@pytest.fixture
def rows(folder: Path) -> list[str]:
    return (folder / "groundtruth.txt").read_text().splitlines()


def noted(folder: Path, lines: list[str], *words: str) -> np.ndarray:
    """Stamps of the poses that are read from these lines; the notes have the words, and all frames are read."""
    (folder / "groundtruth.txt").write_text("\n".join(lines) + "\n")
    read = open_sequence(str(folder))
    assert len(list(read)) == 6
    assert all(word in " ".join(read.notes) for word in words), read.notes
    return read.ground_truth.stamps_ns if read.ground_truth is not None else np.zeros(0, np.int64)


@pytest.mark.parametrize(
    "pose",
    [
        "nan nan nan nan nan nan nan",
        "0 0 0 0 0 0 0",
        "inf 0 0 0 0 0 1",
        "0 0 0 0 0 0 2",
        "0 0 0 0 0 0",
        "lost",
        "0 0 0 0 0 0 one",
    ],
)
def test_a_row_that_is_no_pose_is_left_out(folder: Path, rows: list[str], pose: str) -> None:
    stamps = read_tum(folder / "groundtruth.txt").stamps_ns
    k = next(k for k, row in enumerate(rows) if row[0] != "#") + 2
    rows[k] = f"{rows[k].split()[0]} {pose}"
    assert noted(folder, rows, "1 of 6 rows skipped").tolist() == np.delete(stamps, 2).tolist()


def test_a_quaternion_that_was_rounded_is_scaled(folder: Path) -> None:
    (folder / "groundtruth.txt").write_text("1.0 0 0 0 0 0.7 0 0.7\n")
    truth, notes = read_truth(folder / "groundtruth.txt")
    assert not notes and np.allclose(np.linalg.det(truth.T_world_camera[0, :3, :3]), 1.0)


@pytest.mark.parametrize("power", [3, 6, 9])
def test_stamps_in_ms_us_and_ns_are_told_by_their_size(folder: Path, power: int) -> None:
    lines = [f"{ms * 10 ** (power - 3)} 0 0 0 0 0 0 1" for ms in (1305031102123, 1305031102223)]
    (folder / "groundtruth.txt").write_text("\n".join(lines))
    truth, notes = read_truth(folder / "groundtruth.txt")
    assert not notes and truth.stamps_ns.tolist() == [1305031102_123000000, 1305031102_223000000]


def test_euroc_has_w_first(folder: Path) -> None:
    text = "#timestamp [ns],p_x,p_y,p_z,q_w,q_x,q_y,q_z,v_x\n1305031102123456789,1,2,3,0.6,0.8,0,0,9\n"
    (folder / "groundtruth.txt").write_text(text)
    truth, _ = read_truth(folder / "groundtruth.txt")
    assert truth.stamps_ns.tolist() == [1305031102_123456789]
    turn = np.arccos(truth.T_world_camera[0, 1, 1])
    assert truth.positions_m.tolist() == [[1, 2, 3]] and turn == pytest.approx(2 * np.arccos(0.6))


def test_rows_twice_and_out_of_order(folder: Path, rows: list[str]) -> None:
    stamps = noted(folder, [*rows[::-1], rows[-1]], "1 rows with repeated stamps")
    assert len(stamps) == 6 and (np.diff(stamps) > 0).all()


def test_another_time_base_is_noted(folder: Path, rows: list[str]) -> None:
    later = [f"9{row}" for row in rows if row[0] != "#"]
    assert len(noted(folder, later, "do not overlap")) == 6


@pytest.mark.parametrize("text", ["", "# nothing\n", "\xff\xfe"])
def test_a_file_without_poses_is_no_ground_truth(folder: Path, text: str) -> None:
    (folder / "groundtruth.txt").write_bytes(text.encode("latin-1"))
    read = open_sequence(str(folder))
    assert read.ground_truth is None and len(list(read)) == 6 and read.notes
