# SPDX-License-Identifier: Apache-2.0
"""A running graph says what is wrong with its camera: on /diagnostics, on the screen and in run.json."""

from __future__ import annotations

import json
import signal

import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from drp_slam.doctor.checks import Level
from drp_slam.doctor.endpoints import SILENT_S
from drp_slam.nodes import convert, qos, status_codec

pytestmark = pytest.mark.system

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL, reliability=ReliabilityPolicy.RELIABLE)


class Heard:
    """The last health and the findings of each node."""

    def __init__(self, messages: list) -> None:
        self._messages = messages
        self.health: dict = {}
        self.findings: dict = {}

    def update(self) -> bool:
        for message in self._messages:
            for status in message.status:
                node = status_codec.health_of(status, "/")
                if node:
                    self.health[node] = status
                if told := status_codec.finding_of(status, "/"):
                    node, finding = told
                    values = status_codec.values_of(status)
                    self.findings[node, values["check"], values["where"]] = finding
        self._messages.clear()
        return True

    def has(self, *key: str) -> bool:
        return self.update() and self.findings.get(key) is not None


def test_a_graph_without_a_camera_waits_and_says_what_for(command, listen, small_room, tmp_path):
    """A misspelt image topic, a silent depth camera, a wrong type, a latched camera_info, two cameras."""
    made = listen.node.create_publisher
    made(Image, "/camera/color/image_raw", 10)
    made(Image, "/camera/depth/image_raw", qos.camera_in())
    wrong = made(CompressedImage, "/camera/info", 10)
    heard = Heard(listen(DiagnosticArray, "/diagnostics", qos.health()))
    topics = ("--image-topic", "/camera/color/imag", "--depth-topic", "/camera/depth/image_raw")
    options = ("--camera-info-topic", "/camera/info", "--json", "--out", tmp_path)
    up = command("up", *topics, *options)
    listen.until(lambda: heard.has("drp_node", "no_message", "/camera/color/imag"), 60)
    finding = heard.findings["drp_node", "no_message", "/camera/color/imag"]
    assert finding.level is Level.WARN and "nearest: /camera/color/image_raw" in finding.seen
    assert heard.health["drp_node"].message.startswith("waiting for /camera/color/imag: no message for")
    assert heard.health["drp_node"].level == b"\x01"
    listen.until(lambda: heard.has("pose_node", "wrong_type", "/camera/info"), 20)
    listen.until(lambda: heard.has("pose_node", "no_message", "/camera/depth/image_raw"), 20)
    assert "silent" in heard.findings["pose_node", "no_message", "/camera/depth/image_raw"].seen
    listen.node.destroy_publisher(wrong)
    latched = made(CameraInfo, "/camera/info", LATCHED)
    head = convert.header(small_room.stamps_ns[0].item(), "camera")
    latched.publish(convert.camera_info(small_room.camera, head))
    listen.until(
        lambda: (
            heard.update()
            and status_codec.values_of(heard.health["pose_node"]).get("received_camera_info") == "1"
            and not any(heard.findings.get(("pose_node", c, "/camera/info")) for c in ("wrong_type", "no_message"))
        ),
        20,
    )
    first = made(Image, "/camera/color/imag", 10)
    made(Image, "/camera/color/imag", 10)
    listen.until(lambda: heard.has("drp_node", "two_publishers", "/camera/color/imag"), 20)
    assert not any(s.message == "running" for s in heard.health.values())
    picture = convert.image_message(head, next(iter(small_room)).image, "bgr8")

    def arrives() -> bool:
        first.publish(picture)
        heard.update()
        return heard.findings["drp_node", "no_message", "/camera/color/imag"] is None

    listen.until(arrives, 20)

    up.process.send_signal(signal.SIGINT)
    code, _, err = up.finish(60)
    assert code == 0, err
    assert "/camera/color/imag: no message for 5 s and no publisher; nearest: /camera/color/image_raw" in err
    run = json.loads((tmp_path / "run.json").read_text())
    kinds = {(f["check"], f["where"]) for f in run["findings"]}
    assert {("no_message", "/camera/color/imag"), ("wrong_type", "/camera/info")} <= kinds


def test_qos_that_cannot_match_is_named(listen):
    """A camera that offers best effort, and a node that is told to ask for reliable."""
    from rclpy.parameter import Parameter

    from drp_slam.nodes.pose_node import PoseNode

    name = "qos_overrides.depth.subscription.reliability"
    overrides = [Parameter(name, value="reliable"), Parameter("use_sim_time", value=True)]
    listen.node.create_publisher(Image, "depth", qos.camera_in())
    node = PoseNode(context=listen.node.context, parameter_overrides=overrides, use_global_arguments=False)
    try:
        node.start()
        listen.spin(SILENT_S + 0.5)
        found = {f.key: f for f in node.findings()}
        assert "offers best effort" in found["qos_mismatch", "/depth"].seen
        assert "no publisher" in found["no_message", "/image"].seen
        assert "0 publishers" in found["no_clock", "/clock"].seen
    finally:
        node.destroy_node()
