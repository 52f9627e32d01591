# SPDX-License-Identifier: Apache-2.0
"""The sweep as one HTML page: Pareto front, curves over the rate, every point in a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import PurePath
from typing import Any

from drp_slam.profiler.figures import COLOURS, label, new, svg
from drp_slam.profiler.page import MODELLED, number, page, section, table, tile, tiles

Points = Sequence[Mapping[str, Any]]
SHIPPED = "shipped"
CUT_PERCENT = 300
"""Errors beyond this, relative to the reference, leave the picture (not the table)."""
CURVES = (
    ("cycles", 1e-6, "packed cycles [M]"),
    ("latency_ms", 1.0, "modelled latency [ms]"),
    ("energy_mj", 1.0, "modelled energy [mJ]"),
    ("inliers", 100.0, "PnP inliers [% of the reference]"),
    ("error_m", 100.0, "relative pose error [% of the reference]"),
    ("ate_m", 100.0, "ATE [% of the reference]"),
)
"""What is drawn over the rate: key, factor, axis."""


def render(result: Mapping[str, Any]) -> str:
    """The whole page from `sweep.json`."""
    points: Points = result["points"]
    name = PurePath(result["sequence"] or "").name
    first = points[0]["point"] if points else {}
    reference = escape(str(result["reference"]))
    subtitle = (f"sequence <b>{escape(name)}</b> · reference <b>{reference}</b> · "
                f"<b>{first.get('pairs')}</b> frame pairs {first.get('gap_s')} s apart · "
                f"<b>{first.get('configurations')}</b> perturbed trajectories a point")  # fmt: skip
    body = "".join((
        _head(points),
        section("Pareto front", "Modelled latency of the network on DRP-AI3 against PnP inliers, "
                "and modelled energy against the relative pose error, both relative to the "
                "reference, with 95 % bootstrap intervals. Ringed: no other point is faster and as "
                "good.", _front(points)),
        section("Over the rate", "The part of the weights that is zero, against cost (modelled for "
                "the chip) and worth (measured on this recording, relative to the reference). "
                "100 % is the reference.", _curves(points)),
        section("Every point", "Means over the same frame pairs and trajectories; relative to the "
                "reference, with the 95 % bootstrap interval below. Kept out: inliers in the last "
                "quarter of a whole recording.", _table(points)),
    ))  # fmt: skip
    return page(f"drp_slam sweep: {name}", subtitle, body,
                "Cycles, latency and energy are modelled for the chip from its device file. "
                "Inliers, overlap and errors are results of running each network.")  # fmt: skip


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


def _head(points: Points) -> str:
    costed = [p for p in points if p["latency_ms"] is not None]
    items = [tile("Points", number(len(points)), "", f"{len({series(p) for p in points})} series")]
    if costed:
        fast = min(costed, key=lambda p: p["latency_ms"])
        dense = max(costed, key=lambda p: p["cycles"])
        front = [p for p in points if p["pareto"]]
        good = [p for p in costed if (ratio(p, "inliers") or (0,))[0] >= 0.95]
        items += [
            tile("Fastest", number(fast["latency_ms"]), "ms", fast["name"], MODELLED),
            tile("Most cycles", number(dense["cycles"] * 1e-6), "M", dense["name"], MODELLED),
            tile("On the front", number(len(front)), "", ", ".join(p["name"] for p in front[:3])),
        ]  # fmt: skip
        if good:
            best = min(good, key=lambda p: p["latency_ms"])
            items[2] = tile("Fastest with 95 % of the inliers", number(best["latency_ms"]), "ms",
                            best["name"], MODELLED)  # fmt: skip
    return tiles(items)


def _colour(points: Points) -> dict[str, str]:
    names = sorted({series(p) for p in points}, key=lambda n: (n != SHIPPED, n))
    return {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(names)}


def _front(points: Points) -> str | None:
    known = [p for p in points if p["latency_ms"] is not None and ratio(p, "inliers")]
    if not known:
        return None
    colours = _colour(points)
    figure, axes = new(11.2, 4.6, 2)
    for ax, cost, worth, title in (
        (axes[0], "latency_ms", "inliers", "modelled latency [ms]"),
        (axes[1], "energy_mj", "error_m", "modelled energy [mJ]"),
    ):
        for p in known:
            value = ratio(p, worth)
            if value is None:
                continue
            middle, low, high = (100 * v for v in value)
            colour = colours[series(p)]
            ax.plot([p[cost]] * 2, [low, high], color=colour, lw=1.1, alpha=0.5)
            ax.plot(p[cost], middle, "o", color=colour, ms=6.5)
            if (p["point"]["network"] or p["pareto"]) and middle < CUT_PERCENT:
                ax.annotate(_short(p), (p[cost], middle), xytext=(7, 5),
                            textcoords="offset points", fontsize=8, color="#1c2430")  # fmt: skip
            if p["pareto"] and worth == "inliers":
                ax.plot(p[cost], middle, "o", mfc="none", mec="#1c2430", ms=11, mew=1.1)
        ax.axhline(100, color="#9aa4b2", lw=0.9, ls="--")
        ax.margins(x=0.12, y=0.1)
        _cut(ax)
        name = "PnP inliers" if worth == "inliers" else "relative pose error"
        label(ax, title, f"{name} [% of the reference]")
    front = sorted((p for p in known if p["pareto"]), key=lambda p: p["latency_ms"])
    steps = [(p["latency_ms"], 100 * p["all"]["inliers"]["ratio"]) for p in front]
    axes[0].step(*zip(*steps, strict=True), where="post", color="#1c2430", lw=0.9, alpha=0.6)
    for name, colour in colours.items():
        axes[0].plot([], [], "o", color=colour, label=name)
    _legend(figure, axes[0])
    return svg(figure, "Pareto front")


def _legend(figure: Any, ax: Any) -> None:
    """The series below the pictures, where they cover nothing."""
    handles, names = ax.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=4, frameon=False, fontsize=8.5)


def _cut(ax: Any) -> None:
    """Keeps a network that is broken from making all others look alike."""
    ax.set_ylim(bottom=0)
    if ax.get_ylim()[1] > CUT_PERCENT:
        ax.set_ylim(0, CUT_PERCENT)
        ax.text(0.99, 0.97, f"cut at {CUT_PERCENT} %", transform=ax.transAxes, ha="right",
                va="top", fontsize=8, color="#5d6878")  # fmt: skip


def _short(point: Mapping[str, Any]) -> str:
    p = point["point"]
    return point["name"] if p["network"] else f"{100 * p['rate']:g} %"


def _curves(points: Points) -> str | None:
    from matplotlib.figure import Figure

    if not any(p["latency_ms"] is not None for p in points):
        return None
    colours = _colour(points)
    figure: Figure
    figure, axes = new(11.2, 6.4, 3, rows=2)
    for ax, (key, factor, title) in zip(axes.flat, CURVES, strict=True):
        for name, colour in colours.items():
            rows = [
                (100 * p["sparsity"], *values)
                for p in points
                if series(p) == name and p["dtype"] == "int8" and (values := _value(p, key, factor))
            ]
            if not rows:
                continue
            x, y, low, high = zip(*sorted(rows), strict=True)
            ax.plot(x, y, "o-", color=colour, lw=1.3, ms=4, label=name)
            ax.vlines(x, low, high, color=colour, lw=1.1, alpha=0.45)
        if factor == 100.0:
            ax.axhline(100, color="#9aa4b2", lw=0.9, ls="--")
        _cut(ax)
        label(ax, "weights removed [%]", "", title)
    _legend(figure, axes.flat[3])  # the accuracy has every series
    return svg(figure, "curves over the rate")


def _value(point: Mapping[str, Any], key: str, factor: float) -> tuple[float, ...] | None:
    if key in ("cycles", "latency_ms", "energy_mj"):
        return None if point[key] is None else (point[key] * factor,) * 3
    found = ratio(point, key)
    return None if found is None else tuple(v * factor for v in found)


def _table(points: Points) -> str:
    rows, best = [], []
    for i, p in enumerate(points):
        if p["pareto"]:
            best.append(i)
        kept_out = p["kept_out"] or {"inliers": {"ratio": None}}
        rows.append([
            escape(p["name"].removeprefix("oneshot-")), f"{100 * p['sparsity']:.0f} %",
            p["file_bytes"] / 1e3,
            None if p["cycles"] is None else p["cycles"] * 1e-6, p["latency_ms"], p["energy_mj"],
            _percent(ratio(p, "inliers")),
            _percent((kept_out["inliers"]["ratio"],) if kept_out["inliers"]["ratio"] else None),
            _percent((p["all"]["overlap"]["mean"],)), _percent(ratio(p, "error_m")),
            _percent(ratio(p, "ate_m")), None if "tracked" not in p else f"{p['tracked']:.0%}",
        ])  # fmt: skip
    columns = [("network", "text"), ("zero", ""), ("file [kB]", ""),
               ("packed cycles [M]", MODELLED), ("latency [ms]", MODELLED),
               ("energy [mJ]", MODELLED), ("PnP inliers", ""),
               ("kept out", ""), ("keypoint overlap", ""), ("relative pose error", ""),
               ("ATE", ""), ("tracked", "")]  # fmt: skip
    return table(columns, rows, best=best)


def _percent(value: tuple[float, ...] | None) -> str | None:
    if value is None:
        return None
    if len(value) == 1:
        return f"{100 * value[0]:.0f} %"
    return f"{100 * value[0]:.0f} % <br><small>{100 * value[1]:.0f} to {100 * value[2]:.0f}</small>"
