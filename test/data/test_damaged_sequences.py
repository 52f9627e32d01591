# SPDX-License-Identifier: Apache-2.0
"""Damaged recordings of every layout: one line, or frames that can be used."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from damage import CASES, damaged, survives

from drp_slam.data.bag_writer import write_bag
from drp_slam.data.dataset import open_sequence
from drp_slam.data.sequence import Sequence

LAYOUTS = {
    "tum": ["rgb.txt", "depth.txt", "groundtruth.txt", "camera.yaml", "rgb/*0.png", "depth/*0.png"],
    "kitti": ["calib.txt", "times.txt", "poses.txt", "image_0/000000.png", "image_1/000001.png"],
    "euroc": ["mav0/cam0/sensor.yaml", "mav0/cam1/sensor.yaml", "mav0/cam0/data.csv", "mav0/cam1/data.csv"],
    "sqlite3": ["*.db3", "metadata.yaml"],
    "mcap": ["*.mcap", "metadata.yaml"],
}


def pictures(folder: Path, names: list[str], shade: int) -> None:
    folder.mkdir(parents=True)
    for i, name in enumerate(names):
        cv2.imwrite(str(folder / name), np.full((48, 64), shade + i, np.uint8))


def kitti(folder: Path) -> None:
    for k in (0, 1):
        pictures(folder / f"image_{k}", [f"{i:06d}.png" for i in range(3)], 50 * k)
    (folder / "calib.txt").write_text("P0: 100 0 32 0 0 100 24 0 0 0 1 0\nP1: 100 0 32 -50 0 100 24 0 0 0 1 0\n")
    (folder / "times.txt").write_text("0.0\n0.1\n0.2\n")
    (folder / "poses.txt").write_text("".join(f"1 0 0 {i} 0 1 0 0 0 0 1 0\n" for i in range(3)))


def euroc(folder: Path) -> None:
    for k in (0, 1):
        camera, names = folder / "mav0" / f"cam{k}", [f"{i}00000000.png" for i in range(1, 4)]
        pictures(camera / "data", names, 50 * k)
        T_body_camera = np.eye(4)
        T_body_camera[0, 3] = 0.1 * k
        sensor = {
            "resolution": [64, 48],
            "intrinsics": [40.0, 41.0, 32.0, 24.0],
            "distortion_model": "radial-tangential",
            "distortion_coefficients": [0.0, 0.0, 0.0, 0.0],
            "rate_hz": 10,
            "T_BS": {"rows": 4, "cols": 4, "data": T_body_camera.ravel().tolist()},
        }
        (camera / "sensor.yaml").write_text(yaml.safe_dump(sensor))
        (camera / "data.csv").write_text("#t,name\n" + "".join(f"{n.removesuffix('.png')},{n}\n" for n in names))


@pytest.fixture(scope="module")
def layouts(room_folder: Path, room: Sequence, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("layouts")
    shutil.copytree(room_folder, root / "tum")
    kitti(root / "kitti")
    euroc(root / "euroc")
    for storage in ("sqlite3", "mcap"):
        write_bag(root / storage, room, storage)
    return root


def read(folder: Path) -> None:
    """Everything that a run reads."""
    sequence = open_sequence(str(folder))
    for frame in sequence:
        assert frame.image is not None and frame.image.shape[:2] == (sequence.camera.height, sequence.camera.width)
    assert sequence.camera.fx > 0
    if sequence.ground_truth is not None:
        assert np.isfinite(sequence.ground_truth.T_world_camera).all()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_damaged_recordings_are_refused_in_one_line_or_read(layouts: Path, tmp_path: Path, layout: str) -> None:
    rng, refused, folder = random.Random(layout + str(CASES)), 0, tmp_path / layout
    shutil.copytree(layouts / layout, folder)
    read(folder)
    files = [path for pattern in LAYOUTS[layout] for path in sorted(folder.glob(pattern))]
    assert len(files) >= len(LAYOUTS[layout])
    sound = {path: path.read_bytes() for path in files}
    for _ in range(CASES):
        path = rng.choice(files)
        path.write_bytes(damaged(sound[path], rng))
        refused += survives(lambda: read(folder))
        path.write_bytes(sound[path])
    assert refused > CASES // 20
    assert sorted(p.name for p in tmp_path.iterdir()) == [layout]
