# SPDX-License-Identifier: Apache-2.0
"""The pictures of `figures`: the article's claims as dashed lines, modelled figures as marks with ranges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from drp_slam.profiler.figures import COLOURS, LOST, label, new

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM, INK = LOST, "#1c2430"


def _claim(ax: Any, value: float, text: str, vertical: bool = False) -> None:
    """A dashed line with the article's figure, and plain numbers on its logarithmic axis."""
    from matplotlib.ticker import LogLocator, NullFormatter

    (ax.axvline if vertical else ax.axhline)(value, color=CLAIM, lw=1.1, ls="--")
    at, frame = ((value, 0.02), ax.get_xaxis_transform()) if vertical else ((0.52, value), ax.get_yaxis_transform())
    where = {"textcoords": "offset points", "xytext": (-3, 0) if vertical else (0, 3)}
    where |= {"ha": "right" if vertical else "left", "va": "bottom"}
    ax.annotate(text, at, xycoords=frame, color=CLAIM, fontsize=8.5, **where)
    axis = ax.xaxis if vertical else ax.yaxis
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def peak(found: Mapping[str, Any]) -> Figure:
    """Figure 3: dense-equivalent TOPS of the busy array over the pruning rate, this generation and the previous one."""
    figure, ax = new(7.2, 4.2)
    percent = [100 * r for r in found["rates"]]
    for i, (network, tops) in enumerate(found["array_tops"].items()):
        for (chip, values), line in zip(tops.items(), ("-", ":")):
            ax.plot(percent, values, line, marker="o", ms=4, color=COLOURS[i], label=f"{network} on {chip}")
    ax.set_yscale("log")
    _claim(ax, 8, "8 TOPS dense")
    _claim(ax, 80, "80 TOPS pruned")
    ax.legend(frameon=False, fontsize=8.5, ncols=2, loc="upper left", bbox_to_anchor=(0, -0.16))
    label(ax, "zeros among the weights, balanced [%]", "TOPS, dense equivalent", "Peak of the array while it is busy")
    return figure


def offload(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Figure 4: a frame stage by stage, with the image kernels on the DRP and on the CPU."""
    figure, ax = new(7.2, 2.6)
    names = list(rows[0]["stages_ms"])
    widest = max(sum(row["stages_ms"].values()) for row in rows)
    for k, row in enumerate(rows):
        left = 0.0
        for i, name in enumerate(names):
            ms = row["stages_ms"][name]
            ax.barh(k, ms, left=left, height=0.6, color=COLOURS[i], label=name if k == 0 else None)
            if ms > 0.03 * widest:
                ax.text(left + ms / 2, k, f"{ms:.1f}", ha="center", va="center", fontsize=8, color="white")
            left += ms
        ax.text(left, k, f"  {row['fps']:.0f} frames/s", va="center", fontsize=9)
    ax.set_yticks(range(len(rows)), [row["images"] for row in rows], fontsize=9.5, color=INK)
    ax.invert_yaxis()
    ax.margins(x=0.16)
    ax.grid(visible=False, axis="y")
    ax.legend(frameon=False, fontsize=8.5, ncols=len(names), loc="upper left", bbox_to_anchor=(0, -0.22))
    label(ax, "ms per frame, stages in sequence", "", "Image kernels on the DRP and on the CPU")
    return figure


def efficiency(found: Sequence[Mapping[str, Any]], previous: str) -> Figure:
    """Figure 5: TOPS/W over the pruning rate with ranges, and the previous generation."""
    figure, ax = new(7.2, 4.2)
    for i, one in enumerate(found):
        x = [100 * r + 0.5 * (i - len(found) / 2) for r in one["rates"]]
        low, high = np.transpose(one["range"])
        around = np.abs([one["tops_per_w"] - low, high - one["tops_per_w"]])
        ax.errorbar(x, one["tops_per_w"], around, color=COLOURS[i], marker="o", ms=4, capsize=3, label=one["network"])
        ax.plot(90, one["previous_tops_per_w"], "s", color=COLOURS[i], ms=5, label=f"{one['network']} on {previous}")
    ax.set_yscale("log")
    _claim(ax, 10, "10 TOPS/W")
    ax.legend(frameon=False, fontsize=8.5, ncols=2, loc="upper left", bbox_to_anchor=(0, -0.16))
    label(ax, "zeros among the weights, balanced [%]", "TOPS/W of the accelerator", "Efficiency of whole networks")
    return figure


def heat(found: Mapping[str, Any]) -> Figure:
    """Figure 6: temperature from idle on without a fan, with measurements on boards."""
    figure, ax = new(7.2, 5.0)
    for i, curve in enumerate(found["curves"]):
        minutes = np.array(found["time_s"]) / 60
        ax.plot(minutes, curve["temperature_c"], color=COLOURS[i], label=f"{curve['load']}: {curve['power_w']:.1f} W")
    seen = found["published"]
    middle = np.add(seen["low_c"], seen["high_c"]) / 2
    style = {"fmt": "o", "color": INK, "capsize": 4, "ms": 5, "label": "measured on a board: four A55"}
    ax.errorbar(np.array(seen["time_s"]) / 60, middle, middle - seen["low_c"], **style)
    for name, celsius in found["undocumented_c"].items():
        ax.plot(9.6, celsius, "D", mfc="none", color=INK, ms=6)
        ax.text(9.4, celsius, f"{name}, undocumented run", fontsize=8.5, ha="right", va="center")
    low, high = found["settled_range_c"]
    ax.fill_between([8.0, 10.0], low, high, color=COLOURS[1], alpha=0.14, lw=0, label="YOLOX-S: range of the model")
    ax.legend(frameon=False, fontsize=8.5, ncols=1, loc="upper left", bbox_to_anchor=(0, -0.16))
    label(ax, "minutes", "°C", f"Without a fan, room at {found['room_c']:.0f} °C")
    return figure


def slam(rows: Sequence[Mapping[str, Any]], article: Mapping[str, Any]) -> Figure:
    """Speed-up and energy against the CPU alone, with ranges, and the article's figures."""
    figure, (speed, energy) = new(11.2, 0.9 + 0.32 * len(rows), 2, sharey=True)
    names = [f"{r['features']}, {r['workload']}\n{r['system']}" for r in rows]
    for ax, key, claim, text, title in (
        (speed, "speedup", article["speedup"], "17", "Speed-up over the CPU alone"),
        (energy, "energy_ratio", article["power_ratio"], "1/12", "Energy against the CPU alone"),
    ):
        for k, row in enumerate(rows):
            low, high = row[f"{key}_range"]
            colour = COLOURS[list(dict.fromkeys(r["features"] for r in rows)).index(row["features"])]
            ax.plot([low, high], [k, k], color=colour, lw=2.4, alpha=0.45, solid_capstyle="butt")
            ax.plot(row[key], k, "o", color=colour, ms=5)
        ax.set_xscale("log")
        _claim(ax, claim, text, vertical=True)
        label(ax, "", "", title)
    speed.set_yticks(range(len(rows)), names, fontsize=7.5, color=INK)
    speed.invert_yaxis()
    return figure
