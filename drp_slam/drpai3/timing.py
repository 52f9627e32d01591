# SPDX-License-Identifier: Apache-2.0
"""Time of a network on DRP-AI3, layer by layer, from few physical constants of the device file.

A matrix layer takes the longer of its MAC cycles (packed weights, array efficiency) and its traffic
(weights stream from DDR; tensors beyond the on-chip buffer spill). Other mapped operators take a
fixed time on the DRP and one per element, pooling also one per tap (maximum and average at
different rates). Fallbacks take the A55's time, and every tensor that
changes sides a fixed time and one per element. Layers run one after the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from drp_slam.drpai3.layers import MATRIX_KINDS, Layer
from drp_slam.drpai3.placement import CPU, DRP, MAC
from drp_slam.drpai3.subgraphs import Wiring


@dataclass(frozen=True)
class Table:
    """Quantities of many layers, each (L,) float64; several networks may be joined.

    `cycles` are MAC-array cycles at full efficiency; `weight_bytes` as streamed; `read`,
    `written` elements in and out; `held_in`, `held_out` those that must lie somewhere between two
    layers, in the buffer or beyond it; `taps` of maximum pooling windows,
    `average_taps` of averages.
    """

    cycles: np.ndarray
    weight_bytes: np.ndarray
    read: np.ndarray
    written: np.ndarray
    held_in: np.ndarray
    held_out: np.ndarray
    taps: np.ndarray
    average_taps: np.ndarray
    macs: np.ndarray


def table(
    layers: Sequence[Layer], wires: Wiring, tags: Sequence[str], cycles: np.ndarray, weight_bytes: np.ndarray
) -> Table:
    """Of one network; `cycles` and `weight_bytes` (L,) come from `packing` or a pattern.

    Pooling and depthwise layers run in the stream of the layer before: neither they nor a
    convolution that only feeds them holds a whole tensor.
    """
    stream = [tag in ("pool", "depthwise") for tag in tags]
    taps, average_taps = ([_taps(x) if x.op == op else 0 for x in layers] for op in ("MaxPool", "AveragePool"))
    held_in = [0 if s else int(np.prod(x.in_shape)) for x, s in zip(layers, stream)]
    held_out = [
        0 if tags[n] == "depthwise" or (tags[n] == "conv" and _feeds(n, layers, wires, tags)) else layer.out_elements
        for n, layer in enumerate(layers)
    ]
    columns = (
        cycles,
        weight_bytes,
        [x.in_elements for x in layers],
        [x.out_elements for x in layers],
        held_in,
        held_out,
        taps,
        average_taps,
        [x.macs for x in layers],
    )
    return Table(*(np.asarray(column, np.float64) for column in columns))


def _taps(layer: Layer) -> int:
    """Elements that the windows of a pooling layer read, in all."""
    return layer.out_elements * int(np.prod(layer.node.attributes.get("kernel_shape", [1])))


def _feeds(n: int, layers: Sequence[Layer], wires: Wiring, tags: Sequence[str]) -> bool:
    """Whether only pooling or depthwise layers read layer n, with or without its activation."""
    readers = wires.consumers.get(layers[n].node.outputs[0], ())
    if len(readers) == 1 and tags[readers[0]] == "activation":
        readers = wires.consumers.get(layers[readers[0]].node.outputs[0], ())
    return bool(readers) and all(tags[r] in ("pool", "depthwise") for r in readers)


def join(tables: Sequence[Table]) -> Table:
    """Tables of several networks, one after the other."""
    return Table(*(np.concatenate([getattr(t, f.name) for t in tables]) for f in fields(Table)))


def scaled(whole: Table, cycles: np.ndarray, weights: np.ndarray) -> Table:
    """A copy with cycles and streamed weights multiplied, each (L,)."""
    return replace(whole, cycles=whole.cycles * cycles, weight_bytes=whole.weight_bytes * weights)


@dataclass(frozen=True)
class Parts:
    """Seconds of each layer by cause, (L,) each; `total` is what the layer takes."""

    compute: np.ndarray
    weights: np.ndarray
    spill: np.ndarray
    drp: np.ndarray
    cpu: np.ndarray
    overhead: np.ndarray

    @property
    def total(self) -> np.ndarray:
        """Traffic overlaps with computing; the rest follows."""
        traffic = self.weights + self.spill
        return np.maximum(self.compute, traffic) + self.drp + self.cpu + self.overhead


def layer_seconds(t: Table, units: np.ndarray, c: Mapping[str, float], mac_hz: float) -> Parts:
    """The model. `units` (L,) of `placement`; fused layers take nothing of their own."""
    matrix, drp, cpu = units == MAC, units == DRP, units == CPU
    over = np.maximum(t.held_in - c["drpai3.buffer"], 0) + np.maximum(t.held_out - c["drpai3.buffer"], 0)
    elements = (
        t.written / c["drpai3.drp_element_rate"]
        + t.taps / c["drpai3.pool_tap_rate"]
        + t.average_taps / c["drpai3.average_tap_rate"]
    )
    on_cpu = (t.read + t.written) / c["fallback.element_rate"] + t.macs / c["fallback.mac_rate"]
    fixed = matrix * c["drpai3.layer_overhead"] + drp * c["drpai3.drp_op_overhead"] + cpu * c["fallback.op_overhead"]
    return Parts(
        compute=matrix * t.cycles / (mac_hz * c["drpai3.array_efficiency"]),
        weights=matrix * t.weight_bytes / c["drpai3.weight_bandwidth"],
        spill=(matrix | drp) * over / c["drpai3.spill_bandwidth"],
        drp=drp * elements,
        cpu=cpu * on_cpu,
        overhead=fixed,
    )


def crossing_seconds(count: np.ndarray | float, elements: np.ndarray | float, c: Mapping[str, float]) -> np.ndarray:
    """Time of `count` tensors of `elements` in all that change sides."""
    return np.asarray(count * c["fallback.crossing_overhead"] + elements / c["fallback.crossing_rate"])


def array_positions(c: Mapping[str, float]) -> int:
    """Output positions that the array computes at once, from peak, clock and columns."""
    macs_per_cycle = c["drpai3.dense_peak"] / 2 / c["drpai3.mac_clock"]
    return max(1, round(macs_per_cycle / c["drpai3.parallel_columns"]))


def dense_cycles(layer: Layer, c: Mapping[str, float]) -> float:
    """MAC-array cycles of a layer without zeros.

    A convolution takes k cycles for each block of columns and tile of positions. A depthwise one
    has no inputs to share among columns and uses `drpai3.depthwise_share` of the array.
    """
    if layer.kind not in MATRIX_KINDS:
        return 0.0
    positions, columns = array_positions(c), int(c["drpai3.parallel_columns"])
    if layer.kind == "depthwise":
        return layer.macs / (positions * columns * c["drpai3.depthwise_share"])
    return layer.k * -(-layer.c // columns) * float(-(-layer.positions // positions))
