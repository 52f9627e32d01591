# SPDX-License-Identifier: Apache-2.0
"""`doctor BAG`: faults of the messages around the images, and bags of which no frame can be read."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rosbags.rosbag2")

from drp_slam.data import bag_images
from drp_slam.data.bag import typestore
from drp_slam.data.dataset import open_sequence
from drp_slam.datatypes import Frame
from drp_slam.doctor.checks import Level
from drp_slam.doctor.recordings import diagnose
from drp_slam.errors import DataError

IMAGE, DEPTH, INFO = "/cam/color/image_raw", "/cam/aligned_depth_to_color/image_raw", "/cam/color/camera_info"
STORE = typestore()
TYPES = STORE.types


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    return [f for f in open_sequence("synthetic:frames=64,width=320") if f.index % 2 == 0][:20]


def header(stamp_ns: int) -> Any:
    time = TYPES["builtin_interfaces/msg/Time"](stamp_ns // 10**9, stamp_ns % 10**9)
    return TYPES["std_msgs/msg/Header"](time, "camera_optical_frame")


class Bag:
    """A bag of a sound camera; keyword arguments of `write` break it."""

    def __init__(self, path: Path, frames: list[Frame]) -> None:
        self.path, self.frames = path, frames

    def write(
        self,
        stamp=lambda k, ns: ns,
        depth_stamp=lambda k, ns: ns,
        without: str = "",
        depth=lambda z_m: np.rint(1000 * z_m).astype(np.uint16),
        encoding: str = "16UC1",
        **info: Any,
    ) -> Path:
        from rosbags.rosbag2 import StoragePlugin, Writer

        with Writer(self.path, version=8, storage_plugin=StoragePlugin.MCAP) as writer:
            known: dict[str, Any] = {}

            def put(topic: str, message: Any, at_ns: int) -> None:
                kind = message.__msgtype__
                if topic == without:
                    return
                if topic not in known:
                    known[topic] = writer.add_connection(topic, kind, typestore=STORE)
                writer.write(known[topic], at_ns, STORE.serialize_cdr(message, kind))

            for k, f in enumerate(self.frames):
                head, deep = header(stamp(k, f.stamp_ns)), header(depth_stamp(k, f.stamp_ns))
                calibration = bag_images.camera_info(TYPES, head, f.camera)
                for name, value in info.items():
                    setattr(calibration, name, value)
                put(INFO, calibration, f.stamp_ns)
                put(IMAGE, bag_images.image(TYPES, head, f.image, "bgr8"), f.stamp_ns)
                put(DEPTH, bag_images.image(TYPES, deep, depth(f.depth * f.depth_unit_m), encoding), f.stamp_ns)
        return self.path


@pytest.fixture
def bag(tmp_path: Path, frames: list[Frame]) -> Bag:
    return Bag(tmp_path / "bag", frames)


def swapped(k: Any) -> Any:
    return np.array([k[0], 0, k[5], 0, k[4], k[2], 0, 0, 1])


K = np.array([262.5, 0, 159.5, 0, 262.5, 119.5, 0, 0, 1])
HOUR_NS = 3600 * 10**9
FAULTS: dict[str, tuple[dict[str, Any], set[tuple[str, str]]]] = {
    "sound": ({}, set()),
    "stamps zero": (
        {"stamp": lambda k, ns: 0, "depth_stamp": lambda k, ns: 0},
        {("stamps_zero", topic) for topic in (IMAGE, DEPTH, INFO)},
    ),
    "depth stamps do not move": ({"depth_stamp": lambda k, ns: 10**9}, {("stamps_zero", DEPTH)}),
    "one stamp back": (
        {"stamp": lambda k, ns: ns - (k == 9) * 150_000_000},
        {("stamps_backwards", IMAGE), ("stamps_backwards", INFO)},
    ),
    "one stamp an hour ahead": (
        {"stamp": lambda k, ns: ns + (k == 9) * HOUR_NS},
        {("stamps_ahead", IMAGE), ("stamps_ahead", INFO)},
    ),
    "a clock an hour ahead": (
        {"stamp": lambda k, ns: ns + HOUR_NS, "depth_stamp": lambda k, ns: ns + HOUR_NS},
        {("stamps_ahead", topic) for topic in (IMAGE, DEPTH, INFO)},
    ),
    "depth 30 ms late": ({"depth_stamp": lambda k, ns: ns + 30_000_000}, {("unsynchronised", DEPTH)}),
    "cx and cy swapped": ({"k": swapped(K)}, {("principal_point", INFO)}),
    "K of twice the size, P not": ({"k": 2 * K}, {("principal_point", INFO), ("rectification", INFO)}),
    "K and P are zero": ({"k": 0 * K, "p": np.zeros(12)}, {("unreadable", "bag"), ("not_calibrated", INFO)}),
    "calibration of another size": (
        {"width": 640, "height": 480},
        {("unreadable", "bag"), ("size_mismatch", INFO), ("principal_point", INFO)},
    ),
    "metres as 16 bits": ({"depth": lambda z: np.rint(z).astype(np.uint16)}, {("depth_unit", DEPTH)}),
    "millimetres as floats": (
        {"depth": lambda z: (1000 * z).astype(np.float32), "encoding": "32FC1"},
        {("depth_unit", DEPTH)},
    ),
    "no calibration": ({"without": INFO}, {("unreadable", "bag"), ("not_calibrated", "bag")}),
    "no image": ({"without": IMAGE}, {("unreadable", "bag")}),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found_where_it_is(bag, name):
    broken, expected = FAULTS[name]
    path = str(bag.write(**broken))
    diagnosis = diagnose(path)
    found = {
        (f.check.name, "bag" if f.where == path else f.where) for f in diagnosis.findings if f.level is not Level.NOTE
    }
    assert found >= expected and {name for name, _ in found} == {name for name, _ in expected}


def test_a_camera_without_depth_is_no_fault(bag):
    diagnosis = diagnose(str(bag.write(without=DEPTH)))
    assert {f.check.name for f in diagnosis.findings if f.level is not Level.NOTE} == set()
    assert "no_scale" in {f.check.name for f in diagnosis.findings}
    assert set(diagnosis.topics) == {"image", "camera_info"}


def test_the_command_prints_why_and_what_to_do(bag):
    path = bag.write(k=swapped(K))
    for extra, words in ((["--json"], "principal_point"), ([], "cx and cy are swapped")):
        command = [sys.executable, "-m", "drp_slam", "doctor", str(path), *extra]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0 and words in done.stdout, done.stderr
        if extra:
            result = json.loads(done.stdout)
            (finding,) = (f for f in result["findings"] if f["level"] != "NOTE")
            assert finding["where"] == INFO and finding["why"] and finding["remedy"]


def test_what_is_not_there_is_an_error():
    with pytest.raises(DataError, match="no such file"):
        diagnose("no/such/bag")
