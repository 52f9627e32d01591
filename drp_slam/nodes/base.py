# SPDX-License-Identifier: Apache-2.0
"""Base of all nodes: parameters, health at 1 Hz, spans, start and shutdown."""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rcl_interfaces.msg import SetParametersResult
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile

from drp_slam.chip.soc import Meter
from drp_slam.config import NODE_SECTIONS, Config, GraphConfig
from drp_slam.device import StageRun
from drp_slam.doctor.endpoints import SILENT_S
from drp_slam.doctor.findings import Finding, worst_first
from drp_slam.errors import DrpSlamError
from drp_slam.frontend.modelled import open_soc
from drp_slam.nodes import pacing, params, qos, status_codec
from drp_slam.nodes.announce import Announcer
from drp_slam.nodes.camera_inputs import Inputs
from drp_slam.nodes.camera_topics import CAMERA_TOPICS
from drp_slam.nodes.limits import DEAF, INACTIVE
from drp_slam.nodes.managed import ManagedNode
from drp_slam.nodes.managed_topics import ManagedPublisher
from drp_slam.nodes.shared_memory import lost_port
from drp_slam.nodes.table import UNITS_OF
from drp_slam.profiler.span import on_units, span_of

HEALTH_PERIOD_S = 1.0
READY_PERIOD_S = 0.1
PORT_WATCH = "profiler_node"
"""The node that watches the port of a process of several nodes."""
LONGEST = 500
"""Longest problem text that is reported: it may quote a message from outside."""


