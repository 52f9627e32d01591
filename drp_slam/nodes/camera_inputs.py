# SPDX-License-Identifier: Apache-2.0
"""Inputs of a node from a camera or player: counts the messages, and diagnoses why none arrives."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from drp_slam.config import NODE_SECTIONS
from drp_slam.doctor.endpoints import SILENT_S, Input, Publisher, Qos, Subscription, check_input
from drp_slam.doctor.findings import Finding, found
from drp_slam.nodes import qos
from drp_slam.nodes.camera_streams import Streams
from drp_slam.nodes.managed import ManagedNode

ASK_PERIOD_S = 5.0
"""Publishers are counted this often while messages arrive, and at every call while they do not."""
SWITCH_S = 2.0
"""After this time without a message, another transport of the same images is used."""
JUMP_SHOWN_S = 30.0
"""A clock that was set back is reported for this long."""


class Inputs:
    """The inputs of one node by role: `image`, `depth`, `camera_info`, ...; a role may have several transports.

    Roles in `optional` may be silent. `findings` is cheap enough to be called every second.
    """

    def __init__(
        self, node: ManagedNode, optional: frozenset[str] = frozenset(), now: Callable[[], float] = time.monotonic
    ) -> None:
        self._node, self._optional, self._now = node, optional, now
        self._began_s = self._now()
        self._subscriptions: dict[str, list[Subscription]] = {}
        self._received: dict[str, int] = {}
        self._last_s: dict[str, float] = {}
        self._taken: dict[str, str] = {}
        self._latched: dict[str, Callable[[], Any]] = {}
        self._asked_s = -ASK_PERIOD_S
        self._known: list[Finding] = []
        self._clock_ns, self._back_s, self._jumped_s = 0, 0.0, float("-inf")
        self._streams, self._foreign = Streams(), False

    def watch(
        self, kind: type[Any], topic: str, profile: QoSProfile, handle: Callable[[Any], None]
    ) -> Callable[[Any], None]:
        """A callback that counts messages before handling them. `topic` is the name in the code, such as
        `depth/compressed`.

        Messages that another transport of the same role delivers already are dropped before decoding. A calibration
        that its publisher sends once, latched, is subscribed to as latched when it is discovered.
        """
        role, full = topic.partition("/")[0], self._node.resolve_topic_name(topic)
        wanted = Subscription(full, type_name(kind), policies(profile))
        self._subscriptions.setdefault(role, []).append(wanted)
        self._received.setdefault(full, 0)

        def counted(message: Any) -> None:
            now_s = self._now()
            taken = self._taken.get(role, full)
            if taken != full and now_s - self._last_s[role] < SWITCH_S:
                return  # image_transport publishes every image raw and compressed
            self._taken[role] = full
            self._received[full] += 1
            self._last_s[role] = now_s
            self._streams.note(role, full, message, self._node.get_clock().now().nanoseconds)
            handle(message)

        if role.endswith("camera_info"):
            alone = self._node.locked(counted)
            self._latched[full] = lambda: self._node.create_subscription(kind, full, alone, qos.latched())
        return counted

    @property
    def received(self) -> dict[str, int]:
        """Messages so far by role."""
        return {role: sum(self._received[s.topic] for s in own) for role, own in self._subscriptions.items()}

    def findings(self) -> list[Finding]:
        """Findings on missing inputs, duplicate publishers, stamps, calibrations and the clock."""
        now_s = self._now()
        if not self._node.active:
            self._began_s = now_s
            self._last_s.clear()
            self._taken.clear()
            return []
        latched = self._latch()
        inputs = [
            Input(role, subscriptions, now_s - self._last_s.get(role, self._began_s))
            for role, subscriptions in self._subscriptions.items()
            if role not in self._optional
        ]
        silent = any(one.silent_s >= SILENT_S for one in inputs)
        if silent or now_s - self._asked_s >= ASK_PERIOD_S:
            self._asked_s, self._known = now_s, self._ask(inputs, silent)
        return latched + self._known + self._clock(now_s) + (self._streams.findings() if self._foreign else [])

    def _ask(self, inputs: list[Input], silent: bool) -> list[Finding]:
        topics = self._others() if silent else {}
        out: list[Finding] = []
        for one in inputs:
            publishers = {s.topic: self._publishers(s.topic) for s in one.subscriptions}
            if any(self._own(p.node) for ps in publishers.values() for p in ps):
                continue  # the player itself reports why it does not play, and what it omits
            self._foreign = self._foreign or any(publishers.values())
            out += check_input(one, publishers, topics)
        return out

    def _latch(self) -> list[Finding]:
        """Subscribes to calibrations that were sent once, before this node started."""
        out = []
        for topic, subscribe in list(self._latched.items()):
            if self._received[topic]:
                del self._latched[topic]
            elif any(p.qos.latched for p in self._publishers(topic)):
                del self._latched[topic]
                subscribe()
                out.append(found("latched_info", topic, "the publisher is transient local"))
        return out

    def _publishers(self, topic: str) -> list[Publisher]:
        return [
            Publisher(
                f"{info.node_namespace.rstrip('/')}/{info.node_name}", info.topic_type, policies(info.qos_profile)
            )
            for info in self._node.get_publishers_info_by_topic(topic)
        ]

    def _own(self, node: str) -> bool:
        """Whether a node belongs to this graph."""
        namespace, _, name = node.rpartition("/")
        return name in NODE_SECTIONS and (namespace or "/") == self._node.get_namespace()

    def _others(self) -> dict[str, list[str]]:
        """Topics of the inputs' types that other nodes publish."""
        types = {s.type for subscriptions in self._subscriptions.values() for s in subscriptions}
        return {
            topic: kinds
            for topic, kinds in self._node.get_topic_names_and_types()
            if types.intersection(kinds) and any(not self._own(p.node) for p in self._publishers(topic))
        }

    def _clock(self, now_s: float) -> list[Finding]:
        """Whether /clock runs, if this node follows it."""
        if not self._node.get_parameter("use_sim_time").value:
            return []
        clock_ns = self._node.get_clock().now().nanoseconds
        if clock_ns < self._clock_ns:
            self._jumped_s, self._back_s = now_s, (self._clock_ns - clock_ns) * 1e-9
        self._clock_ns = clock_ns
        if clock_ns == 0 and now_s - self._began_s >= SILENT_S:
            count = self._node.count_publishers("/clock")
            return [found("no_clock", "/clock", f"use_sim_time is true; {count} publishers, no time received")]
        if now_s - self._jumped_s < JUMP_SHOWN_S:
            return [found("clock_jump", "/clock", f"went back by {self._back_s:.3f} s")]
        return []


def type_name(kind: type[Any], of: str = "msg") -> str:
    """`sensor_msgs/msg/Image` of a message class; `of` is `srv` for that of a service."""
    return f"{kind.__module__.partition('.')[0]}/{of}/{kind.__name__}"


def policies(profile: QoSProfile) -> Qos:
    """The QoS properties that decide whether publisher and subscriber are compatible."""
    return Qos(
        profile.reliability != ReliabilityPolicy.BEST_EFFORT, profile.durability == DurabilityPolicy.TRANSIENT_LOCAL
    )
