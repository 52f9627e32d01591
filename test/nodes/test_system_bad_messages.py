# SPDX-License-Identifier: Apache-2.0
"""Bad messages to running nodes: a line on /diagnostics names the topic, and life goes on."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2

from drp_slam.data.trajectory import read_tum
from drp_slam.nodes import convert, qos, status_codec
from drp_slam.reporting import folder

pytestmark = pytest.mark.system


def test_no_node_dies_of_a_bad_message(four_nodes, listen, small_room, huge_png, tmp_path):
    make = listen.node.create_publisher
    image, depth = make(Image, "image", 10), make(Image, "depth", 10)
    info, small = make(CameraInfo, "camera_info", 10), make(CompressedImage, "image/compressed", 10)
    tensor, heads = make(Image, "tensor", 10), make(Image, "heads", 10)
    features = make(PointCloud2, "features", 10)
    status = make(DiagnosticArray, "status", qos.ledger())
    problems: dict[str, str] = {}
    ready: set[str] = set()
    tracked = [0]
    heard = listen(DiagnosticArray, "/diagnostics", qos.health())

    def look() -> None:
        for status in (s for message in heard for s in message.status):
            values = status_codec.values_of(status)
            if values.get("ready") == "1":
                ready.add(status.name.partition(": ")[0])
            if values.get("last_problem"):
                problems[values["last_problem"]] = status.name
            if "tracked" in values:
                tracked[0] = int(values["tracked"])
        heard.clear()

    def reported(words: str) -> bool:
        look()
        return any(words in problem for problem in problems)

    def count() -> int:
        look()
        return tracked[0]

    publishers = (image, depth, info, small, tensor, heads, features, status)
    listen.until(lambda: all(p.get_subscription_count() for p in publishers))
    listen.until(lambda: (look(), len(ready) == 4)[1])
    frames = iter(small_room)

    def send(frame) -> None:
        head = convert.header(frame.stamp_ns, "camera")
        info.publish(convert.camera_info(small_room.camera, head))
        depth.publish(convert.image_message(head, *convert.rep118(frame.depth, frame.depth_unit_m)))
        image.publish(convert.image_message(head, frame.image, "bgr8"))

    for first in frames:
        send(first)
        listen.spin(1.5)
        if count() >= 1:
            break

    head = convert.header(first.stamp_ns + 1_000_000, "camera")
    old = convert.header(first.stamp_ns - 1_000_000, "camera")
    pixels = np.zeros((240, 320, 3), np.uint8)
    truncated = convert.image_message(head, pixels, "bgr8")
    truncated.data = truncated.data[:1000]
    nothing = convert.image_message(head, np.full((240, 320), np.nan, np.float32), "32FC1")
    no_heads = np.zeros((30, 40), np.int8)
    other = convert.camera_info(small_room.camera, head)
    other.width = 640
    # /diagnostics names a node's last problem: one for each node at a time
    rounds = [
        [
            (image, convert.image_message(head, pixels, "yuv444"), "image: encoding 'yuv444'"),
            (tensor, convert.image_message(head, pixels, "bgr8"), "tensor: encoding 'bgr8'"),
            (depth, convert.image_message(head, pixels, "bgr8"), "depth: encoding 'bgr8'"),
        ],
        [(image, truncated, "image: truncated"), (depth, nothing, "depth: no pixel holds a depth")],
        [
            (image, convert.image_message(old, pixels, "bgr8"), "before the last frame"),
            (info, other, "camera_info: 640x240 with f 262.5, 262.5, but tracking began with 320x240"),
        ],
        [
            (small, CompressedImage(header=head, format="jpeg"), "image/compressed: 0 bytes of 'jpeg': damaged"),
            (features, PointCloud2(header=head), "features: fields []"),
        ],
        [
            (heads, convert.image_message(head, no_heads, "8SC1"), "heads: stamp"),
            (status, DiagnosticArray(status=[DiagnosticStatus(name="x")]), "'x' is no frame"),
        ],
        [(small, CompressedImage(header=head, format="png", data=huge_png), "bytes of 'png'")],
    ]
    for bad in rounds:
        for _ in range(20):  # camera topics are best effort: a message may be lost
            for publisher, message, words in bad:
                if not reported(words):
                    publisher.publish(message)
            listen.spin(1.5)
            if all(reported(words) for _, _, words in bad):
                break
        assert all(reported(words) for _, _, words in bad), problems
    assert all(len(problem.splitlines()) == 1 for problem in problems)

    before = count()
    for frame in frames:
        send(frame)
        listen.spin(0.3)
        if count() >= before + 4:
            break
    four_nodes.check()
    four_nodes.interrupt()
    assert set(four_nodes.ended.values()) == {0}
    assert len(read_tum(tmp_path / folder.TRAJECTORY)) >= before + 4


@pytest.mark.parametrize(
    ("node", "parameter", "words"),
    [
        ("drp_node", "top_k:=5", "drp.top_k is 5, expected 16 to 8192"),
        ("drp_node", "topk:=64", "unknown parameter 'topk' of drp_node"),
        ("pose_node", "mount:=here", "graph.mount is 'here'"),
        ("player_node", "sequence:=no/such/file", "no such file or folder"),
    ],
)
def test_a_node_refuses_wrong_parameters_by_name(graph_env, node, parameter, words):
    command = [sys.executable, "-m", f"drp_slam.nodes.{node}", "--ros-args", "-p", parameter]
    done = subprocess.run(command, env=graph_env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("drp_slam ") and words in done.stderr
