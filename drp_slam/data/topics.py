# SPDX-License-Identifier: Apache-2.0
"""The topics of a recording or a live graph, and the chosen ones."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

RAW, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
INFO, TF = "sensor_msgs/msg/CameraInfo", "tf2_msgs/msg/TFMessage"
POSES = (
    "nav_msgs/msg/Odometry",
    "geometry_msgs/msg/PoseStamped",
    "geometry_msgs/msg/PoseWithCovarianceStamped",
    "geometry_msgs/msg/TransformStamped",
)
ROLES = {
    "image": (RAW, COMPRESSED),
    "depth": (RAW, COMPRESSED),
    "right": (RAW, COMPRESSED),
    "camera_info": (INFO,),
    "depth_camera_info": (INFO,),
    "right_camera_info": (INFO,),
    "truth": (*POSES, TF),
}
"""Role -> message types that it may have."""
OPTIONAL = ("depth", "camera_info", "depth_camera_info", "right_camera_info", "truth")
"""Roles that may be set to `none`; without `depth` the image is used alone."""


@dataclass(frozen=True)
class Topic:
    """A topic by its first readable message.

    `kind` is `colour`, `grey`, `grey16` (mono16: infrared, or depth), `depth`, `info`, `truth`, or empty if
    unused. `size_px` is width and height. For a depth image, `median` is that of its values in metres (16 bits: as
    millimetres) and `whole` the share of whole numbers; for a CameraInfo, `calibrated` is whether K or P
    is set, and `offset_m` is P[0, 3] / P[0, 0]. `problem` is why no message could be read.
    """

    name: str
    msgtype: str
    count: int = 1
    kind: str = ""
    encoding: str = ""
    size_px: tuple[int, int] = (0, 0)
    frame_id: str = ""
    median: float = 0.0
    whole: float = 0.0
    calibrated: bool = False
    offset_m: float = 0.0
    problem: str = ""

    @property
    def base(self) -> str:
        """The name without its transport."""
        return re.sub(r"/(compressed|compressedDepth)$", "", self.name)

    @property
    def words(self) -> frozenset[str]:
        """Words of the name, in lower case."""
        return frozenset(re.split(r"[/_]", self.name.lower()))

    @property
    def said(self) -> str:
        """The topic with its type, encoding, size and frame, for messages."""
        facts = [self.encoding, f"{self.size_px[0]}x{self.size_px[1]}" if self.size_px[0] else "", self.frame_id]
        about = ", ".join([self.msgtype.rsplit("/", 1)[-1], *filter(None, facts)])
        return f"{self.name} ({about})"


@dataclass(frozen=True)
class Choice:
    """Names of the chosen topics by role (a key of `ROLES`), and the reasons; roles without a topic are absent.

    `registered`: depth is in the image's frame. `candidates` are all topics.
    """

    topics: Mapping[str, str]
    why: Mapping[str, str]
    registered: bool = True
    candidates: tuple[Topic, ...] = field(default=(), repr=False)

    def get(self, role: str) -> str | None:
        """The topic of that role, or None."""
        return self.topics.get(role)
