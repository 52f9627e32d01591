# SPDX-License-Identifier: Apache-2.0
"""What `pose_node` tells the world: odometry and TF each frame, the map at most once a second."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from geometry_msgs.msg import PoseArray, PoseWithCovarianceStamped
from nav_msgs.msg import Odometry, Path
from rclpy.node import Node
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Header

from drp_slam import geometry
from drp_slam.config import GraphConfig
from drp_slam.datatypes import Track
from drp_slam.nodes import qos, world

if TYPE_CHECKING:
    from drp_slam.slam.tracker import Tracker

SLOW_PERIOD_S = 1.0


class WorldPublisher:
    """Publishes a tracked frame. TF is on wherever `tf2_msgs` imports."""

    def __init__(self, node: Node, graph: GraphConfig) -> None:
        self._graph = graph
        self._frames = world.Frames(world.mount(graph.mount))
        self._odom = node.create_publisher(Odometry, "odom", qos.world())
        self._pose = node.create_publisher(PoseWithCovarianceStamped, "pose", qos.world())
        self._path = node.create_publisher(Path, "path", qos.latched())
        self._points = node.create_publisher(PointCloud2, "map_points", qos.latched())
        self._keyframes = node.create_publisher(PoseArray, "keyframes", qos.latched())
        self._tf, self._tf_static = _tf_publishers(node)
        self._optical_frame = ""
        self._slow_s, self._count = 0.0, 0

    def publish(self, header: Header, track: Track, tracker: Tracker) -> None:
        """A tracked frame, under the colour image's stamp."""
        graph, frames = self._graph, self._frames
        assert track.T_world_camera is not None
        T_map_base = frames.update(track.T_world_camera, track.relocalised, track.T_correction)
        in_map = Header(stamp=header.stamp, frame_id=graph.map_frame)
        in_odom = Header(stamp=header.stamp, frame_id=graph.odom_frame)
        self._odom.publish(world.odometry(in_odom, graph.base_frame, frames.T_odom_base))
        self._pose.publish(world.pose_stamped(in_map, T_map_base))
        if self._tf is not None:
            self._publish_tf(in_map, in_odom, header)
        now_s = time.monotonic()
        if now_s - self._slow_s >= SLOW_PERIOD_S:
            self._slow_s = now_s
            self._publish_map(in_map, tracker)

    def _publish_map(self, in_map: Header, tracker: Tracker) -> None:
        """Path, keyframes and points, where a keyframe has come."""
        count = len(tracker.map)
        if count == self._count:
            return
        self._count = count
        T_base_camera = self._frames.T_base_camera
        back = geometry.inverse(T_base_camera)
        poses = list(T_base_camera @ geometry.inverse(tracker.map.T_camera_world) @ back)
        self._path.publish(world.path(in_map, poses))
        self._keyframes.publish(world.pose_array(in_map, poses))
        self._points.publish(world.map_cloud(in_map, self._frames, tracker.cloud()))

    def _publish_tf(self, in_map: Header, in_odom: Header, header: Header) -> None:
        from tf2_msgs.msg import TFMessage

        graph, frames = self._graph, self._frames
        self._tf.publish(
            TFMessage(
                transforms=[
                    world.transform(in_map, graph.odom_frame, frames.T_map_odom),
                    world.transform(in_odom, graph.base_frame, frames.T_odom_base),
                ]
            )
        )
        if header.frame_id != self._optical_frame:
            self._optical_frame = header.frame_id
            base = Header(stamp=header.stamp, frame_id=graph.base_frame)
            link = Header(stamp=header.stamp, frame_id=graph.camera_frame)
            self._tf_static.publish(
                TFMessage(
                    transforms=[
                        world.transform(base, graph.camera_frame, frames.T_base_link),
                        world.transform(link, header.frame_id, world.T_LINK_OPTICAL),
                    ]
                )
            )


def _tf_publishers(node: Node) -> tuple[Any, Any]:
    """Publishers of /tf and /tf_static, or None twice."""
    try:
        from tf2_msgs.msg import TFMessage
    except ImportError:
        node.get_logger().info("tf2_msgs is not installed: no /tf (build it: .ci/tf2_msgs/build)")
        return None, None
    return (
        node.create_publisher(TFMessage, "/tf", qos.world()),
        node.create_publisher(TFMessage, "/tf_static", qos.latched()),
    )
