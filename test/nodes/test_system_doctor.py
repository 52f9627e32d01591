# SPDX-License-Identifier: Apache-2.0
"""A running graph says what is wrong with its camera: on /diagnostics, on the screen and in run.json."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
import signal

import numpy as np
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
    assert re.search(
        r"/camera/color/imag: no message for \d+ s and no publisher; nearest: /camera/color/image_raw", err
    )
    run = json.loads((tmp_path / "run.json").read_text())
    kinds = {(f["check"], f["where"]) for f in run["findings"]}
    assert {("no_message", "/camera/color/imag"), ("wrong_type", "/camera/info")} <= kinds


def test_a_camera_that_sends_but_is_wrong(command, listen, small_room, tmp_path):
    """Dots of a projector, depth in metres as 16 bits, K with cx and cy swapped, and stamps of another clock."""
    heard = Heard(listen(DiagnosticArray, "/diagnostics", qos.health()))
    made = listen.node.create_publisher
    image, depth = made(Image, "image", qos.camera_in()), made(Image, "depth", qos.camera_in())
    info = made(CameraInfo, "camera_info", qos.camera_in())
    up = command("up", "--json", "--out", tmp_path)
    listen.ready({"drp_node", "perception_node", "pose_node", "profiler_node"})
    wrong = dataclasses.replace(small_room.camera, cx=small_room.camera.cy, cy=small_room.camera.cx)
    expected = {("ir_dots", "/image"), ("depth_unit", "/depth"), ("principal_point", "/camera_info")}
    dots = np.random.default_rng(0).integers(2, (238, 318), (1500, 2)).T
    frames, sent = itertools.cycle(small_room), itertools.count(1)

    def wanted() -> bool:
        frame, stamp_ns = next(frames), 66_666_667 * next(sent)
        head = convert.header(stamp_ns, "camera_optical_frame")
        picture = frame.image.copy()
        for d in (-1, 0, 1):
            picture[dots[0] + d, dots[1]] = picture[dots[0], dots[1] + d] = 255
        info.publish(convert.camera_info(wrong, head))
        metres = np.rint(frame.depth * frame.depth_unit_m).astype(np.uint16)
        depth.publish(convert.image_message(head, metres, "16UC1"))
        image.publish(convert.image_message(head, picture, "bgr8"))
        listen.spin(0.05)
        heard.update()
        return expected <= {key[1:] for key, finding in heard.findings.items() if finding is not None}

    listen.until(wanted, 60)
    found = {finding.check.name: finding for finding in heard.findings.values() if finding is not None}
    assert "cx and cy are swapped" in found["principal_point"].seen
    assert "metres in a 16UC1 image?" in found["depth_unit"].seen
    assert found["stamps_behind"].level is Level.NOTE
    assert heard.health["pose_node"].level == b"\x02"
    up.process.send_signal(signal.SIGINT)
    code, _, err = up.finish(60)
    assert code == 0, err
    run = json.loads((tmp_path / "run.json").read_text())
    assert expected <= {(f["check"], f["where"]) for f in run["findings"]}
    page = (tmp_path / "report.html").read_text()
    assert "What was wrong" in page and "cx and cy are swapped" in page


def test_doctor_live(command, listen):
    """Without a graph: a topic with another name, and a depth camera that is there."""
    listen.node.create_publisher(Image, "/camera/color/image_raw", 10)
    depth = listen.node.create_publisher(Image, "depth", qos.camera_in())
    doctor = command("doctor", "--live", "--seconds", 8, "--image-topic", "/camera/image_raw", "--json")
    sent = itertools.count(1)

    def done() -> bool:
        metres = np.full((240, 320), 2, np.uint16)
        depth.publish(convert.image_message(convert.header(next(sent) * 50_000_000, ""), metres, "16UC1"))
        listen.spin(0.05)
        return doctor.process.poll() is not None

    listen.until(done, 60)
    code, out, err = doctor.finish()
    result = json.loads(out)
    found = {(f["check"], f["where"]): f["seen"] for f in result["findings"]}
    assert "nearest: /camera/color/image_raw" in found["no_message", "/camera/image_raw"]
    assert ("no_message", "/camera_info") in found and ("no_message", "/depth") not in found
    assert result["topics"]["/depth"] > 10 and code == result["exit_code"]
    assert re.search(r"/camera/image_raw: no message for \d+ s", err)


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
