# SPDX-License-Identifier: Apache-2.0
"""Publishes the frames of a sequence like a camera, at any rate: the load of `bench --overload`.

python -m drp_slam.nodes.child PARENT drp_slam.nodes.flood SEQUENCE HZ SECONDS

The frames are prepared before the first one is sent, and played forward and backward endlessly, so that publishing
costs as much as it costs a camera's driver. At 0 Hz it sends as fast as the graph answers. Prints a JSON object at the
start and one at the end.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import rclpy
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image

from drp_slam.data.dataset import open_sequence
from drp_slam.nodes import convert, qos
from drp_slam.nodes.child import keep_freed_memory
from drp_slam.nodes.credit import Credit
from drp_slam.nodes.limits import LIVE_IN_FLIGHT
from drp_slam.nodes.player_node import OPTICAL_FRAME

MOST = 60
"""Number of prepared frames."""
MATCHED_S = 30.0
"""The nodes subscribe within this time."""


@dataclass(frozen=True)
class Shot:
    """The messages of one frame."""

    image: Image
    depth: Image
    info: CameraInfo

    def stamped(self, stamp_ns: int) -> Shot:
        """The same messages with another stamp."""
        stamp = Time(sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
        for message in (self.image, self.depth, self.info):
            message.header.stamp = stamp
        return self


class Flood(Node):
    """Sends frames and counts the answers."""

    def __init__(self, sequence: str) -> None:
        super().__init__("flood", start_parameter_services=False, enable_rosout=False)
        self._image = self.create_publisher(Image, "image", qos.frames_out())
        self._depth = self.create_publisher(Image, "depth", qos.frames_out())
        self._info = self.create_publisher(CameraInfo, "camera_info", qos.frames_out())
        self._credit = Credit(lambda: LIVE_IN_FLIGHT, skips=True)
        self.create_subscription(DiagnosticArray, "status", self._on_status, qos.answers())
        shots = [shot for shot, _ in zip(self._shots(sequence), range(MOST))]
        self._next = itertools.cycle(shots + shots[-2:0:-1])
        self.sent = self.answered = 0

    @staticmethod
    def _shots(sequence: str) -> Iterator[Shot]:
        recording = open_sequence(sequence)
        for frame in recording:
            assert frame.image is not None and frame.depth is not None
            head = convert.header(frame.stamp_ns, OPTICAL_FRAME)
            image = convert.image_message(head, frame.image, convert.colour_encoding(frame.image))
            depth = convert.image_message(head, *convert.rep118(frame.depth, frame.depth_unit_m))
            yield Shot(image, depth, convert.camera_info(recording.camera, head))

    def _on_status(self, message: DiagnosticArray) -> None:
        self._credit.answered(convert.stamp_ns(message.header))
        self.answered += 1

    def matched(self) -> bool:
        """Whether the nodes have subscribed."""
        return all(p.get_subscription_count() for p in (self._image, self._depth, self._info))

    def may_send(self, due: bool, hz: float) -> bool:
        """Whether the next frame is to be sent now."""
        self._credit.lapsed()
        return due if hz else self._credit.free

    def send(self) -> None:
        """Publishes the next frame, stamped with this host's time."""
        stamp_ns = time.time_ns()
        shot = next(self._next).stamped(stamp_ns)
        self._info.publish(shot.info)
        self._depth.publish(shot.depth)
        self._image.publish(shot.image)
        self._credit.sent(stamp_ns)
        self.sent += 1


def flood(node: Flood, hz: float, seconds: float) -> None:
    """Sends for a duration; when it is late, overdue frames are dropped, as by a camera."""
    start_s, number = time.monotonic(), 0
    while (now_s := time.monotonic()) < start_s + seconds:
        due_s = start_s + number / hz if hz else now_s
        if node.may_send(now_s >= due_s, hz):
            node.send()
            number = max(number + 1, int((time.monotonic() - start_s) * hz)) if hz else 0
        rclpy.spin_once(node, timeout_sec=min(0.01, max(0.0, due_s - now_s)) if hz else 0.001)


def main() -> int:
    """Runs for the given time, or until the parent is gone."""
    from drp_slam.nodes.shared_memory import own_profile

    keep_freed_memory()
    sequence, hz, seconds = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
    with own_profile():
        rclpy.init(args=[])
        node = Flood(sequence)
    end_s = time.monotonic() + MATCHED_S
    while not node.matched():
        if time.monotonic() > end_s:
            print(json.dumps({"error": f"no node subscribes to image, depth and camera_info within {MATCHED_S:g} s"}))
            return 1
        rclpy.spin_once(node, timeout_sec=0.1)
    begin_ns, begin_s = time.time_ns(), time.process_time()
    print(json.dumps({"begins": begin_ns}), flush=True)
    flood(node, hz, seconds)
    figures = {"sent": node.sent, "answered": node.answered, "begin_ns": begin_ns, "end_ns": time.time_ns()}
    print(json.dumps({**figures, "cpu_s": time.process_time() - begin_s}), flush=True)
    node.destroy_node()
    rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
