# SPDX-License-Identifier: Apache-2.0
"""Poses in ROS's frames: REP-103 axes, REP-105 chain, no jump of the odometry."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("rclpy")

from drp_slam import geometry
from drp_slam.datatypes import Camera, Frame, MapCloud, Track
from drp_slam.errors import ConfigError
from drp_slam.nodes import convert, world
from drp_slam.nodes.grid_publisher import GridPublisher
from drp_slam.slam import extrinsic

HEAD = convert.header(1, "map")


def moved(x=0.0, y=0.0, z=0.0):
    T = np.eye(4)
    T[:3, 3] = x, y, z
    return T


def test_optical_axes_become_body_axes():
    frames = world.Frames(np.eye(4))
    assert np.allclose(frames.update(moved(z=2.0), False)[:3, 3], [2, 0, 0])  # forward
    assert np.allclose(frames.update(moved(x=1.0), False)[:3, 3], [0, -1, 0])  # right
    assert np.allclose(frames.update(moved(y=1.0), False)[:3, 3], [0, 0, -1])  # down
    assert np.allclose(frames.points(np.array([[1.0, 2.0, 3.0]])), [[3, -1, -2]])


def test_mount_is_where_the_camera_sits():
    T = extrinsic.mount("0.1 0.2 0.3 0 0 90")
    assert np.allclose(T[:3, 3], [0.1, 0.2, 0.3]) and np.allclose(T[:3, 0], [0, 1, 0])
    frames = world.Frames(T)
    assert np.allclose(frames.update(np.eye(4), False), np.eye(4))
    forward = frames.update(moved(z=1.0), False)  # the camera looks to the left of the robot
    assert np.allclose(forward[:3, 3], [0, 1, 0])
    for text in ("1 2 3", "a b c d e f", "nan 0 0 0 0 0"):
        with pytest.raises(ConfigError, match=r"graph\.mount"):
            extrinsic.mount(text)


def test_relocalisation_moves_odom_in_map_and_odometry_never_jumps():
    rng = np.random.default_rng(3)
    frames, T = world.Frames(extrinsic.mount("0.1 0 0.2 3 4 5")), np.eye(4)
    last = frames.T_odom_base.copy()
    for i in range(20):
        jump = i == 10
        T = geometry.exp(rng.normal(0, 0.5 if jump else 0.01, 6)) @ T
        T_map_base = frames.update(T, jump)
        assert np.allclose(frames.T_map_odom @ frames.T_odom_base, T_map_base)
        assert np.linalg.norm(frames.T_odom_base[:3, 3] - last[:3, 3]) < 0.1
        last = frames.T_odom_base.copy()
    assert not np.allclose(frames.T_map_odom, np.eye(4))


def test_a_closed_loop_moves_odom_in_map_and_odometry_stays_continuous():
    frames = world.Frames(extrinsic.mount("0.1 0 0.2 3 4 5"))
    step, T = geometry.exp(np.array([0.01, 0.0, 0.05, 0.0, 0.02, 0.0])), np.eye(4)
    correction = geometry.exp(np.array([0.3, -0.2, 0.1, 0.05, 0.1, -0.02]))
    motions = []
    for i in range(6):
        T = (correction if i == 3 else np.eye(4)) @ T @ step
        before = frames.T_odom_base
        T_map_base = frames.update(T, False, correction if i == 3 else None)
        assert np.allclose(frames.T_map_odom @ frames.T_odom_base, T_map_base)
        motions.append(geometry.inverse(before) @ frames.T_odom_base)
    assert np.allclose(motions, motions[0], atol=1e-12)
    assert np.linalg.norm(frames.T_map_odom[:3, 3]) > 0.2


def test_pose_message_is_the_matrix():
    T = geometry.exp(np.array([0.1, 0.2, 0.3, 0.4, -0.5, 0.6]))
    p = world.pose(T)
    q = np.array([p.orientation.x, p.orientation.y, p.orientation.z, p.orientation.w])
    x, y, z, w = q
    R = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
    assert np.allclose(R, T[:3, :3]) and np.isclose(np.linalg.norm(q), 1.0)
    assert np.allclose([p.position.x, p.position.y, p.position.z], T[:3, 3])


def test_cloud_is_xyz_and_colour():
    xyz, rgb = np.array([[1.0, 2.0, 3.0]]), np.array([[10, 20, 30]], np.uint8)
    message = world.cloud(HEAD, xyz, rgb)
    data = bytes(message.data)
    assert np.array_equal(np.frombuffer(data[:12], np.float32), [1, 2, 3])
    assert list(data[12:16]) == [30, 20, 10, 0] and message.width == 1


def test_covariance_and_twist_of_the_base_are_those_of_the_camera_seen_from_it():
    rng = np.random.default_rng(0)
    L = np.tril(rng.normal(size=(6, 6))) * 0.01
    T_world_camera = geometry.exp(rng.normal(size=6) * 0.5)
    twist = np.array([0.1, -0.2, 0.3, 0.2, 0.1, -0.3])
    track = Track(0, 0, "tracked", T_world_camera, covariance=L @ L.T, twist=twist, twist_covariance=np.eye(6) * 1e-4)
    frames = world.Frames(extrinsic.mount("0.1 -0.2 0.3 5 10 40"))
    T = frames.update(T_world_camera, False)
    motion = world.Motion.of_base(track, frames.T_base_camera)
    message = world.pose_stamped(HEAD, T, motion)
    stated = np.asarray(message.pose.covariance).reshape(6, 6)
    errors = []
    for d in rng.normal(size=(20000, 6)) @ L.T:
        other = frames.T_map_world @ T_world_camera @ geometry.exp(d) @ geometry.inverse(frames.T_base_camera)
        errors.append(np.r_[other[:3, 3] - T[:3, 3], geometry.rotation_vector(other[:3, :3] @ T[:3, :3].T)])
    np.testing.assert_allclose(np.cov(np.array(errors).T), stated, atol=0.06 * np.abs(stated).max())
    odometry = world.odometry(HEAD, "base_link", T, motion)
    later = frames.T_map_world @ T_world_camera @ geometry.exp(1e-4 * twist) @ geometry.inverse(frames.T_base_camera)
    body = geometry.log(geometry.inverse(T) @ later) / 1e-4
    linear, angular = odometry.twist.twist.linear, odometry.twist.twist.angular
    np.testing.assert_allclose([linear.x, linear.y, linear.z, angular.x, angular.y, angular.z], body, atol=1e-6)
    assert odometry.twist.covariance[0] > 0
    none = world.odometry(HEAD, "base_link", T, world.Motion(np.eye(6), None, None))
    assert none.twist.covariance[0] == -1.0


def test_grid_of_keyframes_follows_the_map():
    """A wall 2 m ahead: occupied cells where it is, and where a closed loop puts it."""
    published = []

    class Node:
        def advertise(self, kind, topic, profile):
            assert topic == "map"
            return self

        def get_subscription_count(self):
            return 1

        publish = published.append

    frames = world.Frames(np.eye(4))
    grid = GridPublisher(Node(), 0.1, (-0.2, 0.2))
    camera = Camera(160, 120, 100.0, 100.0, 80.0, 60.0)
    slam_map = SimpleNamespace(pose=lambda number: np.eye(4))
    grid.keyframe(0, Frame(0, 0, None, camera, np.full((120, 160), 2000, np.uint16)))
    grid.publish(HEAD, frames, slam_map)
    for at_x in (2.0, 3.0):
        message = published[-1]
        cells = np.array(message.data, np.int8).reshape(message.info.height, message.info.width)
        x = message.info.origin.position.x + (np.nonzero(cells == 100)[1] + 0.5) * message.info.resolution
        assert len(x) and np.allclose(x, at_x, atol=0.11)
        slam_map.pose = lambda number: geometry.inverse(moved(z=1.0))
        grid.moved()
        grid.publish(HEAD, frames, slam_map)


def test_the_map_carries_labels_behind_the_fields_that_rviz_reads():
    head, frames = convert.header(5, "map"), world.Frames(np.eye(4))
    xyz = np.array([[0.0, 0.0, 1.0], [1.0, 2.0, 3.0]])
    plain = world.map_cloud(head, frames, MapCloud(xyz))
    label, votes = np.array([3, -1], np.int16), np.array([7, 1], np.int16)
    message = world.map_cloud(head, frames, MapCloud(xyz, None, label, votes, ("a", "b", "c", "d")))
    assert [f.name for f in message.fields] == ["x", "y", "z", "rgb", "label", "votes"]
    rows = np.frombuffer(message.data, np.uint8).reshape(2, message.point_step)
    assert rows[:, :16].tobytes() == np.frombuffer(plain.data, np.uint8).tobytes()
    np.testing.assert_array_equal(rows[:, 16:].copy().view("<i2"), np.stack([label, votes], axis=1))
    assert message.row_step == len(message.data)
