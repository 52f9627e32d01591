# SPDX-License-Identifier: Apache-2.0
"""Time of a network on DRP-AI3, layer by layer, from a few physical constants of the device file.

A matrix layer takes the longer of its MAC cycles (packed weights, array efficiency) and its traffic
(weights stream from DDR; tensors beyond the on-chip buffer spill). Other mapped operators take a
fixed time on the DRP and one per element, pooling also one per tap (maximum and average at different
rates). Copies take what they load and store. Fallbacks take the A55's time, functions such as the
exponential more, and every tensor moved between accelerator and CPU takes a fixed time and one per
element. Layers run in sequence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from drp_slam.drpai3 import prefetch
from drp_slam.drpai3.layers import MATRIX_KINDS, Layer
from drp_slam.drpai3.placement import COPY, CPU, DRP, MAC
from drp_slam.drpai3.residency import Residency

FLOAT_BYTES = 4
MOVES = frozenset({"Concat", "Slice", "Split", "Gather", "Transpose"})
"""Operators that only copy; on the CPU they run at its copying rate."""
FUNCTIONS = frozenset(
    {"Erf", "Gelu", "Sigmoid", "Tanh", "Softmax", "LogSoftmax", "Exp", "Log", "Pow", "Sqrt", "Softplus", "Mish", "Elu"}
)
"""Operators that evaluate a function for each element; on the CPU they take more than arithmetic."""


@dataclass(frozen=True)
class Table:
    """Quantities of many layers, each (L,) float64; several networks may be joined.

    `cycles` are MAC-array cycles at full efficiency; `weight_bytes` as streamed; `load`, `store` the
    feature bytes that come from and go to DDR (`residency`); `read`, `written` elements in and out;
    `streamed` those that set the DRP's time, 0 for a copy; `taps` of maximum pooling windows,
    `average_taps` of averages; `products` those of `macs` that multiply two activations (attention);
    `moved` elements that are copied, `evaluated` those of `FUNCTIONS`; `wide` is 1 for a depthwise kernel
    beyond 3 x 3.
    """

    cycles: np.ndarray
    weight_bytes: np.ndarray
    load: np.ndarray
    store: np.ndarray
    read: np.ndarray
    written: np.ndarray
    streamed: np.ndarray
    taps: np.ndarray
    average_taps: np.ndarray
    macs: np.ndarray
    products: np.ndarray
    moved: np.ndarray
    evaluated: np.ndarray
    wide: np.ndarray


def table(layers: Sequence[Layer], tags: Sequence[str], cycles: np.ndarray, weight_bytes: np.ndarray) -> Table:
    """The table of one network without traffic; `tags` come from `subgraphs.find`, `cycles` and
    `weight_bytes` (L,) from `packing` or an assumed pattern."""
    taps, average_taps = ([_taps(x) if x.op == op else 0 for x in layers] for op in ("MaxPool", "AveragePool"))
    nothing = np.zeros(len(layers))
    columns = (
        cycles,
        weight_bytes,
        nothing,
        nothing,
        [x.in_elements for x in layers],
        [x.out_elements for x in layers],
        [_streamed(x, tag) for x, tag in zip(layers, tags)],
        taps,
        average_taps,
        [x.macs for x in layers],
        [x.macs if x.kind == "matmul" else 0 for x in layers],
        [x.out_elements if x.op in MOVES else 0 for x in layers],
        [x.out_elements if x.op in FUNCTIONS else 0 for x in layers],
        [tag == "depthwise-large" for tag in tags],
    )
    return Table(*(np.asarray(column, np.float64) for column in columns))


def with_traffic(whole: Table, lies: Residency) -> Table:
    """The table of a network with what its layers load and store."""
    return replace(whole, load=lies.load, store=lies.store)


def _streamed(layer: Layer, tag: str) -> int:
    """Elements that set the DRP's time: those it writes, or both inputs if it joins two tensors.

    A nearest resize before an addition only repeats elements: the addition rescales both inputs, so none
    is converted to floating point and back, as the translator's table shows before a concatenation.
    """
    if tag == "resize-added":
        return 0
    return layer.in_elements if tag in ("add", "add-fused", "sub", "mul", "div") else layer.out_elements


def _taps(layer: Layer) -> int:
    """Elements that the windows of a pooling layer read, in total."""
    return layer.out_elements * int(np.prod(layer.node.attributes.get("kernel_shape", [1])))


def join(tables: Sequence[Table]) -> Table:
    """Tables of several networks, one after the other."""
    return Table(*(np.concatenate([getattr(t, f.name) for t in tables]) for f in fields(Table)))


def select(whole: Table, keep: np.ndarray) -> Table:
    """The layers of a mask (L,)."""
    return Table(*(getattr(whole, f.name)[keep] for f in fields(Table)))


def streamed_bytes(t: Table, units: np.ndarray) -> np.ndarray:
    """(L,) weights that come through the weight buffer: those of the array's products."""
    return (units == MAC) * (t.macs > 0) * t.weight_bytes


def scaled(whole: Table, cycles: np.ndarray, weights: np.ndarray) -> Table:
    """A copy with cycles and streamed weights multiplied, each (L,)."""
    return replace(whole, cycles=whole.cycles * cycles, weight_bytes=whole.weight_bytes * weights)


