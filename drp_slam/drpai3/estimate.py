# SPDX-License-Identifier: Apache-2.0
"""What the chip would do with a network: placed, packed, timed, and its energy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from drp_slam.device import Constants
from drp_slam.drpai3 import packing, patterns, placement, timing
from drp_slam.drpai3.energy import layer_joules
from drp_slam.drpai3.graph import Graph
from drp_slam.drpai3.layers import Layer, layers, weight_of
from drp_slam.errors import DrpAi3Error

PATTERNS = ("file", "balanced", "random")
UNPRUNED_CHANNELS = 4
"""Layers with at most so many input channels (the first one) are not pruned."""
BIAS_BYTES = 4


@dataclass(frozen=True)
class Row:
    """One layer of the report. `wait_s` is the time of tensors that change sides for it."""

    name: str
    op: str
    unit: str
    reason: str
    shape: tuple[int, ...]
    macs: float
    sparsity: float
    mean_n: float | None
    cycles: float
    seconds: float
    wait_s: float
    bytes: float
    bound_by: str
    utilisation: float
    energy_j: float


@dataclass(frozen=True)
class Estimate:
    """One inference. Everything is modelled; nothing was measured.

    `accelerator_j` leaves out DDR and the CPU, as published TOPS/W figures do. `histogram[n]`
    counts weight groups rebuilt as n rows. `assumed_share` is the part of `energy_j` and
    `total_s` that rests on assumed constants.
    """

    name: str
    rows: tuple[Row, ...]
    total_s: float
    overhead_s: float
    crossing_s: float
    crossings: int
    energy_j: float
    accelerator_j: float
    cycles: float
    dense_cycles: float
    bytes: float
    macs: float
    memory_bytes: float
    index_bytes: float
    histogram: np.ndarray
    losses: Mapping[str, float]
    mac_hz: float

    @property
    def fallbacks(self) -> tuple[Row, ...]:
        """Layers on the Cortex-A55."""
        return tuple(row for row in self.rows if row.unit == "cpu")

    @property
    def tops_per_w(self) -> float:
        """Dense-equivalent operations per joule of the accelerator, in TOPS/W."""
        return 2e-12 * self.macs / self.accelerator_j if self.accelerator_j else 0.0

    @property
    def array_tops(self) -> float:
        """Dense-equivalent rate while the array is busy, by its own cycles, in TOPS."""
        return 2e-12 * self.macs * self.mac_hz / self.cycles if self.cycles else 0.0


@dataclass(frozen=True)
class Packs:
    """Cycles and streamed bytes of each layer, (L,), and what packing found."""

    cycles: np.ndarray
    dense: np.ndarray
    bytes: np.ndarray
    sparsity: np.ndarray
    mean_n: list[float | None]
    index_bytes: float
    histogram: np.ndarray
    losses: Mapping[str, float]


def estimate(graph: Graph, constants: Constants, freq_index: int = 2, *,
             sparsity: float | None = None, pattern: str = "file",
             release: float = placement.NEW_RELEASE,
             results_stay: bool = False) -> Estimate:  # fmt: skip
    """Cost of one inference of `graph`.

    `pattern` `file` packs the zeros that the weights hold; with `sparsity` given, `balanced`
    (every column of a group keeps the same count, as the vendor's pruner does) or `random` is
    supposed instead. With `results_stay` the DRP reads the results in place, otherwise the CPU
    takes and converts them, as published latencies have it. Raises DrpAi3Error if the network does
    not fit the DRP-AI memory area.
    """
    work = layers(graph)
    wires = patterns.wiring(graph, work)
    tags = patterns.find(graph, work, wires)
    units = placement.units(tags, work, wires, release)
    cpu = placement.on_cpu(units, work, wires)
    packs = pack_layers(graph, work, units, constants, sparsity, pattern)
    mac_hz = timing.clock_hz(constants, freq_index)
    table = timing.table(work, wires, tags, packs.cycles, packs.bytes)
    parts = timing.layer_seconds(table, units, constants, mac_hz)
    energy = layer_joules(table, parts, 1.0 - packs.sparsity, constants)

    sizes = {name: math.prod(graph.shapes[name]) for name in wires.buffer.values()}
    crossed = placement.crossings(cpu, wires, sizes, results_stay)
    waits = np.zeros(len(work))
    for crossing in crossed:
        seconds = float(timing.crossing_seconds(1, crossing.elements, constants))
        waits[_waiting(crossing, cpu, wires)] += seconds
    memory = footprint(graph, work, wires, packs.bytes)
    if memory > constants["drpai3.memory_area"]:
        raise DrpAi3Error(
            f"{graph.path}: needs {memory / 2**20:.0f} MiB, the DRP-AI area of {constants.name} "
            f"has {constants['drpai3.memory_area'] / 2**20:.0f}; prune it or lower --input-shape"
        )
    traffic = packs.bytes + (parts.spill * constants["drpai3.spill_bandwidth"])
    rows = _rows(work, tags, units, cpu, packs, parts, waits, traffic, energy.total, constants)
    total_s = constants["drpai3.inference_overhead"] + float(parts.total.sum() + waits.sum())
    idle_j = constants["drpai3.inference_overhead"] * constants["drpai3.idle_power"]
    wait_j = float(waits.sum()) * constants["cpu.power_busy"]
    return Estimate(
        name=graph.name, rows=tuple(rows), total_s=total_s,
        overhead_s=constants["drpai3.inference_overhead"], crossing_s=float(waits.sum()),
        crossings=len(crossed), energy_j=float(energy.total.sum()) + idle_j + wait_j,
        accelerator_j=float(energy.accelerator.sum()) + idle_j, cycles=float(packs.cycles.sum()),
        dense_cycles=float(packs.dense.sum()), bytes=float(traffic.sum()),
        macs=float(sum(layer.macs for layer in work)), memory_bytes=memory,
        index_bytes=packs.index_bytes, histogram=packs.histogram, losses=packs.losses,
        mac_hz=mac_hz,
    )  # fmt: skip


def prunable(layer: Layer) -> bool:
    """Whether the vendor's pruner would prune a layer: matrices but the first and depthwise."""
    channels = layer.in_shape[1] if layer.op == "Conv" else layer.k
    return layer.kind in ("conv", "fc", "deconv") and channels > UNPRUNED_CHANNELS


def share_of_rows(sparsity: float, pattern: str, rows: int, columns: int) -> float:
    """Mean N/M of groups pruned to `sparsity`.

    `balanced`: the density, at least one row of each group. `random`: the expected maximum of
    `columns` binomial counts. Raises DrpAi3Error for another pattern or a sparsity outside [0, 1).
    """
    if not 0.0 <= sparsity < 1.0:
        raise DrpAi3Error(f"--sparsity {sparsity}, expected 0 to below 1")
    if pattern == "balanced":
        return max(1.0 - sparsity, 1.0 / rows)
    if pattern != "random":
        raise DrpAi3Error(f"--pattern {pattern!r}, expected one of {', '.join(PATTERNS)}")
    kept = [math.comb(rows, n) * (1 - sparsity) ** n * sparsity ** (rows - n)
            for n in range(rows + 1)]  # fmt: skip
    below = np.minimum(np.cumsum(kept), 1.0) ** columns  # P(max <= n)
    return float((1.0 - below[:-1]).sum() / rows)


def pack_layers(graph: Graph, work: Sequence[Layer], units: np.ndarray, c: Constants,
                sparsity: float | None, pattern: str) -> Packs:  # fmt: skip
    """Packs every matrix layer of the accelerator, or supposes a pattern."""
    rows, columns = int(c["drpai3.group_rows"]), int(c["drpai3.parallel_columns"])
    supposed = sparsity is not None
    share = share_of_rows(sparsity, "balanced" if pattern == "file" else pattern, rows,
                          columns) if sparsity is not None else 1.0  # fmt: skip
    cycles, streamed = np.zeros(len(work)), np.zeros(len(work))
    dense, zeros = np.zeros(len(work)), np.zeros(len(work))
    mean_n: list[float | None] = [None] * len(work)
    histogram, index_bytes = np.zeros(rows + 1), 0.0
    losses = {"balance": 0.0, "padding": 0.0}
    for n, layer in enumerate(work):
        streamed[n] = layer.weight_elements + BIAS_BYTES * layer.bias_elements
        if layer.weight is None or units[n] != placement.MAC:
            continue
        dense[n] = cycles[n] = timing.dense_cycles(layer, c)
        if supposed:
            if prunable(layer) and sparsity:
                cycles[n], zeros[n], mean_n[n] = dense[n] * share, sparsity, share * rows
                streamed[n] *= min(1.0, share * 1.5)
                index_bytes += layer.weight_elements * share / 2
            continue
        weight = weight_of(graph, layer)
        zeros[n] = 1.0 - np.count_nonzero(weight) / max(weight.size, 1)
        if layer.kind == "depthwise" or not zeros[n]:
            continue
        report = packing.packing_report(weight, rows, columns)
        ratio = report.cycles / report.dense_cycles
        cycles[n], mean_n[n] = dense[n] * ratio, report.mean_n
        packed = report.cycles * columns + report.index_bytes
        if packed < layer.weight_elements:
            streamed[n] += packed - layer.weight_elements
            index_bytes += report.index_bytes
        histogram += report.histogram
        losses["balance"] += report.loss_balance * dense[n]
        losses["padding"] += report.loss_padding * dense[n]
    whole = dense.sum() or 1.0
    return Packs(cycles, dense, streamed, zeros, mean_n, index_bytes, histogram,
                 {k: v / whole for k, v in losses.items()})  # fmt: skip


def footprint(graph: Graph, work: Sequence[Layer], wires: patterns.Wiring,
              weight_bytes: np.ndarray) -> float:  # fmt: skip
    """Bytes in the DRP-AI area: all weights, and the INT8 tensors alive at the worst moment."""
    last: dict[str, int] = {}
    for n, layer in enumerate(work):
        for name in wires.source(layer):
            last[name] = n
    for name in wires.results:
        last[name] = len(work)
    sizes = {name: math.prod(graph.shapes[name]) for name in wires.buffer.values()}
    alive = {name: sizes[name] for name in graph.inputs if name in sizes}
    worst = sum(alive.values())
    for n, layer in enumerate(work):
        alive.update({o: sizes[o] for o in layer.node.outputs if o in sizes})
        worst = max(worst, sum(alive.values()))
        alive = {name: size for name, size in alive.items() if last.get(name, -1) > n}
    return float(weight_bytes.sum()) + worst


def _waiting(crossing: placement.Crossing, cpu: np.ndarray, wires: patterns.Wiring) -> int:
    """The layer that a crossing is booked on: the CPU's side of it."""
    made = wires.producer[crossing.tensor]
    if not crossing.to_cpu:
        return made
    readers = [r for r in wires.consumers.get(crossing.tensor, ()) if cpu[r]]
    return readers[0] if readers else made


def _rows(work: Sequence[Layer], tags: Sequence[str], units: np.ndarray, cpu: np.ndarray,
          packs: Packs, parts: timing.Parts, waits: np.ndarray, traffic: np.ndarray,
          energy_j: np.ndarray, c: Constants) -> list[Row]:  # fmt: skip
    peak = c["drpai3.dense_peak"] / 2
    causes = np.stack(
        [parts.compute, parts.weights, parts.spill, parts.drp, parts.cpu, parts.overhead]
    )
    names = ("macs", "weights", "spill", "drp", "cpu", "fixed")
    rows = []
    for n, layer in enumerate(work):
        seconds = float(parts.total[n])
        here = bool(cpu[n])
        rows.append(Row(
            layer.name, layer.op, "cpu" if here else placement.UNIT_NAMES[units[n]],
            placement.reason(tags[n], layer) if here and units[n] == placement.CPU
            else "runs behind a layer on the CPU" if here else "",
            layer.out_shape, float(layer.macs), float(packs.sparsity[n]), packs.mean_n[n],
            float(packs.cycles[n]), seconds, float(waits[n]), float(traffic[n]),
            "-" if not seconds else names[int(causes[:, n].argmax())],
            layer.macs / peak / seconds if seconds else 0.0, float(energy_j[n]),
        ))  # fmt: skip
    return rows
