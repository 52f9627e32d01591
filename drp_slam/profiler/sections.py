# SPDX-License-Identifier: Apache-2.0
"""The report's sections about time, energy and the chip."""

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
"""Frames in the picture of the schedule."""


def p50(spread: Mapping[str, float] | None) -> float | None:
    """The median of a spread, None where there is none."""
    return None if spread is None else spread["p50"]


def recording(report: Report) -> str:
    """What was read of the recording, and what should be known of it; nothing where there is nothing to say."""
    rows = [[escape(role), escape(topic), escape(why)] for role, topic, why in chosen_topics(report)]
    columns = [("role", "text"), ("topic", "text"), ("chosen because", "long")]
    notes = "".join(f"<li>{escape(note)}</li>" for note in report["warnings"])
    if not rows and not notes:
        return ""
    return section(
        "What was read",
        "The topics of the recording, and what should be known of how it was read.",
        table(columns, rows) if rows else None,
        f"<ul>{notes}</ul>" if notes else None,
    )


def findings(report: Report) -> str:
    """What the doctor found wrong while the graph ran; nothing where it found nothing."""
    if not report["findings"]:
        return ""
    rows = [
        [*(escape(one[name]) for name in ("level", "where", "seen", "why", "remedy")), one["first_s"], one["last_s"]]
        for one in report["findings"]
    ]
    columns = [("level", "text"), ("where", "text"), ("seen", "long"), ("why it matters", "long")]
    columns += [("what to do", "long"), ("first s", ""), ("last s", "")]
    intro = "What the nodes examined while they ran: topics, stamps, images, depth and calibration."
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
        "and for its own A55 cores doing the same work alone (first order).",
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
        "The chip in time",
        f"{tag(MODELLED)} Each unit is one queue; while it works on "
        f"one frame, others work on the next.{_shared(plan)} The same "
        "schedule is in <code>trace.json</code>, for ui.perfetto.dev.",
        figures.gantt(plan, range(middle, min(middle + SHOWN_FRAMES, len(plan.done_s)))),
        table(columns, rows, groups=[("", 1), ("", 3), ("utilisation", len(units))]),
    )


def pacing(report: Report) -> str:
    """A graph at the chip's speed beside the schedule."""
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
        "Outputs were held until the chip would have had them, never published earlier. Where this host computes a "
        "stage more slowly than the chip would, they were late.",
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


def comparison(report: Report) -> str:
    """Beside CPU-only execution: measured and modelled are two tables."""
    known, parts = report["comparison"], []
    host = known["host_cpu"]
    if host:
        names = list(host["stages"])
        columns = [
            ("", "text"),
            *((f"{name} [ms]", MEASURED) for name in (*names, "frame")),
            ("frame, times ours", MEASURED),
        ]
        ours = [p50(s["wall_ms"]) for s in host["stages"].values()]
        theirs = [p50(host["cpu_stages"][n]["wall_ms"]) if n in host["cpu_stages"] else None for n in names]
        baseline = ["backend cpu", *theirs, p50(host["cpu_wall_ms"]), host["ratio"]]
        parts += [
            f"<h3>On this host, the same {host['frames']} frames {tag(MEASURED)}</h3>",
            table(columns, [["this run", *ours, p50(host["wall_ms"]), 1.0], baseline]),
            "<p class='nothing'>Medians. The emulated units run on this host's processor "
            "too: this says what emulation costs, not what the chip gains.</p>",
        ]
    rows = []
    for key, text in (
        ("modelled_a55", "the chip as placed"),
        ("without_custom", "without custom DRP kernels (they run on the A55)"),
    ):
        m = known[key]
        if m:
            rows.append(
                [
                    text,
                    m["chip_ms"],
                    m["cpu_ms"],
                    m["latency_speedup"],
                    m["throughput_speedup"],
                    m["chip_mj"],
                    m["cpu_mj"],
                    m["energy_ratio"],
                    m["power_ratio"],
                ]
            )
    heads = (
        "chip [ms]",
        "A55 alone [ms]",
        "latency, times faster",
        "throughput, times faster",
        "chip [mJ]",
        "A55 alone [mJ]",
        "energy ratio",
        "power ratio",
    )
    if rows:
        columns = [("means a frame, first order", "text"), *((head, MODELLED) for head in heads)]
        parts += [f"<h3>The chip beside its own Cortex-A55 {tag(MODELLED)}</h3>", table(columns, rows)]
    claim = known["article"]
    parts += [
        f"<p class='nothing'>Claimed: {escape(claim['source'])}. Our figures are of our own "
        "pipeline and our own model; they are not fitted to that claim.</p>"
    ]
    return section(
        "Beside CPU-only execution",
        "The same frames and the same algorithms on the CPU alone: as measured here, and as modelled for the chip.",
        *parts,
    )


