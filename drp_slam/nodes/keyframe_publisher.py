# SPDX-License-Identifier: Apache-2.0
"""The topics `keyframe/...` for `dense_node`: image, depth and camera of each new keyframe, and poses of all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
from nav_msgs.msg import Path
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from drp_slam import geometry
from drp_slam.datatypes import Camera, Frame
from drp_slam.frontend.depth_sensor import rectification
from drp_slam.nodes import convert, qos, world
from drp_slam.slam.map import Map

if TYPE_CHECKING:
    from drp_slam.nodes.base import StageNode


class KeyframePublisher:
    """Publishes keyframes that have image and depth; of a stereo pair the rectified left image."""

    def __init__(self, node: StageNode) -> None:
        self._image = node.advertise(Image, "keyframe/image", qos.frames_out())
        self._depth = node.advertise(Image, "keyframe/depth", qos.frames_out())
        self._info = node.advertise(CameraInfo, "keyframe/camera_info", qos.frames_out())
        self._path = node.advertise(Path, "keyframe/path", qos.latched())
        self._rectify: tuple[np.ndarray, np.ndarray] | None = None

    def calibrated(self, pair: Camera) -> Camera:
        """The rectified left camera of a pair, whose raw images are rectified from now on."""
        tables, camera = rectification(pair)
        self._rectify = (tables[0][..., 0], tables[0][..., 1]) if tables else None
        return camera

    def keyframe(self, header: Header, frame: Frame) -> None:
        """Called when this frame became a keyframe."""
        image, depth = frame.image, frame.depth
        if image is None or depth is None:
            return
        if self._rectify is not None:
            image = cv2.remap(image, *self._rectify, cv2.INTER_LINEAR)
        self._info.publish(convert.camera_info(frame.camera, header))
        self._image.publish(self._image.image(header, image, convert.colour_encoding(image)))
        self._depth.publish(self._depth.image(header, *convert.rep118(depth, frame.depth_unit_m)))

    def place(self, frame_id: str, frames: world.Frames, slam_map: Map) -> None:
        """Publishes the optical frames of all keyframes in the map's frame, each under its own stamp."""
        numbers = slam_map.live
        poses = frames.T_map_world @ geometry.inverse(slam_map.T_camera_world[numbers])
        heads = [convert.header(slam_map.views[k].stamp_ns, frame_id) for k in numbers]
        self._path.publish(world.stamped_path(heads, list(poses)))
