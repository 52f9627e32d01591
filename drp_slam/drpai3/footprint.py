# SPDX-License-Identifier: Apache-2.0
"""How much of the DRP-AI memory area a network occupies, by the areas of the compiler's `addr_map.txt`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from drp_slam.drpai3.graph import Graph
from drp_slam.drpai3.residency import Residency

FLOAT_BYTES = 4


@dataclass(frozen=True)
class Footprint:
    """Bytes by area, and the largest occupancy of the feature area.

    `inputs` are FP32, as the runtime takes them. `features` are the tensors that go through DDR,
    each with a place of its own: 30.2 MB for YOLOX-S, where the compiler's map has 35.6. `weights` take 8 bits
    each and, where pruned, a 4-bit index. `configuration` is the DRP's. Command lists of the array are not
    modelled.
    """

    inputs: float
    features: float
    weights: float
    configuration: float

    @property
    def total(self) -> float:
        return self.inputs + self.features + self.weights + self.configuration


def footprint(graph: Graph, lies: Residency, weight_bytes: np.ndarray, c: Mapping[str, float]) -> Footprint:
    """The areas of one network, in bytes."""
    return Footprint(
        inputs=FLOAT_BYTES * float(sum(math.prod(graph.shapes[name]) for name in graph.inputs)),
        features=float(sum(tensor.bytes for tensor in lies.held if not tensor.on_chip and tensor.first >= 0)),
        weights=float(weight_bytes.sum()),
        configuration=c["drpai3.configuration_bytes"],
    )
