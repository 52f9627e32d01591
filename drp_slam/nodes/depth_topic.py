# SPDX-License-Identifier: Apache-2.0
"""The topics `depth`, `depth/compressed`, `depth/compressedDepth`: the depth of an image, registered to it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from drp_slam.config import SlamConfig
from drp_slam.data import image_codec
from drp_slam.data.camera_info import camera_of, is_calibrated, is_rectified
from drp_slam.data.registration import Registration, register_depth
from drp_slam.datatypes import Camera
from drp_slam.errors import DataError, DrpSlamError, GraphError
from drp_slam.nodes import convert, qos
from drp_slam.nodes.limits import IN_FLIGHT
from drp_slam.nodes.pairing import Stamped, Verdict
from drp_slam.nodes.transforms import TransformTree, frame_name

if TYPE_CHECKING:
    from drp_slam.nodes.base import StageNode

MEASURED_OF = 5
"""Images in a row without depth from which a constant offset of the stamps is measured."""
SPREAD_NS = 3_000_000
"""Largest deviation from the median difference of a constant offset."""
LARGEST_OFFSET_NS = 200_000_000


@dataclass(frozen=True)
class Depth:
    """(H, W) depth as published, its unit in metres, and the frame it is in."""

    values: np.ndarray
    unit_m: float
    frame_id: str


class NoDepth:
    """Replaces `DepthTopic` for a camera without depth: subscribes to nothing, and no image waits."""

    def clear(self) -> None:
        """Does nothing."""

    def forget_later(self, stamp_ns: int) -> None:
        """Does nothing."""

    def nearest(self, stamp_ns: int, final: bool = False) -> tuple[Verdict, Depth | None]:
        """Always no depth."""
        return Verdict.NONE, None

    def in_image(self, depth: Depth, image_frame: str, camera: Camera) -> tuple[np.ndarray, float]:
        """Never called."""
        return depth.values, depth.unit_m


class DepthTopic:
    """Subscribes to depth, pairs it with images by stamp, and registers it if the driver did not."""

    def __init__(self, node: StageNode, config: SlamConfig, tree: TransformTree, arrived: Callable[[], None]) -> None:
        self._node, self._config, self._tree, self._arrived = node, config, tree, arrived
        self._depths: Stamped[Callable[[], Depth]] = Stamped(2 * IN_FLIGHT)
        self._info: CameraInfo | None = None
        self._offset_ns = round(config.depth_offset_s * 1e9)
        self._tolerance_ns = round(config.depth_tolerance_s * 1e9)
        self._missed_ns: deque[int] = deque(maxlen=MEASURED_OF)
        self._key: tuple[object, ...] = ()
        self._registration: Registration | None = None
        node.subscribe(Image, "depth", lambda m: self._on_depth(m, "depth"), qos.camera_in(IN_FLIGHT), foreign=True)
        for topic in ("depth/compressed", "depth/compressedDepth"):
            node.subscribe(CompressedImage, topic, self._handler(topic), qos.camera_in(IN_FLIGHT))
        node.subscribe(CameraInfo, "depth_camera_info", self._on_info, qos.camera_in())

    def _handler(self, topic: str) -> Callable[[CompressedImage], None]:
        return lambda message: self._on_depth(message, topic)

    def _on_info(self, message: CameraInfo) -> None:
        self._info = message

    def _on_depth(self, message: Image | CompressedImage, topic: str) -> None:
        """Keeps the message; only the one that belongs to an image is unpacked."""
        stamp_ns = convert.stamp_ns(message.header) - self._offset_ns
        if isinstance(message, CompressedImage):
            self._depths.add(stamp_ns, partial(self._depth, message, topic))
        else:
            depth = self._depth(message, topic)  # a view, so that what cannot be used is reported as it comes
            self._depths.add(stamp_ns, lambda: depth)
        self._arrived()
        if not isinstance(message, CompressedImage):
            convert.check_depth(depth.values, topic)  # an image without depth is reported and used

    def _depth(self, message: Image | CompressedImage, topic: str) -> Depth:
        values, unit_m = image_codec.depth_of(message, topic)
        if self._config.depth_unit_m and values.dtype == np.uint16:
            unit_m = self._config.depth_unit_m
        return Depth(values, unit_m, frame_name(message.header.frame_id))

    def clear(self) -> None:
        """Drops all depth."""
        self._depths.clear()

    def forget_later(self, stamp_ns: int) -> None:
        """Drops depth with later stamps, after the clock was set back."""
        self._depths.forget_later(stamp_ns)

    def nearest(self, stamp_ns: int, final: bool = False) -> tuple[Verdict, Depth | None]:
        """The depth of an image, as `Stamped.nearest`; measures a constant offset if none is found in time."""
        verdict, unpack = self._depths.nearest(stamp_ns, final, self._tolerance_ns)
        while unpack is not None:
            self._missed_ns.clear()
            self._depths.forget_before(unpack)
            try:
                return verdict, unpack()
            except DrpSlamError as damaged:
                self._node.problem(damaged)
                self._depths.drop(unpack)
                verdict, unpack = self._depths.nearest(stamp_ns, final, self._tolerance_ns)
        if verdict is Verdict.NONE:
            self._measure(stamp_ns)
        return verdict, None

    def _measure(self, stamp_ns: int) -> None:
        """Shifts the stamps of depth if they have a constant offset beyond the tolerance."""
        nearest_ns = self._depths.nearest_stamp(stamp_ns)
        if nearest_ns is None or self._config.depth_offset_s or abs(nearest_ns - stamp_ns) > LARGEST_OFFSET_NS:
            return
        self._missed_ns.append(nearest_ns - stamp_ns)
        middle_ns = round(median(self._missed_ns))
        constant = max(abs(difference - middle_ns) for difference in self._missed_ns) <= SPREAD_NS
        if len(self._missed_ns) == MEASURED_OF and constant:
            self._offset_ns += middle_ns
            self._depths.shift(-middle_ns)
            self._missed_ns.clear()
            self._node.problem(
                f"depth: stamped constantly {self._offset_ns * 1e-6:+.1f} ms from the image; paired with this offset "
                f"from now on (set slam.depth_offset_s={self._offset_ns * 1e-9:.4f} to do so from the start)"
            )

    def in_image(self, depth: Depth, image_frame: str, camera: Camera) -> tuple[np.ndarray, float]:
        """(H, W) depth in the size and frame of the image, and its unit in metres.

        Raises GraphError for depth in another frame that TF does not link, and for incompatible sizes.
        """
        size_px = depth.values.shape[1], depth.values.shape[0]
        key = depth.frame_id, image_frame, size_px, camera, self._info is None
        if key[:3] != self._key[:3] or camera is not self._key[3] or key[4] != self._key[4]:
            self._registration = self._registered(depth.frame_id, image_frame, size_px, camera)
            self._key = key
        return self._registration(depth.values, depth.unit_m) if self._registration else (depth.values, depth.unit_m)

    def _registered(
        self, depth_frame: str, image_frame: str, size_px: tuple[int, int], camera: Camera
    ) -> Registration | None:
        T_image_depth: np.ndarray | None = np.eye(4)
        image_frame = frame_name(image_frame)
        if depth_frame and image_frame and depth_frame != image_frame and not self._config.depth_registered:
            T_image_depth = self._tree.lookup(self._tree.name(image_frame), self._tree.name(depth_frame))
        if T_image_depth is None:
            raise GraphError(
                f"depth: unregistered: it is in frame {depth_frame!r}, the image in {image_frame!r}, not linked by TF; "
                "publish the driver's registered (aligned) depth or the transform, or set slam.depth_registered"
            )
        topic = self._node.resolve_topic_name("depth")
        own, info = None, self._info
        if info is not None and is_calibrated(info) and frame_name(info.header.frame_id) in ("", depth_frame):
            own = camera_of(info, "depth_camera_info", is_rectified(topic))
        try:
            return register_depth(size_px, own, camera, T_image_depth)
        except DataError as error:
            raise GraphError(f"depth: {error}") from error
