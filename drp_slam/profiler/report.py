# SPDX-License-Identifier: Apache-2.0
"""Renders the report of a run as one HTML file from computed figures and arrays."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import PurePath
from typing import Any

import numpy as np

from drp_slam.chip.schedule import Schedule
from drp_slam.profiler import figures, model_sections, sections
from drp_slam.profiler.page import MEASURED, MODELLED, number, page, section, tile, tiles, verdict_box
from drp_slam.profiler.verdict import reasons, verdict
from drp_slam.profiler.viewer import viewer


@dataclass(frozen=True)
class Curves:
    """Data of the pictures; parts that are None are omitted.

    Times in seconds since the first frame, positions in metres in one frame with z up:
    `times_s` (N,) and `estimate_m` (N, 3) the trajectory; `truth_s` (M,), `truth_m` (M, 3);
    `error_s` (K,), `error_m` (K,); `frame_s` (F,), `matches` (F,), `inliers` (F,) of each frame;
    `lost_s`, `keyframe_s` the times of lost frames and keyframes; `map_m` (P, 3) and `map_rgb` (P, 3) uint8; `moments`
    are (caption, JPEG bytes).
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
    moments: Sequence[tuple[str, bytes]] = ()


def render(report: Mapping[str, Any], curves: Curves) -> str:
    """The complete page."""
    title = PurePath(report["sequence"] or "results").name
    known = [(name, report[name]) for name in ("network", "backend", "device", "host")]
    subtitle = " · ".join(f"{name} <b>{escape(str(v))}</b>" for name, v in known if v)
    if report["error"]:
        subtitle += f"<br>stopped early: <b>{escape(report['error'])}</b>"
    body = "".join(
        (
            verdict_box(verdict(report)),
            _head(report),
            _map(curves),
            _trajectory(report, curves),
            _tracking(report, curves),
            sections.findings(report),
            sections.recording(report),
            sections.stages(report),
            sections.schedule(report, curves.schedule),
            sections.pacing(report),
            sections.energy(report),
            model_sections.comparison(report),
            model_sections.kernels(report),
            model_sections.assumptions(report),
            model_sections.thermal(report),
        )
    )
    footer = (
        "Measured: wall time on the host named above. Modelled: computed for the chip from "
        "its device file; nothing here was measured on the chip. The two are never added. "
        f"SHA-256 of trajectory.txt: {report['trajectory_sha256'] or 'none'}"
    )
    return page(f"drp_slam: {title}", subtitle, body, footer)


def _head(report: Mapping[str, Any]) -> str:
    latency, a55 = report["latency"] or {}, report["comparison"]["modelled_a55"] or {}
    plan = (report["schedule"] or {"in_flight": {}})["in_flight"]
    ate, live, keyframes = (report[k] for k in ("ate_rmse_m", "ate_live_rmse_m", "keyframes"))
    aligned = (
        "aligned by rotation, translation and scale"
        if report.get("scale") == "free"
        else "aligned by rotation and translation"
    )
    accuracy = report["ate_note"] if ate is None else aligned
    if ate is not None and report["ate_note"]:
        accuracy += f"; {report['ate_note']}"
    if live is not None:
        accuracy += f"; as published live {live * 100:.2f} cm"
    target = "its A55, first order" if report["backend"] == "cpu" else "the chip"
    items = [
        tile("ATE RMSE", number(None if ate is None else ate * 100), "cm", accuracy),
        tile(
            "Frames tracked",
            number(report["tracked"]),
            f"of {number(report['frames'])}",
            "" if keyframes is None else f"{keyframes} keyframes",
        ),
        tile("Frame rate", number(report["fps"]), "Hz", "this host, whole run", MEASURED),
        tile(
            "Latency",
            number(sections.p50(latency.get("wall_ms"))),
            "ms",
            f"this host, p50, {latency.get('wall_is', '')}",
            MEASURED,
        ),
        tile(
            "Latency",
            number(sections.p50(latency.get("modelled_ms"))),
            "ms",
            f"{target}, p50, one frame alone",
            MODELLED,
        ),
        tile(
            "Throughput",
            number(plan[max(plan)]["throughput_hz"] if plan else None),
            "Hz",
            f"{target}, {max(plan)} frames in flight" if plan else "",
            MODELLED,
        ),
        tile("Energy per frame", number(a55.get("chip_mj")), "mJ", "DRP, DRP-AI3 and CPU", MODELLED),
        tile(
            "Against CPU only",
            number(a55.get("latency_speedup")),
            "× as fast",
            f"at {number(a55.get('energy_ratio'), 2)} of its energy, first order",
            MODELLED,
        ),
    ]
    return tiles(items)


def _trajectory(report: Mapping[str, Any], c: Curves) -> str:
    parts: list[str] = []
    if c.estimate_m is not None and c.times_s is not None and len(c.estimate_m):
        parts.append(figures.trajectory(c.times_s, c.estimate_m, c.truth_s, c.truth_m))
    if c.error_s is not None and c.error_m is not None:
        parts += [
            "<h3>Position error over time</h3>",
            figures.error(c.error_s, c.error_m, report["ate_rmse_m"], c.lost_s.tolist()),
        ]
    rpe = report["rpe"]
    text = "Aligned to ground truth with a rotation and a translation, no scale."
    if report["ate_rmse_m"] is None:
        text = f"Not aligned ({escape(report['ate_note'])}): the path starts at the camera's start."
    if rpe:
        text += (
            f" Drift over {rpe['delta_s']:g} s: {rpe['translation_rmse_m'] * 100:.2f} cm and "
            f"{rpe['rotation_rmse_deg']:.2f}° RMSE."
        )
    return section("Trajectory", text, *parts)


def _tracking(report: Mapping[str, Any], c: Curves) -> str:
    if c.frame_s is None or c.matches is None or c.inliers is None:
        return ""
    return section(
        "Tracking",
        "Matches of each frame against the map, and those that agree with its pose.",
        figures.tracking(c.frame_s, c.matches, c.inliers, c.keyframe_s, c.lost_s.tolist()),
        *(f"<p>{escape(text)}</p>" for text in reasons(report)),
        _strip(c.moments),
    )


def _strip(moments: Sequence[tuple[str, bytes]]) -> str:
    """Pictures side by side, each with its caption."""
    figures = "".join(
        f'<figure><img alt="{escape(text)}" src="data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}">'
        f"<figcaption>{escape(text)}</figcaption></figure>"
        for text, jpeg in moments
    )
    note = "<h3>Moments</h3><p>Features that agree with the pose are green; the worst moments come first.</p>"
    return f'{note}<div class="strip">{figures}</div>' if moments else ""


def _map(c: Curves) -> str:
    if c.map_m is None or not len(c.map_m):
        return section("Map", "No map.ply in these results.")
    error_m = None
    if c.error_s is not None and c.error_m is not None and c.times_s is not None:
        known = {round(float(at), 6): float(e) for at, e in zip(c.error_s, c.error_m)}
        error_m = np.array([known.get(round(float(at), 6), np.nan) for at in c.times_s])
    return section(
        "Map and path",
        f"{number(len(c.map_m))} points. Drag to turn, wheel or two fingers to zoom, shift and drag to move; the path "
        "shows time and error.",
        viewer(c.map_m, c.map_rgb, c.estimate_m, c.times_s, error_m, c.truth_m),
    )
