# SPDX-License-Identifier: Apache-2.0
"""What `prune` leaves: the table of layers, the ONNX files, the Deep Compression file."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from drp_slam.atomic import write_bytes
from drp_slam.errors import PruningError
from drp_slam.pruning import deepcompression as dc
from drp_slam.pruning import prunable as L
from drp_slam.pruning import sharing
from drp_slam.pruning.layout import Cell, kept_rows


def table(
    layers: L.Layers, masks: Mapping[str, Tensor], positions: Mapping[str, int], cell: Cell
) -> list[dict[str, Any]]:
    """One row a layer: shape, rate, mean N and packed cycles beside dense ones."""
    rows = []
    for name, mask in masks.items():
        n, full = kept_rows(mask, cell), kept_rows(torch.ones_like(mask), cell)
        rows.append(
            {
                "layer": name,
                "shape": list(mask.shape),
                "rate": 1.0 - float(mask.float().mean()),
                "mean_n": float(n.mean()),
                "cycles": int(n.sum()) * positions[name],
                "dense_cycles": int(full.sum()) * positions[name],
            }
        )
    return rows


def write(model: onnx.ModelProto, path: Path) -> None:
    """Under a temporary name first. Raises PruningError where the disk refuses."""
    write_bytes(path, model.SerializeToString(), PruningError)


def compress(
    net: nn.Module, layers: L.Layers, path: Path, train: Callable[[nn.Module, Callable[[], None]], None] | None = None
) -> tuple[nn.Module, dict[str, Any]]:
    """Deep Compression of the pruned network: what the file holds, and its size beside the dense.

    `train(net, tie)` trains the centroids, calling `tie` after each step; None leaves them as
    k-means finds them. The pruned network itself stays as it is. Raises PruningError.
    """
    small = copy.deepcopy(net)
    bits = sharing.CONV_BITS, sharing.LINEAR_BITS
    state, shared = sharing.share_and_train(
        small, bits, lambda tie: train(small, tie) if train else None, tuple(layers)
    )
    blob, sizes = dc.encode(state, shared)
    dc.save(path, blob)
    return small, {
        "file": str(path),
        "bytes": sizes.file_bytes,
        "ratio": sizes.ratio,
        "centroids_trained": train is not None,
    }
