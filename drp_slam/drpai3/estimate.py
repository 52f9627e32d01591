# SPDX-License-Identifier: Apache-2.0
"""Estimates a network on the chip: placement, packing, time and energy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from drp_slam.chip.constants import Constants
from drp_slam.chip.pricing import clock_hz
from drp_slam.drpai3 import placement, residency, subgraphs, timing
from drp_slam.drpai3.energy import ddr_bytes, layer_joules
from drp_slam.drpai3.footprint import Footprint, footprint
from drp_slam.drpai3.graph import Graph
from drp_slam.drpai3.layers import Layer, layers
from drp_slam.drpai3.order import chain_first
from drp_slam.drpai3.packed_layers import Packs, pack_layers
from drp_slam.drpai3.residency import Residency
from drp_slam.errors import DrpAi3Error

CAUSES = {
    "compute": "macs",
    "traffic": "features",
    "weights": "weights",
    "drp": "drp",
    "copies": "copy",
    "cpu": "cpu",
    "overhead": "fixed",
}
"""Field of `timing.Parts` -> the bound of a row, in words."""


@dataclass(frozen=True)
class Row:
    """One layer of the report. `wait_s` is the time for moving its tensors between accelerator and CPU."""

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

    `accelerator_j` excludes DDR and the CPU, as published TOPS/W figures do. `histogram[n]`
    counts weight groups rebuilt as n rows. `assumed_share` is the part of `energy_j` and
    `total_s` that depends on assumed constants. `notes` lists what was omitted from the network;
    `incomplete` lists work that is in no sum because its cost is unknown.
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
    memory: Footprint
    residency: Residency
    index_bytes: float
    histogram: np.ndarray
    losses: Mapping[str, float]
    mac_hz: float
    notes: tuple[str, ...] = ()
    incomplete: tuple[str, ...] = ()

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


def estimate(
    graph: Graph,
    constants: Constants,
    freq_index: int = 2,
    *,
    sparsity: float | None = None,
    pattern: str = "file",
    release: float = placement.NEW_RELEASE,
    results_stay: bool = False,
) -> Estimate:
    """Cost of one inference of `graph`.

    `pattern` `file` packs the zeros that the weights hold; with `sparsity` given, `balanced`
    (every column of a group keeps the same count, as the vendor's pruner does) or `random` is
    assumed instead. With `results_stay` the DRP reads the results in place; otherwise the CPU
    fetches and converts them, as in published latencies. Raises DrpAi3Error if the network does
    not fit the DRP-AI memory area.
    """
    work, wires, tags = graph.once("work", lambda: _work(graph))
    units = placement.units(tags, work, wires, release, placement.chosen_of(constants))
    cpu = placement.on_cpu(units, work, wires)
    packs = pack_layers(graph, work, units, constants, sparsity, pattern)
    mac_hz = clock_hz(constants, "drpai3.mac_clock", freq_index)
    sizes = {name: math.prod(graph.shapes[name]) for name in wires.buffer.values()}
    element_bytes = int(constants["drpai3.element_bytes"])
    sizes_bytes = {name: element_bytes * size for name, size in sizes.items()}
    room = constants["drpai3.feature_buffer"] * constants["drpai3.feature_share"]
    lies = residency.simulate(work, wires, units, sizes_bytes, room)
    table = timing.with_traffic(timing.table(work, tags, packs.cycles, packs.bytes), lies)
    parts = timing.layer_seconds(table, units, constants, mac_hz)
    energy = layer_joules(table, parts, 1.0 - packs.sparsity, constants)
    crossed = placement.crossings(cpu, wires, sizes, results_stay)
    waits = np.zeros(len(work))
    for crossing in crossed:
        seconds = timing.result_seconds if crossing.result else timing.crossing_seconds
        waits[_waiting(crossing, cpu, wires)] += float(seconds(1, crossing.elements, constants))
    memory = footprint(graph, work, tags, units, lies, packs.bytes, constants)
    if memory.total > constants["drpai3.memory_area"]:
        raise DrpAi3Error(
            f"{graph.path}: needs {memory.total / 2**20:.0f} MiB, the DRP-AI area of {constants.name} "
            f"has {constants['drpai3.memory_area'] / 2**20:.0f}; prune it or lower --input-shape"
        )
    traffic = ddr_bytes(table)
    rows = _rows(work, tags, units, cpu, packs, parts, waits, traffic, energy.total, constants)
    total_s = constants["drpai3.inference_overhead"] + float(parts.total.sum() + waits.sum())
    idle_j = constants["drpai3.inference_overhead"] * constants["drpai3.idle_power"]
    wait_j = float(waits.sum()) * constants["cpu.power_busy"]
    return Estimate(
        name=graph.name,
        rows=tuple(rows),
        total_s=total_s,
        overhead_s=constants["drpai3.inference_overhead"],
        crossing_s=float(waits.sum()),
        crossings=len(crossed),
        energy_j=float(energy.total.sum()) + idle_j + wait_j,
        accelerator_j=float(energy.accelerator.sum()) + idle_j,
        cycles=float(packs.cycles.sum()),
        dense_cycles=float(packs.dense.sum()),
        bytes=float(traffic.sum()),
        macs=float(sum(layer.macs for layer in work)),
        memory=memory,
        residency=lies,
        index_bytes=packs.index_bytes,
        histogram=packs.histogram,
        losses=packs.losses,
        mac_hz=mac_hz,
        notes=graph.notes,
        incomplete=(*graph.incomplete, *(layer.unknown for layer in work if layer.unknown)),
    )


def _work(graph: Graph) -> tuple[tuple[Layer, ...], subgraphs.Wiring, list[str]]:
    """What does not depend on the chip: the layers in their order, what connects them, and their tags."""
    work = chain_first(graph, layers(graph))
    wires = subgraphs.wiring(graph, work)
    return work, wires, subgraphs.find(graph, work, wires)


def _waiting(crossing: placement.Crossing, cpu: np.ndarray, wires: subgraphs.Wiring) -> int:
    """The layer to which a crossing is charged: the one on the CPU."""
    made = wires.producer[crossing.tensor]
    if not crossing.to_cpu:
        return made
    readers = [r for r in wires.consumers.get(crossing.tensor, ()) if cpu[r]]
    return readers[0] if readers else made


def _rows(
    work: Sequence[Layer],
    tags: Sequence[str],
    units: np.ndarray,
    cpu: np.ndarray,
    packs: Packs,
    parts: timing.Parts,
    waits: np.ndarray,
    traffic: np.ndarray,
    energy_j: np.ndarray,
    c: Constants,
) -> list[Row]:
    peak = c["drpai3.dense_peak"] / 2
    causes = np.stack([getattr(parts, name) for name in CAUSES])
    total_s = parts.total
    rows = []
    for n, layer in enumerate(work):
        seconds = float(total_s[n])
        here = bool(cpu[n])
        rows.append(
            Row(
                layer.name,
                layer.op,
                "cpu" if here else placement.UNIT_NAMES[units[n]],
                placement.reason(tags[n], layer)
                if here and units[n] == placement.CPU
                else "runs behind a layer on the CPU"
                if here
                else "",
                layer.out_shape,
                float(layer.macs),
                float(packs.sparsity[n]),
                packs.mean_n[n],
                float(packs.cycles[n]),
                seconds,
                float(waits[n]),
                float(traffic[n]),
                "-" if not seconds else tuple(CAUSES.values())[int(causes[:, n].argmax())],
                layer.macs / peak / seconds if seconds else 0.0,
                float(energy_j[n]),
            )
        )
    return rows
