# SPDX-License-Identifier: Apache-2.0
"""Spans, a frame's status and health <-> diagnostic messages.

`at_ns` is this host's monotonic clock, which all processes share: the latency of a frame is the
difference of two of them.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import time
from collections.abc import Iterable, Mapping

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from drp_slam.datatypes import Reason, Track
from drp_slam.device import Work
from drp_slam.doctor.checks import CHECKS, Level
from drp_slam.doctor.findings import Finding, finding_from
from drp_slam.errors import GraphError
from drp_slam.nodes import convert
from drp_slam.profiler.span import Span
from drp_slam.profiler.work_table import fields_of, work_of

STATES = ("tracked", "predicted", "lost", "paused")
"""Messages of a frame's status."""
SENT = "sent"
"""Stage name of the player's entry: the time when it sent the frame; no work of the chip."""

LONGEST_NAME = 200
"""Longest name of a stage, unit or device: any node may publish a span."""
LEVELS = {Level.NOTE: DiagnosticStatus.OK, Level.WARN: DiagnosticStatus.WARN, Level.ERROR: DiagnosticStatus.ERROR}
DOCTOR = "doctor: "
"""Between a node's name and a check's name, in the status of a finding."""
_FIGURES = ("wall_s", "modelled_s", "energy_j", "cpu_modelled_s", "cpu_energy_j")
_COUNTS = ("matches", "inliers", "keyframe", "at_ns")


def array_of(stamp_ns: int, status: Iterable[DiagnosticStatus]) -> DiagnosticArray:
    """Entries under the stamp of the frame."""
    return DiagnosticArray(header=convert.header(stamp_ns, ""), status=list(status))


def entry(
    name: str, level: bytes, message: str, values: Mapping[str, object], hardware_id: str = ""
) -> DiagnosticStatus:
    """One status with its values as text."""
    return DiagnosticStatus(
        level=level,
        name=name,
        message=message,
        hardware_id=hardware_id,
        values=[KeyValue(key=k, value=str(v)) for k, v in values.items()],
    )


def values_of(status: DiagnosticStatus) -> dict[str, str]:
    """The values of a status."""
    return {pair.key: pair.value for pair in status.values}


def health_of(status: DiagnosticStatus, namespace: str) -> str:
    """The node in `namespace` whose health this is, or an empty string: other nodes publish on /diagnostics too."""
    full, _, part = status.name.partition(": ")
    space, _, node = ("/" + full).rpartition("/")
    return node if part == "health" and (space or "/") == namespace else ""


def summary(finding: Finding) -> str:
    """A finding as the message of a node's health."""
    waits = finding.check.name in ("no_message", "wrong_type", "qos_mismatch", "no_clock")
    return f"{'waiting for ' * waits}{finding.where}: {finding.seen}"


def finding_status(node: str, finding: Finding, gone: bool) -> DiagnosticStatus:
    """A finding as a status; with level OK when it is `gone`."""
    level, message = (DiagnosticStatus.OK, "no longer seen") if gone else (LEVELS[finding.level], finding.seen)
    values = {**finding.values(), "gone": int(gone), "pid": os.getpid()}
    return entry(f"{node}: {DOCTOR}{finding.check.name} {finding.where}", level, message, values)


def finding_of(status: DiagnosticStatus, namespace: str) -> tuple[str, Finding | None] | None:
    """Node and finding (None when it is gone) of a status; None where it is not a finding in this namespace."""
    full, _, part = status.name.partition(": ")
    space, _, node = ("/" + full).rpartition("/")
    values = values_of(status)
    if not part.startswith(DOCTOR) or (space or "/") != namespace or values.get("check") not in CHECKS:
        return None
    return node, None if values.get("gone") == "1" else finding_from(values)


