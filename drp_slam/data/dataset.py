# SPDX-License-Identifier: Apache-2.0
"""Opens a sequence by name: a folder of TUM RGB-D, KITTI or EuRoC, a rosbag2, or the built-in `synthetic`."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from drp_slam import resources
from drp_slam.config import Config, SlamConfig
from drp_slam.config.config_file import override
from drp_slam.data.bag_storage import is_bag
from drp_slam.data.calibration import read_calibration
from drp_slam.data.euroc import euroc_folder, open_euroc
from drp_slam.data.kitti import is_kitti, open_kitti
from drp_slam.data.sequence import AS_RECORDED, DepthReading, Sequence, monocular
from drp_slam.data.topics import ROLES
from drp_slam.errors import DataError

log = logging.getLogger(__name__)

REMEDY = (
    "expected a TUM RGB-D folder, one of KITTI odometry or EuRoC, a rosbag2 (folder, .mcap, .db3) or the word synthetic"
)

READINGS = {
    "depth_unit_m": ("unit_m", 1e-6, 10.0),
    "depth_offset_s": ("offset_s", -10.0, 10.0),
    "depth_tolerance_s": ("tolerance_s", 0.0, 1.0),
    "registered": ("registered", 0, 1),
}
"""Choice after a sequence's name -> field of `DepthReading` and its limits."""
MONO = "sensor=mono"
"""Choice after any sequence's name: use only its images."""


def open_sequence(name: str, camera: str | None = None, start: int = 0, frames: int | None = None) -> Sequence:
    """Opens a sequence; nothing is decoded yet.

    `name` may end in choices: the topics of a bag by role, and how to read depth, as in
    `BAG:image=/T,depth=/T,right=/T` or `FOLDER:depth_unit_m=0.0001`; `sensor=mono` uses only the images of any
    sequence. `camera` names a calibration (a file, or one of config/cameras), which has precedence over that of the
    recording. Notes on the recording are logged. Raises DataError with one line that names the file and the remedy.
    """
    name, lone = _alone(name)
    sequence = _opened(name, camera, start, frames, lone)
    if lone and not sequence.camera.mono:
        sequence = monocular(sequence)
    sequence = replace(sequence, notes=sequence.notes + _scored(sequence))
    for role, (topic, why) in sequence.topics.items():
        log.info("%s is %s: %s", role, topic, why)
    for note in sequence.notes:
        log.warning(note)
    return sequence


def _scored(sequence: Sequence) -> tuple[str, ...]:
    """A note if the ground truth does not overlap the frames in time."""
    truth, stamps_ns = sequence.ground_truth, sequence.stamps_ns
    if truth is None or not len(truth) or not len(stamps_ns):
        return ()
    spans_s = [(int(s.min()) * 1e-9, int(s.max()) * 1e-9) for s in (truth.stamps_ns, stamps_ns)]
    if spans_s[0][0] <= spans_s[1][1] and spans_s[1][0] <= spans_s[0][1]:
        return ()
    said = [f"{first:.3f} to {last:.3f} s" for first, last in spans_s]
    return (f"{sequence.name}: ground truth ({said[0]}) and frames ({said[1]}) do not overlap: no error is computed",)


def named(name: str, config: SlamConfig) -> str:
    """The sequence's name with the parameters of depth that differ from their defaults, and `sensor` if it is mono."""
    given = {"depth_unit_m": config.depth_unit_m, "depth_offset_s": config.depth_offset_s}
    choices = [f"{key}={value:.9g}" for key, value in given.items() if value]
    if config.depth_registered:
        choices.append("registered=yes")
    if config.depth_tolerance_s != AS_RECORDED.tolerance_s:
        choices.append(f"depth_tolerance_s={config.depth_tolerance_s:.9g}")
    if is_synthetic(name):
        choices = []
    if config.sensor == "mono" and not _alone(name)[1]:
        choices.append(MONO)
    if not choices:
        return name
    chosen = ":" in name if is_synthetic(name) else bool(_split(_alone(name)[0])[1]) or _alone(name)[1]
    return f"{name}{',' if chosen else ':'}{','.join(choices)}"


