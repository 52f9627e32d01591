# SPDX-License-Identifier: Apache-2.0
"""The node of the DRP: images to tensors, heads to features."""

from __future__ import annotations

import sys
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import CompressedImage, Image, PointCloud2

from drp_slam.config import DrpConfig
from drp_slam.data import image_codec
from drp_slam.data.stamps import StampGate
from drp_slam.datatypes import Camera, Features, Frame
from drp_slam.device import Run, StageRun
from drp_slam.doctor.findings import Finding, found
from drp_slam.errors import GraphError
from drp_slam.frontend.depth_sensor import Sensor, sensor_run
from drp_slam.frontend.front_end import open_front_end
from drp_slam.nodes import convert, feature_codec, qos
from drp_slam.nodes.base import StageNode
from drp_slam.nodes.credit import Credit
from drp_slam.nodes.limits import LIVE_IN_FLIGHT, NEWEST
from drp_slam.nodes.running import run
from drp_slam.nodes.stereo_pair import Pairs
from drp_slam.nodes.table import UNITS_OF

REMEMBERED = 64
"""Number of frames whose size is kept, and whose image if `features_image` has a subscriber."""


EARLY_SHOWN_S = 30.0
"""Images that arrived too early are reported for this long."""
LAPSE_PERIOD_S = 0.2
"""Period at which a waiting frame is checked, if answers do not arrive."""
UNITS = UNITS_OF["drp_node"]


@dataclass(frozen=True)
class UnderWay:
    """A frame waiting for its heads, the runs of its stages so far, and the number of the next stage.

    `sensor` made the frame from the camera's images; it needs the pair again for depth at the keypoints.
    """

    frame: Frame
    shape_hw: tuple[int, int]
    sensor: Sensor
    matched: tuple[Run, ...]
    runs: tuple[StageRun, ...]
    after: int


