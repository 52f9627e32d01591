# SPDX-License-Identifier: Apache-2.0
"""TUM folders: what is read, and what is refused in one line that names file and remedy."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from drp_slam.config import SlamConfig
from drp_slam.data.dataset import named, open_sequence
from drp_slam.data.sequence import Sequence
from drp_slam.data.synthetic import Parameters, render
from drp_slam.data.trajectory import format_stamp
from drp_slam.errors import DrpSlamError


def refused(name: Path | str, *words: str, **options: object) -> None:
    """Opening and reading to the end fails in one line that has the words."""
    with pytest.raises(DrpSlamError) as error:
        list(open_sequence(str(name), **options))
    message = str(error.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


def left_out(folder: Path, index: int, *words: str) -> None:
    """That frame alone is left out, for a reason that has the words; all others are read."""
    read = open_sequence(str(folder))
    assert [f.index for f in read] == [k for k in range(6) if k != index]
    assert len(read.skipped) == 1 and all(word in read.skipped[0] for word in words), read.skipped


def images(folder: Path, kind: str) -> list[Path]:
    return sorted((folder / kind).iterdir())


def test_a_folder_gives_back_what_was_written(room: Sequence) -> None:
    drawn = list(render(Parameters(frames=6, width=64)))
    read = list(room)
    assert len(room) == len(read) == 6
    for a, b in zip(drawn, read):
        assert (a.index, a.stamp_ns, a.depth_unit_m) == (b.index, b.stamp_ns, b.depth_unit_m)
        assert np.array_equal(a.image, b.image) and np.array_equal(a.depth, b.depth)
    assert room.camera.depth_scale == 5000 and room.fps == 30
    assert np.array_equal(room.ground_truth.stamps_ns, room.stamps_ns)
    assert [f.stamp_ns for f in room] == room.stamps_ns.tolist(), "a second pass starts over"


def test_the_real_sequence(tum_fr1_xyz: Path) -> None:
    sequence = open_sequence(str(tum_fr1_xyz))
    assert len(sequence) == 399 and sequence.name == "tum_fr1_xyz"
    assert sequence.stamps_ns[0] == 1305031102_175304000
    assert sequence.depth_stamps_ns[0] == 1305031102_160407000
    frame = next(iter(sequence))
    assert frame.image.shape == (480, 640, 3) and frame.depth.dtype == np.uint16
    assert 0.5 < np.median(frame.depth[frame.depth > 0]) * frame.depth_unit_m < 3


def test_window(folder: Path) -> None:
    whole = open_sequence(str(folder))
    part = open_sequence(str(folder), start=2, frames=3)
    assert np.array_equal(part.stamps_ns, whole.stamps_ns[2:5])
    assert [f.index for f in part] == [0, 1, 2]
    assert np.array_equal(next(iter(part)).image, list(whole)[2].image)
    refused(folder, "6 frames", "--start 6", start=6)
    refused(folder, "frames 0", frames=0)


def test_without_associations_the_nearest_stamps_within_20_ms_are_paired(folder: Path) -> None:
    stamps = open_sequence(str(folder)).stamps_ns.tolist()
    depth = [f"{format_stamp(s + 15_000_000)} depth/{format_stamp(s)}.png\n" for s in stamps]
    late = [f"{format_stamp(s + 21_000_000)} depth/{format_stamp(s)}.png\n" for s in stamps]
    (folder / "associations.txt").unlink()
    # the last colour image has its depth 21 ms later
    (folder / "depth.txt").write_text("".join([*depth[:5], late[5]]))
    sequence = open_sequence(str(folder))
    assert sequence.stamps_ns.tolist() == stamps[:5]
    assert sequence.depth_stamps_ns.tolist() == [s + 15_000_000 for s in stamps[:5]]


def test_associations_may_list_depth_first(folder: Path) -> None:
    path = folder / "associations.txt"
    rows = [line.split() for line in path.read_text().splitlines()]
    path.write_text("".join(f"{c} {d} {a} {b}\n" for a, b, c, d in rows))
    assert next(iter(open_sequence(str(folder)))).image.ndim == 3


def test_grey_images_stay_grey(folder: Path) -> None:
    path = images(folder, "rgb")[0]
    cv2.imwrite(str(path), cv2.imread(str(path), cv2.IMREAD_GRAYSCALE))
    assert next(iter(open_sequence(str(folder)))).image.shape == (48, 64)


def test_no_such_file() -> None:
    refused("no/such/place", "no/such/place", "no such file", "TUM RGB-D folder")


def test_empty_folder(tmp_path: Path) -> None:
    refused(tmp_path, str(tmp_path), "empty", "expected")


def test_folder_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    refused(tmp_path, str(tmp_path), "neither rgb.txt nor", "expected")


def test_missing_depth_list(folder: Path) -> None:
    for name in ("associations.txt", "depth.txt"):
        (folder / name).unlink()
    read = open_sequence(str(folder))
    assert read.camera.mono and any("no depth.txt" in note and "up to scale" in note for note in read.notes)
    assert all(f.depth is None and f.camera.mono for f in read)


def test_sensor_mono_leaves_out_the_depth_of_any_sequence(folder: Path) -> None:
    config = SlamConfig(sensor="mono", depth_unit_m=0.001)
    assert named("x", config) == "x:depth_unit_m=0.001,sensor=mono"
    assert named("synthetic:frames=3", config) == "synthetic:frames=3,sensor=mono"
    assert named("x:sensor=mono", SlamConfig(sensor="mono")) == "x:sensor=mono"
    whole = len(open_sequence(str(folder)))
    for name in (f"{folder}:sensor=mono", "synthetic:frames=3,width=64,sensor=mono"):
        read = open_sequence(name)
        assert read.camera.mono and read.camera.baseline_m is None
        assert all(f.depth is None and f.image is not None for f in read)
        assert len(read) == (3 if "synthetic" in name else whole)


def test_depth_too_far_in_time(folder: Path) -> None:
    (folder / "associations.txt").unlink()
    (folder / "depth.txt").write_text("9999.0 depth/x.png\n")
    refused(folder, str(folder), "within 0.02 s", "check the stamps")


def test_missing_depth_image(folder: Path) -> None:
    path = images(folder, "depth")[3]
    path.unlink()
    left_out(folder, 3, str(path), "cannot read", "copy it")


def test_missing_calibration_and_its_remedy(folder: Path, tmp_path: Path) -> None:
    (folder / "camera.yaml").rename(tmp_path / "mine.yaml")
    refused(folder, str(folder), "no calibration", "--camera", "tum_fr1")
    assert open_sequence(str(folder), camera=str(tmp_path / "mine.yaml")).camera.width == 64
    refused(folder, "tum_fr9", "shipped", camera="tum_fr9")


def test_camera_of_another_size(folder: Path) -> None:
    (folder / "camera.yaml").unlink()
    refused(folder, "64x48", "640x480", "calibration", camera="tum_fr1")


def test_depth_of_another_size(folder: Path) -> None:
    path = images(folder, "depth")[1]
    cv2.imwrite(str(path), np.ones((24, 32), np.uint16))
    left_out(folder, 1, "frame 1", "the depth is 32x24", "registered")
    for path in images(folder, "depth"):
        cv2.imwrite(str(path), np.ones((24, 40), np.uint16))
    refused(folder, "frame 0", "the depth is 40x24", "registered")


def test_smaller_depth_of_the_same_view_is_scaled(folder: Path) -> None:
    whole = [f.depth for f in open_sequence(str(folder))]
    for path in images(folder, "depth"):
        cv2.imwrite(str(path), cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[::2, ::2])
    for before, frame in zip(whole, open_sequence(str(folder)), strict=True):
        assert np.array_equal(frame.depth, np.kron(before[::2, ::2], np.ones((2, 2), np.uint16)))


def test_eight_bit_depth(folder: Path) -> None:
    path = images(folder, "depth")[0]
    cv2.imwrite(str(path), np.ones((48, 64), np.uint8))
    left_out(folder, 0, str(path), "uint8", "16 bits")


@pytest.mark.parametrize("kind", ["rgb", "depth"])
def test_a_truncated_png_is_left_out(folder: Path, kind: str) -> None:
    path = images(folder, kind)[2]
    os.truncate(path, path.stat().st_size - 20)
    left_out(folder, 2, str(path), "truncated", "copy it again")


def test_a_recording_of_which_no_image_can_be_read_is_refused(folder: Path) -> None:
    for path in images(folder, "rgb"):
        os.truncate(path, 20)
    refused(folder, str(images(folder, "rgb")[0]), "truncated")


def test_a_png_with_a_flipped_bit(folder: Path) -> None:
    path = images(folder, "depth")[0]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    left_out(folder, 0, str(path), "damaged")


def test_truncated_jpeg(folder: Path) -> None:
    path = images(folder, "rgb")[0]
    jpeg = cv2.imencode(".jpg", cv2.imread(str(path)))[1].tobytes()
    path.write_bytes(jpeg)
    assert len(list(open_sequence(str(folder)))) == 6
    path.write_bytes(jpeg[:-40])
    left_out(folder, 0, str(path), "truncated")
    path.write_bytes(jpeg + bytes(5000))
    assert len(list(open_sequence(str(folder)))) == 6, "what follows the end marker is no damage"
    path.write_bytes(jpeg[:-40] + bytes(5000))
    left_out(folder, 0, str(path), "truncated")


def test_an_empty_image(folder: Path) -> None:
    images(folder, "rgb")[0].write_bytes(b"")
    left_out(folder, 0, str(images(folder, "rgb")[0]), "damaged")


@pytest.mark.parametrize("name", ["associations.txt", "rgb.txt", "depth.txt"])
def test_stamps_out_of_order_and_twice(folder: Path, name: str) -> None:
    path = folder / name
    lines = path.read_text().splitlines(keepends=True)
    if name != "associations.txt":
        (folder / "associations.txt").unlink()
    path.write_text("".join([lines[1], lines[0], *lines[2:], lines[3]]))
    read = open_sequence(str(folder))
    assert len(read) == 6 and (np.diff(read.stamps_ns) > 0).all()
    assert any(str(path) in note and "2 stamps do not increase" in note for note in read.notes)


@pytest.mark.parametrize("line", ["1.0\n", "x rgb/a.png 1.0 depth/a.png\n"])
def test_lines_that_are_no_association(folder: Path, line: str) -> None:
    (folder / "associations.txt").write_text(line)
    refused(folder, "associations.txt", "line 1")


def test_a_picture_too_large_to_decode(folder: Path, huge_png: bytes) -> None:
    file = images(folder, "depth")[0]
    file.write_bytes(huge_png)
    left_out(folder, 0, str(file), "10000000000 pixels", "scale")
