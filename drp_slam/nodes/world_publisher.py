# SPDX-License-Identifier: Apache-2.0
"""Publishes odometry and TF each frame, and the map at most once a second, for `pose_node`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
from geometry_msgs.msg import PoseArray, PoseWithCovarianceStamped
from nav_msgs.msg import Odometry, Path
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Header

from drp_slam import geometry
from drp_slam.config import GraphConfig
from drp_slam.datatypes import Camera, Frame, Track
from drp_slam.frontend.depth_sensor import rectification
from drp_slam.nodes import convert, qos, world
from drp_slam.nodes.grid_publisher import GridPublisher
from drp_slam.nodes.keyframe_publisher import KeyframePublisher
from drp_slam.nodes.tf import Transforms
from drp_slam.nodes.transforms import TransformTree

if TYPE_CHECKING:
    from drp_slam.nodes.base import StageNode
    from drp_slam.slam.tracker import Tracker

SLOW_PERIOD_S = 1.0


class WorldPublisher:
    """Publishes a tracked frame."""

    def __init__(self, node: StageNode, graph: GraphConfig) -> None:
        self._graph = graph
        self._frames: world.Frames | None = None
        self._odom = node.advertise(Odometry, "odom", qos.world())
        self._pose = node.advertise(PoseWithCovarianceStamped, "pose", qos.world())
        self._path = node.advertise(Path, "path", qos.latched())
        self._points = node.advertise(PointCloud2, "map_points", qos.latched())
        self._keyframes = node.advertise(PoseArray, "keyframes", qos.latched())
        self._grid = GridPublisher(node, graph.grid_cell_m, (graph.grid_low_m, graph.grid_high_m))
        self._dense = KeyframePublisher(node) if graph.dense else None
        self._transforms = Transforms(node, graph)
        self._slow_s, self._count = 0.0, 0
        self._another_map = False

    @property
    def tree(self) -> TransformTree:
        """The tree of frames that other nodes publish."""
        return self._transforms.tree

    def rectified(self, pair: Camera) -> Camera:
        """The left camera of a stereo pair as features and depth have it."""
        return rectification(pair)[1] if self._dense is None else self._dense.calibrated(pair)

    def settle(self, header: Header) -> world.Frames | None:
        """The camera's mount on the robot, from the image's frame; None while unknown."""
        mount = self._transforms.mount(header.frame_id, convert.stamp_ns(header))
        if mount is None:
            return None
        if self._frames is None:
            self._frames = world.Frames(mount.T_base_link)
        self._frames.move_camera(mount.T_base_link)
        return self._frames

    def restart(self) -> None:
        """Switches to another map: the next pose changes `map -> odom`, not the odometry."""
        self._another_map, self._count = True, -1
        self._grid.forget()

    def camera_at(self, T_map_base: np.ndarray) -> np.ndarray | None:
        """(4, 4) `T_world_camera` of a pose of the base; None while the mount is unknown."""
        frames = self._frames
        return None if frames is None else geometry.inverse(frames.T_map_world) @ T_map_base @ frames.T_base_camera

    def publish(self, header: Header, frame: Frame, track: Track, tracker: Tracker) -> None:
        """Publishes a tracked frame under the colour image's stamp; nothing while the camera's mount is unknown."""
        graph = self._graph
        assert track.T_world_camera is not None
        if track.T_correction is not None:
            self._grid.moved()
        if track.keyframe:
            self._grid.keyframe(len(tracker.map) - 1, frame)
            if self._dense is not None:
                self._dense.keyframe(header, frame)
        frames = self.settle(header)
        if frames is None:
            return
        jumped = track.relocalised or self._another_map
        T_map_base = frames.update(track.T_world_camera, jumped, track.T_correction)
        self._another_map = False
        in_map = Header(stamp=header.stamp, frame_id=graph.map_frame)
        in_odom = Header(stamp=header.stamp, frame_id=graph.odom_frame)
        motion = world.Motion.of_base(track, frames.T_base_camera)
        self._odom.publish(world.odometry(in_odom, graph.base_frame, frames.T_odom_base, motion))
        self._pose.publish(world.pose_stamped(in_map, T_map_base, motion))
        self._transforms.publish(header.stamp, frames)
        now_s = time.monotonic()
        if now_s - self._slow_s >= SLOW_PERIOD_S:
            self._slow_s = now_s
            self._publish_map(in_map, frames, tracker)
            self._grid.publish(in_map, frames, tracker.map)

    def _publish_map(self, in_map: Header, frames: world.Frames, tracker: Tracker) -> None:
        """Publishes path, keyframes and points when a keyframe was added."""
        count = len(tracker.map)
        if count == self._count:
            return
        self._count = count
        back = geometry.inverse(frames.T_base_camera)
        poses = list(frames.T_map_world @ geometry.inverse(tracker.map.T_camera_world[tracker.map.live]) @ back)
        self._path.publish(world.path(in_map, poses))
        self._keyframes.publish(world.pose_array(in_map, poses))
        self._points.publish(world.map_cloud(in_map, frames, tracker.cloud()))
        if self._dense is not None:
            self._dense.place(in_map.frame_id, frames, tracker.map)
