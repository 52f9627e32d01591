# SPDX-License-Identifier: Apache-2.0
"""The pictures of a report: take arrays, return a self-contained `<svg>` or `<img>`."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from drp_slam.chip.schedule import Schedule

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = (
    "#2a9d8f",
    "#e76f51",
    "#d9a520",
    "#3d5a98",
    "#8e5ea2",
    "#6b7280",
    "#c2185b",
    "#5d9c3a",
    "#4fb3d9",
    "#8d6e4e",
    "#1c2430",
)
"""Colours of stages or series, in their order."""
TRUTH, ESTIMATE, LOST = "#9aa4b2", "#1f6feb", "#c81e4a"


def new(width_in: float, height_in: float, columns: int = 1, rows: int = 1, **keywords: Any) -> tuple[Figure, Any]:
    """Creates a figure and its axes in the report's style, without a window system or global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure((width_in, height_in), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, **keywords)
    for ax in np.atleast_1d(axes).flat:
        ax.spines[["top", "right"]].set_visible(False)
        ax.spines[["left", "bottom"]].set_color("#b8c1cc")
        ax.tick_params(colors="#5d6878", labelsize=9)
        ax.grid(color="#e9edf2", linewidth=0.8)
        ax.set_axisbelow(True)
    return figure, axes


def svg(figure: Figure, alt: str) -> str:
    """The figure as an inline SVG that a narrow screen scrolls; the same figure gives the same text."""
    import matplotlib as mpl

    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": alt, "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    # ids must be unique in the page that holds several pictures
    salt = f"{abs(hash_text(alt)):x}"
    body = text[text.index("<svg") :].replace("<svg", f'<svg class="plot" role="img" aria-label="{alt}"', 1)
    body = body.replace('id="', f'id="{salt}-')
    body = body.replace('href="#', f'href="#{salt}-').replace("url(#", f"url(#{salt}-")
    return f'<div class="drawing" style="--inches:{figure.get_figwidth():g}">{body}</div>'


def hash_text(text: str) -> int:
    """A short, stable number of a text."""
    import zlib

    return zlib.crc32(text.encode())


def label(ax: Any, x: str, y: str, title: str = "") -> None:
    """Axis labels and a title on the left."""
    ax.set_xlabel(x, color="#5d6878", fontsize=9)
    ax.set_ylabel(y, color="#5d6878", fontsize=9)
    if title:
        ax.set_title(title, loc="left", fontsize=10.5, color="#1c2430")


def trajectory(
    times_s: np.ndarray, estimate_m: np.ndarray, truth_s: np.ndarray | None, truth_m: np.ndarray | None
) -> str:
    """Top view and height, with ground truth if there is one; (N, 3) metres, z up."""
    figure, (top, height) = new(11.2, 4.3, 2, gridspec_kw={"width_ratios": [1, 1.35]})
    if truth_m is not None and truth_s is not None:
        top.plot(truth_m[:, 0], truth_m[:, 1], color=TRUTH, lw=2.6, label="ground truth")
        height.plot(truth_s, truth_m[:, 2], color=TRUTH, lw=2.6, label="ground truth")
    top.plot(estimate_m[:, 0], estimate_m[:, 1], color=ESTIMATE, lw=1.2, label="estimate")
    top.plot(*estimate_m[0, :2], "o", color=ESTIMATE, ms=5, label="start")
    height.plot(times_s, estimate_m[:, 2], color=ESTIMATE, lw=1.2, label="estimate")
    top.set_aspect("equal", "datalim")
    top.legend(frameon=False, fontsize=8.5)
    label(top, "x [m]", "y [m]", "Top view")
    label(height, "time [s]", "z [m]", "Height")
    return svg(figure, "trajectory, top view and height")


