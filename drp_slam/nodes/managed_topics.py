# SPDX-License-Identifier: Apache-2.0
"""Subscriptions and publishers of a managed node."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from drp_slam.nodes import convert
from drp_slam.nodes.exchange import LocalTopic


class Switched(Protocol):
    """An object with a state: active or not."""

    active: bool


@dataclass(frozen=True)
class ManagedSubscription:
    """A subscription of an active node: `callback` is guarded and locked, `profile` includes the overrides."""

    kind: type[Any]
    topic: str
    callback: Callable[[Any], None]
    profile: QoSProfile
    foreign: bool


class ManagedPublisher:
    """A publisher of a managed node, silent while the node is not active.

    Subscriptions in the same process get the message by reference: neither side may change it afterwards.
    DDS gets it if the topic is latched, else only while another process subscribes.
    """

    def __init__(self, node: Switched, publisher: Publisher, in_process: LocalTopic | None) -> None:
        self._node, self._publisher, self._in_process = node, publisher, in_process
        self._latched = publisher.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL

    def get_subscription_count(self) -> int:
        """Subscriptions in and outside this process."""
        return self._publisher.get_subscription_count() + (len(self._in_process.slots) if self._in_process else 0)

    def image(self, head: Header, values: np.ndarray, encoding: str) -> Image | convert.SharedImage:
        """(H, W) or (H, W, C) array to publish: without a copy if only this process subscribes."""
        make = convert.SharedImage.of if self._in_process and self._in_process.slots else convert.image_message
        return make(head, values, encoding)

    def publish(self, message: Any) -> None:
        """Passes it to all subscribers."""
        if not self._node.active:
            return
        taken = self._in_process is not None and self._in_process.put(message)
        if (self._latched and not taken) or self._publisher.get_subscription_count():
            self._publisher.publish(message.message() if isinstance(message, convert.SharedImage) else message)
