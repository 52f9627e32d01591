# SPDX-License-Identifier: Apache-2.0
"""Stereo sequences in the layouts of KITTI odometry and EuRoC."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from drp_slam.data.bag_writer import write_bag
from drp_slam.data.dataset import open_sequence
from drp_slam.errors import DataError

CLIP = Path(os.environ.get("DRP_SLAM_DATA") or "absent") / "kitti_clip"


@pytest.fixture
def kitti(tmp_path: Path) -> Path:
    """Three pairs of 64 x 48 with a baseline of half a metre."""
    folder = tmp_path / "07"
    for k, side in enumerate(("image_0", "image_1")):
        (folder / side).mkdir(parents=True)
        for i in range(3):
            cv2.imwrite(str(folder / side / f"{i:06d}.png"), np.full((48, 64), 50 * k + i, np.uint8))
    rows = ["P0: 100 0 32 0 0 100 24 0 0 0 1 0", "P1: 100 0 32 -50 0 100 24 0 0 0 1 0"]
    (folder / "calib.txt").write_text("\n".join(rows) + "\n")
    (folder / "times.txt").write_text("0.0\n0.1\n0.2\n")
    poses = [f"1 0 0 {i} 0 1 0 0 0 0 1 0" for i in range(3)]
    (tmp_path.parent / "poses").mkdir(exist_ok=True)
    (folder / "poses.txt").write_text("\n".join(poses) + "\n")
    return folder


def test_kitti_gives_rectified_pairs_with_their_baseline(kitti: Path) -> None:
    sequence = open_sequence(str(kitti), start=1)
    assert sequence.camera.baseline_m == pytest.approx(0.5) and sequence.camera.right is None
    assert sequence.fps == pytest.approx(10.0) and len(sequence) == 2
    frames = list(sequence)
    assert [int(f.image[0, 0]) for f in frames] == [1, 2] and [int(f.right[0, 0]) for f in frames] == [51, 52]
    assert frames[0].stamp_ns == 100_000_000 and frames[0].depth is None
    assert sequence.ground_truth is not None and sequence.ground_truth.positions_m[2, 0] == 2.0


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("times.txt", "0.0\n0.1\n", "2 stamps"),
        ("times.txt", "0.0\n0.1\n1e999\n", "finite"),
        ("calib.txt", "P0: 1 2 3\n", "12 finite numbers"),
        ("calib.txt", "P0: 100 0 32 0 0 100 24 0 0 0 1 0\n", "no line P1"),
        ("calib.txt", "P0: 100 0 32 0 0 100 24 0 0 0 1 0\nP1: 100 0 32 50 0 100 24 0 0 0 1 0\n", "rectified"),
    ],
)
def test_damaged_kitti_folders_are_one_line(kitti: Path, name: str, text: str, words: str) -> None:
    (kitti / name).write_text(text)
    with pytest.raises(DataError, match=words):
        open_sequence(str(kitti))


def test_what_is_wrong_with_one_stamp_or_with_the_truth_is_noted(kitti: Path) -> None:
    (kitti / "times.txt").write_text("0.0\n0.0\n0.1\n")
    (kitti / "poses.txt").write_text("1 0 0 0 0 1 0 0 0 0 1 0\n")
    read = open_sequence(str(kitti))
    assert [int(f.image[0, 0]) for f in read] == [0, 2] and read.ground_truth is None
    assert "1 of 3 skipped" in " ".join(read.notes) and "1 poses for 3 stamps" in " ".join(read.notes)


@pytest.mark.parametrize("compressed", [False, True])
def test_a_rectified_pair_goes_through_a_bag(kitti: Path, tmp_path: Path, compressed: bool) -> None:
    before = open_sequence(str(kitti))
    write_bag(tmp_path / "bag", before, compressed=compressed)
    after = open_sequence(str(tmp_path / "bag"))
    assert after.camera.baseline_m == pytest.approx(before.camera.baseline_m) and after.camera.fx == before.camera.fx
    for a, b in zip(before, after, strict=True):
        assert a.stamp_ns == b.stamp_ns and a.right is not None and b.right is not None
        for one, other in ((a.image, b.image), (a.right, b.right)):
            assert np.abs(one.astype(int) - other).max() <= (3 if compressed else 0)


@pytest.mark.skipif(not CLIP.is_dir(), reason="needs the KITTI clip: set DRP_SLAM_DATA")
def test_the_real_clip_opens() -> None:
    sequence = open_sequence(str(CLIP))
    assert len(sequence) == 51 and sequence.camera.baseline_m == pytest.approx(0.537, abs=1e-3)
    path_m = np.linalg.norm(np.diff(sequence.ground_truth.positions_m, axis=0), axis=1).sum()
    assert path_m == pytest.approx(59.86, abs=0.01)


SENSOR = """
resolution: [64, 48]
intrinsics: [40.0, 41.0, 32.0, 24.0]
distortion_model: {model}
distortion_coefficients: [0.01, 0.002, -0.001, 0.0005]
T_BS: {{cols: 4, rows: 4, data: [1.0, 0, 0, {x}, 0, 1.0, 0, 0, 0, 0, 1.0, 0, 0, 0, 0, 1.0]}}
"""


@pytest.fixture
def euroc(tmp_path: Path) -> Path:
    root = tmp_path / "V1" / "mav0"
    for k, name in enumerate(("cam0", "cam1")):
        (root / name / "data").mkdir(parents=True)
        (root / name / "sensor.yaml").write_text(SENSOR.format(model="equidistant", x=0.11 * k))
        stamps = [100, 200, 300] if k == 0 else [200, 300, 400]
        for stamp in stamps:
            cv2.imwrite(str(root / name / "data" / f"{stamp}.png"), np.full((48, 64), stamp % 255, np.uint8))
        rows = "".join(f"{stamp},{stamp}.png\n" for stamp in stamps)
        (root / name / "data.csv").write_text("#timestamp [ns],filename\n" + rows)
    truth = root / "state_groundtruth_estimate0"
    truth.mkdir()
    (truth / "data.csv").write_text("#stamp, p, q w x y z\n100,1,2,3,1,0,0,0\n200,nan,2,3,1,0,0,0\n300,4,5,6,0,0,0,1\n")
    return tmp_path / "V1"


def test_euroc_pairs_equal_stamps_and_carries_both_cameras(euroc: Path) -> None:
    sequence = open_sequence(str(euroc))
    assert sequence.stamps_ns.tolist() == [200, 300]
    camera = sequence.camera
    assert camera.model == "equidistant" and camera.distortion.shape == (4,) and camera.right is not None
    assert camera.baseline_m == pytest.approx(0.11)
    # the right camera stands at x = 0.11 of the body, so that a point moves to the left in its frame
    assert camera.T_right_left is not None and camera.T_right_left[0, 3] == pytest.approx(-0.11)
    assert [int(f.right[0, 0]) for f in sequence] == [200, 45]
    truth = sequence.ground_truth
    assert truth is not None and truth.positions_m.tolist() == [[1, 2, 3], [4, 5, 6]]
    # w x y z = 0 0 0 1: half a turn about z
    assert np.allclose(truth.T_world_camera[1, :3, :3], np.diag([-1, -1, 1]))


def test_the_left_camera_alone_is_read_without_scale(kitti: Path, euroc: Path) -> None:
    shutil.rmtree(kitti / "image_1")
    shutil.rmtree(euroc / "mav0" / "cam1")
    for folder, greys in ((kitti, [0, 1, 2]), (euroc, [100, 200, 300 % 255])):
        read = open_sequence(str(folder))
        assert read.camera.mono and read.camera.baseline_m is None and "up to scale" in " ".join(read.notes)
        assert [int(f.image[0, 0]) for f in read] == greys and all(f.right is None for f in read)


def test_damaged_euroc_folders_are_one_line(euroc: Path) -> None:
    sensor = euroc / "mav0" / "cam1" / "sensor.yaml"
    sensor.write_text("resolution: [64]\n")
    with pytest.raises(DataError, match="not a camera of EuRoC's layout"):
        open_sequence(str(euroc))


@pytest.mark.parametrize("model", ["equidistant", "radial-tangential"])
def test_a_raw_pair_keeps_its_cameras_in_a_bag(euroc: Path, tmp_path: Path, model: str) -> None:
    """The right camera is turned and shifted against the left one."""
    turned = f"[{np.cos(0.03)}, {-np.sin(0.03)}, 0, 0.11, {np.sin(0.03)}, {np.cos(0.03)}, 0, 0.002,"
    for k in (0, 1):
        text = SENSOR.format(model=model, x=0.11 * k)
        right = text.replace("[1.0, 0, 0, 0.11, 0, 1.0, 0, 0,", turned)
        (euroc / "mav0" / f"cam{k}" / "sensor.yaml").write_text(right)
    assert turned in right
    true = open_sequence(str(euroc))
    write_bag(tmp_path / "bag", true, "mcap")
    read = open_sequence(str(tmp_path / "bag"))
    assert {role: topic for role, (topic, _) in read.topics.items() if role in ("image", "right")} == {
        "image": "/stereo/left/image_raw",
        "right": "/stereo/right/image_raw",
    }
    for found, expected in ((read.camera, true.camera), (read.camera.right, true.camera.right)):
        assert found.model == expected.model and np.allclose(found.distortion, expected.distortion)
        assert np.allclose(found.K, expected.K)
    assert np.allclose(read.camera.T_right_left, true.camera.T_right_left, atol=1e-9)
    assert read.camera.baseline_m == pytest.approx(true.camera.baseline_m)
    for a, b in zip(read, true, strict=True):
        assert np.array_equal(a.image, b.image) and np.array_equal(a.right, b.right)
