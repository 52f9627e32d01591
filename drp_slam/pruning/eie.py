# SPDX-License-Identifier: Apache-2.0
"""EIE: fully connected layers run on the compressed weights; a second cost model beside N:M.

Han et al., ISCA 2016 (arXiv:1602.01528). Rows of the matrix are dealt to the processing elements
in turn (row i to element i mod PEs); a non-zero input is sent to all, each walks its non-zeros of
that column, one a cycle. So cycles = sum over columns of the longest list, and what one element
has too few of is lost. The published energy saving splits into four factors, which `Cost.factors`
gives for the layer at hand: DRAM to SRAM (120x), sparsity (10x), weight sharing (8x), skipped zero
inputs (3x). Constants are in `config/devices/eie.yaml`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from drp_slam.errors import PruningError
from drp_slam.pruning.deepcompression import gaps

PUBLISHED = {"memory": 120.0, "sparsity": 10.0, "sharing": 8.0, "activations": 3.0}


@dataclass(frozen=True)
class Cost:
    """Modelled cost of one matrix-vector product.

    `entries` are stored weights with padding zeros, over all columns; `cycles` of the slowest
    element in lockstep by column; `balance` = work / (elements x cycles), in [0, 1].
    """

    cycles: int
    modelled_s: float
    energy_j: float
    entries: int
    balance: float
    factors: Mapping[str, float]


def encode(weights: np.ndarray, elements: int, index_bits: int) -> np.ndarray:
    """Entries that each element stores of each column, padding zeros counted: (elements, inputs).

    `weights` is (outputs, inputs). A gap of more than 2**index_bits - 1 zeros needs a padding zero.
    """
    outputs, inputs = weights.shape
    rows = -(-outputs // elements)
    padded = np.zeros((rows * elements, inputs), bool)
    padded[:outputs] = weights != 0
    mine = padded.reshape(rows, elements, inputs)  # element e owns rows e, e + PEs, ...
    counts = np.zeros((elements, inputs), np.int64)
    for e in range(elements):
        for column in range(inputs):
            counts[e, column] = len(gaps(mine[:, e, column], index_bits)[0])
    return counts


def cost(weights: np.ndarray, activations: np.ndarray, constants: Mapping[str, float]) -> Cost:
    """Of `weights` (outputs, inputs), zeros pruned, with the input vector `activations` (inputs,).

    The factors compare weight fetches with a dense 32-bit layer in DRAM: their product is dense
    fetch energy over EIE's, padding included in `sparsity`. Raises PruningError for other shapes.
    """
    if weights.ndim != 2 or activations.shape != (weights.shape[1],):
        raise PruningError(f"EIE runs a matrix (outputs, inputs) on a vector (inputs,); got "
                           f"{weights.shape} and {activations.shape}")  # fmt: skip
    elements, bits = int(constants["eie.elements"]), int(constants["eie.index_bits"])
    counts = encode(weights, elements, bits)
    active = activations != 0
    used = counts[:, active]
    cycles, work = int(used.max(0, initial=0).sum()), int(used.sum())
    modelled_s = cycles / constants["eie.clock"]
    entry_bits = constants["eie.weight_bits"] + constants["eie.index_bits"]
    fetch = constants["eie.sram_read"] * entry_bits / 32
    energy_j = work * (fetch + constants["eie.multiply_add"])
    entries = int(counts.sum())
    factors = {
        "memory": constants["eie.dram_read"] / constants["eie.sram_read"],
        "sparsity": weights.size * (constants["eie.weight_bits"] / entry_bits) / max(entries, 1),
        "sharing": 32 / constants["eie.weight_bits"],
        "activations": entries / max(work, 1),
    }
    return Cost(cycles, modelled_s, energy_j, entries, work / max(elements * cycles, 1), factors)
