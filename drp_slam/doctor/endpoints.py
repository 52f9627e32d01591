# SPDX-License-Identifier: Apache-2.0
"""Publishers of a node's topics, and why nothing arrives. Read `check_input` first."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from drp_slam.doctor.checks import Level
from drp_slam.doctor.findings import Finding, found

SILENT_S = 5.0
"""A topic without a message for this long is reported: slower cameras than 0.2 Hz track nothing."""
LOST_S = 15.0
"""After this time the report is an error: drivers take up to ten seconds to start."""
ALIKE = 0.35
"""Names less alike than this (difflib's ratio) are not suggested."""


@dataclass(frozen=True)
class Qos:
    """The two QoS policies that decide which publishers a subscription receives."""

    reliable: bool
    latched: bool

    def serves(self, wanted: Qos) -> bool:
        """Whether a publisher with this QoS reaches a subscriber with `wanted` (DDS: offered >= requested)."""
        return self.reliable >= wanted.reliable and self.latched >= wanted.latched


@dataclass(frozen=True)
class Publisher:
    """One publisher of a topic; `node` is its full name."""

    node: str
    type: str
    qos: Qos


@dataclass(frozen=True)
class Subscription:
    """One subscription of a node: one transport of an input. `received` counts messages."""

    topic: str
    type: str
    qos: Qos
    received: int = 0


@dataclass(frozen=True)
class Input:
    """One stream of images or calibrations that a node needs, by any transport.

    The first of `subscriptions` names it. `silent_s` is the time since its last message, or since the node
    subscribed.
    """

    role: str
    subscriptions: Sequence[Subscription]
    silent_s: float

    @property
    def topic(self) -> str:
        return self.subscriptions[0].topic


def check_input(
    wanted: Input, publishers: Mapping[str, Sequence[Publisher]], topics: Mapping[str, Sequence[str]]
) -> list[Finding]:
    """Findings on missing messages or additional publishers.

    `publishers` of each subscribed topic; `topics` are all names with publishers and their types, without those of the
    graph itself.
    """
    findings = [finding for s in wanted.subscriptions for finding in _both(s, publishers.get(s.topic, ()))]
    if wanted.silent_s < SILENT_S:
        return findings
    level = Level.ERROR if wanted.silent_s >= LOST_S else Level.WARN
    since = f"no message for {wanted.silent_s:.0f} s"
    heard: list[str] = []
    for s in wanted.subscriptions:
        own = [p for p in publishers.get(s.topic, ()) if p.type == s.type]
        others = sorted({p.type for p in publishers.get(s.topic, ()) if p.type != s.type})
        deaf = [p for p in own if not p.qos.serves(s.qos)]
        if others and not own:
            findings.append(found("wrong_type", s.topic, f"is {', '.join(others)}, expected {s.type}"))
        elif deaf and len(deaf) == len(own):
            findings.append(found("qos_mismatch", s.topic, f"{since}: {_clash(deaf[0], s.qos)}"))
        elif own:
            heard.append(f"{_names(own)} on {s.topic} connected but silent")
    if heard:
        findings.append(found("no_message", wanted.topic, f"{since}; {', '.join(heard)}", level))
    elif not any(f.check.name in ("wrong_type", "qos_mismatch") for f in findings):
        near = nearest(wanted, topics)
        proposal = f"nearest: {', '.join(near)}" if near else f"no topic of type {wanted.subscriptions[0].type} exists"
        findings.append(found("no_message", wanted.topic, f"{since} and no publisher; {proposal}", level))
    return findings


def _both(s: Subscription, publishers: Sequence[Publisher]) -> list[Finding]:
    """A finding for more than one publisher of the right type."""
    own = [p for p in publishers if p.type == s.type]
    return [found("two_publishers", s.topic, f"{len(own)} publishers: {_names(own)}")] if len(own) > 1 else []


def _names(publishers: Sequence[Publisher]) -> str:
    return ", ".join(p.node for p in publishers)


def _clash(publisher: Publisher, wanted: Qos) -> str:
    """The incompatible policy of a publisher."""
    if wanted.reliable and not publisher.qos.reliable:
        return f"{publisher.node} offers best effort, the subscription requests reliable"
    return f"{publisher.node} offers volatile, the subscription requests transient local"


def nearest(wanted: Input, topics: Mapping[str, Sequence[str]], count: int = 3) -> list[str]:
    """Existing topics of a fitting type with the most similar names, with their types, the best first.

    A depth input prefers names with `depth`, the others avoid them.
    """
    types = {s.type for s in wanted.subscriptions}
    scored = []
    for topic, kinds in topics.items():
        fitting = types.intersection(kinds)
        if not fitting:
            continue
        alike = max(difflib.SequenceMatcher(None, s.topic, topic).ratio() for s in wanted.subscriptions)
        deep = "depth" in topic.lower() or "disparity" in topic.lower()
        if deep != (wanted.role == "depth") and wanted.role in ("image", "depth", "right"):
            alike -= 0.3
        scored.append((alike, topic, sorted(fitting)[0]))
    scored.sort(reverse=True)
    best = [entry for entry in scored if entry[0] >= ALIKE] or scored[:1]
    return [f"{topic} ({kind})" for _, topic, kind in best[:count]]
