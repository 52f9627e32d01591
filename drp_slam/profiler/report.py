# SPDX-License-Identifier: Apache-2.0
"""The report of a run as one HTML file, from figures and arrays that are already computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np

from drp_slam.profiler import figures
from drp_slam.profiler.page import MEASURED, MODELLED, number, page, section, table, tag, tile, tiles
from drp_slam.profiler.schedule import Schedule


@dataclass(frozen=True)
class Curves:
    """What the pictures draw; a part that is None is left out.

    Times in seconds since the first frame, positions in metres in one frame with z up:
    `times_s` (N,) and `estimate_m` (N, 3) the trajectory; `truth_s` (M,), `truth_m` (M, 3);
    `error_s` (K,), `error_m` (K,); `frame_s` (F,), `matches` (F,), `inliers` (F,) of each frame;
    `lost_s`, `keyframe_s` when that was; `map_m` (P, 3) and `map_rgb` (P, 3) uint8.
    """

    times_s: np.ndarray | None = None
    estimate_m: np.ndarray | None = None
    truth_s: np.ndarray | None = None
    truth_m: np.ndarray | None = None
    error_s: np.ndarray | None = None
    error_m: np.ndarray | None = None
    frame_s: np.ndarray | None = None
    matches: np.ndarray | None = None
    inliers: np.ndarray | None = None
    lost_s: np.ndarray = field(default_factory=lambda: np.zeros(0))
    keyframe_s: np.ndarray = field(default_factory=lambda: np.zeros(0))
    map_m: np.ndarray | None = None
    map_rgb: np.ndarray | None = None
    schedule: Schedule | None = None


def render(report: Mapping[str, Any], curves: Curves) -> str:
    """The whole page."""
    sequence = report["sequence"] or "results"
    known = [("network", report["network"]), ("backend", report["backend"]),
             ("device", report["device"]), ("host", report["host"])]  # fmt: skip
    subtitle = " · ".join(f"{name} <b>{escape(str(v))}</b>" for name, v in known if v)
    body = "".join((
        _head(report),
        _trajectory(report, curves),
        _tracking(curves),
        _stages(report),
        _schedule(report, curves),
        f'<div class="two">{_map(report, curves)}{_energy(report)}</div>',
        _comparison(report),
        _kernels(report),
        _assumptions(report),
        _thermal(report),
    ))  # fmt: skip
    footer = ("Measured: wall time on the host named above. Modelled: computed for the chip from "
              "its device file; nothing here was measured on the chip. The two are never added. "
              f"SHA-256 of trajectory.txt: {report['trajectory_sha256'] or 'none'}")  # fmt: skip
    return page(f"drp_slam: {sequence}", subtitle, body, footer)


def p50(spread: Mapping[str, float] | None) -> float | None:
    return None if spread is None else spread["p50"]


def _head(report: Mapping[str, Any]) -> str:
    latency, comparison = report["latency"] or {}, report["comparison"]["modelled_a55"] or {}
    ate, live = report["ate_rmse_m"], report["ate_live_rmse_m"]
    items = [
        tile("ATE RMSE", number(None if ate is None else ate * 100), "cm",
             "no ground truth" if ate is None else
             "SE(3) aligned" + ("" if live is None else f"; as published live {live * 100:.2f} cm")),
        tile("Frames tracked", f"{report['tracked']}", f"of {report['frames']}",
             f"{report['keyframes']} keyframes" if report["keyframes"] is not None else ""),
        tile("Frame rate", number(report["fps"]), "Hz", "this host, whole run", MEASURED),
        tile("Latency", number(p50(latency.get("wall_ms"))), "ms",
             f"this host, p50, {latency.get('wall_is', '')}", MEASURED),
        tile("Latency", number(p50(latency.get("modelled_ms"))), "ms", "the chip, p50", MODELLED),
        tile("Energy a frame", number(comparison.get("chip_mj")), "mJ", "the chip", MODELLED),
        tile("Than CPU only", number(comparison.get("latency_speedup")), "× faster",
             f"{number(comparison.get('energy_ratio'))} of its energy; first order", MODELLED),
    ]  # fmt: skip
    return tiles(items)


def _trajectory(report: Mapping[str, Any], c: Curves) -> str:
    parts: list[str] = []
    if c.estimate_m is not None and c.times_s is not None and len(c.estimate_m):
        parts.append(figures.trajectory(c.times_s, c.estimate_m, c.truth_s, c.truth_m))
    if c.error_s is not None and c.error_m is not None:
        parts += ["<h3>Position error over time</h3>",
                  figures.error(c.error_s, c.error_m, report["ate_rmse_m"], c.lost_s.tolist())]  # fmt: skip
    rpe = report["rpe"]
    text = "Aligned to ground truth with a rotation and a translation, no scale."
    if report["ate_rmse_m"] is None:
        text = "No ground truth for this sequence: the path starts where the camera started."
    if rpe:
        text += (f" Drift over {rpe['delta_s']:g} s: {rpe['translation_rmse_m'] * 100:.2f} cm and "
                 f"{rpe['rotation_rmse_deg']:.2f}° RMSE.")  # fmt: skip
    return section("Trajectory", text, *parts)


def _tracking(c: Curves) -> str:
    if c.frame_s is None or c.matches is None or c.inliers is None:
        return ""
    return section("Tracking", "Matches of each frame against the map, and those that agree with "
                   "its pose.", figures.tracking(c.frame_s, c.matches, c.inliers, c.keyframe_s,
                                                 c.lost_s.tolist()))  # fmt: skip


def _stages(report: Mapping[str, Any]) -> str:
    stages, latency = report["stages"], report["latency"]
    if not stages:
        return section("Time per stage", "")

    def cells(spread: Mapping[str, float] | None) -> list[float | None]:
        return [None, None] if spread is None else [spread["p50"], spread["p95"]]

    rows: list[list[Any]] = [
        [escape(name), escape(s["unit"]), escape(s["device"]), *cells(s["wall_ms"]),
         *cells(s["modelled_ms"]), s["energy_mj"], p50(s["cpu_modelled_ms"])]
        for name, s in stages.items()
    ]  # fmt: skip
    energies = [s["energy_mj"] for s in stages.values()]
    rows.append([f"frame ({escape(latency['wall_is'])} | sum)", "", "", *cells(latency["wall_ms"]),
                 *cells(latency["modelled_ms"]), None if None in energies else sum(energies),
                 p50(latency["cpu_modelled_ms"])])  # fmt: skip
    columns = [("stage", "text"), ("unit", "text"), ("device", "text"),
               ("measured p50 [ms]", MEASURED), ("measured p95 [ms]", MEASURED),
               ("modelled p50 [ms]", MODELLED), ("modelled p95 [ms]", MODELLED),
               ("modelled energy [mJ]", MODELLED), ("modelled, A55 only [ms]", MODELLED)]  # fmt: skip
    return section("Time per stage", f"{tag(MEASURED)} on this host; {tag(MODELLED)} for the chip, "
                   "and for its own A55 cores doing the same work (first order).",
                   figures.stage_times(stages), table(columns, rows, total=True))  # fmt: skip


def _schedule(report: Mapping[str, Any], c: Curves) -> str:
    plan = report["schedule"]
    if plan is None or c.schedule is None:
        return ""
    middle = len(c.schedule.done_s) // 2
    rows = [
        [f"{name} in flight", body["throughput_hz"], body["latency_ms"]["p50"], body["latency_ms"]["p95"],
         *(f"{100 * body['utilisation'].get(u, 0.0):.0f} %" for u in ("DRP1", "DRP0", "DRP-AI3", "CPU"))]
        for name, body in plan["in_flight"].items()
    ]  # fmt: skip
    columns = [(n, MODELLED if i else "text") for i, n in enumerate(
        ("frames", "throughput [Hz]", "latency p50 [ms]", "latency p95 [ms]", "DRP1", "DRP0",
         "DRP-AI3", "CPU"))]  # fmt: skip
    return section(
        "The chip in time", f"{tag(MODELLED)} Each unit is one queue and works on another frame "
        "meanwhile; DRP0 queues with inference. The same schedule is in <code>trace.json</code> for "
        "ui.perfetto.dev.",
        figures.gantt(c.schedule, range(middle, min(middle + 5, len(c.schedule.done_s)))),
        table(columns, rows))  # fmt: skip


def _map(report: Mapping[str, Any], c: Curves) -> str:
    if c.map_m is None or not len(c.map_m):
        return section("Map", "No map.ply in these results.")
    return section("Map", f"{number(len(c.map_m))} points from above, with the way of the camera.",
                   figures.top_view(c.map_m, c.map_rgb, c.estimate_m))  # fmt: skip


def _energy(report: Mapping[str, Any]) -> str:
    return section("Energy per stage", f"{tag(MODELLED)} On the unit of the chip, and on its A55 cores.",
                   figures.energy(report["stages"] or {}))  # fmt: skip


def _comparison(report: Mapping[str, Any]) -> str:
    c = report["comparison"]
    rows: list[list[Any]] = []
    if c["host_cpu"]:
        h = c["host_cpu"]
        rows.append([f"this host, backend cpu, the same {h['frames']} frames {tag(MEASURED)}",
                     p50(h["wall_ms"]), p50(h["cpu_wall_ms"]), h["ratio"], None, None, None])  # fmt: skip
    for key, text in (("modelled_a55", "the chip beside its four A55, first order"),
                      ("without_custom", "the same without custom DRP kernels")):  # fmt: skip
        m = c[key]
        if m:
            rows.append([f"{text} {tag(MODELLED)}", m["chip_ms"], m["cpu_ms"], m["latency_speedup"],
                         m["throughput_speedup"], m["energy_ratio"], m["power_ratio"]])  # fmt: skip
    rows.append([f"claim: {escape(c['article']['source'])}", None, None, c["article"]["speedup"],
                 None, None, c["article"]["power_ratio"]])  # fmt: skip
    columns = [("comparison", "long"), ("ours [ms]", ""), ("CPU only [ms]", ""),
               ("times faster, latency", ""), ("times faster, throughput", ""),
               ("energy ratio", ""), ("power ratio", "")]  # fmt: skip
    return section("Beside CPU-only execution", "Three questions, three rows, and the claim that is "
                   "public. On this host the emulated units are the same processor, so the first "
                   "ratio says what emulation costs, not what the chip gains.",
                   table(columns, rows))  # fmt: skip


def _kernels(report: Mapping[str, Any]) -> str:
    if not report["kernels"]:
        return ""
    rows = [
        [escape(k["stage"]), escape(k["kernel"]), escape(k["place"]), escape("; ".join(k["reasons"])),
         k["modelled_s"] * 1e3, k["energy_j"] * 1e3, k["cpu_modelled_s"] * 1e3]
        for k in report["kernels"]
    ]  # fmt: skip
    columns = [("stage", "text"), ("kernel", "text"), ("place", "text"), ("why not the DRP", "long"),
               ("modelled [ms]", MODELLED), ("energy [mJ]", MODELLED), ("A55 [ms]", MODELLED)]  # fmt: skip
    return section("Image kernels and where they run", "One frame. opencva: DRP1 through the OpenCV "
                   "Accelerator; preruntime: DRP0; custom: a DRP configuration that someone would "
                   "have to write; cpu: the A55 cores.", table(columns, rows))  # fmt: skip


def _assumptions(report: Mapping[str, Any]) -> str:
    a = report["assumptions"]
    if a is None:
        return ""
    text = "Every constant of the model of the chip, with its source."
    if a["share"]:
        text = (f"{100 * a['share']['assumed']:.0f} % of the modelled time of a frame rests on assumed "
                f"constants, {100 * a['share']['fitted']:.0f} % on fitted, "
                f"{100 * a['share']['cited']:.0f} % on cited ones (share of the time's relative "
                "sensitivity to them).")  # fmt: skip
    rows = [
        [f"<code>{escape(k['key'])}</code>", f"{k['value']:.4g} {escape(k['unit'])}", tag(k["kind"]),
         "–" if k["influence"] is None else f"{100 * k['influence']:.1f} %", escape(k["source"])]
        for k in a["constants"]
    ]  # fmt: skip
    columns = [("constant", "text"), ("value", "text"), ("kind", "text"), ("influence", ""),
               ("source", "long")]  # fmt: skip
    listed = table(columns, rows)
    return section("What the model rests on", text,
                   f"<details><summary>{len(rows)} constants</summary>{listed}</details>")  # fmt: skip


def _thermal(report: Mapping[str, Any]) -> str:
    t = report["thermal"]
    if t is None:
        return ""
    rows = [[name, e["rate_hz"], e["power_w"], e["steady_c"],
             "never" if e["limit_after_s"] is None else f"{e['limit_after_s']:.0f} s"]
            for name, e in t.items() if e]  # fmt: skip
    columns = [("", "text"), ("frames a second", MODELLED), ("power [W]", MODELLED),
               ("steady temperature [°C]", MODELLED), ("limit passed after", MODELLED)]  # fmt: skip
    return section("Heat without a fan", f"{tag('assumed')} One thermal resistance and one capacity, "
                   "all of whose values are assumed: it answers how much cooler, not how hot.",
                   table(columns, rows))  # fmt: skip
