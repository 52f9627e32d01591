# SPDX-License-Identifier: Apache-2.0
"""Where each tensor of a network is kept while it runs: in the feature buffer on chip, or in DDR.

The rules were derived from the vendor translator's table of one network (docs/drpai3.md). A tensor
stays on chip when the next layer reads it, and a residual one until its addition, as long as the
layers in between fit beside it. A concatenation loads its inputs from DDR; its result stays by the same
rule. Every other tensor is stored to DDR and loaded again by each reader: branches that more than one
convolution reads, inputs of a concatenation, everything that the DRP or the CPU reads or writes, and
the results of the network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from drp_slam.drpai3.layers import Layer
from drp_slam.drpai3.placement import COPY, FUSED, MAC
from drp_slam.drpai3.subgraphs import POOLS, Wiring


@dataclass(frozen=True)
class Held:
    """A tensor from the layer that makes it to the last that reads it (layer numbers, inclusive).

    `first` is -1 for an input of the network.
    """

    tensor: str
    bytes: int
    first: int
    last: int
    on_chip: bool


@dataclass(frozen=True)
class Residency:
    """`load`, `store`: bytes that each layer takes from and gives to DDR, (L,) float64."""

    load: np.ndarray
    store: np.ndarray
    held: tuple[Held, ...]


def hosts(layers: Sequence[Layer], wires: Wiring, units: np.ndarray) -> np.ndarray:
    """(L,) host of each layer: itself, or for a fused layer the last of its sources."""
    host = np.arange(len(layers))
    for n in np.flatnonzero(units == FUSED).tolist():
        made = [wires.producer[s] for s in wires.source(layers[n]) if s in wires.producer]
        if made:
            host[n] = host[max(made)]
    return host


def simulate(
    layers: Sequence[Layer], wires: Wiring, units: np.ndarray, sizes: Mapping[str, int], buffer_bytes: float
) -> Residency:
    """Runs the layers in order. `sizes` gives the bytes of every tensor."""
    host = hosts(layers, wires, units)
    count = len(layers)
    load, store = np.zeros(count), np.zeros(count)
    used = np.zeros(count)
    steps = np.flatnonzero(host == np.arange(count)).tolist()
    after = dict(pairwise(steps))
    traffic = _step_bytes(layers, wires, host, sizes)
    held = []
    for tensor, readers in wires.consumers.items():
        made = int(host[wires.producer[tensor]]) if tensor in wires.producer else -1
        by = sorted({int(host[r]) for r in readers} - {made})
        size = int(sizes[tensor])
        if not by:  # read only by layers fused behind its own
            continue
        stays = made >= 0 and tensor not in wires.results and _stays(made, by, after, layers, units)
        if stays:
            # an addition writes over the input that was made just before it
            over = layers[by[-1]].op == "Add" and by[-1] == after[made]
            between = range(made, by[-1] + (not over))
            wide = len(by) > 1 or by[-1] != after[made]
            if by == [after[made]] and (_streams(layers[made]) or _streams(layers[by[0]])):
                held.append(Held(tensor, 0, made, by[0], True))
                continue
            stays = all(used[k] + size <= buffer_bytes for k in between) and not (
                wide and any(size + traffic[k] > buffer_bytes for k in between if made < k < by[-1])
            )
            if stays:
                used[between.start : between.stop] += size
        if not stays:
            for reader in by:
                load[reader] += size
            if made >= 0:
                store[made] += size
        held.append(Held(tensor, size, made, by[-1], stays))
    for tensor in sorted(wires.results):
        if tensor in wires.producer and not any(h.tensor == tensor for h in held):
            made = int(host[wires.producer[tensor]])
            store[made] += sizes[tensor]
            held.append(Held(tensor, int(sizes[tensor]), made, count - 1, False))
    return Residency(load, store, tuple(held))


def _step_bytes(layers: Sequence[Layer], wires: Wiring, host: np.ndarray, sizes: Mapping[str, int]) -> np.ndarray:
    """(L,) bytes that a step reads and writes, including the layers fused behind it."""
    read: dict[int, set[str]] = {}
    for tensor, readers in wires.consumers.items():
        made = int(host[wires.producer[tensor]]) if tensor in wires.producer else -1
        for step in {int(host[r]) for r in readers} | {made}:
            read.setdefault(step, set()).add(tensor)
    total = np.zeros(len(layers))
    for step, tensors in read.items():
        if step >= 0:
            outside = [t for t in tensors if _outside(t, step, wires, host)]
            total[step] = sum(sizes[t] for t in outside)
    return total


def _outside(tensor: str, step: int, wires: Wiring, host: np.ndarray) -> bool:
    """Whether a tensor is used outside its step, not only by layers fused behind it."""
    made = int(host[wires.producer[tensor]]) if tensor in wires.producer else -1
    return made != step or any(int(host[r]) != step for r in wires.consumers.get(tensor, ()))


def _stays(made: int, by: Sequence[int], after: Mapping[int, int], layers: Sequence[Layer], units: np.ndarray) -> bool:
    """Whether the chain keeps a tensor on chip: the next step reads it, later ones only add it."""
    joined = units[made] == COPY and layers[made].op == "Concat"
    if not all(units[n] == MAC or layers[n].op in POOLS or (n == made and joined) for n in (made, *by)):
        return False
    return all(r == after.get(made) or layers[r].op == "Add" for r in by)


def _streams(layer: Layer) -> bool:
    """Whether a layer processes row by row and never holds a whole tensor."""
    return layer.kind == "depthwise"
