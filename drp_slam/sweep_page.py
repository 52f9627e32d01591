# SPDX-License-Identifier: Apache-2.0
"""The sweep as one HTML page: Pareto front, curves over the rate, every point in a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import PurePath
from typing import Any

from drp_slam.agreement import LOST_DEG, LOST_M
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
HUES = {"magnitude": COLOURS[1], "obd": COLOURS[2], "obs": COLOURS[3], "taylor": COLOURS[4],
        "random": COLOURS[5]}  # fmt: skip
"""A colour a saliency, so that a pattern can have its own line and mark."""
FORMS = {"flexible-nm": ("-", "o"), "fixed-nm": (":", "s"), "unstructured": ("--", "D")}


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
                "quarter of a whole recording. Median: of the pose errors. Lost: pairs without a "
                f"pose or with one wrong by more than {100 * LOST_M:.0f} cm or {LOST_DEG:g} "
                "degrees; those without count in no mean. Green: on the Pareto front.",
                _table(points)),
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


def _styles(points: Points) -> dict[str, dict[str, Any]]:
    """How each series is drawn, the shipped networks first and strongest."""
    found: dict[str, dict[str, Any]] = {}
    for p in sorted(points, key=lambda p: (series(p) != SHIPPED, series(p))):
        line, mark = FORMS.get(p["point"]["pattern"], ("-.", "^"))
        found[series(p)] = {"color": HUES.get(p["point"]["saliency"], COLOURS[6]), "ls": line,
                            "marker": mark, "ms": 4.5, "lw": 1.2}  # fmt: skip
    if SHIPPED in found:
        found[SHIPPED] |= {"color": COLOURS[0], "ls": "-", "marker": "o", "ms": 6.5, "lw": 2.2,
                           "zorder": 4}  # fmt: skip
    return found


def _front(points: Points) -> str | None:
    known = [p for p in points if p["latency_ms"] is not None and ratio(p, "inliers")]
    if not known:
        return None
    styles = _styles(points)
    figure, axes = new(11.2, 4.9, 2)
    for ax, cost, worth, title in (
        (axes[0], "latency_ms", "inliers", "modelled latency [ms]"),
        (axes[1], "energy_mj", "error_m", "modelled energy [mJ]"),
    ):
        for p in known:
            value = ratio(p, worth)
            if value is None:
                continue
            middle, low, high = (100 * v for v in value)
            style = styles[series(p)]
            ax.plot([p[cost]] * 2, [low, high], color=style["color"], lw=1.1, alpha=0.5)
            ax.plot(p[cost], middle, **style | {"ls": ""})
            if p["pareto"] and worth == "inliers":
                ax.plot(p[cost], middle, "o", mfc="none", mec="#1c2430", ms=11, mew=1.1, zorder=5)
        _names(ax, known, cost, worth)
        ax.axhline(100, color="#9aa4b2", lw=0.9, ls="--")
        ax.margins(x=0.08, y=0.1)
        _cut(ax)
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
    """Names of the shipped networks, above and below in turn, so that neighbours stay apart."""
    shown = sorted((p for p in points if p["point"]["network"]), key=lambda p: p[cost])
    for i, p in enumerate(shown):
        value = ratio(p, worth)
        if value is not None and 100 * value[0] < CUT_PERCENT:
            ax.annotate(p["name"], (p[cost], 100 * value[0]), xytext=(0, 13 if i % 2 else -20),
                        textcoords="offset points", fontsize=8, color="#1c2430", ha="center",
                        zorder=6)  # fmt: skip


def _legend(figure: Any, ax: Any) -> None:
    """The series below the pictures, where they cover nothing."""
    handles, names = ax.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=5, frameon=False, fontsize=8.5)


def _cut(ax: Any) -> None:
    """Keeps a network that is broken from making all others look alike."""
    ax.set_ylim(bottom=0)
    if ax.get_ylim()[1] > CUT_PERCENT:
        ax.set_ylim(0, CUT_PERCENT)
        ax.text(0.99, 0.97, f"cut at {CUT_PERCENT} %", transform=ax.transAxes, ha="right",
                va="top", fontsize=8, color="#5d6878")  # fmt: skip


def _curves(points: Points) -> str | None:
    from matplotlib.figure import Figure

    if not any(p["latency_ms"] is not None for p in points):
        return None
    styles = _styles(points)
    figure: Figure
    figure, axes = new(11.2, 6.8, 3, rows=2)
    for ax, (key, factor, title) in zip(axes.flat, CURVES, strict=True):
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
            _percent((kept_out["inliers"]["ratio"],)),
            _percent((p["all"]["overlap"]["mean"],)), _percent(ratio(p, "error_m")),
            _percent((p["all"]["error_m"]["median_ratio"],)), p["all"]["lost_pairs"],
            _percent(ratio(p, "ate_m")), None if "tracked" not in p else f"{p['tracked']:.0%}",
        ])  # fmt: skip
    columns = [("network", "text"), ("zero", ""), ("file [kB]", ""),
               ("packed cycles [M]", MODELLED), ("latency [ms]", MODELLED),
               ("energy [mJ]", MODELLED), ("PnP inliers", ""),
               ("kept out", ""), ("overlap", ""), ("pose error", ""), ("median", ""),
               ("pairs lost", ""), ("ATE", ""), ("tracked", "")]  # fmt: skip
    return table(columns, rows, best=best)


def _percent(value: tuple[float | None, ...] | None) -> str | None:
    if value is None or value[0] is None:
        return None
    if len(value) == 1:
        return f"{100 * value[0]:.0f} %"
    middle, low, high = (f"{100 * v:.0f}" for v in value if v is not None)
    around = "" if low == middle == high else f"<br><small>{low} to {high}</small>"
    return f"{middle} %{around}"