def two_paths(names: Sequence[str], runs: Sequence[Any]) -> str | None:
    """Top view of the paths of two runs (`Curves`), and their errors over time if known."""
    known = [
        (n, r, c) for n, r, c in zip(names, runs, (ESTIMATE, LOST)) if r.estimate_m is not None and len(r.estimate_m)
    ]
    if not known:
        return None
    figure, (top, over) = new(11.2, 4.3, 2, gridspec_kw={"width_ratios": [1, 1.35]})
    truth = next((r.truth_m for _, r, _ in known if r.truth_m is not None), None)
    if truth is not None:
        top.plot(truth[:, 0], truth[:, 1], color=TRUTH, lw=2.6, label="ground truth")
    for name, run, colour in known:
        top.plot(run.estimate_m[:, 0], run.estimate_m[:, 1], color=colour, lw=1.2, label=name)
        if run.error_s is not None and run.error_m is not None:
            over.plot(run.error_s, run.error_m * 100, color=colour, lw=1.1, label=name)
    top.set_aspect("equal", "datalim")
    top.legend(frameon=False, fontsize=8.5)
    over.set_ylim(bottom=0)
    over.margins(x=0.01)
    label(top, "x [m]", "y [m]", "Top view")
    label(over, "time [s]", "error [cm]", "Position error")
    return svg(figure, "paths and errors of two runs")


def error(times_s: np.ndarray, error_m: np.ndarray, rmse_m: float, lost_s: Sequence[float]) -> str:
    """Distance to ground truth over time, with the frames that were lost."""
    figure, ax = new(11.2, 2.9)
    ax.fill_between(times_s, 0, error_m * 100, color=ESTIMATE, alpha=0.14, lw=0)
    ax.plot(times_s, error_m * 100, color=ESTIMATE, lw=1.2)
    ax.axhline(rmse_m * 100, color="#1c2430", lw=1, ls="--", label=f"RMSE {rmse_m * 100:.2f} cm")
    for i, at_s in enumerate(lost_s):
        ax.axvline(at_s, color=LOST, lw=0.8, alpha=0.6, label="lost" if i == 0 else None)
    ax.set_ylim(bottom=0)
    ax.margins(x=0.01)
    ax.legend(frameon=False, fontsize=8.5)
    label(ax, "time [s]", "error [cm]")
    return svg(figure, "position error over time")


def tracking(
    times_s: np.ndarray, matches: np.ndarray, inliers: np.ndarray, keyframes_s: np.ndarray, lost_s: Sequence[float]
) -> str:
    """Matches and inliers of each frame, keyframes as ticks below, lost frames in red."""
    figure, ax = new(11.2, 2.6)
    ax.plot(times_s, matches, color=TRUTH, lw=1.1, label="matches")
    ax.plot(times_s, inliers, color="#177245", lw=1.1, label="inliers")
    for i, at_s in enumerate(lost_s):
        ax.axvline(at_s, color=LOST, lw=0.8, alpha=0.6, label="lost" if i == 0 else None)
    ax.set_ylim(bottom=0)
    ax.margins(x=0.01)
    ax.plot(
        keyframes_s,
        np.full(len(keyframes_s), 0.02),
        "|",
        ms=9,
        color="#1c2430",
        transform=ax.get_xaxis_transform(),
        label="keyframe",
        clip_on=False,
    )
    ax.legend(frameon=False, fontsize=8.5, ncol=4)
    label(ax, "time [s]", "points")
    return svg(figure, "matches and inliers over time")


def stage_times(stages: Mapping[str, Mapping[str, Any]]) -> str:
    """Two panels that share no axis: measured on this host, and modelled for the chip."""
    figure, axes = new(11.2, 0.85 + 0.42 * len(stages), 2)
    for ax, key, title in (
        (axes[0], "wall_ms", "Measured on this host [ms]"),
        (axes[1], "modelled_ms", "Modelled for the chip [ms]"),
    ):
        for row, stage in enumerate(stages.values()):
            spread = stage[key]
            if spread is None:
                ax.text(0, row, " not modelled", va="center", fontsize=9, color="#5d6878")
                continue
            ax.barh(row, spread["p50"], color=COLOURS[row % len(COLOURS)], height=0.62)
            ax.plot([spread["p50"], spread["p95"]], [row, row], color="#1c2430", lw=1.2)
            ax.plot(spread["p95"], row, "|", color="#1c2430", ms=8)
            ax.text(spread["p95"], row, f"  {spread['p50']:.3g} / {spread['p95']:.3g}", va="center", fontsize=9)
        ax.set_yticks(range(len(stages)), list(stages), fontsize=9.5, color="#1c2430")
        ax.invert_yaxis()
        ax.margins(x=0.22)
        ax.set_xlim(left=0)
        ax.grid(visible=False, axis="y")
        label(ax, "p50 (bar) / p95 (whisker)", "", title)
    return svg(figure, "time per stage, measured and modelled")


