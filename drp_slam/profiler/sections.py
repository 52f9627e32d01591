# SPDX-License-Identifier: Apache-2.0
"""The report's sections about the recording, time, the schedule and energy."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from drp_slam.chip.schedule import Schedule
from drp_slam.profiler import figures
from drp_slam.profiler.page import MEASURED, MODELLED, section, table, tag
from drp_slam.profiler.terminal import chosen_topics

Report = Mapping[str, Any]
SHOWN_FRAMES = 5
"""Number of frames in the picture of the schedule."""


def p50(spread: Mapping[str, float] | None) -> float | None:
    """The median of a spread, None if there is none."""
    return None if spread is None else spread["p50"]


def recording(report: Report) -> str:
    """The topics of the recording, and notes on it; empty if there are none."""
    rows = [[escape(role), escape(topic), escape(why)] for role, topic, why in chosen_topics(report)]
    columns = [("role", "text"), ("topic", "text"), ("chosen because", "long")]
    notes = "".join(f"<li>{escape(note)}</li>" for note in report["warnings"])
    if not rows and not notes:
        return ""
    return section(
        "Recording",
        "The topics that were read, and notes.",
        table(columns, rows) if rows else None,
        f"<ul>{notes}</ul>" if notes else None,
    )


def findings(report: Report) -> str:
    """Findings while the graph ran; empty if there are none."""
    if not report["findings"]:
        return ""
    rows = [
        [*(escape(one[name]) for name in ("level", "where", "seen", "why", "remedy")), one["first_s"], one["last_s"]]
        for one in report["findings"]
    ]
    columns = [("level", "text"), ("where", "text"), ("seen", "long"), ("effect", "long")]
    columns += [("remedy", "long"), ("first s", ""), ("last s", "")]
    intro = "The nodes check topics, stamps, images, depth and calibration while they run."
    return section("What was wrong", intro, table(columns, rows))


def stages(report: Report) -> str:
    """Time per stage, measured and modelled in separate columns."""
    known, latency = report["stages"], report["latency"]
    if not known:
        return section("Time per stage", "No spans.csv in these results.")

    def cells(spread: Mapping[str, float] | None) -> list[float | None]:
        return [None, None] if spread is None else [spread["p50"], spread["p95"]]

    rows: list[list[Any]] = []
    for name, s in known.items():
        rows.append(
            [
                escape(name),
                escape(s["unit"]),
                escape(s["device"]),
                *cells(s["wall_ms"]),
                *cells(s["modelled_ms"]),
                s["energy_mj"],
                p50(s["cpu_modelled_ms"]),
            ]
        )
    energies = [s["energy_mj"] for s in known.values()]
    rows.append(
        [
            "frame",
            "",
            escape(f"{latency['wall_is']} | sum"),
            *cells(latency["wall_ms"]),
            *cells(latency["modelled_ms"]),
            None if None in energies else sum(energies),
            p50(latency["cpu_modelled_ms"]),
        ]
    )
    columns = [
        ("stage", "text"),
        ("unit", "text"),
        ("device", "text"),
        ("p50 [ms]", MEASURED),
        ("p95 [ms]", MEASURED),
        ("p50 [ms]", MODELLED),
        ("p95 [ms]", MODELLED),
        ("energy [mJ]", MODELLED),
        ("A55 alone, p50 [ms]", MODELLED),
    ]
    groups = [("", 3), ("measured on this host", 2), ("modelled for the chip", 4)]
    return section(
        "Time per stage",
        f"{tag(MEASURED)} on this host; {tag(MODELLED)} for the chip, "
        "and for its own A55 cores alone with the same work (first order).",
        figures.stage_times(known),
        table(columns, rows, total=True, groups=groups),
    )


def schedule(report: Report, plan: Schedule | None) -> str:
    """The schedule of the units, and the resulting throughput and latency."""
    known = report["schedule"]
    if known is None or plan is None:
        return ""
    middle, units = len(plan.done_s) // 2, [unit.name for unit in plan.units]
    rows = []
    for count, body in known["in_flight"].items():
        busy = [f"{100 * body['utilisation'].get(unit, 0.0):.0f} %" for unit in units]
        latency = body["latency_ms"]
        rows.append([count, body["throughput_hz"], latency["p50"], latency["p95"], *busy])
    names = ("throughput [Hz]", "latency p50 [ms]", "latency p95 [ms]", *units)
    columns = [("frames in flight", "text"), *((name, MODELLED) for name in names)]
    return section(
        "Schedule of the chip",
        f"{tag(MODELLED)} Each unit is one queue; while it works on "
        f"one frame, others work on the next.{_shared(plan)} The same "
        "schedule is in <code>trace.json</code>, for ui.perfetto.dev.",
        figures.gantt(plan, range(middle, min(middle + SHOWN_FRAMES, len(plan.done_s)))),
        table(columns, rows, groups=[("", 1), ("", 3), ("utilisation", len(units))]),
    )


def pacing(report: Report) -> str:
    """A graph at the chip's speed against the schedule."""
    known = report.get("pacing")
    if not known:
        return ""
    graph, plan = known["graph"], known["schedule"]
    rows = [
        [escape(node), body.get("held", ""), body["late_ms"], body["late_share"]]
        for node, body in known["late"].items()
    ]
    return section(
        "At the chip's speed",
        "Outputs were held until the chip would have had them, and never published earlier. If this host computes a "
        "stage more slowly than the chip would, they are late.",
        table(
            [
                ("", "text"),
                ("frames/s", MEASURED),
                ("p50 [ms]", MEASURED),
                ("frames/s", MODELLED),
                ("p50 [ms]", MODELLED),
            ],
            [["graph | schedule", graph["fps"], graph["latency_ms"], plan["fps"], plan["latency_ms"]]],
        ),
        table(
            [("node", "text"), *((n, MEASURED) for n in ("outputs held", "late, p50 [ms]", "share later than 1 ms"))],
            rows,
        ),
    )


def _shared(plan: Schedule) -> str:
    """Which units wait for each other, as a sentence with a space before it."""
    queues: dict[str, list[str]] = {}
    for unit in plan.units:
        queues.setdefault(unit.queue, []).append(unit.name)
    return "".join(f" {' and '.join(names)} share one queue." for names in queues.values() if len(names) > 1)


def energy(report: Report) -> str:
    """Energy per frame of each stage."""
    return section(
        "Energy per stage",
        f"{tag(MODELLED)} On its unit of the chip, and on the A55.",
        figures.energy(report["stages"] or {}),
    )
