# SPDX-License-Identifier: Apache-2.0
"""Draws the tensors of a network over modelled time: in the feature buffer and in DDR."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

ON_CHIP, DDR = "#2b6cb0", "#dd6b20"


def memory_map(path: Path, result: Mapping[str, Any], buffer_bytes: float) -> None:
    """Writes a PNG. Top: the feature buffer, one block per tensor, stacked in order of creation.
    Bottom: every tensor that goes through DDR, from the layer that writes it to the last that reads
    it; the height is its size."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.collections import PolyCollection

    ends_ms = result["overhead_ms"] + np.cumsum([(r["us"] + r["crossing_us"]) * 1e-3 for r in result["layers"]])
    starts_ms = np.concatenate([[result["overhead_ms"]], ends_ms[:-1]])
    tensors = sorted(result["tensors"], key=lambda t: (t["first"], t["last"]))
    on_chip = [t for t in tensors if t["on_chip"] and t["bytes"]]
    outside = [t for t in tensors if not t["on_chip"]]
    figure, (above, below) = plt.subplots(2, 1, figsize=(11, 7), dpi=110, sharex=True)

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
    above.add_collection(PolyCollection(blocks, facecolor=ON_CHIP, edgecolor="white", lw=0.4, alpha=0.8))
    above.axhline(buffer_bytes / 2**20, color="#1a202c", lw=1, ls="--", label=f"room, {buffer_bytes / 2**20:.2f} MiB")
    bottoms = np.concatenate([[0.0], np.cumsum([t["bytes"] / 2**20 for t in outside])])
    below.add_collection(
        PolyCollection(
            [block(t, b) for t, b in zip(outside, bottoms)], facecolor=DDR, edgecolor="white", lw=0.4, alpha=0.8
        )
    )
    above.set(
        ylabel="on chip, MiB", ylim=(0, buffer_bytes / 2**20 * 1.15), title=f"{result['name']}: tensors (modelled)"
    )
    above.legend(fontsize=8, loc="upper right")
    below.set(ylabel="in DDR, one place each, MiB", xlabel="modelled time, ms", ylim=(0, max(bottoms[-1], 0.1) * 1.02))
    below.set_xlim(0, float(ends_ms[-1]) if len(ends_ms) else 1.0)
    for axes in (above, below):
        axes.grid(True, alpha=0.2)
    figure.tight_layout()
    figure.savefig(path, format="png")
    plt.close(figure)


def _gap(alive: list[tuple[int, float, float]], height: float) -> float:
    """The lowest place where a block of this height overlaps no other."""
    bottom = 0.0
    for _, low, high in sorted(alive, key=lambda a: a[1]):
        if bottom + height <= low + 1e-9:
            break
        bottom = max(bottom, high)
    return bottom
