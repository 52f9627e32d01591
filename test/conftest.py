# SPDX-License-Identifier: Apache-2.0
"""Fixtures for every folder: where the real recordings lie."""

from __future__ import annotations

import os
import struct
from importlib.util import find_spec
from pathlib import Path
from zlib import compress, crc32

import pytest
from hypothesis import settings

# Before numpy is imported: pools of threads for tiny matrices slow tests down on few cores and disturb each other.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

settings.register_profile("untimed", deadline=None)  # a busy host is no failure
settings.load_profile("untimed")

# Without torch nothing of pruning imports. A skip at the top of its files is not enough: the plugin
# of launch_testing imports every file by itself, and what that raises ends the whole run.
collect_ignore = [] if find_spec("torch") else ["pruning"]


def pytest_report_header() -> str:
    """What is left out."""
    return "" if find_spec("torch") else "torch is not installed: test/pruning is left out"


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Folder named by DRP_SLAM_DATA, which holds real recordings; skips where there is none."""
    name = os.environ.get("DRP_SLAM_DATA", "")
    if not name or not Path(name).is_dir():
        pytest.skip("needs real recordings: set DRP_SLAM_DATA to their folder")
    return Path(name)


@pytest.fixture(scope="session")
def tum_fr1_xyz(data_folder: Path) -> Path:
    """TUM RGB-D freiburg1_xyz; skips where the data folder lacks it."""
    folder = data_folder / "tum_fr1_xyz"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    return folder


@pytest.fixture(scope="session")
def wall(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A TUM folder: a camera that slides along a textured wall, 2 m away, 2 cm a frame."""
    import cv2
    import numpy as np

    frames, width, height, focal_px, distance_m, step_m = 8, 320, 256, 300.0, 2.0, 0.02
    root = tmp_path_factory.mktemp("wall")
    rng = np.random.default_rng(0)
    texture = cv2.GaussianBlur(rng.integers(0, 256, (400, 600), np.uint8), (0, 0), 1.5)
    texture = cv2.normalize(texture, None, 0, 255, cv2.NORM_MINMAX)
    for name in ("rgb", "depth"):
        (root / name).mkdir()
    rows, poses = [], []
    for i in range(frames):
        shift_px = focal_px * step_m * i / distance_m
        image = texture[40 : 40 + height, 20 + int(shift_px) : 20 + int(shift_px) + width]
        cv2.imwrite(str(root / f"rgb/{i}.png"), cv2.cvtColor(image, cv2.COLOR_GRAY2BGR))
        depth = np.full((height, width), int(distance_m * 1000), np.uint16)
        cv2.imwrite(str(root / f"depth/{i}.png"), depth)
        rows.append(f"{i / 10:.1f} rgb/{i}.png {i / 10:.1f} depth/{i}.png\n")
        poses.append(f"{i / 10:.1f} {int(shift_px) * distance_m / focal_px} 0 0 0 0 0 1\n")
    (root / "associations.txt").write_text("".join(rows))
    (root / "groundtruth.txt").write_text("".join(poses))
    (root / "camera.yaml").write_text(
        f"{{width: {width}, height: {height}, fx: {focal_px}, fy: {focal_px}, cx: 159.5, cy: 127.5,"
        " distortion: [0, 0, 0, 0, 0], depth_scale: 1000.0, fps: 10.0}\n"
    )
    return root


@pytest.fixture
def huge_png() -> bytes:
    """A sound PNG of a few bytes that says it has 100000 x 100000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc32(kind + data))

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", compress(bytes(99))) + chunk(b"IEND", b"")
