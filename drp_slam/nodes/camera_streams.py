# SPDX-License-Identifier: Apache-2.0
"""Checks of a camera's topics by their last messages: stamps, sizes and calibrations, without reading pixels."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np

from drp_slam.data.camera_info import is_rectified
from drp_slam.doctor.checks import Level
from drp_slam.doctor.findings import Finding, found
from drp_slam.doctor.intrinsics import Stated, check_calibration
from drp_slam.doctor.recordings import stated
from drp_slam.doctor.streams import Stream, check_pairs, check_stream
from drp_slam.nodes import convert

KEPT = 300
"""Messages of a topic that are checked: ten seconds of a camera."""
WARM_UP = 15
"""Messages to skip: the first ones arrive in a burst, or with gaps, until publisher and subscriber have matched."""


class Streams:
    """Headers by topic. `note` is called with every message, `findings` about once a second."""

    def __init__(self) -> None:
        self._roles: dict[str, str] = {}
        self._stamps: dict[str, deque[tuple[int, int]]] = {}
        self._sizes: dict[str, tuple[int, int]] = {}
        self._calibrations: dict[str, Stated] = {}
        self._seen: dict[str, int] = {}

    def note(self, role: str, topic: str, message: Any, now_ns: int) -> None:
        """Keeps the stamp, and the size or calibration; `now_ns` is the node's clock."""
        self._seen[topic] = self._seen.get(topic, 0) + 1
        self._roles[topic] = role
        if self._seen[topic] > WARM_UP:
            pair = convert.stamp_ns(message.header), now_ns
            self._stamps.setdefault(topic, deque(maxlen=KEPT)).append(pair)
        if role.endswith("camera_info"):
            self._calibrations[topic] = stated(message)
        elif getattr(message, "width", 0) and message.height:
            self._sizes[role] = message.width, message.height

    def findings(self) -> list[Finding]:
        """Findings on stamps, on the calibration against the image, and on the size of depth."""
        streams = {topic: self._stream(topic) for topic in self._stamps}
        out = [finding for stream in streams.values() for finding in check_stream(stream)]
        images = [s for s in streams.values() if s.role == "image"]
        for stream in streams.values():
            if images and stream.role in ("depth", "right"):
                out += check_pairs(max(images, key=lambda s: len(s.stamps_ns)), stream)
        image = next((topic for topic, role in self._roles.items() if role == "image"), "image")
        for topic, calibration in self._calibrations.items():
            size = self._sizes.get("right" if self._roles[topic].startswith("right") else "image")
            rectified = Stated(**{**vars(calibration), "rectified": is_rectified(image)})
            out += check_calibration(rectified, topic, size)
        return out + self._depth_size()

    def _stream(self, topic: str) -> Stream:
        stamps_ns, now_ns = np.array(self._stamps[topic], np.int64).T
        return Stream(topic, self._roles[topic], stamps_ns, now_ns if now_ns.all() else None)

    def _depth_size(self) -> list[Finding]:
        depth, image = self._sizes.get("depth"), self._sizes.get("image")
        if depth is None or image is None or depth == image:
            return []
        topic = next(topic for topic, role in self._roles.items() if role == "depth")
        sizes = "{}x{} beside an image of {}x{}".format(*depth, *image)
        alike = abs(depth[0] * image[1] / (depth[1] * image[0]) - 1) < 0.02  # then depth is resampled
        return [found("size_mismatch", topic, f"depth is {sizes}", Level.NOTE if alike else Level.WARN)]
