# SPDX-License-Identifier: Apache-2.0
"""The difference of two runs: figures side by side, settings, and both paths in one picture."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from drp_slam.atomic import write_text
from drp_slam.errors import ProfilerError
from drp_slam.profiler import figures
from drp_slam.profiler.page import MEASURED, MODELLED, breakable, number, page, section, table, tag, verdict_box
from drp_slam.profiler.report import Curves
from drp_slam.reporting import folder as files
from drp_slam.reporting.results import gather

SAME = 0.005
"""Relative change below which two figures count as equal."""


class Metric(NamedTuple):
    """One figure of a report; `better` is "less", "more" or "" if neither."""

    name: str
    unit: str
    kind: str
    better: str
    path: tuple[str, ...]
    scale: float = 1.0


LAST = "last"
"""In a path: the entry of the largest key, such as the largest number of frames in flight."""
TRACKED = "share of the frames that are tracked"
METRICS = (
    Metric("ATE RMSE", "cm", "", "less", ("ate_rmse_m",), 100.0),
    Metric("ATE RMSE as published live", "cm", "", "less", ("ate_live_rmse_m",), 100.0),
    Metric("drift over 1 s", "cm", "", "less", ("rpe", "translation_rmse_m"), 100.0),
    Metric("tracked", "%", "", "more", (TRACKED,), 100.0),
    Metric("frames", "", "", "", ("frames",)),
    Metric("keyframes", "", "", "", ("keyframes",)),
    Metric("frame rate", "Hz", MEASURED, "more", ("fps",)),
    Metric("latency, p50", "ms", MEASURED, "less", ("latency", "wall_ms", "p50")),
    Metric("latency, p95", "ms", MEASURED, "less", ("latency", "wall_ms", "p95")),
    Metric("latency, p50", "ms", MODELLED, "less", ("latency", "modelled_ms", "p50")),
    Metric("latency, p95", "ms", MODELLED, "less", ("latency", "modelled_ms", "p95")),
    Metric("throughput", "Hz", MODELLED, "more", ("schedule", "in_flight", LAST, "throughput_hz")),
    Metric("energy a frame", "mJ", MODELLED, "less", ("comparison", "modelled_a55", "chip_mj")),
    Metric("speed-up over its A55", "", MODELLED, "more", ("comparison", "modelled_a55", "latency_speedup")),
)


def write(first: Path, second: Path, into: Path, device: str | None = None) -> dict[str, Any]:
    """Compares the results in two folders, writes `difference.html` and `difference.json` into a third.

    `device` prices both runs for another chip. Raises ProfilerError.
    """
    (a, curves_a, _), (b, curves_b, _) = (gather(folder, None, device) for folder in (first, second))
    settings = [_flat(files.read_run(folder).get("config") or {}) for folder in (first, second)]
    result = {
        "first": str(first),
        "second": str(second),
        "same_trajectory": a["trajectory_sha256"] is not None and a["trajectory_sha256"] == b["trajectory_sha256"],
        "differences": compared(a, b),
        "settings": _changed(*settings),
        "warnings": _doubts(a, b),
        "report": str(into / files.DIFFERENCE_HTML),
    }
    files.write_json(into / files.DIFFERENCE_JSON, result)
    write_text(into / files.DIFFERENCE_HTML, _render(result, curves_a, curves_b), ProfilerError)
    return result


def compared(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every figure in either report, with its relative change and whether that is better or worse."""
    stages = dict.fromkeys([*(a["stages"] or {}), *(b["stages"] or {})])
    metrics = METRICS + tuple(
        Metric(f"{stage}, p50", "ms", kind, "less", ("stages", stage, key, "p50"))
        for kind, key in ((MEASURED, "wall_ms"), (MODELLED, "modelled_ms"))
        for stage in stages
    )
    found = []
    for metric in metrics:
        before, after = (_value(report, metric) for report in (a, b))
        if before is None and after is None:
            continue
        change = None if before is None or after is None or not before else after / before - 1.0
        found.append(
            {
                "name": metric.name,
                "unit": metric.unit,
                "kind": metric.kind,
                "first": before,
                "second": after,
                "change": change,
                "verdict": _word(change, metric.better),
            }
        )
    return found


