# SPDX-License-Identifier: Apache-2.0
"""Plays a recorded sequence into the graph and exits at its end."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image
from std_srvs.srv import SetBool

from drp_slam.config import PlayerConfig
from drp_slam.data.dataset import open_sequence
from drp_slam.data.stamps import StampGate
from drp_slam.datatypes import Frame
from drp_slam.nodes import convert, pacing, qos, status_codec, stereo_pair
from drp_slam.nodes.base import LONGEST, StageNode
from drp_slam.nodes.credit import ANSWERED_S, Credit
from drp_slam.nodes.playback import Playback
from drp_slam.nodes.running import Finished, run
from drp_slam.nodes.table import stage_nodes

OPTICAL_FRAME = "camera_color_optical_frame"
WATCH_PERIOD_S = 0.2
HINT_S = 10.0
"""After this time the player reports what it is waiting for."""
LINGER_S = 1.0
"""Time for the last messages, and the last health with its counts, to arrive before the player exits."""


@dataclass(frozen=True)
class Messages:
    """One frame, ready to publish."""

    stamp_ns: int
    image: Image | convert.SharedImage
    depth: Image | convert.SharedImage | None
    right: Image | convert.SharedImage | None = None


class PlayerNode(StageNode):
    """Sequence -> `image`, `depth`, `camera_info`, `/clock`; `status` returns the credit."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("player_node", PlayerConfig, **kwargs)

    def configure(self) -> None:
        super().configure()
        (self._config,) = self.configs
        self._sequence = open_sequence(
            self._config.sequence, self._config.camera or None, self._config.start, self._config.frames or None
        )
        self._awaited = stage_nodes(self.graph.features)
        self._gate: StampGate[Messages] = StampGate("sequence")
        self._credit = Credit(lambda: self._config.in_flight, skips=self._config.rate > 0.0)
        realtime = self.graph.pacing == pacing.REALTIME
        self._timeline = pacing.Timeline(pacing.timeline_path(self.get_namespace())) if realtime else None
        self._others: set[str] = set()
        self._health_heard = Counter(dict.fromkeys(self._awaited, 0))
        self._started = self._resume = False
        self._ended_s: float | None = None
        self._silent_until_s: float | None = time.monotonic() + HINT_S

        self._image = self.advertise(Image, "image", qos.frames_out())
        self._mono = self._sequence.camera.mono
        if not self._mono:
            self._depth = self.advertise(Image, "depth", qos.frames_out())
        self._info = self.advertise(CameraInfo, "camera_info", qos.frames_out())
        self._pair = self._sequence.camera.baseline_m is not None
        if self._pair:
            self._right = self.advertise(Image, "right", qos.frames_out())
            self._right_info = self.advertise(CameraInfo, "right_camera_info", qos.frames_out())
        self._clock_out = self.advertise(Clock, "/clock", qos.world())
        if self._config.wait:
            others = (self._right, self._right_info) if self._pair else () if self._mono else (self._depth,)
            for publisher in (self._image, self._info, *others):
                self.needs_listener(publisher)
        self.subscribe(DiagnosticArray, "status", self._on_status, qos.ledger())
        self.subscribe(DiagnosticArray, "/diagnostics", self._on_health, qos.health())
        self.serve(SetBool, "play", self._on_play)
        wake = self.waker(self._publish_frames)
        self._playback = Playback(
            self._sequence, self._config.rate, self._config.loop, self._prepare, wake, self._wanted
        )
        self._playback.start()
        self.every(WATCH_PERIOD_S, self._watch)

    def _activate(self) -> None:
        super()._activate()
        if self._resume:
            self._playback.play()

    def _prepare(self, frame: Frame) -> Messages:
        """Runs in the playback's thread."""
        head = convert.header(frame.stamp_ns, self.graph.frame_prefix + OPTICAL_FRAME)
        assert frame.image is not None  # readers always provide one
        image = self._image.image(head, frame.image, convert.colour_encoding(frame.image))
        right = None
        if frame.right is not None:
            right = self._right.image(head, frame.right, convert.colour_encoding(frame.right))
        depth = None
        if frame.depth is not None:
            values, encoding = convert.rep118(frame.depth, frame.depth_unit_m)
            depth = self._depth.image(head, values, encoding)
        return Messages(frame.stamp_ns, image, depth, right)

    def _publish_frames(self) -> None:
        """Publishes the frames that are ready, as far as the graph's credit allows.

        Frames that begin a new epoch are published together, since the other nodes need all of them to notice it.
        """
        while self._started and self._may_send():
            messages = self._playback.take()
            if messages is None:
                return
            assert isinstance(messages, Messages)
            admission = self._gate.admit(messages.stamp_ns, messages)
            if admission.problem:
                self.problem(admission.problem)
            for admitted in admission.items:
                self._publish(admitted)

    def _publish(self, messages: Messages) -> None:
        stamp = messages.image.header.stamp
        self._clock_out.publish(Clock(clock=Time(sec=stamp.sec, nanosec=stamp.nanosec)))
        if self._pair:
            left, right = stereo_pair.infos(self._sequence.camera, messages.image.header)
            self._info.publish(left)
            self._right_info.publish(right)
            self._right.publish(messages.right)
        else:
            self._info.publish(convert.camera_info(self._sequence.camera, messages.image.header))
        if messages.depth is not None:
            self._depth.publish(messages.depth)
        self._credit.sent(messages.stamp_ns)
        if self._timeline is not None:
            self._timeline.ends(messages.stamp_ns, time.monotonic_ns())
        sent = status_codec.sent_status(self.get_name())
        self._image.publish(messages.image)
        self._spans.publish(status_codec.array_of(messages.stamp_ns, [sent]))
        self.frames += 1

    def _may_send(self) -> bool:
        """Whether a frame may be sent; always at a fixed rate, where `_wanted` has decided."""
        return self._config.rate > 0.0 or self._credit.free

    def _wanted(self) -> bool:
        """Whether the graph has capacity for a frame; runs in the playback's thread. True if no graph answers."""
        return self._credit.unheard or self._credit.free

    def _on_status(self, message: DiagnosticArray) -> None:
        self._credit.answered(convert.stamp_ns(message.header))
        self._publish_frames()

    def _on_health(self, message: DiagnosticArray) -> None:
        for status in message.status:
            node = status_codec.health_of(status, self.get_namespace())
            self._health_heard.update({node} & self._health_heard.keys())
            if node and status_codec.values_of(status).get("ready") == "1":
                self._others.add(node)

    def _on_play(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        """`ros2 service call /play std_srvs/srv/SetBool "{data: true}"`."""
        if request.data:
            self._playback.play()
        else:
            self._playback.pause()
        response.success, response.message = True, "playing" if request.data else "paused"
        return response

    def _watch(self) -> None:
        """Starts when the others are ready, counts frames without status as dropped, exits after the last one."""
        now_s = time.monotonic()
        if not self._started and self._silent_until_s is not None and now_s > self._silent_until_s:
            self._silent_until_s = None
            missing = (
                ", ".join(sorted(set(self._awaited) - self._others)) or "a subscriber of image, depth and camera_info"
            )
            self.get_logger().warning(
                f"waiting for {missing}; start the graph with `ros2 launch` or `python -m drp_slam up`, "
                "or play at a fixed rate such as --rate 1.0"
            )
        if not self._started and self._everybody_is_ready():
            self._started = True
            if not self._config.paused:
                self._playback.play()
        patience_s = self._config.patience_s if self._config.rate == 0.0 else ANSWERED_S
        for stamp_ns in self._credit.lapsed(patience_s):
            if self._config.rate == 0.0:
                self.problem(f"status: none for frame {stamp_ns} ns in {patience_s:g} s; counted as lost")
        self._publish_frames()
        if not self._playback.exhausted or len(self._credit):
            return
        if self._ended_s is None:
            self._ended_s = now_s
            self.report_health()
        if now_s - self._ended_s > LINGER_S:
            if self._playback.error is not None:
                raise self._playback.error
            raise Finished

    def _everybody_is_ready(self) -> bool:
        return not self._config.wait or (self.ready() and self._others.issuperset(self._awaited))

    def health(self) -> dict[str, object]:
        """What it has heard of the others matters until it plays: it waits for all of them (`hearing.PEERS`)."""
        awaited = {} if self._started else {f"heard_/diagnostics of {n}": k for n, k in self._health_heard.items()}
        return {
            **awaited,
            "of": 0 if self._config.loop else len(self._sequence),
            "playing": int(self._playback.playing),
            "in_flight": len(self._credit),
            "dropped": self._playback.dropped,
            "skipped": len(self._sequence.skipped),
            "first_skipped": next(iter(self._sequence.skipped), "")[:LONGEST],
        }

    def forget(self) -> None:
        """Holds the sequence while the node is inactive; does not wait for frames in flight."""
        self._resume = self._playback.playing
        self._playback.pause()
        self._credit.clear()

    def finish(self) -> None:
        """Ends the playback."""
        self._playback.stop()


def main(args: Sequence[str] | None = None) -> int:
    """Runs the node."""
    return run("player_node", PlayerNode, args)


if __name__ == "__main__":
    sys.exit(main())
