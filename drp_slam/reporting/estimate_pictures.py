# SPDX-License-Identifier: Apache-2.0
"""The pictures of an estimate: the roofline, and a network's tensors over modelled time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from drp_slam.profiler.figures import label, new

if TYPE_CHECKING:
    from matplotlib.figure import Figure

UNIT_COLOURS = {"ai-mac": "#2b6cb0", "drp": "#2f855a", "copy": "#805ad5", "cpu": "#c53030"}
ON_CHIP, DDR, ROOF = "#2b6cb0", "#dd6b20", "#1c2430"


def roofline(result: Mapping[str, Any], constants: Mapping[str, float]) -> Figure:
    """Rate of each matrix layer against operations per streamed byte, with the model's roofs."""
    rows = [r for r in result["layers"] if r["macs"] and r["us"] and r["bytes"]]
    intensity = [2 * r["macs"] / r["bytes"] for r in rows]
    figure, axes = new(11.2, 5.2)
    longest = max((r["us"] for r in rows), default=1.0)
    for unit, colour in UNIT_COLOURS.items():
        mine = [(x, r) for x, r in zip(intensity, rows, strict=True) if r["unit"] == unit]
        if mine:
            axes.scatter(
                [x for x, _ in mine],
                [2e-6 * r["macs"] / r["us"] for _, r in mine],
                s=[12 + 150 * r["us"] / longest for _, r in mine],
                alpha=0.55,
                color=colour,
                label=f"{unit} ({len(mine)}), as large as its time",
                edgecolors="none",
            )
    peak = constants["drpai3.dense_peak"] * 1e-12 * result["mac_mhz"] * 1e6 / constants["drpai3.mac_clock"]
    reachable, sparse = peak * constants["drpai3.array_efficiency"], peak * constants["drpai3.group_rows"]
    slope = constants["drpai3.weight_bandwidth"] * 1e-12
    roof = f"dense peak {peak:.2f} TOPS, weights at {slope * 1e3:.1f} GB/s"
    low, high = min([1.0, *intensity]), max([1e4, *intensity])
    axes.plot([low, peak / slope, high], [slope * low, peak, peak], color=ROOF, lw=1.2, label=roof)
    axes.axhline(reachable, color="#718096", lw=1, ls="--", label=f"what the array reaches: {reachable:.2f} TOPS")
    axes.axhline(sparse, color="#9aa4b2", lw=1, ls=":", label=f"sparse peak (N = 1): {sparse:.0f} TOPS")
    axes.set(xscale="log", yscale="log")
    label(axes, "operations per streamed byte", "dense-equivalent TOPS (modelled)", "Roofline")
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=8.5)
    return figure


def memory_map(result: Mapping[str, Any], buffer_bytes: float) -> Figure:
    """Top: the feature buffer, one block per tensor, stacked in order of creation. Bottom: every tensor that
    goes through DDR, from the layer that writes it to the last that reads it; the height is its size."""
    from matplotlib.collections import PolyCollection

    ends_ms = result["overhead_ms"] + np.cumsum([(r["us"] + r["crossing_us"]) * 1e-3 for r in result["layers"]])
    starts_ms = np.concatenate([[result["overhead_ms"]], ends_ms[:-1]])
    tensors = sorted(result["tensors"], key=lambda t: (t["first"], t["last"]))
    on_chip = [t for t in tensors if t["on_chip"] and t["bytes"]]
    outside = [t for t in tensors if not t["on_chip"]]
    figure, (above, below) = new(11.2, 6.4, rows=2, sharex=True)

    def block(tensor: Mapping[str, Any], bottom: float) -> list[tuple[float, float]]:
        left, right = starts_ms[max(tensor["first"], 0)], ends_ms[tensor["last"]]
        top = bottom + tensor["bytes"] / 2**20
        return [(left, bottom), (left, top), (right, top), (right, bottom)]

    alive: list[tuple[int, float, float]] = []  # last layer, bottom, top
    blocks = []
    for tensor in on_chip:
        alive = [a for a in alive if a[0] >= tensor["first"]]
        bottom = _gap(alive, tensor["bytes"] / 2**20)
        alive.append((tensor["last"], bottom, bottom + tensor["bytes"] / 2**20))
        blocks.append(block(tensor, bottom))
    bottoms = np.concatenate([[0.0], np.cumsum([t["bytes"] / 2**20 for t in outside])])
    stacked = [block(t, b) for t, b in zip(outside, bottoms)]
    for axes, shapes, colour in ((above, blocks, ON_CHIP), (below, stacked, DDR)):
        axes.add_collection(PolyCollection(shapes, facecolor=colour, edgecolor="white", lw=0.4, alpha=0.8))
    room = buffer_bytes / 2**20
    above.axhline(room, color=ROOF, lw=1, ls="--")
    where = {"transform": above.get_yaxis_transform(), "ha": "right"}
    above.text(0.995, room * 1.02, f"room, {room:.2f} MiB", fontsize=8.5, **where)
    above.set_ylim(0, room * 1.15)
    below.set_ylim(0, max(bottoms[-1], 0.1) * 1.02)
    below.set_xlim(0, float(ends_ms[-1]) if len(ends_ms) else 1.0)
    label(above, "", "MiB", "Tensors in the feature buffer")
    label(below, "modelled time [ms]", "MiB", "Tensors through DDR, one above the other")
    return figure


def _gap(alive: list[tuple[int, float, float]], height: float) -> float:
    """The lowest place where a block of this height overlaps no other."""
    bottom = 0.0
    for _, low, high in sorted(alive, key=lambda a: a[1]):
        if bottom + height <= low + 1e-9:
            break
        bottom = max(bottom, high)
    return bottom
