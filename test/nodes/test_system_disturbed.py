# SPDX-License-Identifier: Apache-2.0
"""A camera that loses frames, pauses and has rivals, and a network full of nonsense: tracking goes on."""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Iterator

import garbage
import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

from drp_slam.data.trajectory import read_tum
from drp_slam.nodes import convert, qos
from drp_slam.reporting import folder

pytestmark = pytest.mark.system

PERIOD_NS = 66_666_667
PERIOD_S = 0.1
"""Frames are sent at this period of the host's clock: a busy host is no fault of the camera."""
NONSENSE = int(os.environ.get("NONSENSE", "200"))
"""Malformed messages on every topic."""
NODES = ("drp_node", "perception_node", "pose_node", "profiler_node")
OF_ROS = ("/parameter_events", "/rosout", "/clock")


class Camera:
    """Publishes the frames of a sequence, forth and back without end, each with a stamp of its own."""

    def __init__(self, listen, sequence) -> None:
        make = listen.node.create_publisher
        self._listen, self._sequence = listen, sequence
        self._image, self._depth = make(Image, "image", 10), make(Image, "depth", 10)
        self._info = make(CameraInfo, "camera_info", 10)
        frames = list(sequence)
        self._frames = itertools.cycle(frames + frames[-2:0:-1])
        self.stamp_ns = 10**18
        self._status = listen(DiagnosticArray, "status", qos.ledger())

    def ready(self) -> bool:
        return all(p.get_subscription_count() for p in (self._image, self._depth, self._info))

    def frame(self, lost: bool = False) -> None:
        """Sends the next frame, or loses it, and handles what comes."""
        frame, self.stamp_ns = next(self._frames), self.stamp_ns + PERIOD_NS
        head = convert.header(self.stamp_ns, "camera")
        if not lost:
            self._info.publish(convert.camera_info(self._sequence.camera, head))
            self._depth.publish(convert.image_message(head, *convert.rep118(frame.depth, frame.depth_unit_m)))
            self._image.publish(convert.image_message(head, frame.image, "bgr8"))
        self._listen.spin(PERIOD_S)

    def tracked(self, since_ns: int = 0) -> int:
        """Frames with stamps after `since_ns` that were tracked."""
        return len({s for s in map(stamp_of, self._status) if s > since_ns} - self.lost())

    def lost(self) -> set[int]:
        return {stamp_of(m) for m in self._status if m.status and m.status[0].message != "tracked"}

    def until_tracked(self, count: int, most: int) -> int:
        """Sends frames until so many more are tracked; how many it took, at most `most`."""
        since_ns = self.stamp_ns
        for sent in range(1, most + 1):
            self.frame()
            if self.tracked(since_ns) >= count:
                return sent
        raise AssertionError(f"{self.tracked(since_ns)} of {most} frames tracked")


def stamp_of(message: DiagnosticArray) -> int:
    return message.header.stamp.sec * 10**9 + message.header.stamp.nanosec


@pytest.fixture
def camera(four_nodes, listen, small_room) -> Camera:
    made = Camera(listen, small_room)
    listen.until(made.ready)
    listen.ready(set(NODES))
    made.until_tracked(3, 100)
    return made


def subscriptions(node) -> Iterator[tuple[str, str]]:
    """Topics that the graph's nodes take, and their types."""
    found = {
        (topic, kind)
        for name in NODES
        for topic, kinds in node.get_subscriber_names_and_types_by_node(name, "/")
        for kind in kinds
    }
    return iter(sorted(pair for pair in found if pair[0] not in OF_ROS))


def test_tracking_continues(camera, four_nodes, listen, small_room, tmp_path):
    rng = random.Random(NONSENSE)

    # 30 % of the frames are lost on their way
    since_ns, sent = camera.stamp_ns, 0
    for _ in range(40):
        lost = rng.random() < 0.3
        camera.frame(lost)
        sent += not lost
    assert sent < 40 and camera.tracked(since_ns) >= 0.6 * sent

    # nothing for 3 s, by the host's clock and by the stamps
    camera.stamp_ns += 3 * 10**9
    listen.spin(3.0)
    camera.until_tracked(3, 20)

    # a second publisher of both images, whose stamps lie between the camera's, and features from a stranger
    rival, depths = listen.node.create_publisher(Image, "image", 10), listen.node.create_publisher(Image, "depth", 10)
    features = listen.node.create_publisher(PointCloud2, "features", 10)
    heard = listen(PointCloud2, "features", qos.stage_in())
    other = next(iter(small_room))
    for _ in range(20):
        head = convert.header(camera.stamp_ns + PERIOD_NS // 2, "camera")
        rival.publish(convert.image_message(head, other.image[::-1].copy(), "bgr8"))
        depths.publish(convert.image_message(head, *convert.rep118(other.depth[::-1].copy(), other.depth_unit_m)))
        if heard:
            strange = heard[-1]
            strange.header = convert.header(camera.stamp_ns + PERIOD_NS // 3, "camera")
            features.publish(strange)
        camera.frame()
    for publisher in (rival, depths, features):
        listen.node.destroy_publisher(publisher)
    camera.until_tracked(3, 30)

    # nonsense on every topic that any node takes
    profile = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    topics = list(subscriptions(listen.node))
    names = {topic for topic, _ in topics}
    assert {"/image", "/depth", "/camera_info", "/tensor", "/heads", "/features", "/spans", "/status"} <= names
    assert {"/diagnostics", "/image/compressed", "/depth/compressed"} <= names
    made = [
        (listen.node.create_publisher(garbage.found_class(k), t, profile), garbage.found_class(k)) for t, k in topics
    ]
    for _ in range(NONSENSE):
        for publisher, kind in made:
            publisher.publish(garbage.message(kind, rng))
        listen.spin(0.01)
        four_nodes.check()
    for publisher, _ in made:
        listen.node.destroy_publisher(publisher)
    listen.ready(set(NODES))
    assert camera.until_tracked(1, 30) * PERIOD_NS <= 10**9, "tracking resumes within 1 s of the camera's time"
    taken = camera.until_tracked(10, 30)
    print(f"{NONSENSE} messages on each of {len(made)} topics; 10 frames tracked of the {taken} after them")

    four_nodes.check()
    four_nodes.interrupt()
    assert set(four_nodes.ended.values()) == {0}
    assert len(read_tum(tmp_path / folder.TRAJECTORY)) > 20
    for log in (tmp_path / "log").glob("*_node.log"):
        assert "Traceback" not in log.read_text(errors="replace"), log.read_text(errors="replace")[-3000:]
