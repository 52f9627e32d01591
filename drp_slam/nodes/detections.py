# SPDX-License-Identifier: Apache-2.0
"""The topic `detections`: objects found in every n-th image, for display and for `pose_node`.

Its type is `vision_msgs/Detection2DArray` (boxes in pixels) where that can be imported. Otherwise it is
`visualization_msgs/MarkerArray`: each box a LINE_STRIP in the optical frame, one metre before the
camera (pixels through CameraInfo's K, without distortion), with its class as namespace, and a text.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from geometry_msgs.msg import Point
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from drp_slam.config import PerceptionConfig
from drp_slam.data import image_codec
from drp_slam.data.camera_info import camera_of
from drp_slam.datatypes import Camera, Detections
from drp_slam.device import stage_run
from drp_slam.drpai3.detect import Due
from drp_slam.errors import GraphError
from drp_slam.nodes import convert, qos
from drp_slam.nodes.limits import IN_FLIGHT
from drp_slam.nodes.pairing import Stamped

if TYPE_CHECKING:
    from drp_slam.drpai3.detect import Detector
    from drp_slam.nodes.base import StageNode

TOPIC = "detections"
LABELS = "labels"
"""Namespace of the markers' texts."""
LINE_M, TEXT_M = 0.004, 0.04
"""Thickness of lines and height of texts, one metre before the camera."""
GREEN = ColorRGBA(r=0.2, g=1.0, b=0.3, a=1.0)


def message_type() -> type[Any]:
    """Message type of `detections` on this host."""
    try:
        from vision_msgs.msg import Detection2DArray
    except ImportError:
        return MarkerArray
    return Detection2DArray


class DetectionPublisher:
    """`image` -> `detections`, for every n-th frame after the feature network has run on it.

    `alone`: the front end has no network, so every image is a frame.
    """

    def __init__(self, node: StageNode, detector: Detector, config: PerceptionConfig, alone: bool = False) -> None:
        self._alone = alone
        self._node, self._detector, self._is_due = node, detector, Due.of(config)
        self._images: Stamped[Image | CompressedImage] = Stamped(IN_FLIGHT)
        self._camera: Camera | None = None
        self._due: deque[Header] = deque(maxlen=IN_FLIGHT)
        self._kind = message_type()
        self._out = node.advertise(self._kind, TOPIC, qos.world())
        topics: list[tuple[type[Any], str, Any]] = [
            (Image, "image", self._on_image),
            (CompressedImage, "image/compressed", self._on_image),
        ]
        if self._kind is MarkerArray:
            topics.append((CameraInfo, "camera_info", self._on_camera_info))
        for kind, topic, handle in topics:
            node.subscribe(kind, topic, handle, qos.camera_in(IN_FLIGHT))

    def forget(self) -> None:
        """Drops waiting images."""
        self._images.clear()
        self._due.clear()

    def configure(self, config: PerceptionConfig) -> None:
        """Applies another rate and another threshold."""
        self._is_due, self._detector.threshold = Due.of(config), config.detector_threshold

    def frame(self, head: Header) -> None:
        """Called when a frame's features were computed; detects on every n-th one."""
        if self._is_due(convert.stamp_ns(head)):
            self._due.append(head)
            self._detect()

    def _on_camera_info(self, message: CameraInfo) -> None:
        self._camera = camera_of(message)

    def _on_image(self, message: Image | CompressedImage) -> None:
        self._images.add(convert.stamp_ns(message.header), message)
        if self._alone:
            self.frame(message.header)
        else:
            self._detect()

    def _detect(self) -> None:
        """Detects on due frames whose images have arrived; images arrive in order, if at all."""
        if self._kind is MarkerArray and self._camera is None:
            return
        for head in list(self._due):
            message = self._images.exact(convert.stamp_ns(head))
            if message is not None:
                while self._due.popleft() is not head:
                    pass
                self._search(head, message)

    def _search(self, head: Header, message: Image | CompressedImage) -> None:
        """Detects objects and publishes them."""
        stamp_ns = convert.stamp_ns(head)
        begun_ns = self._node.begin(stamp_ns, "drpai3")
        found, run = self._detector(image_codec.colour_of(message, "image"))
        boxes, stage = to_message(self._kind, found, head, self._camera), stage_run("detect", "drpai3", [run])
        self._node.release(stamp_ns, (stage,), begun_ns, lambda: self._out.publish(boxes), beside=True)
        self._node.publish_runs(stamp_ns, stage)


