# SPDX-License-Identifier: Apache-2.0
"""A stereo pair on topics: `image`, `right`, and a CameraInfo of each, as camera_calibration produces them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from drp_slam.config import DrpConfig
from drp_slam.data import image_codec
from drp_slam.data.camera_info import is_rectified, pair_of, raw_rectification
from drp_slam.datatypes import Camera, Frame
from drp_slam.errors import GraphError
from drp_slam.frontend.depth_sensor import Sensor, open_sensor
from drp_slam.nodes import convert, qos
from drp_slam.nodes.limits import IN_FLIGHT
from drp_slam.nodes.pairing import Stamped

if TYPE_CHECKING:
    from drp_slam.nodes.base import StageNode

PAIR_NS = 5_000_000
"""Largest difference of the stamps of a pair, whose images are taken at the same time."""


class Calibration:
    """`camera_info` and `right_camera_info` -> the pair as one `Camera`, delivered whenever one of them changes."""

    def __init__(self, node: StageNode, handle: Callable[[Camera], None]) -> None:
        self._node, self._handle = node, handle
        self._messages: dict[str, CameraInfo] = {}
        self._stated: dict[str, bytes] = {}
        for topic in ("camera_info", "right_camera_info"):
            node.subscribe(CameraInfo, topic, partial(self._on, topic), qos.camera_in(), foreign=True)

    def _on(self, topic: str, message: CameraInfo) -> None:
        stated = b"".join(bytes(v) for v in (message.k, message.d, message.r, message.p))
        if self._stated.get(topic) == stated:
            return
        self._messages[topic], self._stated[topic] = message, stated
        if len(self._messages) == 2:
            rectified = is_rectified(self._node.resolve_topic_name("image"))
            self._handle(pair_of(self._messages["camera_info"], self._messages["right_camera_info"], rectified))


class Pairs:
    """Pairs left and right images into frames for a sensor."""

    def __init__(self, node: StageNode, config: DrpConfig, handle: Callable[[Header, Frame, Sensor], None]) -> None:
        self._node, self._config, self._handle = node, config, handle
        self._sensor: Sensor | None = None
        self._camera: Camera | None = None
        self._rights: Stamped[np.ndarray] = Stamped(2 * IN_FLIGHT)
        self._lefts: deque[tuple[Header, np.ndarray]] = deque()
        Calibration(node, self._on_camera)
        node.subscribe(Image, "right", self._on_right, qos.camera_in(IN_FLIGHT), foreign=True)
        node.subscribe(CompressedImage, "right/compressed", self._on_small_right, qos.camera_in(IN_FLIGHT))

    def forget(self) -> None:
        """Drops waiting images."""
        self._lefts.clear()
        self._rights.clear()

    def left(self, header: Header, image: np.ndarray) -> None:
        """Adds a left image; the pair is delivered once the right one and both calibrations have arrived."""
        self._lefts.append((header, image))
        self._match()

    def _on_camera(self, camera: Camera) -> None:
        if self._sensor is None:
            self._sensor, self._camera = open_sensor(camera, self._config), camera
            self._match()
        else:
            raise GraphError("camera_info: another calibration of the pair; restart the nodes to use it")

    def _on_right(self, message: Image) -> None:
        self._add(message.header, image_codec.colour_of(message, "right"))

    def _on_small_right(self, message: CompressedImage) -> None:
        self._add(message.header, image_codec.colour_of(message, "right/compressed"))

    def _add(self, header: Header, image: np.ndarray) -> None:
        self._rights.add(convert.stamp_ns(header), image)
        self._match()

    def _match(self) -> None:
        while self._lefts:
            header, image = self._lefts[0]
            stamp_ns = convert.stamp_ns(header)
            right = self._rights.within(stamp_ns, PAIR_NS)
            if self._sensor is None or self._camera is None or right is None:
                newer = self._rights.latest_ns
                late = newer is not None and newer > stamp_ns + PAIR_NS
                if not (late and self._sensor is not None) and len(self._lefts) <= IN_FLIGHT:
                    return
                self._lefts.popleft()
                missing = "right" if self._sensor is not None else "camera_info, right_camera_info"
                self._node.problem(f"{missing}: none for image {stamp_ns} ns; the frame is dropped")
                continue
            self._lefts.popleft()
            size = (self._camera.height, self._camera.width)
            if image.shape[:2] != size or right.shape != image.shape:
                raise GraphError(
                    f"image is {image.shape[:2]}, right {right.shape[:2]}, the calibration {size} (height, width); "
                    "publish both images of a pair as they were calibrated"
                )
            frame = Frame(0, stamp_ns, image, self._camera, right=right)
            self._handle(header, frame, self._sensor)


def infos(camera: Camera, head: Header) -> tuple[CameraInfo, CameraInfo]:
    """CameraInfo of the left and the right image: the inverse of `pair_of`."""
    assert camera.baseline_m is not None
    if camera.right is None:
        left, right = convert.camera_info(camera, head), convert.camera_info(camera, head)
        right.p[3] = -camera.fx * camera.baseline_m
        return left, right
    left, right = convert.camera_info(camera, head), convert.camera_info(camera.right, head)
    for message, R, P in zip((left, right), *raw_rectification(camera)):
        message.r, message.p = R.ravel(), P.ravel()
    return left, right
