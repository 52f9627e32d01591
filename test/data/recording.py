# SPDX-License-Identifier: Apache-2.0
"""Bags of several cameras that film one room, as their drivers would record them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from bag_messages import TYPES, Message, write
from test_bag import transform

from drp_slam.data import bag_images
from drp_slam.data.dataset import open_sequence
from drp_slam.data.sequence import Sequence
from drp_slam.datatypes import Camera, Frame

OPTICAL = "camera_color_optical_frame"


class Recorder:
    """Messages of several cameras that all film `room`."""

    def __init__(self, room: Sequence) -> None:
        self.room, self.frames = room, list(room)
        self.messages: list[Message] = []

    def _header(self, stamp_ns: int, frame: str) -> Any:
        time = TYPES["builtin_interfaces/msg/Time"](stamp_ns // 10**9, stamp_ns % 10**9)
        return TYPES["std_msgs/msg/Header"](time, frame)

    def images(
        self, topic: str, make: Any, encoding: str, frame: str = OPTICAL, shift_ns: int = 0, every: int = 1
    ) -> Recorder:
        """`make` is a function of a frame, or a constant array."""
        for f in self.frames[::every]:
            values = make(f) if callable(make) else make
            head = self._header(f.stamp_ns + shift_ns, frame)
            self.messages.append((topic, f.stamp_ns, bag_images.image(TYPES, head, values, encoding)))
        return self

    def info(self, topic: str, camera: Camera, frame: str = OPTICAL, **changes: Any) -> Recorder:
        for f in self.frames:
            message = bag_images.camera_info(TYPES, self._header(f.stamp_ns, frame), camera)
            self.messages.append((topic, f.stamp_ns, dataclasses.replace(message, **changes)))
        return self

    def static(self, parent: str, child: str, T_parent_child: np.ndarray) -> Recorder:
        message = TYPES["tf2_msgs/msg/TFMessage"]([transform(1, parent, child, T_parent_child)])
        self.messages.append(("/tf_static", self.frames[0].stamp_ns, message))
        return self

    def bag(self, path: Path) -> Sequence:
        return open_sequence(str(self.write(path)))

    def write(self, path: Path) -> Path:
        return write(path, sorted(self.messages, key=lambda m: m[1]))


def colour(f: Frame) -> np.ndarray:
    return f.image


def other(f: Frame) -> np.ndarray:
    """What another camera sees."""
    return np.ascontiguousarray(f.image[::-1])


def millimetres(f: Frame) -> np.ndarray:
    return np.round(f.depth * f.depth_unit_m * 1000).astype(np.uint16)


def metres(f: Frame) -> np.ndarray:
    return (f.depth * f.depth_unit_m).astype(np.float32)


def infrared(f: Frame) -> np.ndarray:
    return cv2.cvtColor(f.image, cv2.COLOR_BGR2GRAY)


def confidence(f: Frame) -> np.ndarray:
    return np.rint(np.linspace(1, 100, f.depth.size)).reshape(f.depth.shape).astype(np.float32)