def span_status(
    node: str, span: Span, works: Iterable[Work] = (), units: Iterable[tuple[str, float]] = ()
) -> DiagnosticStatus:
    """A span as a status, with its work and its seconds on each unit; `repr` preserves every bit of the figures."""
    values: dict[str, object] = {name: repr(getattr(span, name)) for name in _FIGURES}
    values |= {"unit": span.unit, "at_ns": time.monotonic_ns()}
    values["works"] = json.dumps([fields_of(work) for work in works])
    values["units"] = json.dumps(list(units))
    return entry(f"{node}: {span.stage}", DiagnosticStatus.OK, "", values, span.device)


def sent_status(node: str) -> DiagnosticStatus:
    """The player's entry."""
    return entry(f"{node}: {SENT}", DiagnosticStatus.OK, "", {"at_ns": time.monotonic_ns()})


@dataclasses.dataclass(frozen=True)
class Entry:
    """A span as received. `span` is None for the player's entry; its frame number is -1."""

    node: str
    stage: str
    stamp_ns: int
    at_ns: int
    span: Span | None
    works: tuple[Work, ...] = ()
    units: tuple[tuple[str, float], ...] = ()


def entries(message: DiagnosticArray, topic: str = "spans") -> list[Entry]:
    """The entries of a message. Raises GraphError for entries that are not spans."""
    stamp_ns = convert.stamp_ns(message.header)
    out = []
    for status in message.status:
        node, _, stage = status.name.partition(": ")
        values = values_of(status)
        try:
            names = f"{stage}{values.get('unit', '')}{status.hardware_id}"
            if not names.isprintable() or len(names) > LONGEST_NAME:
                raise ValueError("a stage, unit or device has no printable or too long a name")
            at_ns = _count(values["at_ns"])
            span = (
                None
                if stage == SENT
                else Span(
                    stamp_ns, -1, stage, values["unit"], status.hardware_id, *(float(values[name]) for name in _FIGURES)
                )
            )
            works = tuple(work_of(tuple(fields)) for fields in json.loads(values.get("works", "[]")))
            units = tuple((str(unit), float(seconds)) for unit, seconds in json.loads(values.get("units", "[]")))
            if span is not None and not math.isfinite(span.wall_s):
                raise ValueError(f"wall_s is {span.wall_s}")
        except (KeyError, ValueError, TypeError) as error:
            raise GraphError(f"{topic}: {status.name!r} is no span: {error!r}") from error
        out.append(Entry(node, stage, stamp_ns, at_ns, span, works, units))
    return out


def track_status(node: str, track: Track, epoch: int = 0) -> DiagnosticStatus:
    """The result of a frame: the player's credit, and a line of `frames.csv`.

    `epoch` counts restarts of the stamps.
    """
    level = DiagnosticStatus.OK if track.tracked else DiagnosticStatus.WARN
    values: dict[str, object] = {
        "matches": track.matches,
        "inliers": track.inliers,
        "keyframe": int(track.keyframe),
        "relocalised": int(track.relocalised),
        "map": track.map,
        "reason": track.reason.value,
        "remedy": track.reason.remedy,
        "epoch": epoch,
        "at_ns": time.monotonic_ns(),
    }
    return entry(f"{node}: track", level, track.state, values)


def track_values(status: DiagnosticStatus) -> dict[str, str]:
    """The values of a frame's status. Raises GraphError for another status."""
    values = values_of(status)
    if status.message not in STATES:
        raise GraphError(f"status: {status.name[:80]!r} is no frame: its message is none of {', '.join(STATES)}")
    try:
        for key in _COUNTS:
            _count(values[key])
    except (KeyError, ValueError) as error:
        raise GraphError(f"status: {status.name!r} is no frame: {error!r}") from error
    return values


def reason_of(values: Mapping[str, str]) -> str:
    """A frame's reason; "" for none or an unknown one, since any node may publish a status."""
    return values.get("reason", "") if values.get("reason") in {r.value for r in Reason} else ""


def _count(text: str) -> int:
    """An integer that fits a message's integers. Raises ValueError."""
    number = int(text)
    if not 0 <= number < 2**63:
        raise ValueError(f"{text[:20]} is no count")
    return number