class StageNode(ManagedNode):
    """A node that owns one unit. Invalid messages are reported on /diagnostics and dropped.

    Raises ConfigError for unknown or out-of-range parameters.
    """

    inert: Collection[str] = ("network",)
    """Common parameters that may change at run time but have no effect on this node."""

    def __init__(self, name: str, *sections: type[Any], **kwargs: Any) -> None:
        super().__init__(name, **kwargs)
        try:
            *self.configs, self.graph = params.read(self, *sections, GraphConfig, inert=self.inert)
        except DrpSlamError:
            self.destroy_node()
            raise
        own = {NODE_SECTIONS[name]: self.configs[0]} if name in NODE_SECTIONS else {}
        self.config = Config(**own, graph=self.graph)
        self.add_on_set_parameters_callback(self._on_parameters)
        self._problems, self._last_problem, self._fresh = 0, "", False
        self._watches_port = self.inbox is None or name == PORT_WATCH
        self.frames = self.beats = 0
        self._needed: list[ManagedPublisher] = []
        self._missing = ""

    def configure(self) -> None:
        self._pacer: pacing.Pacer | None = None
        self._open_meter()
        self._activity = Activity()
        self.inputs = Inputs(self, frozenset({"depth"} if self.graph.pair else ()))
        self._announcer = Announcer(self.get_logger())
        self._needed.clear()
        self._spans = self.advertise(DiagnosticArray, "spans", qos.ledger())
        self._health = self.advertise(DiagnosticArray, "/diagnostics", qos.health(), local=False)
        self._beat = self.every(READY_PERIOD_S, self._ready_beat)
        self.every(HEALTH_PERIOD_S, self.report_health)

    def watched(
        self, kind: type[Any], topic: str, profile: QoSProfile, handle: Callable[[Any], None]
    ) -> Callable[[Any], None]:
        if topic.partition("/")[0] in CAMERA_TOPICS:
            return self.inputs.watch(kind, topic, profile, handle)
        return handle

    def _deactivate(self) -> None:
        self._publish_health(DiagnosticStatus.WARN, INACTIVE, ready=False)
        super()._deactivate()

    def _open_meter(self) -> None:
        if self.get_name() in UNITS_OF:
            self._meter = Meter(open_soc(self.config, UNITS_OF[self.get_name()]))
            if self.graph.pacing == pacing.REALTIME:
                self._pacer = self._pacer or pacing.Pacer(pacing.timeline_path(self.get_namespace()), self.guarded)
                self._pacer.meter = Meter(self._meter.soc)

    def _on_parameters(self, given: list[Parameter]) -> SetParametersResult:
        """Sets new values of this node's own parameters: all of a request or none."""
        own = {p.name: p.value for p in given if p.name in type(self.configs[0]).__dataclass_fields__}
        shared = {p.name: p.value for p in given if p.name in GraphConfig.__dataclass_fields__}
        before = self.configs[0], self.graph, self.config
        try:
            self.configs[0] = dataclasses.replace(before[0], **own)
            self.graph = dataclasses.replace(before[1], **shared)
            section = {NODE_SECTIONS[self.get_name()]: self.configs[0]}
            self.config = dataclasses.replace(before[2], **section, graph=self.graph)
            if (own or shared) and self.configured:
                self.apply()
                self._open_meter()
        except DrpSlamError as error:
            self.configs[0], self.graph, self.config = before
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def apply(self) -> None:
        """Applies changed values of `configs[0]`, `graph` and `config` from the next frame on.

        Raises DrpSlamError and changes nothing for unusable values.
        """

    def needs_listener(self, publisher: ManagedPublisher) -> ManagedPublisher:
        """Makes the node ready only once this topic has a subscriber."""
        self._needed.append(publisher)
        return publisher

    def problem(self, error: object) -> None:
        """Counts a problem, for /diagnostics and the log."""
        self._problems += 1
        self._last_problem, self._fresh = " ".join(str(error).split())[:LONGEST], True
        self.get_logger().warning(self._last_problem, throttle_duration_sec=1.0)

    def publish_runs(self, stamp_ns: int, *runs: StageRun) -> None:
        """Publishes the spans of one frame's stages, priced for the chip."""
        if not self.graph.profile:
            return
        statuses = []
        for run in runs:
            costs = [self._meter.cost(work) for work in run.works]
            span = span_of(-1, stamp_ns, run, costs, self._meter.soc)
            statuses.append(status_codec.span_status(self.get_name(), span, run.works, on_units(costs)))
        self._spans.publish(status_codec.array_of(stamp_ns, statuses))

    def begin(self, stamp_ns: int, unit: str = "") -> int:
        """Begins a stage of a frame, all of whose work is for `unit` if given; returns the monotonic time in ns."""
        return time.monotonic_ns() if self._pacer is None else self._pacer.begin(stamp_ns, unit)

    def release(
        self,
        stamp_ns: int,
        runs: Sequence[StageRun],
        begun_ns: int,
        publish: Callable[[], None],
        *,
        then: str = "",
        beside: bool = False,
        wait: bool = False,
    ) -> None:
        """Calls `publish` at once, in pacing `realtime` when the chip would have done `runs` (`Pacer.hold`)."""
        if self._pacer is None:
            publish()
        else:
            self._pacer.hold(stamp_ns, runs, begun_ns, publish, then=then, beside=beside, wait=wait)

    def _release(self) -> None:
        if self._pacer is not None:
            self._pacer.close()
        super()._release()

    def ready(self) -> bool:
        """Whether everything this node needs is available."""
        return all(publisher.get_subscription_count() for publisher in self._needed)

    def health(self) -> dict[str, object]:
        """Additional values for /diagnostics."""
        return {}

    def findings(self) -> list[Finding]:
        """Faults of this node's inputs (`drp_slam.doctor`)."""
        return self.inputs.findings()

    def _examined(self) -> list[Finding]:
        """Findings, the worst first; an error while examining foreign messages must not end the node."""
        try:
            return worst_first(self.findings())
        except Exception as error:
            self.fault(error)
            return []

    def report_health(self) -> None:
        """One DiagnosticStatus of the node, and one for each finding.

        WARN while not ready, the level of the worst finding, ERROR in a second with a problem; else OK, with
        "running" only while frames arrive. A node that can receive nothing any more reports it and exits, so that it is
        restarted.
        """
        ready, missing = self.ready(), lost_port() if self._watches_port else ""
        lost = missing and missing == self._missing  # it may be missing for a moment while a port is recreated
        self._missing = missing
        if lost:
            self.problem(f"{missing} was removed from /dev/shm: this node receives nothing any more; restart it")
        findings = self._examined() if ready else []
        level, message = DiagnosticStatus.OK, self._activity.words(self.frames, time.monotonic())
        if not ready:
            level, message = DiagnosticStatus.WARN, "waiting for the other nodes"
        elif findings and findings[0].level:
            level, message = status_codec.LEVELS[findings[0].level], status_codec.summary(findings[0])
        if self._fresh:
            level, message = DiagnosticStatus.ERROR, self._last_problem
        self._fresh = False
        self._publish_health(level, message, ready, findings)
        if lost:
            print(f"drp_slam {self.get_name()}: {self._last_problem}", file=sys.stderr, flush=True)
            os._exit(DEAF)  # as if killed: there is nothing to write

    def _publish_health(self, level: bytes, message: str, ready: bool, findings: Iterable[Finding] = ()) -> None:
        self.beats += 1
        values = {
            "ready": int(ready),
            "beats": self.beats,
            **{f"heard_{topic}": count for topic, count in self.heard.items()},
            "frames": self.frames,
            "problems": self._problems,
            "last_problem": self._last_problem,
            "pid": os.getpid(),
            **{f"received_{role}": count for role, count in self.inputs.received.items()},
            **(self._pacer.figures() if self._pacer else {}),
            **self.health(),
        }
        name = self.get_fully_qualified_name().lstrip("/")
        statuses = [status_codec.entry(f"{name}: health", level, message, values)]
        statuses += [status_codec.finding_status(name, f, gone) for f, gone in self._announcer.changes(findings)]
        self._health.publish(status_codec.array_of(self.get_clock().now().nanoseconds, statuses))

    def _ready_beat(self) -> None:
        """Runs at 10 Hz until ready, so that others need not wait for the next health message."""
        if self.ready():
            self._beat.cancel()
            self.report_health()


class Activity:
    """Whether frames arrive, in words."""

    def __init__(self) -> None:
        self._frames, self._since_s = 0, time.monotonic()

    def words(self, frames: int, now_s: float) -> str:
        """`running` while the count of frames grows."""
        if frames != self._frames:
            self._frames, self._since_s = frames, now_s
        if not frames:
            return "waiting for the first frame"
        idle_s = now_s - self._since_s
        return "running" if idle_s < SILENT_S else f"no frame for {idle_s:.0f} s"
