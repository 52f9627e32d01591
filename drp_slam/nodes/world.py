# SPDX-License-Identifier: Apache-2.0
"""Poses and points in ROS's frames (REP-103, REP-105).

The tracker's world is the first camera's optical frame. ROS's `map` is the place of `base_link`
at that moment: `T_map_world = T_base_camera`, so x points forward and z up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from geometry_msgs.msg import Pose, PoseArray, PoseStamped, PoseWithCovarianceStamped, Transform
from geometry_msgs.msg import TransformStamped as TransformStampedMessage
from nav_msgs.msg import Odometry, Path
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

from drp_slam import geometry
from drp_slam.datatypes import MapCloud, Track
from drp_slam.nodes.convert import bytes_of
from drp_slam.slam.extrinsic import T_LINK_OPTICAL

LEAST_VARIANCE = 1e-10
"""Added to every variance: filters reject zeros, and the first pose is exact by definition."""


@dataclass(frozen=True)
class Motion:
    """Covariance of a body's pose and its velocity, both along its own axes.

    `covariance` (6, 6), `twist` (6,) in m/s and rad/s or None, `twist_covariance` (6, 6) or None.
    """

    covariance: np.ndarray
    twist: np.ndarray | None
    twist_covariance: np.ndarray | None

    @classmethod
    def of_base(cls, track: Track, T_base_camera: np.ndarray) -> Motion:
        """The motion of `base_link`, computed from the camera's."""
        A = geometry.adjoint(T_base_camera)
        covariance = np.zeros((6, 6)) if track.covariance is None else A @ track.covariance @ A.T
        covariance = covariance + LEAST_VARIANCE * np.eye(6)
        if track.twist is None or track.twist_covariance is None:
            return cls(covariance, None, None)
        return cls(covariance, A @ track.twist, A @ track.twist_covariance @ A.T + LEAST_VARIANCE * np.eye(6))


class Frames:
    """`map -> odom -> base_link`: odometry never jumps; relocalisation and closed loops move `odom`
    in `map`."""

    def __init__(self, T_base_link: np.ndarray) -> None:
        self.T_map_world = T_base_link @ T_LINK_OPTICAL
        self.T_base_camera = self.T_map_world
        self.T_map_odom = np.eye(4)
        self.T_odom_base = np.eye(4)

    def move_camera(self, T_base_link: np.ndarray) -> None:
        """Sets another mount of the camera; the map does not move."""
        self.T_base_camera = T_base_link @ T_LINK_OPTICAL

    def update(self, T_world_camera: np.ndarray, jumped: bool, T_correction: np.ndarray | None = None) -> np.ndarray:
        """Adds a new pose of the camera; returns `T_map_base`. `jumped`: a correction, not a motion.

        `T_correction` is that of `Track`: the correction of the map around the camera.
        """
        if T_correction is not None:
            moved = self.T_map_world @ T_correction @ geometry.inverse(self.T_map_world)
            self.T_map_odom = moved @ self.T_map_odom
        T_map_base = self.T_map_world @ T_world_camera @ geometry.inverse(self.T_base_camera)
        if jumped:
            self.T_map_odom = T_map_base @ geometry.inverse(self.T_odom_base)
        self.T_odom_base = geometry.inverse(self.T_map_odom) @ T_map_base
        return T_map_base

    def points(self, xyz: np.ndarray) -> np.ndarray:
        """(N, 3) points of the tracker's world, in `map`."""
        return geometry.apply(self.T_map_world, xyz)


def pose(T: np.ndarray) -> Pose:
    """A rigid transform as a Pose."""
    out = Pose()
    out.position.x, out.position.y, out.position.z = T[:3, 3].tolist()
    q = geometry.quaternion(T[:3, :3]).tolist()
    out.orientation.x, out.orientation.y, out.orientation.z, out.orientation.w = q
    return out


def transform(head: Header, child: str, T: np.ndarray) -> TransformStampedMessage:
    """A rigid transform as one entry of /tf."""
    as_pose = pose(T)
    out = TransformStampedMessage(header=head, child_frame_id=child, transform=Transform())
    out.transform.translation.x = as_pose.position.x
    out.transform.translation.y = as_pose.position.y
    out.transform.translation.z = as_pose.position.z
    out.transform.rotation = as_pose.orientation
    return out


