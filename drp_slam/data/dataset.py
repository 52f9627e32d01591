# SPDX-License-Identifier: Apache-2.0
"""Opens a sequence by name: a folder of TUM RGB-D, KITTI or EuRoC, a rosbag2, or the embedded `synthetic`."""

from __future__ import annotations

import os
from pathlib import Path

from drp_slam import resources
from drp_slam.data.calibration import load_camera
from drp_slam.data.euroc import euroc_folder, open_euroc
from drp_slam.data.kitti import is_kitti, open_kitti
from drp_slam.data.sequence import Sequence
from drp_slam.errors import DataError

REMEDY = (
    "expected a TUM RGB-D folder, one of KITTI odometry or EuRoC, a rosbag2 (folder, .mcap, .db3) or the word synthetic"
)


def open_sequence(name: str, camera: str | None = None, start: int = 0, frames: int | None = None) -> Sequence:
    """Opens a sequence; nothing is decoded yet.

    `name` may choose the topics of a bag: `BAG:image=/topic,depth=/topic,truth=/topic`.
    `camera` names a calibration (a file, or one of config/cameras) for a sequence that has none.
    Raises DataError in one line that names the file and the remedy.
    """
    if name.split(":", 1)[0] == "synthetic" and not os.path.exists(name):
        from drp_slam.data.synthetic import open_synthetic

        return open_synthetic(name, start, frames)
    path, topics = _split(name)
    if not os.path.exists(path):
        raise DataError(f"{name}: no such file or folder; {REMEDY}")
    given = load_camera(resources.camera_file(camera)) if camera else None
    if is_bag(path):
        from drp_slam.data.bag import open_bag

        return open_bag(path, given, start, frames, topics)
    if path.is_dir() and any((path / f).is_file() for f in ("associations.txt", "rgb.txt")):
        from drp_slam.data.tum import open_tum

        return open_tum(path, given, start, frames)
    if path.is_dir() and is_kitti(path):
        return open_kitti(path, start, frames)
    if path.is_dir() and euroc_folder(path):
        return open_euroc(path, start, frames)
    if path.is_dir() and not any(path.iterdir()):
        raise DataError(f"{name}: the folder is empty; {REMEDY}")
    raise DataError(f"{name}: neither rgb.txt nor associations.txt nor a bag in it; {REMEDY}")


def _split(name: str) -> tuple[Path, dict[str, str]]:
    """`BAG:image=/topic,depth=/topic` -> the path and the topics chosen."""
    path, colon, choice = name.partition(":")
    if not colon or os.path.exists(resources.user_path(name)) or "=" not in choice:
        return resources.user_path(name), {}
    topics = dict(item.split("=", 1) for item in choice.split(",") if "=" in item)
    known = ("image", "depth", "camera_info", "truth")
    unknown = [item for item in choice.split(",") if item.split("=")[0] not in known]
    if unknown:
        raise DataError(f"{name}: unknown choice {unknown[0]!r}; a bag has {', '.join(known)}")
    return resources.user_path(path), topics


def is_bag(path: Path) -> bool:
    """Whether the path is a rosbag2: its folder, or one of its files."""
    if path.is_file():
        return path.suffix in (".mcap", ".db3")
    return (path / "metadata.yaml").is_file() or any(entry.suffix in (".mcap", ".db3") for entry in path.iterdir())
