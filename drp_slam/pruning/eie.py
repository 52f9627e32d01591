# SPDX-License-Identifier: Apache-2.0
"""EIE: fully connected layers run on the compressed weights; a second cost model beside N:M.

Han et al., ISCA 2016 (arXiv:1602.01528). Rows of the matrix are distributed to the processing elements
cyclically (row i to element i mod PEs). A non-zero input is broadcast, one per cycle, into a queue of
each; an element processes its stored entries of that column, one per cycle. An input waits until every
queue has a free place, so an element with more work delays the others, by a limited amount.

The published energy saving splits into four factors (abstract: 120 x 10 x 8 x 3 = 28 800), which
`Cost.factors` gives for the layer at hand: DRAM to SRAM, sparsity (counted in weights), weight
sharing, skipped zero inputs; and a fifth that this split omits, `index`: the cost of the relative
index of each weight and of padding zeros. Constants: `config/devices/eie.yaml`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from drp_slam.errors import PruningError

PUBLISHED = {"memory": 120.0, "sparsity": 10.0, "sharing": 8.0, "activations": 3.0}


@dataclass(frozen=True)
class Cost:
    """Modelled cost of one matrix-vector product.

    `entries` are stored weights with padding zeros, over all columns; `cycles` until the last
    element is done; `balance` = work / (elements x cycles), in [0, 1].
    """

    cycles: int
    modelled_s: float
    energy_j: float
    entries: int
    balance: float
    factors: Mapping[str, float]


def encode(weights: np.ndarray, elements: int, index_bits: int) -> np.ndarray:
    """Entries that each element stores of each column, including padding zeros: (elements, inputs).

    `weights` is (outputs, inputs). A gap of more than 2**index_bits - 1 zeros needs a padding zero.
    """
    outputs, inputs = weights.shape
    rows = -(-outputs // elements)
    padded = np.zeros((rows * elements, inputs), bool)
    padded[:outputs] = weights != 0
    mine = padded.reshape(rows, elements, inputs)  # element e owns rows e, e + PEs, ...
    place = np.arange(rows, dtype=np.int32)[:, None, None]
    last = np.maximum.accumulate(np.where(mine, place, -1), 0)
    before = np.concatenate([np.full((1, elements, inputs), -1, np.int32), last[:-1]])
    fillers = (place - before - 1) // 2**index_bits
    return (mine * (1 + fillers)).sum(0)


def run(counts: np.ndarray, depth: int) -> int:
    """Cycles for entries (elements, active inputs) behind queues of `depth` inputs each."""
    done = np.zeros((depth, len(counts)), np.int64)  # when each element ended the last `depth`
    sent = 0
    for column, work in enumerate(counts.T):
        slot = column % depth
        sent = max(sent + 1, int(done[slot].max()))
        done[slot] = np.maximum(done[slot - 1], sent) + work
    return int(done.max(initial=0))


def cost(weights: np.ndarray, activations: np.ndarray, constants: Mapping[str, float]) -> Cost:
    """Cost of `weights` (outputs, inputs), pruned to zeros, with the input vector `activations` (inputs,).

    The factors compare weight fetches with a dense 32-bit layer in DRAM: their product is dense
    fetch energy over EIE's. Raises PruningError for other shapes.
    """
    if weights.ndim != 2 or activations.shape != (weights.shape[1],):
        raise PruningError(
            f"EIE runs a matrix (outputs, inputs) on a vector (inputs,); got {weights.shape} and {activations.shape}"
        )
    elements, bits = int(constants["eie.elements"]), int(constants["eie.index_bits"])
    counts = encode(weights, elements, bits)
    active = activations != 0
    used = counts[:, active]
    cycles, work = run(used, int(constants["eie.queue_depth"])), int(used.sum())
    modelled_s = cycles / constants["eie.clock"]
    entry_bits = constants["eie.weight_bits"] + constants["eie.index_bits"]
    fetch = constants["eie.sram_read"] * entry_bits / 32
    energy_j = work * (fetch + constants["eie.multiply_add"])
    entries, kept = int(counts.sum()), max(int(np.count_nonzero(weights)), 1)
    factors = {
        "memory": constants["eie.dram_read"] / constants["eie.sram_read"],
        "sparsity": weights.size / kept,
        "sharing": 32 / constants["eie.weight_bits"],
        "activations": entries / max(work, 1),
        "index": kept * constants["eie.weight_bits"] / (max(entries, 1) * entry_bits),
    }
    return Cost(cycles, modelled_s, energy_j, entries, work / max(elements * cycles, 1), factors)
