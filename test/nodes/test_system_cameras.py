# SPDX-License-Identifier: Apache-2.0
"""Cameras without depth, live: one image alone, and a stereo pair on a robot with wheels and an IMU."""

from __future__ import annotations

import itertools
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy")

from graphs import ALL
from nav_msgs.msg import Odometry
from sensor_msgs.msg import CameraInfo, Image, Imu

from drp_slam.datatypes import Camera
from drp_slam.nodes import convert, qos
from drp_slam.nodes.stereo_pair import infos
from drp_slam.reporting import folder

pytestmark = pytest.mark.system
STAGES = ALL - {"player_node"}
OPTICAL = "camera_color_optical_frame"
PERIOD_NS = 66_666_667
PERIOD_S = 0.1
"""Frames are sent at this period of the host's clock: a busy host is no fault of the camera."""


def states(out: Path) -> list[str]:
    """The states of all frames of a graph that has ended."""
    return [row.state for row in folder.read_frames(out / folder.FRAMES)]


def test_one_camera_without_depth(graph, listen, small_room, tmp_path):
    """sensor, save_map: it begins when the camera has moved sideways; the map is kept, the odometry's scale is free."""
    image = listen.node.create_publisher(Image, "/webcam/image_raw", qos.frames_out())
    info = listen.node.create_publisher(CameraInfo, "/webcam/camera_info", qos.frames_out())
    odometry = listen(Odometry, "odom", qos.world())
    running = graph(
        sensor="mono",
        image="/webcam/image_raw",
        camera_info="/webcam/camera_info",
        container="true",
        save_map=tmp_path / "room.drpmap",
        out=tmp_path / "out",
    )
    listen.ready(STAGES)
    frames = list(small_room)
    there_and_back = itertools.cycle(frames + frames[-2:0:-1])
    for k, frame in zip(range(300), there_and_back):
        head = convert.header(10**18 + k * PERIOD_NS, OPTICAL)
        info.publish(convert.camera_info(small_room.camera, head))
        image.publish(convert.image_message(head, frame.image, "bgr8"))
        listen.spin(PERIOD_S)
        if len(odometry) >= 8:
            break
    running.interrupt()
    about, seen = folder.read_run(tmp_path / "out"), states(tmp_path / "out")
    assert about["scale"] != "metric" and seen.count("tracked") >= 8 and "lost" in seen  # until it had moved
    assert (tmp_path / "room.drpmap").stat().st_size > 1000
    assert odometry[-1].pose.covariance[0] > 0.1**2


PROVEN = 24
"""Tracked frames after which wheels that agree with them are relied on."""


class Wall:
    """A pair of cameras moves sideways before a wall: the right image is the left one, shifted by the disparity."""

    camera = Camera(320, 240, 300.0, 300.0, 160.0, 120.0, baseline_m=0.1)
    disparity_px = 15
    step_px = 3
    step_m = step_px * camera.baseline_m / disparity_px

    def __init__(self) -> None:
        noise = np.random.default_rng(3).integers(0, 256, (60, 1000), np.uint8)
        self._texture = cv2.resize(noise, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)

    def pair(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """(240, 320) left and right image of frame k."""
        left = 20 + k * self.step_px
        return tuple(self._texture[:240, x : x + 320].copy() for x in (left, left + self.disparity_px))


def test_a_stereo_pair_on_a_robot_with_wheels_and_imu(graph, listen, tmp_path):
    """right, right_camera_info, odometry, imu: depth is measured, and the wheels carry the pose through darkness."""
    create = listen.node.create_publisher
    images = [create(Image, f"/pair/{side}/image_rect", qos.frames_out()) for side in ("left", "right")]
    calibrations = [create(CameraInfo, topic, qos.frames_out()) for topic in ("/pair/left/camera_info", "/right_info")]
    wheels = create(Odometry, "/wheel/odometry", qos.world())
    imu = create(Imu, "/imu/data", qos.world())
    odometry = listen(Odometry, "odom", qos.world())
    running = graph(
        image="/pair/left/image_rect",
        camera_info="/pair/left/camera_info",
        right="/pair/right/image_rect",
        right_camera_info="/right_info",
        odometry="/wheel/odometry",
        imu="/imu/data",
        container="true",
        out=tmp_path,
    )
    listen.ready(STAGES)
    wall = Wall()

    def send(k: int, dark: bool) -> None:
        head = convert.header(10**18 + k * PERIOD_NS, OPTICAL)
        moved = Odometry(header=convert.header(convert.stamp_ns(head), "wheel_odom"), child_frame_id="base_link")
        moved.pose.pose.position.y, moved.pose.pose.orientation.w = -k * wall.step_m, 1.0
        wheels.publish(moved)
        imu.publish(Imu(header=convert.header(convert.stamp_ns(head), "base_link")))
        for publisher, message in zip(calibrations, infos(wall.camera, head)):
            publisher.publish(message)
        for publisher, picture in zip(images, wall.pair(k)):
            publisher.publish(convert.image_message(head, picture * (not dark), "mono8"))
        listen.spin(PERIOD_S)

    last = next(k for k in range(200) if send(k, dark=False) or len(odometry) >= PROVEN)
    seen_m = odometry[-1].pose.pose.position.y - odometry[0].pose.pose.position.y
    frames = (convert.stamp_ns(odometry[-1].header) - convert.stamp_ns(odometry[0].header)) / PERIOD_NS
    assert seen_m == pytest.approx(-frames * wall.step_m, abs=0.01 + 0.1 * frames * wall.step_m)
    odometry.clear()
    for k in range(last + 1, last + 10):
        send(k, dark=True)
    running.interrupt()
    assert "predicted" in states(tmp_path) and odometry
