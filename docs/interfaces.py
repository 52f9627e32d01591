# SPDX-License-Identifier: Apache-2.0
"""The page of ROS interfaces: what each node has once it is configured. `docs/reference.py` writes it."""

from __future__ import annotations

import os
from collections.abc import Iterator

from rclpy.context import Context
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from drp_slam.config import NODE_SECTIONS
from drp_slam.nodes.camera_inputs import type_name
from drp_slam.nodes.container import node_class
from drp_slam.nodes.managed import ManagedNode

HEAD = """# ROS interfaces

Made from the code by `python docs/reference.py`, which configures each node and lists what it has; a test
compares them.

Names are as in the code: relative ones move with the namespace, all can be remapped. "pair" marks what a node
has only with a stereo pair (`graph.pair`, set by `up --right-topic` and `right:=`). Every node also has the
parameter and lifecycle services of ROS 2. See [ros.md](ros.md)."""
DOMAIN, RANGE = 101, "ROS_AUTOMATIC_DISCOVERY_RANGE"
SEQUENCE = "synthetic:frames=2,width=64"

Row = tuple[str, str, str, str]


def text() -> str:
    """The whole page."""
    before = os.environ.get(RANGE)
    os.environ[RANGE] = "LOCALHOST"
    context = Context()
    context.init(args=[], domain_id=DOMAIN, initialize_logging=False)
    try:
        return "\n\n".join([HEAD, *(section(name, context) for name in NODE_SECTIONS)]) + "\n"
    finally:
        context.try_shutdown()
        if before is None:  # what is started later must not inherit it
            del os.environ[RANGE]
        else:
            os.environ[RANGE] = before


def section(name: str, context: Context) -> str:
    """One node: rows of a plain camera, and those that only a pair has."""
    plain, pair = (rows(name, context, pair) for pair in (False, True))
    lines = [f"| {way} | `{topic}` | {kind} | {quality} |" for way, topic, kind, quality in plain]
    lines += [
        f"| {way} (pair) | `{topic}` | {kind} | {quality} |"
        for way, topic, kind, quality in pair
        if (way, topic, kind, quality) not in plain
    ]
    about = (node_class(name).__doc__ or "").splitlines()[0]
    link = f"Parameters: [{NODE_SECTIONS[name]}](parameters.md#{NODE_SECTIONS[name]}), [graph](parameters.md#graph)."
    return "\n".join([f"## {name}\n\n{about} {link}\n\n| | name | type | QoS, depth |\n|---|---|---|---|", *lines])


def rows(name: str, context: Context, pair: bool = False) -> list[Row]:
    """What the node takes, gives and serves, as it is configured."""
    given = {"pair": pair} | ({"sequence": SEQUENCE} if name == "player_node" else {})
    parameters = [Parameter(key, value=value) for key, value in given.items()]
    node = node_class(name)(context=context, parameter_overrides=parameters, use_global_arguments=False)
    try:
        node.attempt(node.trigger_configure)
        return list(described(node))
    finally:
        node.close()
        node.destroy_node()


def described(node: ManagedNode) -> Iterator[Row]:
    """Rows of a configured node, by kind and name."""
    publishers, services, *_ = node.made()
    for subscription in sorted(node.managed_subscriptions, key=lambda i: i.topic):
        yield "takes", subscription.topic, f"`{type_name(subscription.kind)}`", quality(subscription.profile)
    for publisher in sorted(publishers, key=lambda p: p.topic_name):
        kind = f"`{type_name(publisher.msg_type)}`"
        yield "gives", relative(publisher.topic_name), kind, quality(publisher.qos_profile)
    for service in sorted(services, key=lambda s: s.srv_name):
        yield "serves", relative(service.srv_name), f"`{type_name(service.srv_type, 'srv')}`", ""


def relative(name: str) -> str:
    """As in the code, where only these are absolute."""
    return name if name in ("/tf", "/tf_static", "/diagnostics", "/clock") else name.lstrip("/")


def quality(profile: QoSProfile) -> str:
    """Reliability, depth and durability in words."""
    words = "reliable" if profile.reliability == ReliabilityPolicy.RELIABLE else "best effort"
    latched = ", latched" if profile.durability == DurabilityPolicy.TRANSIENT_LOCAL else ""
    return f"{words}, {profile.depth}{latched}"
