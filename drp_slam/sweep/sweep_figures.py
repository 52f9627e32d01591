# SPDX-License-Identifier: Apache-2.0
"""The pictures of a sweep: Pareto front, and curves over the rate."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from drp_slam.profiler.figures import COLOURS, label, new, svg
from drp_slam.pruning.methods import SALIENCIES

Points = Sequence[Mapping[str, Any]]
SHIPPED = "shipped"
NEAR_PERCENT = (50.0, 200.0)
"""If at least half of the points are within this, relative to the reference, the axis shows only these; the
others are marked at its edge with their value."""
CURVES = (
    ("cycles", 1e-6, "packed cycles [M]"),
    ("latency_ms", 1.0, "modelled latency [ms]"),
    ("energy_mj", 1.0, "modelled energy [mJ]"),
    ("inliers", 100.0, "PnP inliers [% of the reference]"),
    ("error_m", 100.0, "relative pose error [% of the reference]"),
    ("ate_m", 100.0, "ATE [% of the reference]"),
)
"""Curves over the rate: key, factor, axis."""
FORMS = {"flexible-nm": ("-", "o"), "fixed-nm": (":", "s"), "unstructured": ("--", "D")}


def series(point: Mapping[str, Any]) -> str:
    """The line a point belongs to."""
    p = point["point"]
    return SHIPPED if p["network"] else f"{p['pattern']}, {p['saliency']}"


def ratio(point: Mapping[str, Any], key: str) -> tuple[float, float, float] | None:
    """Ratio to the reference with its interval: of the pairs, or `ate_m` of the trajectories."""
    body = point.get("ate_m") if key == "ate_m" else point["all"].get(key)
    if not body or body["ratio"] is None:
        return None
    return body["ratio"], body["ratio_low"], body["ratio_high"]


def _styles(points: Points) -> dict[str, dict[str, Any]]:
    """Style of each series, the shipped networks first and strongest."""
    found: dict[str, dict[str, Any]] = {}
    names = dict.fromkeys([*SALIENCIES, *sorted(p["point"]["saliency"] for p in points)])
    hues = dict(zip(names, itertools.cycle(COLOURS[1:])))  # by saliency; the pattern has its own line and mark
    for p in sorted(points, key=lambda p: (series(p) != SHIPPED, series(p))):
        line, mark = FORMS.get(p["point"]["pattern"], ("-.", "^"))
        colour = hues[p["point"]["saliency"]]
        found[series(p)] = {"color": colour, "ls": line, "marker": mark, "ms": 4.5, "lw": 1.2}
    if SHIPPED in found:
        found[SHIPPED] |= {"color": COLOURS[0], "ls": "-", "marker": "o", "ms": 6.5, "lw": 2.2, "zorder": 4}
    return found


def front(points: Points) -> str | None:
    known = [p for p in points if p["latency_ms"] is not None and ratio(p, "inliers")]
    if not known:
        return None
    styles = _styles(points)
    figure, axes = new(11.2, 4.9, 2)
    for ax, cost, worth, title in (
        (axes[0], "latency_ms", "inliers", "modelled latency [ms]"),
        (axes[1], "energy_mj", "error_m", "modelled energy [mJ]"),
    ):
        drawn: list[Drawn] = []
        for p in known:
            value = ratio(p, worth)
            if value is None:
                continue
            middle, low, high = (100 * v for v in value)
            style = styles[series(p)]
            drawn.append((p[cost], (middle, low, high), style["color"]))
            ax.plot([p[cost]] * 2, [low, high], color=style["color"], lw=1.1, alpha=0.5)
            ax.plot(p[cost], middle, **style | {"ls": ""})
            if p["pareto"] and worth == "inliers":
                ax.plot(p[cost], middle, "o", mfc="none", mec="#1c2430", ms=11, mew=1.1, zorder=5)
        _names(ax, known, cost, worth)
        ax.axhline(100, color="#9aa4b2", lw=0.9, ls="--")
        ax.margins(x=0.08)
        _fit(ax, drawn)
        name = "PnP inliers" if worth == "inliers" else "relative pose error"
        label(ax, title, f"{name} [% of the reference]")
    front = sorted((p for p in known if p["pareto"]), key=lambda p: p["latency_ms"])
    steps = [(p["latency_ms"], 100 * p["all"]["inliers"]["ratio"]) for p in front]
    axes[0].step(*zip(*steps, strict=True), where="post", color="#1c2430", lw=0.9, alpha=0.6)
    for name, style in styles.items():
        axes[0].plot([], [], label=name, **style | {"ls": ""})
    _legend(figure, axes[0])
    return svg(figure, "Pareto front")


def _names(ax: Any, points: Points, cost: str, worth: str) -> None:
    """Names of the shipped networks beside their points, not on the intervals; above and below in turn, so that
    neighbours stay apart, and towards the middle at the right edge."""
    shown = sorted((p for p in points if p["point"]["network"]), key=lambda p: p[cost])
    costs = [p[cost] for p in points]
    for i, p in enumerate(shown):
        value = ratio(p, worth)
        if value is not None:
            left = p[cost] - min(costs) > 0.75 * (max(costs) - min(costs))
            where = {"xytext": (-8 if left else 8, 5 if i % 2 else -12), "ha": "right" if left else "left"}
            at = (p[cost], 100 * value[0])
            style = {"fontsize": 8, "color": "#1c2430", "zorder": 6, "annotation_clip": True}
            ax.annotate(p["name"], at, textcoords="offset points", **where, **style)


def _legend(figure: Any, ax: Any) -> None:
    """The series below the pictures, outside of the axes."""
    handles, names = ax.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=5, frameon=False, fontsize=8.5)


Drawn = tuple[float, tuple[float, ...], str]
"""A point of a picture: x; y with the ends of its interval, in percent of the reference; colour."""


def _fit(ax: Any, drawn: Sequence[Drawn]) -> None:
    """Limits of y that show the points with their intervals; far values are marked at the edge."""
    near = [ys for _, ys, _ in drawn if NEAR_PERCENT[0] <= ys[0] <= NEAR_PERCENT[1]]
    shown = near if 2 * len(near) >= len(drawn) else [ys for _, ys, _ in drawn]
    values = np.array([100.0, *(y for ys in shown for y in ys)])
    margin = max(0.08 * np.ptp(values), 2.0)
    low, high = max(values.min() - 1.6 * margin, -margin), values.max() + 1.6 * margin
    ax.set_ylim(low, high)
    for x, (y, *_), colour in drawn:
        if not low <= y <= high:
            above, frame = y > high, ax.get_xaxis_transform()
            ax.plot(x, 0.97 if above else 0.03, "^" if above else "v", color=colour, ms=6, transform=frame, zorder=5)
            where = {"transform": frame, "ha": "center", "va": "top" if above else "bottom"}
            ax.text(x, 0.93 if above else 0.07, f"{y:.0f}", fontsize=8, color=colour, zorder=6, **where)


def curves(points: Points) -> str | None:
    from matplotlib.figure import Figure

    if not any(p["latency_ms"] is not None for p in points):
        return None
    styles = _styles(points)
    figure: Figure
    figure, axes = new(11.2, 6.8, 3, rows=2)
    for ax, (key, factor, title) in zip(axes.flat, CURVES, strict=True):
        drawn: list[Drawn] = []
        for name, style in styles.items():
            rows = [
                (100 * p["sparsity"], *values)
                for p in points
                if series(p) == name and p["dtype"] == "int8" and (values := _value(p, key, factor))
            ]
            if not rows:
                continue
            x, y, low, high = zip(*sorted(rows), strict=True)
            ax.plot(x, y, label=name, **style | {"ms": style["ms"] - 1.5})
            ax.vlines(x, low, high, color=style["color"], lw=1.1, alpha=0.4)
            drawn += [(row[0], row[1:], style["color"]) for row in rows]
        if factor == 100.0:
            ax.axhline(100, color="#9aa4b2", lw=0.9, ls="--")
            _fit(ax, drawn)
        label(ax, "weights removed [%]", "", title)
    _legend(figure, axes.flat[3])  # the plot of accuracy has every series
    return svg(figure, "curves over the rate")


def _value(point: Mapping[str, Any], key: str, factor: float) -> tuple[float, ...] | None:
    if key in ("cycles", "latency_ms", "energy_mj"):
        return None if point[key] is None else (point[key] * factor,) * 3
    found = ratio(point, key)
    return None if found is None else tuple(v * factor for v in found)
