# SPDX-License-Identifier: Apache-2.0
"""Wrong stamps to running nodes: none locks the camera out, and `bag play --loop` goes on in the map."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticArray
from nav_msgs.msg import Odometry
from sensor_msgs.msg import CameraInfo, Image

from drp_slam.data.trajectory import read_tum
from drp_slam.nodes import convert, qos, status_codec
from drp_slam.reporting import folder

pytestmark = pytest.mark.system

YEAR_NS = 365 * 86_400 * 10**9


def test_no_stamp_locks_the_camera_out(four_nodes, listen, small_room, tmp_path):
    make = listen.node.create_publisher
    image, depth, info = (make(k, t, 10) for k, t in ((Image, "image"), (Image, "depth"), (CameraInfo, "camera_info")))
    odometry = listen(Odometry, "odom", qos.world())
    status = listen(DiagnosticArray, "status", qos.ledger())
    health: dict[str, dict[str, str]] = {}
    said: set[str] = set()
    heard = listen(DiagnosticArray, "/diagnostics", qos.health())
    listen.ready({"drp_node", "perception_node", "pose_node", "profiler_node"})
    listen.until(lambda: all(p.get_subscription_count() for p in (image, depth, info)))
    frames = list(small_room)

    def send(frame, stamp_ns: int) -> None:
        head = convert.header(stamp_ns, "camera")
        info.publish(convert.camera_info(small_room.camera, head))
        depth.publish(convert.image_message(head, *convert.rep118(frame.depth, frame.depth_unit_m)))
        image.publish(convert.image_message(head, frame.image, "bgr8"))
        listen.spin(0.12)

    def tracked_of(stamps: list[int]) -> int:
        """Sends a frame under each stamp; how many give odometry."""
        before = len(odometry)
        for k, stamp_ns in enumerate(stamps):
            send(frames[k % 10], stamp_ns)
        listen.spin(0.5)
        for message in heard:
            for one in message.status:
                name, _, part = one.name.partition(": ")
                if part == "health":
                    health[name] = status_codec.values_of(one)
                    said.add(health[name].get("last_problem", ""))
        heard.clear()
        return len(odometry) - before

    good = [f.stamp_ns for f in frames[:10]]
    step_ns = good[1] - good[0]

    def later(seconds: float) -> list[int]:
        return [s + round(seconds * 1e9) for s in good]

    for _ in range(10):  # until discovery has brought the first frames through
        if tracked_of(good):
            break
        good[:] = later(2.0)
    rest = [
        ("far ahead", [*later(2.0), good[0] + YEAR_NS, *later(3.0)], 0),
        ("overflow", [(2**31 - 1) * 10**9, *later(4.0)], 0),
        ("zero", [0, *later(5.0)], 0),
        ("loop", good, 1),
        ("simulated time starts anew", [k * step_ns for k in range(10)], 2),
    ]
    for name, stamps, epoch in rest:
        # best effort may lose a frame or two on a busy host; a shut door loses all of them
        assert tracked_of(stamps) >= 6, (name, said)
        listen.until(lambda wanted=epoch: (tracked_of([]), int(health["pose_node"]["epoch"]) == wanted)[1], 20.0)
    assert any("far ahead" in words for words in said) and any("epoch 2 begins" in words for words in said)
    assert {status_codec.values_of(m.status[0])["epoch"] for m in status} == {"0", "1", "2"}
    four_nodes.check()
    four_nodes.interrupt()
    assert set(four_nodes.ended.values()) == {0}
    for name in (folder.TRAJECTORY, folder.ODOMETRY):
        assert len(read_tum(tmp_path / name)) >= 30  # stamps increase, whatever came
    assert json.loads((tmp_path / folder.GRAPH).read_text())["frames"] >= 30