def _value(report: Mapping[str, Any], metric: Metric) -> float | None:
    known = report["frames"] and report["tracked"] is not None
    value: Any = {**report, TRACKED: report["tracked"] / report["frames"] if known else None}
    for key in metric.path:
        if not value:
            return None
        value = value[max(value, key=int)] if key == LAST else value.get(key)
    return None if value is None else value if metric.scale == 1 else value * metric.scale


def _word(change: float | None, better: str) -> str:
    if change is None or not better:
        return ""
    if abs(change) < SAME:
        return "same"
    return "better" if (change < 0) == (better == "less") else "worse"


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in config.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def _changed(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, list[Any]]:
    return {key: [a.get(key), b.get(key)] for key in sorted({*a, *b}) if a.get(key) != b.get(key)}


def _doubts(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """Reasons why two runs are hard to compare."""
    found = []
    if a["sequence"] != b["sequence"]:
        found.append(f"the sequences differ: {a['sequence']} and {b['sequence']}")
    if a["frames"] != b["frames"]:
        found.append(f"{a['frames']} and {b['frames']} frames: errors and rates refer to different parts")
    if a["host"] != b["host"]:
        found.append("measured times are from different hosts; modelled ones can be compared")
    if a["device"] != b["device"]:
        found.append(f"priced for {a['device']} and {b['device']}; --device prices both for one chip")
    return found


def percent(change: float) -> str:
    """A relative change in per cent; that of equal figures has no sign."""
    return f"{100 * change:+.1f} %" if change else "0 %"


def sentences(result: Mapping[str, Any]) -> list[str]:
    """The difference in words, the most important first."""
    found = ["Both runs gave the same trajectory, byte for byte."] if result["same_trajectory"] else []
    by_name = {(d["name"], d["kind"]): d for d in result["differences"]}
    for key in (("ATE RMSE", ""), ("tracked", ""), ("latency, p50", MODELLED), ("energy a frame", MODELLED)):
        d = by_name.get(key)
        if d and d["verdict"] in ("better", "worse"):
            kind = f", {d['kind']}" if d["kind"] else ""
            values = f"{number(d['first'])} {d['unit']} in the first run, {number(d['second'])} in the second"
            found.append(f"{d['name']}{kind}: {values} ({percent(d['change'])}, {d['verdict']}).")
    found += [f"Note: {text}." for text in result["warnings"]]
    return found or ["No figure differs by more than half a per cent."]


def _render(result: Mapping[str, Any], a: Curves, b: Curves) -> str:
    names = [Path(result[key]).name or result[key] for key in ("first", "second")]
    rows = []
    for d in result["differences"]:
        change = "" if d["change"] is None else f"{percent(d['change'])} {d['verdict']}"
        unit = f" [{d['unit']}]" if d["unit"] else ""
        kind = tag(d["kind"]) if d["kind"] else ""
        rows.append([escape(d["name"] + unit), kind, d["first"], d["second"], change])
    columns = [("figure", "text"), ("kind", "text"), (names[0], ""), (names[1], ""), ("change", "text")]
    settings = [
        [f"<code>{breakable(k)}</code>", escape(str(x)), escape(str(y))] for k, (x, y) in result["settings"].items()
    ]
    body = (
        verdict_box(sentences(result))
        + section("Figures", "Measured on the host of each run; modelled for its chip.", table(columns, rows))
        + section("Paths", "Each aligned to its ground truth, or to its start.", figures.two_paths(names, (a, b)))
        + section(
            "Settings",
            "Parameters that differ.",
            table([("parameter", "text"), (names[0], "text"), (names[1], "text")], settings) if settings else None,
        )
    )
    subtitle = f"first <b>{escape(result['first'])}</b> · second <b>{escape(result['second'])}</b>"
    footer = "Measured: wall time on the hosts of the runs. Modelled: computed for the chip from its device file."
    return page(f"drp_slam: {names[0]} and {names[1]}", subtitle, body, footer)
