# SPDX-License-Identifier: Apache-2.0
"""`python -m drp_slam convert`, both ways."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from drp_slam.cli import main
from drp_slam.data.dataset import open_sequence
from drp_slam.data.tum_writer import write_folder


def convert(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict:
    assert main(["convert", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_round_trip_is_exact(
    capsys: pytest.CaptureFixture[str], room_folder: Path, tmp_path: Path, storage: str
) -> None:
    there = convert(capsys, room_folder, tmp_path / "bag", "--format", storage)
    back = convert(capsys, tmp_path / "bag", tmp_path / "tum")
    assert there["frames"] == back["frames"] == there["ground_truth"] == 6
    assert (there["format"], back["format"]) == (storage, "tum")
    assert there["depth_encoding"] == "32FC1" and back["depth_rounding_m"] < 1e-6
    for name in ("rgb", "depth", "associations"):
        assert (tmp_path / "tum" / f"{name}.txt").read_text() == (room_folder / f"{name}.txt").read_text()
    before, after = open_sequence(str(room_folder)), open_sequence(str(tmp_path / "tum"))
    for a, b in zip(before, after, strict=True):
        assert np.array_equal(a.image, b.image) and np.array_equal(a.depth, b.depth)
    assert np.abs(before.ground_truth.T_world_camera - after.ground_truth.T_world_camera).max() < 1e-14
    assert after.camera.depth_scale == 5000 and np.array_equal(after.camera.K, before.camera.K)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_compressed_keeps_the_files_of_the_images(
    capsys: pytest.CaptureFixture[str], room_folder: Path, tmp_path: Path, suffix: str
) -> None:
    """The bag is hardly larger than its folder, and holds every bit of colour and depth."""
    write_folder(tmp_path / "room", open_sequence(str(room_folder)), suffix, "")
    there = convert(capsys, tmp_path / "room", tmp_path / "bag", "--compressed")
    assert there["colour"].startswith("exact") and there["depth_rounding_m"] == 0
    assert there["megabytes"] < 1.3 * sum(f.stat().st_size for f in (tmp_path / "room").rglob("*.*")) / 1e6
    for a, b in zip(open_sequence(str(tmp_path / "room")), open_sequence(str(tmp_path / "bag")), strict=True):
        assert np.array_equal(a.image, b.image)
        assert np.array_equal(a.depth, np.round(b.depth / a.depth_unit_m))


def test_chunks_of_a_bag_are_compressed(capsys: pytest.CaptureFixture[str], room_folder: Path, tmp_path: Path) -> None:
    there = convert(capsys, room_folder, tmp_path / "bag")
    first = next(iter(open_sequence(str(room_folder))))
    raw = there["frames"] * (first.image.nbytes + 2 * first.depth.nbytes) / 1e6
    assert there["megabytes"] < 0.6 * raw


def test_millimetres_stay_millimetres(capsys: pytest.CaptureFixture[str], room_folder: Path, tmp_path: Path) -> None:
    there = convert(capsys, room_folder, tmp_path / "bag", "--depth", "16UC1", "--compressed")
    back = convert(capsys, tmp_path / "bag", tmp_path / "tum", "--frames", 3, "--start", 1)
    assert there["colour"].startswith("exact") and 0 < there["depth_rounding_m"] < 0.000501
    assert back["depth_encoding"] == "uint16, 1000 per metre" and back["depth_rounding_m"] == 0
    assert back["frames"] == 3
    bag, folder = (open_sequence(str(tmp_path / "bag"), start=1), open_sequence(str(tmp_path / "tum")))
    assert folder.camera.depth_scale == 1000
    assert np.array_equal(next(iter(bag)).depth, next(iter(folder)).depth)


def test_the_command_names_what_is_not_exact(
    capsys: pytest.CaptureFixture[str], room_folder: Path, tmp_path: Path
) -> None:
    assert main(["convert", str(room_folder), str(tmp_path / "bag")]) == 0
    shown = capsys.readouterr().out
    assert "32FC1" in shown and "exact" in shown


def test_an_existing_destination_is_kept(capsys: pytest.CaptureFixture[str], room_folder: Path, tmp_path: Path) -> None:
    for form in ("tum", "mcap"):
        assert main(["convert", str(room_folder), str(tmp_path), "--format", form]) == 1
        message = capsys.readouterr().err
        assert "exists already" in message and message.count("\n") == 1
    assert not list(tmp_path.iterdir())
