# SPDX-License-Identifier: Apache-2.0
"""Examines the topics of a live camera for some seconds, for `doctor --live`."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import rclpy
from rcl_interfaces.msg import SetParametersResult
from rclpy.executors import SingleThreadedExecutor
from rclpy.logging import LoggingSeverity, set_logger_level
from rclpy.parameter import Parameter
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from drp_slam.config import SlamConfig
from drp_slam.data import image_codec
from drp_slam.data.camera_info import camera_of, is_rectified
from drp_slam.datatypes import Camera, Frame
from drp_slam.doctor.findings import Finding, found, worst_first
from drp_slam.errors import DrpSlamError
from drp_slam.nodes import convert, qos
from drp_slam.nodes.base import StageNode
from drp_slam.nodes.camera_topics import CAMERA_TOPICS
from drp_slam.nodes.depth_topic import DepthTopic, NoDepth
from drp_slam.nodes.examination import FIRST_PERIOD_S, Examination
from drp_slam.nodes.limits import IN_FLIGHT
from drp_slam.nodes.pairing import Verdict
from drp_slam.nodes.table import Place
from drp_slam.nodes.tf import Transforms

PATIENCE_S = 0.3
"""An image waits for its depth at most this long."""
Show = Callable[[list[Finding]], object]


class DoctorNode(StageNode):
    """Subscribes to the inputs of the graph's nodes and checks them, without tracking."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("doctor_node", SlamConfig, **kwargs)

    def configure(self) -> None:
        super().configure()
        self._camera: Camera | None = None
        self._refused: dict[str, str] = {}
        self._waiting: deque[tuple[float, Header, np.ndarray]] = deque(maxlen=IN_FLIGHT)
        self.examination = Examination({role: self.resolve_topic_name(role) for role in CAMERA_TOPICS}, FIRST_PERIOD_S)
        self._mono = self.configs[0].sensor == "mono"
        self._depths: DepthTopic | NoDepth = NoDepth()
        if not self._mono:
            listening = replace(self.graph, publish_map_to_odom=False, publish_odom_to_base=False, publish_mount=False)
            self._depths = DepthTopic(self, self.configs[0], Transforms(self, listening).tree, self._pair)
        self.subscribe(CameraInfo, "camera_info", self._on_info, qos.camera_in(), foreign=True)
        self.subscribe(Image, "image", self._on_image, qos.camera_in(IN_FLIGHT), foreign=True)
        self.subscribe(CompressedImage, "image/compressed", self._on_image, qos.camera_in(IN_FLIGHT))
        if self.graph.pair:
            self.subscribe(CameraInfo, "right_camera_info", self._ignore, qos.camera_in(), foreign=True)
            self.subscribe(Image, "right", self._ignore, qos.camera_in(IN_FLIGHT), foreign=True)
            self.subscribe(CompressedImage, "right/compressed", self._ignore, qos.camera_in(IN_FLIGHT))
        self.every(PATIENCE_S / 3, self._pair)

    def _on_parameters(self, given: list[Parameter]) -> SetParametersResult:
        return SetParametersResult(successful=True)  # none has an effect

    def report_health(self) -> None:
        """Publishes nothing on /diagnostics: findings are printed."""

    def problem(self, error: object) -> None:
        topic, _, words = str(error).partition(": ")
        self._refused[self.resolve_topic_name(topic) if topic.replace("/", "").isidentifier() else "messages"] = words

    def findings(self) -> list[Finding]:
        refused = [found("refused", topic, words) for topic, words in self._refused.items()]
        inputs = [self._scaleless(finding) for finding in super().findings()]
        return worst_first([*inputs, *self.examination.findings, *refused])

    def _scaleless(self, finding: Finding) -> Finding:
        """Without any publisher of depth, the camera has no depth: that is no fault."""
        depth = self.resolve_topic_name("depth")
        if finding.where != depth or finding.check.name != "no_message" or "no publisher" not in finding.seen:
            return finding
        names = [name for name, _ in self.get_topic_names_and_types() if self.count_publishers(name)]
        if any("depth" in name for name in names) or not self.inputs.received.get("image"):
            return finding
        return found("no_scale", depth, "no topic has depth")

    def finish(self) -> None:
        self.examination.close()

    def _ignore(self, message: Any) -> None:
        """Does nothing: the message has been counted, with its stamp."""

    def _on_info(self, message: CameraInfo) -> None:
        self._camera = camera_of(message, "camera_info", is_rectified(self.resolve_topic_name("image")))

    def _on_image(self, message: Image | CompressedImage) -> None:
        self._waiting.append((time.monotonic(), message.header, image_codec.colour_of(message, "image")))
        self._pair()

    def _pair(self) -> None:
        """Examines images in order, each with its depth if that arrives in time."""
        while self._waiting:
            since_s, header, image = self._waiting[0]
            late = time.monotonic() - since_s > PATIENCE_S or self.graph.pair
            verdict, paired = self._depths.nearest(convert.stamp_ns(header), final=late)
            if verdict is Verdict.WAIT:
                return
            self._waiting.popleft()
            height, width = image.shape[:2]
            unknown = Camera(width, height, 0.0, 0.0, 0.0, 0.0)
            depth, unit_m = None, 1.0
            if paired is not None:
                depth, unit_m = paired.values, paired.unit_m
                if self._camera is not None:
                    try:
                        depth, unit_m = self._depths.in_image(paired, header.frame_id, self._camera)
                    except DrpSlamError as error:
                        self.problem(error)
            camera = self._camera or unknown
            self.examination.offer(Frame(0, convert.stamp_ns(header), image, camera, depth, unit_m))


def examine(place: Place, seconds: float, show: Show, sensor: str = "auto") -> tuple[list[Finding], dict[str, int]]:
    """Findings on a camera after so many seconds, or at SIGINT; and messages by topic.

    `show` is called with the findings so far, once a second.
    """
    names = (*place.remappings(), *((("__ns", place.namespace),) if place.namespace else ()))
    options = [word for a, b in names for word in ("-r", f"{a}:={b}")]
    options += ["-p", f"sensor:={sensor}"]
    options += ["-p", f"use_sim_time:={str(place.use_sim_time).lower()}", "-p", f"pair:={str(place.pair).lower()}"]
    rclpy.init(args=["--ros-args", *options], signal_handler_options=SignalHandlerOptions.NO)
    try:
        set_logger_level("doctor_node", LoggingSeverity.FATAL)
        node = DoctorNode()
        try:
            node.start()
            executor = SingleThreadedExecutor()
            executor.add_node(node)
            _spin(node, executor, seconds, show)
            received = {node.resolve_topic_name(role): count for role, count in node.inputs.received.items()}
            return node.findings(), received
        finally:
            node.close()
            node.destroy_node()
    finally:
        rclpy.try_shutdown()


def _spin(node: DoctorNode, executor: SingleThreadedExecutor, seconds: float, show: Show) -> None:
    """Returns after the time, or at SIGINT."""
    end_s = time.monotonic() + seconds
    shown_s = 0.0
    try:
        while time.monotonic() < end_s:
            executor.spin_once(0.1)
            if time.monotonic() - shown_s >= 1.0:
                shown_s = time.monotonic()
                show(node.findings())
    except KeyboardInterrupt:
        return
