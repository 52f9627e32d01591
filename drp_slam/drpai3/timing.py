# SPDX-License-Identifier: Apache-2.0
"""Time of a network on DRP-AI3, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass

from drp_slam.device import Constants
from drp_slam.drpai3 import packing
from drp_slam.drpai3.graph import Graph
from drp_slam.drpai3.layers import layers, weight_of


@dataclass(frozen=True)
class Estimate:
    """Modelled cost of one inference."""

    total_s: float
    energy_j: float
    cycles: float
    bytes: float


def clock_hz(constants: Constants, freq_index: int) -> float:
    """AI-MAC clock of the runtime's frequency index (driver README 4.2.16)."""
    return constants["drpai3.mac_clock"] if freq_index <= 2 else 1.26e9 / (freq_index - 1)


def estimate(graph: Graph, constants: Constants, freq_index: int = 2) -> Estimate:
    """First order: MAC cycles of the packed weights, and traffic, whichever is slower a layer."""
    rows, columns = int(constants["drpai3.group_rows"]), int(constants["drpai3.parallel_columns"])
    clock = clock_hz(constants, freq_index)
    lanes = constants["drpai3.dense_peak"] / 2 / constants["drpai3.mac_clock"] / columns
    seconds = cycles = traffic = 0.0
    for layer in layers(graph):
        moved = layer.in_elements + layer.out_elements + layer.weight_elements
        used = 0.0
        if layer.macs and layer.weight:
            n = packing.packed_cycles(weight_of(graph, layer), rows, columns)
            used = n * -(-layer.positions // lanes)
        seconds += max(used / clock, moved / 1.0e10)
        cycles += used
        traffic += moved
    return Estimate(seconds, cycles * 2e-9, cycles, traffic)