def energy(stages: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Modelled energy per frame of each stage: on the chip's unit, and on its A55 cores."""
    known = {n: s for n, s in stages.items() if s["energy_mj"] is not None}
    if not known:
        return None
    figure, ax = new(5.6, 0.9 + 0.55 * len(known))
    for row, (name, stage) in enumerate(known.items()):
        color = COLOURS[list(stages).index(name) % len(COLOURS)]
        ax.barh(row - 0.19, stage["energy_mj"], color=color, height=0.36)
        ax.text(stage["energy_mj"], row - 0.19, f" {stage['energy_mj']:.3g}", va="center", fontsize=8.5)
        if stage["cpu_energy_mj"] is not None:
            ax.barh(row + 0.19, stage["cpu_energy_mj"], color=TRUTH, height=0.36)
            ax.text(
                stage["cpu_energy_mj"],
                row + 0.19,
                f" {stage['cpu_energy_mj']:.3g}",
                va="center",
                fontsize=8.5,
                color="#5d6878",
            )
    ax.set_yticks(range(len(known)), list(known), fontsize=9.5, color="#1c2430")
    ax.invert_yaxis()
    ax.margins(x=0.14)
    ax.grid(visible=False, axis="y")
    label(ax, "mJ per frame (modelled); colour: unit of the chip, grey: A55 cores", "")
    return svg(figure, "energy per stage")


def gantt(schedule: Schedule, frames: range) -> str:
    """The units over modelled time during `frames`; one colour per stage."""
    own = [s for s in schedule.slots if s.frame in frames]
    start_s, end_s = min(s.start_s for s in own), max(s.end_s for s in own)
    slots = [s for s in schedule.slots if s.end_s > start_s and s.start_s < end_s]
    names = list(dict.fromkeys(s.step.stage for s in schedule.slots))
    rows = [u.name for u in schedule.units if any(s.step.unit == u for s in schedule.slots)]
    figure, ax = new(11.2, 0.95 + 0.46 * len(rows))
    for slot in slots:
        left, right = max(slot.start_s, start_s) - start_s, min(slot.end_s, end_s) - start_s
        row = rows.index(slot.step.unit.name)
        ax.barh(
            row,
            (right - left) * 1e3,
            left=left * 1e3,
            height=0.66,
            edgecolor="white",
            linewidth=0.8,
            color=COLOURS[names.index(slot.step.stage) % len(COLOURS)],
            alpha=1.0 if slot.frame % 2 == frames[0] % 2 else 0.68,
        )
        if right - left > 0.022 * (end_s - start_s):
            ax.text((left + right) * 500, row, str(slot.frame), ha="center", va="center", fontsize=8, color="white")
    for i, name in enumerate(names):
        ax.barh(0, 0, color=COLOURS[i % len(COLOURS)], label=name)
    ax.set_yticks(range(len(rows)), rows, fontsize=9.5, color="#1c2430")
    ax.invert_yaxis()
    ax.grid(visible=False, axis="y")
    ax.margins(x=0.01)
    ax.legend(frameon=False, fontsize=8.5, ncol=len(names), loc="lower right", bbox_to_anchor=(1, 1))
    label(ax, "modelled time [ms]; the number is the frame", "")
    return svg(figure, "schedule of the chip")
