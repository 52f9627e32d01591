# SPDX-License-Identifier: Apache-2.0
"""Occupancy of the DRP-AI memory area by a network, by the areas of the compiler's `addr_map.txt`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from drp_slam.drpai3.graph import Graph
from drp_slam.drpai3.layers import Layer
from drp_slam.drpai3.placement import COPY
from drp_slam.drpai3.residency import Residency

FLOAT_BYTES, HALF_BYTES = 4, 2


@dataclass(frozen=True)
class Footprint:
    """Bytes by area, and the largest occupancy of the feature area.

    `inputs` are FP32, as the runtime takes them. `features` have space for every tensor that goes
    through DDR, for the result of every concatenation, into which its inputs are written, and for both
    sides of a resize in FP16, to which it converts: 34.9 MB for YOLOX-S, where the compiler's map has
    35.6. `weights` take 8 bits each and, where pruned, a 4-bit index. `configuration` is the DRP's.
    Command lists of the array are not modelled.
    """

    inputs: float
    features: float
    weights: float
    configuration: float

    @property
    def total(self) -> float:
        return self.inputs + self.features + self.weights + self.configuration


def footprint(
    graph: Graph,
    layers: Sequence[Layer],
    tags: Sequence[str],
    units: np.ndarray,
    lies: Residency,
    weight_bytes: np.ndarray,
    c: Mapping[str, float],
) -> Footprint:
    """The areas of one network, in bytes; `tags` and `units` are those of its layers."""
    placed = [t for t in lies.held if t.first >= 0 and (not t.on_chip or units[t.first] == COPY)]
    converted = [layer for layer, tag in zip(layers, tags) if tag == "resize-nearest"]
    halves = HALF_BYTES if c["drpai3.element_bytes"] < HALF_BYTES else 0
    return Footprint(
        inputs=FLOAT_BYTES * float(sum(math.prod(graph.shapes[name]) for name in graph.inputs)),
        features=float(sum(t.bytes for t in placed) + halves * sum(x.in_elements + x.out_elements for x in converted)),
        weights=float(weight_bytes.sum()),
        configuration=c["drpai3.configuration_bytes"],
    )
