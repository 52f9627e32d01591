# SPDX-License-Identifier: Apache-2.0
"""Results of `prune`: the table of layers, the dense layers with reasons, the Deep Compression file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from drp_slam.atomic import write_bytes
from drp_slam.errors import PruningError
from drp_slam.pruning import deepcompression as dc
from drp_slam.pruning import prunable as L
from drp_slam.pruning import sharing
from drp_slam.pruning.layout import Cell, kept_rows
from drp_slam.pruning.onnxgraph import Graph


def table(
    layers: L.Layers, masks: Mapping[str, Tensor], positions: Mapping[str, int] | None, cell: Cell
) -> list[dict[str, Any]]:
    """One row per layer: shape, rate, mean N, packed and dense cycles.

    Without `positions` cycles are those of one output position of each layer.
    """
    rows = []
    for name, mask in masks.items():
        n, full = kept_rows(mask, cell), kept_rows(torch.ones_like(mask), cell)
        times = 1 if positions is None else positions[name]
        rows.append(
            {
                "layer": name,
                "shape": list(mask.shape),
                "rate": 1.0 - float(mask.float().mean()),
                "mean_n": float(n.mean()),
                "cycles": int(n.sum()) * times,
                "dense_cycles": int(full.sum()) * times,
            }
        )
    return rows


def left_dense(graph: Graph, layers: L.Layers) -> dict[str, Any]:
    """Unpruned weights: `weights` in total, their `share`, and by reason (`reasons`) operator, count, weights."""
    size = {name: int(module.weight.numel()) for name, module in graph.layers.items()}
    rows = [*graph.dense, *((n, "layer", s, "not chosen, or spared") for n, s in size.items() if n not in layers)]
    reasons: dict[tuple[str, str], list[int]] = {}
    for _, operator, weights, reason in rows:
        found = reasons.setdefault((operator, reason), [0, 0])
        found[0] += 1
        found[1] += weights
    dense, pruned = sum(r[2] for r in rows), sum(size[n] for n in layers)
    listed = [{"operator": o, "reason": r, "nodes": k, "weights": w} for (o, r), (k, w) in reasons.items()]
    return {"weights": dense, "share": dense / max(dense + pruned, 1), "reasons": listed}


def compress(
    bag: nn.Module, layers: L.Layers, path: Path, train: Callable[[Callable[[], None]], None] | None = None
) -> dict[str, Any]:
    """Deep Compression of pruned layers, in place: the contents of the file, and its size relative to the dense.

    `train(tie)` trains the centroids, calling `tie` after each step; None keeps those of
    k-means. Raises PruningError.
    """
    bits = sharing.CONV_BITS, sharing.LINEAR_BITS
    state, shared = sharing.share_and_train(bag, bits, train or (lambda tie: None), tuple(layers))
    blob, sizes = dc.encode(state, shared)
    write_bytes(path, blob, PruningError)
    return {"file": str(path), "bytes": sizes.file_bytes, "ratio": sizes.ratio, "centroids_trained": train is not None}