def kernels(report: Report) -> str:
    """Every image kernel with its place."""
    if not report["kernels"]:
        return ""
    reasons = any(k["reasons"] for k in report["kernels"])
    rows = []
    for k in report["kernels"]:
        texts = [escape(k[key]) for key in ("stage", "kernel", "place")]
        why = [escape("; ".join(k["reasons"]))] if reasons else []
        rows.append(
            [
                *texts,
                *why,
                k["modelled_s"] * 1e3,
                k["energy_j"] * 1e3,
                k["cpu_modelled_s"] * 1e3,
                k["cpu_energy_j"] * 1e3,
            ]
        )
    heads = ("as placed [ms]", "as placed [mJ]", "A55 [ms]", "A55 [mJ]")
    columns = [
        ("stage", "text"),
        ("kernel", "text"),
        ("place", "text"),
        *([("why not the DRP", "long")] if reasons else []),
        *((head, MODELLED) for head in heads),
    ]
    return section(
        "Image kernels and where they run",
        "One frame. opencva: DRP1 through the "
        "OpenCV Accelerator, under its conditions; preruntime: DRP0; custom: a DRP "
        "configuration that someone would have to write; cpu: the A55 cores.",
        table(columns, rows),
    )


def assumptions(report: Report) -> str:
    """The share of the result that rests on assumed constants, and every constant with its source."""
    known = report["assumptions"]
    if known is None:
        return ""
    text = "Every constant of the model of the chip, with its source."
    if known["share"]:
        share = {kind: f"{100 * value:.0f} %" for kind, value in known["share"].items()}
        text = (
            f"<b>{share['assumed']}</b> of the modelled time of a frame rests on assumed "
            f"constants, {share['fitted']} on fitted and {share['cited']} on cited ones: "
            "shares of the time's relative sensitivity to each constant."
        )
    columns = [("constant", "text"), ("value", "text"), ("kind", "text"), ("influence", ""), ("source", "long")]
    rows: dict[bool, list[list[str]]] = {True: [], False: []}
    for k in known["constants"]:
        influence = k["influence"]
        rows[bool(influence and influence >= 0.005)].append(
            [
                f"<code>{escape(k['key'])}</code>",
                f"{k['value']:.4g} {escape(k['unit'])}",
                tag(k["kind"]),
                "–" if influence is None else f"{100 * influence:.1f} %",
                escape(k["source"]),
            ]
        )
    parts = [table(columns, rows[True])] if rows[True] else []
    if rows[False]:
        parts.append(
            f"<details><summary>{len(rows[False])} constants with less influence on time"
            f"</summary>{table(columns, rows[False])}</details>"
        )
    return section("What the model rests on", text, *parts)


def thermal(report: Report) -> str:
    """The first-order estimate of temperature."""
    known = report["thermal"]
    if known is None:
        return ""
    rows = []
    for name, e in known.items():
        if e:
            after = "never" if e["limit_after_s"] is None else f"{e['limit_after_s']:.0f} s"
            rows.append([escape(name), e["rate_hz"], e["power_w"], e["steady_c"], after])
    columns = [
        ("", "text"),
        ("frames a second", MODELLED),
        ("power of the busy units [W]", MODELLED),
        ("steady temperature [°C]", MODELLED),
        ("limit passed after", MODELLED),
    ]
    return section(
        "Heat without a fan",
        f"{tag(MODELLED)} One thermal resistance and one capacity, fitted to a bare board whose four cores were "
        "stressed; the power behind that curve is assumed.",
        table(columns, rows),
    )