def odometry(head: Header, child: str, T: np.ndarray, motion: Motion) -> Odometry:
    """`head.frame_id` -> `child`, with the twist in the child's axes; a covariance of -1 means no twist."""
    out = Odometry(header=head, child_frame_id=child)
    out.pose.pose = pose(T)
    out.pose.covariance = along_axes_of_parent(T, motion.covariance)
    if motion.twist is None or motion.twist_covariance is None:
        out.twist.covariance = np.diag([-1.0] + [0.0] * 5).ravel()
        return out
    linear, angular = out.twist.twist.linear, out.twist.twist.angular
    linear.x, linear.y, linear.z, angular.x, angular.y, angular.z = motion.twist.tolist()
    out.twist.covariance = motion.twist_covariance.ravel()
    return out


def pose_stamped(head: Header, T: np.ndarray, motion: Motion) -> PoseWithCovarianceStamped:
    """The pose of the base in `map`."""
    out = PoseWithCovarianceStamped(header=head)
    out.pose.pose = pose(T)
    out.pose.covariance = along_axes_of_parent(T, motion.covariance)
    return out


def along_axes_of_parent(T_parent_child: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """(36,) covariance of a pose for geometry_msgs, from (6, 6) along the child's own axes."""
    turn = np.kron(np.eye(2), T_parent_child[:3, :3])
    return (turn @ covariance @ turn.T).ravel()


def path(head: Header, poses: list[np.ndarray]) -> Path:
    """Poses in `head.frame_id`."""
    return Path(header=head, poses=[PoseStamped(header=head, pose=pose(T)) for T in poses])


def stamped_path(heads: list[Header], poses: list[np.ndarray]) -> Path:
    """Poses that each have a stamp of their own; the path has that of the last one."""
    last = heads[-1] if heads else Header()
    return Path(header=last, poses=[PoseStamped(header=head, pose=pose(T)) for head, T in zip(heads, poses)])


def pose_array(head: Header, poses: list[np.ndarray]) -> PoseArray:
    """Poses in `head.frame_id`."""
    return PoseArray(header=head, poses=[pose(T) for T in poses])


def cloud(head: Header, xyz: np.ndarray, rgb: np.ndarray | None) -> PointCloud2:
    """A cloud `x y z rgb` in rviz's layout."""
    table = np.zeros(len(xyz), [("xyz", "<f4", 3), ("bgra", "u1", 4)])
    table["xyz"] = xyz
    table["bgra"][:, :3] = 200 if rgb is None else rgb[:, ::-1]
    fields = [
        PointField(name=n, offset=4 * i, datatype=PointField.FLOAT32, count=1)
        for i, n in enumerate(("x", "y", "z", "rgb"))
    ]
    return PointCloud2(
        header=head,
        height=1,
        width=len(xyz),
        fields=fields,
        point_step=16,
        row_step=16 * len(xyz),
        data=bytes_of(table.view("u1")),
        is_dense=True,
    )


def map_cloud(head: Header, frames: Frames, points: MapCloud) -> PointCloud2:
    """The map's points in `map`: `x y z rgb`, and where a detector ran `label` and `votes` (INT16), -1 for no class."""
    message = cloud(head, frames.points(points.xyz_m), points.rgb)
    if points.label is None or points.votes is None:
        return message
    table = np.zeros(len(points.xyz_m), [("point", "u1", 16), ("label", "<i2"), ("votes", "<i2")])
    table["point"] = np.frombuffer(message.data, np.uint8).reshape(-1, 16)
    table["label"], table["votes"] = points.label, points.votes
    message.fields = [
        *message.fields,
        PointField(name="label", offset=16, datatype=PointField.INT16, count=1),
        PointField(name="votes", offset=18, datatype=PointField.INT16, count=1),
    ]
    message.point_step, message.row_step = 20, 20 * len(table)
    message.data = bytes_of(table.view("u1"))
    return message
