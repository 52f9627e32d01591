# SPDX-License-Identifier: Apache-2.0
"""Describes a topic by its first messages, for `topic_choice.choose`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import cv2
import numpy as np

from drp_slam.data import image_codec
from drp_slam.data.camera_info import is_calibrated
from drp_slam.data.topics import COMPRESSED, INFO, POSES, RAW, Topic
from drp_slam.errors import DataError

LOOK = {RAW: 3, COMPRESSED: 3, INFO: 50}
"""Maximum number of messages to try until one is valid: cameras may start with invalid ones."""
DEEP = re.compile(r"(16|32|64)[usf]c1")
"""Encodings of one channel of 16 bits or more: depth, or another measurement."""


def describe(name: str, msgtype: str, count: int, messages: Iterable[Any]) -> Topic:
    """A `Topic` by its first messages, of rclpy or `rosbags`; `LOOK` limits their number."""
    topic = Topic(name, msgtype, count)
    if msgtype in POSES:
        return replace(topic, kind="truth")
    for message in messages:
        frame_id = str(message.header.frame_id)
        try:
            if msgtype == INFO:
                topic = _info(replace(topic, frame_id=frame_id), message)
                if topic.calibrated:
                    break
            else:
                look = _compressed if msgtype == COMPRESSED else _raw
                return look(replace(topic, frame_id=frame_id), message)
        except DataError as error:
            topic = replace(_unread(topic, message), frame_id=frame_id, problem=str(error))
    return topic


def _info(topic: Topic, info: Any) -> Topic:
    offset_m = float(info.p[3]) / float(info.p[0]) if info.p[0] else 0.0
    binning = max(info.binning_x, 1), max(info.binning_y, 1)
    width, height = info.roi.width or info.width, info.roi.height or info.height
    size_px = int(width // binning[0]), int(height // binning[1])
    return replace(topic, kind="info", size_px=size_px, calibrated=is_calibrated(info), offset_m=offset_m)


def _raw(topic: Topic, message: Any) -> Topic:
    name = image_codec.encoding_of(message)
    topic = replace(topic, encoding=str(message.encoding), size_px=(int(message.width), int(message.height)))
    if name in image_codec.DEPTH:
        return _measured(topic, message, "grey16" if name == "mono16" else "depth")
    pixels = image_codec.colour_of(message, topic.name)
    return replace(topic, kind="colour" if pixels.ndim == 3 else "grey")


def _compressed(topic: Topic, message: Any) -> Topic:
    form = str(message.format)
    topic = replace(topic, encoding=form.split(";")[0].strip())
    if image_codec.is_compressed_depth(message, topic.name):
        return _measured(topic, message, "depth")
    pixels = image_codec.decompress(message, cv2.IMREAD_UNCHANGED, topic.name)
    encoding = topic.encoding.lower()
    if pixels.ndim == 2 and pixels.dtype != np.uint8 and not encoding.startswith("bayer"):
        return _measured(topic, message, "grey16" if encoding == "mono16" else "depth")
    grey = image_codec.colour_of(message, topic.name).ndim == 2
    return replace(topic, kind="grey" if grey else "colour", size_px=(int(pixels.shape[1]), int(pixels.shape[0])))


def _measured(topic: Topic, message: Any, kind: str) -> Topic:
    values, unit_m = image_codec.depth_of(message, topic.name)
    some = values[::4, ::4].ravel()
    some = some[(some > 0) & np.isfinite(some)]
    size_px = int(values.shape[1]), int(values.shape[0])
    topic = replace(topic, kind=kind, size_px=size_px)
    if not len(some):
        return topic
    whole = float(np.mean(some == np.rint(some))) if values.dtype == np.float32 else 0.0
    return replace(topic, median=float(np.median(some)) * unit_m, whole=whole)


def _unread(topic: Topic, message: Any) -> Topic:
    """The likely kind of a topic with an unreadable message; using it raises the error."""
    if hasattr(message, "format"):
        deep = image_codec.is_compressed_depth(message, topic.name)
        encoding = str(message.format).split(";")[0].strip()
        deep_kind = "depth" if encoding.upper().startswith(("16UC1", "32FC1")) else ""
        return replace(topic, encoding=encoding, kind=deep_kind if deep else "colour")
    encoding = str(message.encoding)
    size_px = int(message.width), int(message.height)
    return replace(
        topic, encoding=encoding, size_px=size_px, kind="depth" if DEEP.match(encoding.lower()) else "colour"
    )