def playable(config: Config) -> Config:
    """For a graph that plays `player.sequence`: the player applies the parameters of depth, not pose_node."""
    defaults = SlamConfig()
    keys = ("depth_unit_m", "depth_offset_s", "depth_tolerance_s", "depth_registered")
    values: dict[str, Any] = {f"slam.{key}": getattr(defaults, key) for key in keys}
    return override(config, values | {"player.sequence": named(config.player.sequence, config.slam)})


def is_synthetic(name: str) -> bool:
    """Whether it is the name of the built-in sequence."""
    return name.split(":", 1)[0] == "synthetic" and not os.path.exists(name)


def _alone(name: str) -> tuple[str, bool]:
    """The name without the choice `MONO`, and whether it had this choice."""
    path, _, choice = name.partition(":")
    items = choice.split(",")
    if MONO not in items or os.path.exists(resources.user_path(name)):
        return name, False
    rest = ",".join(item for item in items if item != MONO)
    return f"{path}:{rest}" if rest else path, True


def _opened(name: str, camera: str | None, start: int, frames: int | None, lone: bool) -> Sequence:
    if is_synthetic(name):
        from drp_slam.data.synthetic import open_synthetic

        return open_synthetic(name, start, frames)
    path, choices = _split(name)
    if not os.path.exists(path):
        raise DataError(f"{name}: no such file or folder; {REMEDY}")
    if not os.path.isfile(path) and not os.path.isdir(path):
        raise DataError(f"{name}: neither a regular file nor a folder; {REMEDY}")
    given = read_calibration(resources.camera_file(camera)) if camera else None
    topics = {role: choices.pop(role) for role in ROLES if role in choices}
    read_as: dict[str, Any] = dict(_read_as(name, key, text) for key, text in choices.items())
    reading = DepthReading(**read_as, alone=lone)
    if is_bag(path):
        from drp_slam.data.bag import open_bag

        return open_bag(path, given, start, frames, topics, reading)
    if topics:
        raise DataError(f"{name}: only a bag has topics; {REMEDY}")
    if path.is_dir() and any((path / f).is_file() for f in ("associations.txt", "rgb.txt")):
        from drp_slam.data.tum import open_tum

        return open_tum(path, given, start, frames, reading)
    if path.is_dir() and is_kitti(path):
        return open_kitti(path, start, frames, given)
    if path.is_dir() and euroc_folder(path):
        return open_euroc(path, start, frames, given)
    if path.is_dir() and not any(path.iterdir()):
        raise DataError(f"{name}: the folder is empty; {REMEDY}")
    raise DataError(f"{name}: neither rgb.txt nor associations.txt nor a bag in it; {REMEDY}")


def _split(name: str) -> tuple[Path, dict[str, str]]:
    """`BAG:image=/topic,depth_unit_m=0.001` -> the path and the choices."""
    path, colon, choice = name.partition(":")
    if not colon or os.path.exists(resources.user_path(name)) or "=" not in choice:
        return resources.user_path(name), {}
    known = (*ROLES, *READINGS)
    unknown = [item for item in choice.split(",") if item.split("=")[0] not in known or "=" not in item]
    if unknown:
        raise DataError(f"{name}: unknown choice {unknown[0]!r}; known: {', '.join(known)}")
    return resources.user_path(path), dict(item.split("=", 1) for item in choice.split(","))


def _read_as(name: str, key: str, text: str) -> tuple[str, float | bool]:
    """One choice of `READINGS`, as field and value of `DepthReading`."""
    field, low, high = READINGS[key]
    if key == "registered":
        if text not in ("yes", "no"):
            raise DataError(f"{name}: registered is {text!r}, expected yes or no")
        return field, text == "yes"
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        raise DataError(f"{name}: {key} is {text!r}, expected {low:g} to {high:g}")
    return field, value
