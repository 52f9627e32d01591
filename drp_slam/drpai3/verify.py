# SPDX-License-Identifier: Apache-2.0
"""Checks for a whole network that packed weights give the dense INT8 accumulators."""

from __future__ import annotations

from typing import Any

import numpy as np

from drp_slam.chip.constants import Constants
from drp_slam.drpai3 import packing
from drp_slam.drpai3.graph import Graph
from drp_slam.drpai3.layers import layers, weight_of
from drp_slam.errors import DrpAi3Error

POSITIONS = 2
"""Number of random output positions compared in each layer."""


def as_int8(weight: np.ndarray) -> np.ndarray:
    """INT8 weights: stored ones unchanged, float ones symmetric per output channel."""
    if weight.dtype.kind in "iu":
        return weight.astype(np.int16 if weight.max(initial=0) > 127 else np.int8)
    flat = weight.reshape(len(weight), -1)
    scale = np.abs(flat).max(axis=1, initial=0) / 127
    scale[scale == 0] = 1
    return np.rint(flat / scale[:, None]).astype(np.int8).reshape(weight.shape)


def verify(graph: Graph, constants: Constants) -> dict[str, Any]:
    """Packs every constant matrix and compares. Returns counts.

    Raises DrpAi3Error that names the first layer whose packed weights or accumulators differ.
    """
    rows, columns = int(constants["drpai3.group_rows"]), int(constants["drpai3.parallel_columns"])
    random = np.random.default_rng(0)
    count = weights = accumulators = 0
    for layer in layers(graph):
        if layer.weight is None:
            continue
        weight = as_int8(weight_of(graph, layer))
        packed = packing.pack(weight, rows, columns)
        dense = packing.weight_matrix(weight)
        inputs = random.integers(-128, 128, (POSITIONS, dense.shape[0])).astype(np.int8)
        expected = inputs.astype(np.int32) @ dense.astype(np.int32)
        same = np.array_equal(packed.unpack(), dense) and np.array_equal(packed.accumulate(inputs), expected)
        if not same:
            raise DrpAi3Error(
                f"{graph.path}: layer {layer.name}: packed weights differ "
                "from dense; this is a bug, report it with the file"
            )
        count, weights = count + 1, weights + weight.size
        accumulators += expected.size
    return {"layers": count, "weights": weights, "accumulators": accumulators, "exact": True}