class Listener:
    """`detections` -> `heard(stamp_ns, found)`, once the camera is known."""

    def __init__(
        self, node: StageNode, camera: Callable[[], Camera | None], heard: Callable[[int, Detections], None]
    ) -> None:
        self._camera, self._heard = camera, heard
        node.subscribe(message_type(), TOPIC, self._on, qos.world())

    def _on(self, message: Any) -> None:
        camera = self._camera()
        heads = message.markers[:1] if isinstance(message, MarkerArray) else [message]
        if camera is not None and heads:
            self._heard(convert.stamp_ns(heads[0].header), from_message(message, camera))


def to_message(kind: type[Any], found: Detections, head: Header, camera: Camera | None) -> Any:
    """Detections as a message of type `kind`; markers need the camera."""
    if kind is not MarkerArray:
        return detection_array(found, head)
    assert camera is not None
    return markers(found, head, camera)


def from_message(message: Any, camera: Camera) -> Detections:
    """The detections of a message of either type: boxes in pixels, each with its best class by name.

    `class_id` counts the names of the message; `score` is NaN where the message has none. Raises GraphError.
    """
    rows: list[tuple[str, float, tuple[float, ...]]] = []
    if isinstance(message, MarkerArray):
        lines = [m for m in message.markers if m.type == Marker.LINE_STRIP and m.action == Marker.ADD and m.points]
        rows = [(m.ns, float("nan"), _box(m, camera)) for m in lines]
    else:
        for one in message.detections:
            best = max((r.hypothesis for r in one.results), key=lambda h: h.score, default=None)
            if best is not None:
                centre, w, h = one.bbox.center.position, one.bbox.size_x / 2, one.bbox.size_y / 2
                box = (centre.x - w, centre.y - h, centre.x + w, centre.y + h)
                rows.append((best.class_id, best.score, box))
    boxes_px = np.array([box for _, _, box in rows], np.float64).reshape(-1, 4)
    label = tuple(name for name, _, _ in rows)
    if not np.isfinite(boxes_px).all():
        wrong = label[int(np.argmax(~np.isfinite(boxes_px).all(axis=1)))]
        raise GraphError(f"{TOPIC}: a box of class {wrong!r} is not finite; fix the detector")
    names = list(dict.fromkeys(label))
    class_id = np.array([names.index(name) for name in label], np.int64)
    return Detections(boxes_px, np.array([score for _, score, _ in rows], np.float32), class_id, label)


def detection_array(found: Detections, head: Header) -> Any:
    """As `vision_msgs/Detection2DArray` (4.x): one hypothesis per box, its class by name."""
    from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose

    out = Detection2DArray(header=head)
    for box, score, label in zip(found.boxes_px.tolist(), found.score.tolist(), found.label):
        one, hypothesis = Detection2D(header=head), ObjectHypothesisWithPose()
        hypothesis.hypothesis.class_id, hypothesis.hypothesis.score = label, score
        one.results.append(hypothesis)
        one.bbox.center.position.x, one.bbox.center.position.y = _centre(box)
        one.bbox.size_x, one.bbox.size_y = box[2] - box[0], box[3] - box[1]
        out.detections.append(one)
    return out


def _centre(box: list[float]) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def markers(found: Detections, head: Header, camera: Camera) -> MarkerArray:
    """As markers one metre before the camera; the first one deletes the previous markers."""
    out = [Marker(header=head, action=Marker.DELETEALL)]
    for i, (x0, y0, x1, y1) in enumerate(found.boxes_px.tolist()):
        corners = [_point(x, y, camera) for x, y in ((x0, y0), (x1, y0), (x1, y1), (x0, y1))]
        line = Marker(header=head, ns=found.label[i], id=i, type=Marker.LINE_STRIP, color=GREEN)
        line.points, line.scale.x = [*corners, corners[0]], LINE_M
        text = Marker(header=head, ns=LABELS, id=i, type=Marker.TEXT_VIEW_FACING, color=GREEN)
        text.text, text.scale.z = f"{found.label[i]} {found.score[i]:.2f}", TEXT_M
        text.pose.position = _point((x0 + x1) / 2, y0, camera)
        out += [line, text]
    return MarkerArray(markers=out)


def _point(x_px: float, y_px: float, camera: Camera) -> Point:
    return Point(x=(x_px - camera.cx) / camera.fx, y=(y_px - camera.cy) / camera.fy, z=1.0)


def _box(marker: Marker, camera: Camera) -> tuple[float, ...]:
    if len(marker.points) != 5:
        raise GraphError(f"{TOPIC}: a box of {len(marker.points)} points, expected 5; fix the detector")
    corners = (marker.points[0], marker.points[2])
    return tuple(v for p in corners for v in (p.x * camera.fx + camera.cx, p.y * camera.fy + camera.cy))
