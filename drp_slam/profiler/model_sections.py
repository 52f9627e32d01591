# SPDX-License-Identifier: Apache-2.0
"""The report's sections about the model: the CPU alone, kernels, constants, heat."""

from __future__ import annotations

from html import escape

from drp_slam.profiler.page import MEASURED, MODELLED, breakable, section, table, tag, unit_of
from drp_slam.profiler.sections import Report, p50


def comparison(report: Report) -> str:
    """Comparison with CPU-only execution: measured and modelled in two tables."""
    known, parts = report["comparison"], []
    host = known["host_cpu"]
    if host:
        names = list(host["stages"])
        columns = [
            ("", "text"),
            *((f"{name} [ms]", MEASURED) for name in (*names, "frame")),
            ("frame, speed-up", MEASURED),
        ]
        ours = [p50(s["wall_ms"]) for s in host["stages"].values()]
        theirs = [p50(host["cpu_stages"][n]["wall_ms"]) if n in host["cpu_stages"] else None for n in names]
        baseline = ["backend cpu", *theirs, p50(host["cpu_wall_ms"]), host["ratio"]]
        parts += [
            f"<h3>On this host, the same {host['frames']} frames {tag(MEASURED)}</h3>",
            table(columns, [["this run", *ours, p50(host["wall_ms"]), 1.0], baseline]),
            "<p class='nothing'>Medians. The emulated units also run on this host's processor"
            ": this shows the cost of emulation, not the gain of the chip.</p>",
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
        "latency speed-up",
        "throughput speed-up",
        "chip [mJ]",
        "A55 alone [mJ]",
        "energy ratio",
        "power ratio",
    )
    if rows:
        columns = [("means per frame, first order", "text"), *((head, MODELLED) for head in heads)]
        parts += [f"<h3>The chip and its own Cortex-A55 {tag(MODELLED)}</h3>", table(columns, rows)]
    claim = known["article"]
    parts += [
        f"<p class='nothing'>Claimed: {escape(claim['source'])}. These figures are of this project's own "
        "pipeline and model; they are not fitted to that claim.</p>"
    ]
    return section(
        "Compared with CPU-only execution",
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
        "configuration that would have to be written; cpu: the A55 cores.",
        table(columns, rows),
    )


def assumptions(report: Report) -> str:
    """The share of the result that depends on assumed constants, and every constant with its source."""
    known = report["assumptions"]
    if known is None:
        return ""
    text = "Every constant of the model of the chip, with its source."
    if known["share"]:
        share = {kind: f"{100 * value:.0f} %" for kind, value in known["share"].items()}
        text = (
            f"<b>{share['assumed']}</b> of the modelled time of a frame depends on assumed "
            f"constants, {share['fitted']} on fitted and {share['cited']} on cited ones: "
            "shares of the time's relative sensitivity to each constant."
        )
    columns = [("constant", "text"), ("value", "text"), ("kind", "text"), ("influence", ""), ("source", "long")]
    rows: dict[bool, list[list[str]]] = {True: [], False: []}
    for k in known["constants"]:
        influence = k["influence"]
        rows[bool(influence and influence >= 0.005)].append(
            [
                f"<code>{breakable(k['key'])}</code>",
                f"{k['value']:.4g} {escape(unit_of(k['unit']))}",
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
    """The first-order estimate of the temperature."""
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