class DrpNode(StageNode):
    """`image` -> `tensor`; `heads` -> `features`."""

    inert = ()

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("drp_node", DrpConfig, **kwargs)

    def configure(self) -> None:
        super().configure()
        (config,) = self.configs
        self.apply()
        self._under_way: OrderedDict[int, UnderWay] = OrderedDict()
        self._pictures: OrderedDict[int, np.ndarray] = OrderedDict()
        self._gate: StampGate[tuple[Any, np.ndarray]] = StampGate("image")
        self._pairs = Pairs(self, config, self._to_tensor) if self.graph.pair else None

        self._tensor = self.advertise(Image, "tensor", qos.frames_out())
        if any(s.unit not in UNITS for s in self._front.stages):
            self.needs_listener(self._tensor)
            self.subscribe(Image, "heads", self._on_heads, qos.stage_in())
        self._features = self.needs_listener(self.advertise(PointCloud2, "features", qos.frames_out()))
        self._drawn = self.advertise(Image, "features_image", qos.camera_in())
        if self.graph.pair and config.stereo == "dense":
            self._depth = self.advertise(Image, "depth", qos.frames_out())
        camera = self.subscribe(Image, "image", self._on_image, qos.camera_in(), foreign=True)
        self.subscribe(CompressedImage, "image/compressed", self._on_image, qos.camera_in())
        self._credit: Credit | None = None
        self._newest: Image | CompressedImage | None = None
        self._dropped = self._early = 0
        self._early_s = 0.0
        if camera.profile.depth <= NEWEST:  # else no frame may be lost
            self._credit = Credit(lambda: LIVE_IN_FLIGHT, skips=True)
            self.subscribe(DiagnosticArray, "status", self._on_status, qos.answers())
            look = self.guarded(lambda _: self._admit_newest())
            self.every(LAPSE_PERIOD_S, lambda: look(None))

    def forget(self) -> None:
        self._under_way.clear()
        self._pictures.clear()
        self._newest = None
        if self._credit is not None:
            self._credit.clear()
        if self._pairs is not None:
            self._pairs.forget()

    def apply(self) -> None:
        self._front = open_front_end(self.config, UNITS)

    def _on_image(self, message: Image | CompressedImage) -> None:
        """Accepts a frame if the graph has capacity; of the others, the newest waits undecoded."""
        if self._credit is None:
            self._decode(message)
            return
        if not self.ready():
            self._early, self._early_s = self._early + 1, time.monotonic()
            return
        self._dropped += self._newest is not None
        self._newest = message
        self._admit_newest()

    def _admit_newest(self) -> None:
        assert self._credit is not None
        self._credit.lapsed()
        if self._newest is not None and (self._credit.free or self._credit.unheard):
            message, self._newest = self._newest, None
            self._decode(message)

    def _on_status(self, message: DiagnosticArray) -> None:
        assert self._credit is not None
        self._credit.answered(convert.stamp_ns(message.header))
        self._admit_newest()

    def _decode(self, message: Image | CompressedImage) -> None:
        topic = "image/compressed" if isinstance(message, CompressedImage) else "image"
        self._admit(message.header, image_codec.colour_of(message, topic))

    def _admit(self, header: Any, image: np.ndarray) -> None:
        admission = self._gate.admit(convert.stamp_ns(header), (header, image))
        if admission.problem:
            self.problem(admission.problem)
        if admission.new_epoch and self._credit is not None:
            self._credit.clear()  # pose_node holds its first frames back without a status
        for head, picture in admission.items:
            if self._pairs is not None:
                self._pairs.left(head, picture)
            else:
                camera = Camera(
                    picture.shape[1], picture.shape[0], 1.0, 1.0, 0.0, 0.0
                )  # nothing in this node projects points
                self._to_tensor(head, Frame(0, convert.stamp_ns(head), picture, camera), Sensor(camera))

    def _to_tensor(self, header: Any, frame: Frame, sensor: Sensor) -> None:
        begun_ns = self.begin(frame.stamp_ns)
        if self._credit is not None:
            self._credit.sent(frame.stamp_ns)
        frame, matched = sensor.before(frame)
        assert frame.image is not None
        height, width = frame.image.shape[:2]
        data, runs, after = self._front.part(frame.image, (height, width), 0, UNITS)
        if self._drawn.get_subscription_count():
            remember(self._pictures, frame.stamp_ns, frame.image)
        if self._pairs is None:
            frame = replace(frame, image=None)
        if after == len(self._front.stages):
            whole = UnderWay(frame, (height, width), sensor, matched, (), after)
            self._publish(header, data, whole, runs, sensor_run(matched) + runs, begun_ns)
            return
        others = next(i for i, s in enumerate(self._front.stages) if i > after and s.unit in UNITS)
        remember(self._under_way, frame.stamp_ns, UnderWay(frame, (height, width), sensor, matched, runs, others))
        tensor = self._tensor.image(header, data, convert.tensor_encoding(data))
        self.release(
            frame.stamp_ns, sensor_run(matched) + runs, begun_ns, lambda: self._tensor.publish(tensor), then="drpai3"
        )

    def _on_heads(self, message: Image) -> None:
        stamp_ns = convert.stamp_ns(message.header)
        begun_ns = self.begin(stamp_ns)
        begun = self._under_way.pop(stamp_ns, None)
        if begun is None:
            raise GraphError(
                f"heads: stamp {stamp_ns} ns belongs to no image of the last {REMEMBERED}; "
                "perception must copy the header of the tensor"
            )
        heads = convert.tensor(message, "heads")
        features, runs, _ = self._front.part(heads, begun.shape_hw, begun.after, UNITS)
        self._publish(message.header, features, begun, runs, runs, begun_ns)

    def _publish(
        self,
        header: Any,
        features: Features,
        done: UnderWay,
        runs: tuple[StageRun, ...],
        held: tuple[StageRun, ...],
        begun_ns: int,
    ) -> None:
        """Publishes features (with depth from a pair), their spans, and an image if there is a subscriber.

        `runs` are the stages since `done`, `held` those since the last message of the frame.
        """
        stamp_ns = convert.stamp_ns(header)
        features, measured = done.sensor.after(done.frame, features)
        runs = done.runs + runs + sensor_run(done.matched + measured)
        if self._pairs is not None and done.frame.depth is not None:
            self._depth.publish(self._depth.image(header, done.frame.depth, "32FC1"))
        cloud = feature_codec.to_message(features, self._front.descriptor, header)
        self.release(stamp_ns, held + sensor_run(measured), begun_ns, lambda: self._features.publish(cloud), then="cpu")
        self.publish_runs(stamp_ns, *runs)
        self.frames += 1
        picture = self._pictures.pop(stamp_ns, None)
        if picture is not None:
            self._drawn.publish(convert.image_message(header, drawn(picture, features), "bgr8"))

    def findings(self) -> list[Finding]:
        early = []
        if self._early and time.monotonic() - self._early_s < EARLY_SHOWN_S:
            words = f"{self._early} images arrived while other nodes were starting; they are not tracked"
            early.append(found("too_early", self.resolve_topic_name("image"), words))
        return [*super().findings(), *early]

    def health(self) -> dict[str, object]:
        counts = {"refused": self._gate.refused, "early": self._early, "dropped": self._dropped}
        return {**counts, "epoch": self._gate.epoch}


def remember(store: OrderedDict, key: int, value: Any) -> None:
    """Stores a value and drops the oldest frames."""
    store[key] = value
    while len(store) > REMEMBERED:
        store.popitem(last=False)


def drawn(image: np.ndarray, features: Features) -> np.ndarray:
    """(H, W, 3) BGR copy with a circle for each feature, green where its score is high."""
    import cv2

    out = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR) if image.ndim == 2 else image.copy()
    for (u, v), score in zip(np.rint(features.uv).astype(int).tolist(), features.score.tolist()):
        green = int(255 * min(1.0, score))
        cv2.circle(out, (u, v), 3, (0, green, 255 - green), 1, cv2.LINE_AA)
    return out


def main(args: Sequence[str] | None = None) -> int:
    """Runs the node."""
    return run("drp_node", DrpNode, args)


if __name__ == "__main__":
    sys.exit(main())
