# SPDX-License-Identifier: Apache-2.0
"""Cycles and bytes of every layer, packed from the zeros of the file or from an assumed pattern."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from drp_slam.chip.constants import Constants
from drp_slam.drpai3 import packing, placement, timing
from drp_slam.drpai3.graph import Graph
from drp_slam.drpai3.layers import Layer, weight_of
from drp_slam.errors import DrpAi3Error

PATTERNS = ("file", "balanced", "random")
UNPRUNED_CHANNELS = 4
"""Layers with at most this many input channels (the first one) are not pruned."""
BIAS_BYTES = 4


@dataclass(frozen=True)
class Packs:
    """Cycles and streamed bytes of each layer, (L,), and the packing statistics."""

    cycles: np.ndarray
    dense: np.ndarray
    bytes: np.ndarray
    sparsity: np.ndarray
    mean_n: list[float | None]
    index_bytes: float
    histogram: np.ndarray
    losses: Mapping[str, float]


def weight_bytes(layer: Layer, c: Mapping[str, float]) -> float:
    """Bytes of a layer's dense weights and biases, as the chip stores them."""
    return c["drpai3.element_bytes"] * layer.weight_elements + BIAS_BYTES * layer.bias_elements


def prunable(layer: Layer) -> bool:
    """Whether the vendor's pruner would prune a layer: matrices but the first and depthwise."""
    channels = layer.in_shape[1] if layer.op == "Conv" else layer.k
    return layer.kind in ("conv", "fc", "deconv") and channels > UNPRUNED_CHANNELS


def share_of_rows(sparsity: float, pattern: str, rows: int, columns: int) -> float:
    """Mean N/M of groups pruned to `sparsity`.

    `balanced`: the density, at least one row of each group. `random`: the expected maximum of
    `columns` binomial counts. Raises DrpAi3Error for another pattern or a sparsity outside [0, 1).
    """
    if not 0.0 <= sparsity < 1.0:
        raise DrpAi3Error(f"--sparsity {sparsity}, expected 0 to below 1")
    if pattern == "balanced":
        return max(1.0 - sparsity, 1.0 / rows)
    if pattern != "random":
        raise DrpAi3Error(f"--pattern {pattern!r}, expected one of {', '.join(PATTERNS)}")
    kept = [math.comb(rows, n) * (1 - sparsity) ** n * sparsity ** (rows - n) for n in range(rows + 1)]
    below = np.minimum(np.cumsum(kept), 1.0) ** columns  # P(max <= n)
    return float((1.0 - below[:-1]).sum() / rows)


def _zeros(graph: Graph, layer: Layer, rows: int, columns: int) -> tuple[float, packing.PackingReport | None]:
    """Share of zeros in a layer's weight, and its packing; None where there is nothing to pack."""

    def count() -> tuple[float, packing.PackingReport | None]:
        weight = weight_of(graph, layer)
        share = 1.0 - np.count_nonzero(weight) / max(weight.size, 1)
        packs = share > 0.0 and layer.kind != "depthwise"
        return share, packing.packing_report(weight, rows, columns) if packs else None

    return graph.once((layer.node.outputs[0], rows, columns), count)


def pack_layers(
    graph: Graph, work: Sequence[Layer], units: np.ndarray, c: Constants, sparsity: float | None, pattern: str
) -> Packs:
    """Packs every matrix layer of the accelerator, from its own zeros or an assumed pattern."""
    rows, columns = int(c["drpai3.group_rows"]), int(c["drpai3.parallel_columns"])
    supposed = sparsity is not None
    share = (
        share_of_rows(sparsity, "balanced" if pattern == "file" else pattern, rows, columns)
        if sparsity is not None
        else 1.0
    )
    cycles, streamed = np.zeros(len(work)), np.zeros(len(work))
    dense, zeros = np.zeros(len(work)), np.zeros(len(work))
    mean_n: list[float | None] = [None] * len(work)
    histogram, index_bytes = np.zeros(rows + 1), 0.0
    losses = {"balance": 0.0, "padding": 0.0}
    for n, layer in enumerate(work):
        streamed[n] = weight_bytes(layer, c)
        if layer.weight is None or units[n] != placement.MAC:
            continue
        dense[n] = cycles[n] = timing.dense_cycles(layer, c)
        if supposed:
            if prunable(layer) and sparsity:
                cycles[n], zeros[n], mean_n[n] = dense[n] * share, sparsity, share * rows
                streamed[n] *= min(1.0, share * 1.5)
                index_bytes += layer.weight_elements * share / 2
            continue
        zeros[n], report = _zeros(graph, layer, rows, columns)
        if report is None:
            continue
        ratio = report.cycles / report.dense_cycles
        cycles[n], mean_n[n] = dense[n] * ratio, report.mean_n
        packed = report.cycles * columns + report.index_bytes
        if packed < layer.weight_elements:
            streamed[n] += packed - layer.weight_elements
            index_bytes += report.index_bytes
        histogram += report.histogram
        losses["balance"] += report.loss_balance * dense[n]
        losses["padding"] += report.loss_padding * dense[n]
    whole = dense.sum() or 1.0
    return Packs(
        cycles, dense, streamed, zeros, mean_n, index_bytes, histogram, {k: v / whole for k, v in losses.items()}
    )
