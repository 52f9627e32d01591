# SPDX-License-Identifier: Apache-2.0
"""Quality of service by kind of topic. Depth bounds every queue.

The player offers sensor data reliably; nodes subscribe with best effort, as cameras offer it, newest
frame only. Where no frame may be lost (`--rate max`), the table of nodes sets parameters
`qos_overrides.<topic>.subscription.{reliability,depth}` with the topic's relative name, so that they
apply in any namespace; ROS's own overrides, with the full name, take precedence.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions

from drp_slam.nodes.limits import IN_FLIGHT, NEWEST


def _profile(reliable: bool, depth: int, latched: bool = False) -> QoSProfile:
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )


def camera_in(depth: int = NEWEST) -> QoSProfile:
    """Subscription to a camera: best effort, newest."""
    return _profile(False, depth)


def sensor_in() -> QoSProfile:
    """Subscription to wheels or an IMU: best effort, a second of samples at 200 Hz."""
    return _profile(False, 200)


def stage_in() -> QoSProfile:
    """Subscription to another stage: reliable, newest."""
    return _profile(True, NEWEST)


def frames_out() -> QoSProfile:
    """Publisher to the next stage: reliable."""
    return _profile(True, IN_FLIGHT)


def ledger() -> QoSProfile:
    """`spans`, `status`: small; none may be lost, even for a late subscriber."""
    return _profile(True, 1000, latched=True)


def answers() -> QoSProfile:
    """Subscription to `status` that counts frames in flight: earlier messages are not needed."""
    return _profile(True, IN_FLIGHT)


def health() -> QoSProfile:
    """`/diagnostics`, with the usual ROS profile."""
    return _profile(True, 100)


def latched() -> QoSProfile:
    """`path`, `map_points`, `keyframes`: a late subscriber gets the last one."""
    return _profile(True, 1, latched=True)


def static_transforms() -> QoSProfile:
    """Subscription to /tf_static: each of many publishers keeps its last message."""
    return _profile(True, 100, latched=True)


def world() -> QoSProfile:
    """`odom`, `pose`, `/clock`."""
    return _profile(True, 100)


def overridable() -> QoSOverridingOptions:
    """Allows parameters `qos_overrides...` to change reliability and depth."""
    return QoSOverridingOptions.with_default_policies()


def overridden(profile: QoSProfile, values: Mapping[str, Any]) -> QoSProfile:
    """A copy of the profile with `reliability` (reliable, best_effort) and `depth` of the parameters."""
    out = copy.copy(profile)
    if "reliability" in values:
        out.reliability = ReliabilityPolicy[str(values["reliability"]).upper()]
    if "depth" in values:
        out.depth = int(values["depth"])
    return out
