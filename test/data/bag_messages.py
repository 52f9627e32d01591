# SPDX-License-Identifier: Apache-2.0
"""Bags of chosen messages, written with the `rosbags` package."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drp_slam.data import bag_images
from drp_slam.data.dataset import open_sequence
from drp_slam.data.sequence import Sequence
from drp_slam.datatypes import Frame
from drp_slam.errors import DataError

rosbag2 = pytest.importorskip("rosbags.rosbag2")


typesys = pytest.importorskip("rosbags.typesys")


STORE = typesys.get_typestore(typesys.Stores.ROS2_JAZZY)


TYPES = STORE.types


def refused(name: Path | str, *words: str, **options: object) -> None:
    """Opening and reading to the end fails in one line that has the words."""
    with pytest.raises(DataError) as error:
        list(open_sequence(str(name), **options))
    assert "\n" not in str(error.value)
    assert all(word in str(error.value) for word in words), error.value


def header(stamp_ns: int, frame_id: str = "camera") -> Any:
    time = TYPES["builtin_interfaces/msg/Time"](stamp_ns // 10**9, stamp_ns % 10**9)
    return TYPES["std_msgs/msg/Header"](time, frame_id)


Message = tuple[str, int, Any]


def write(folder: Path, messages: list[Message], storage: str = "MCAP", compression: Any = None) -> Path:
    """A bag of (topic, log time, message)."""
    made = rosbag2.Writer(folder, version=8, storage_plugin=rosbag2.StoragePlugin[storage])
    if compression is not None:
        made.set_compression(compression, rosbag2.CompressionFormat.ZSTD)
    with made as writer:
        topics: dict[str, Any] = {}
        for topic, log_ns, message in messages:
            kind = message.__msgtype__
            if topic not in topics:
                topics[topic] = writer.add_connection(topic, kind, typestore=STORE)
            writer.write(topics[topic], log_ns, STORE.serialize_cdr(message, kind))
    return folder


def messages(
    room: Sequence,
    colour: Callable[[Frame], tuple[np.ndarray, str]] = lambda f: (f.image, "bgr8"),
    depth: Callable[[Frame], tuple[np.ndarray, str]] = lambda f: (f.depth, "16UC1"),
    image_topic: str = "/camera/color/image_raw",
    depth_topic: str = "/camera/depth/image_raw",
) -> list[Message]:
    """What a driver would publish: calibration, colour, depth 5 ms later."""
    found: list[Message] = []
    for f in room:
        info = bag_images.camera_info(TYPES, header(f.stamp_ns), room.camera)
        later = f.stamp_ns + 5_000_000
        found += [
            ("/camera/color/camera_info", f.stamp_ns, info),
            (image_topic, f.stamp_ns, bag_images.image(TYPES, header(f.stamp_ns), *colour(f))),
            (depth_topic, later, bag_images.image(TYPES, header(later), *depth(f))),
        ]
    return found