@dataclass(frozen=True)
class Parts:
    """Seconds of each layer by cause, (L,) each; `total` is the layer's time.

    `exposed` is the part of the shorter of work and traffic that does not overlap with the longer,
    `weights` the wait for weights that are still loading.
    """

    compute: np.ndarray
    traffic: np.ndarray
    exposed: np.ndarray
    drp: np.ndarray
    copies: np.ndarray
    cpu: np.ndarray
    overhead: np.ndarray
    weights: np.ndarray

    @property
    def total(self) -> np.ndarray:
        """The longer of work and traffic, plus the part that does not overlap with it."""
        longest = np.maximum(self.compute, self.traffic)
        return longest + self.exposed + self.drp + self.copies + self.cpu + self.overhead + self.weights


def layer_seconds(t: Table, units: np.ndarray, c: Mapping[str, float], mac_hz: float) -> Parts:
    """The model for the layers of one network. `units` (L,) comes from `placement`; fused layers take no
    time of their own."""
    parts, streamed = own_parts(t, units, c, mac_hz), streamed_bytes(t, units)
    stream = prefetch.streams([streamed], c["drpai3.weight_buffer"])
    return replace(parts, weights=prefetch.waits(stream, parts.total, streamed, c["drpai3.weight_bandwidth"]))


def own_parts(t: Table, units: np.ndarray, c: Mapping[str, float], mac_hz: float) -> Parts:
    """The model without the waits for weights."""
    matrix, drp, cpu, copy = units == MAC, units == DRP, units == CPU, units == COPY
    product = matrix & (t.macs > 0)
    pool = drp & (t.taps + t.average_taps > 0)
    streamed = streamed_bytes(t, units)
    compute = product * t.cycles / (mac_hz * c["drpai3.array_efficiency"])
    repeats = drp & (t.streamed == 0)
    traffic = (matrix | pool | repeats) * (t.load + t.store) / c["drpai3.feature_bandwidth"]
    elements = (
        (drp & ~pool) * t.streamed / c["drpai3.drp_element_rate"]
        + pool * t.taps / c["drpai3.pool_tap_rate"]
        + pool * t.average_taps / c["drpai3.average_tap_rate"]
    )
    on_cpu = np.where(
        t.moved > 0, t.moved * FLOAT_BYTES / c["cpu.copy_bandwidth"], (t.read + t.written) / c["fallback.element_rate"]
    )
    on_cpu = on_cpu + (t.macs - t.products) / c["fallback.mac_rate"] + t.products / c["fallback.product_rate"]
    on_cpu = on_cpu + t.evaluated / c["fallback.curve_rate"]
    fixed = (
        product * (c["drpai3.layer_overhead"] + t.wide * c["drpai3.wide_overhead"])
        + (matrix & ~product) * c["drpai3.add_overhead"]
        + (drp & ~pool) * c["drpai3.drp_op_overhead"]
        + pool * c["drpai3.pool_overhead"]
        + cpu * c["fallback.op_overhead"]
    )
    return Parts(
        compute=compute,
        traffic=traffic,
        exposed=c["drpai3.exposed_share"] * np.minimum(compute, traffic)
        + c["drpai3.exposed_share"] * np.minimum(compute, streamed / c["drpai3.weight_bandwidth"]),
        drp=elements,
        copies=copy * (t.load + t.store) / c["drpai3.feature_bandwidth"],
        cpu=cpu * on_cpu,
        overhead=fixed,
        weights=np.zeros(len(compute)),
    )


def crossing_seconds(count: np.ndarray | float, elements: np.ndarray | float, c: Mapping[str, float]) -> np.ndarray:
    """Time to move `count` tensors of `elements` in total between accelerator and CPU."""
    return np.asarray(count * c["fallback.crossing_overhead"] + elements / c["fallback.crossing_rate"])


def result_seconds(count: np.ndarray | float, elements: np.ndarray | float, c: Mapping[str, float]) -> np.ndarray:
    """Time to convert `count` results of the network, `elements` in total, for the CPU."""
    return np.asarray(count * c["drpai3.result_overhead"] + elements / c["drpai3.result_rate"])


def array_positions(c: Mapping[str, float]) -> int:
    """Output positions that the array computes at once, from peak, clock and columns."""
    macs_per_cycle = c["drpai3.dense_peak"] / 2 / c["drpai3.mac_clock"]
    return max(1, round(macs_per_cycle / c["drpai3.parallel_columns"]))


def dense_cycles(layer: Layer, c: Mapping[str, float]) -> float:
    """MAC-array cycles of a layer without zeros.

    A convolution takes k cycles for each block of columns and as many square tiles of positions as
    the array holds at once; tiles at the edges of the image are padded. A depthwise one has no inputs
    to share among columns and uses `drpai3.depthwise_share` of the array.
    """
    if layer.kind not in MATRIX_KINDS:
        return 0.0
    positions, columns = array_positions(c), int(c["drpai3.parallel_columns"])
    if layer.kind == "depthwise":
        return layer.macs / (positions * columns * c["drpai3.depthwise_share"])
    return layer.k * -(-layer.c // columns) * _tiles(layer, side := int(c["drpai3.tile_side"])) * side**2 / positions


def _tiles(layer: Layer, side: int) -> int:
    """Square tiles that cover the positions of a matrix layer; rows of a plain matrix form a line."""
    image = layer.in_shape if layer.op == "ConvTranspose" else layer.out_shape
    if layer.kind == "fc" or len(image) != 4:
        return -(-layer.positions // side**2)
    return int(image[0] * -(-image[2] // side) * -(-image[3] // side))
