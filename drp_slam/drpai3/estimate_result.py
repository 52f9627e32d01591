# SPDX-License-Identifier: Apache-2.0
"""An estimate as JSON, for `estimate --json`, its page and the comparison."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from drp_slam.chip.constants import Constants
from drp_slam.drpai3.estimate import Estimate


def as_dict(found: Estimate, constants: Constants, pattern: str) -> dict[str, Any]:
    """An estimate as JSON; modelled figures only."""
    layers: list[dict[str, Any]] = [
        {
            "name": row.name,
            "op": row.op,
            "unit": row.unit,
            "shape": list(row.shape),
            "macs": row.macs,
            "sparsity": row.sparsity,
            "mean_n": row.mean_n,
            "group_rows": int(constants["drpai3.group_rows"]),
            "cycles": row.cycles,
            "us": row.seconds * 1e6,
            "crossing_us": row.wait_s * 1e6,
            "bytes": row.bytes,
            "bound_by": row.bound_by,
            "utilisation": row.utilisation,
            "uj": row.energy_j * 1e6,
            "reason": row.reason,
        }
        for row in found.rows
    ]
    kinds = {"cited": 0, "fitted": 0, "assumed": 0}
    for entry in constants.entries():
        if entry.key.startswith(("drpai3.", "fallback.")):
            kinds[entry.kind] += 1
    return {
        "name": found.name,
        "notes": list(found.notes),
        "incomplete": list(found.incomplete),
        "device": f"emulated:{constants.name}",
        "pattern": pattern,
        "mac_mhz": found.mac_hz * 1e-6,
        "total_ms": found.total_s * 1e3,
        "energy_mj": found.energy_j * 1e3,
        "accelerator_mj": found.accelerator_j * 1e3,
        "average_w": found.energy_j / found.total_s,
        "tops_per_w": found.tops_per_w,
        "gmacs": found.macs * 1e-9,
        "cycles": found.cycles,
        "dense_cycles": found.dense_cycles,
        "array_tops": found.array_tops,
        "effective_tops": 2e-12 * found.macs / found.total_s,
        "crossings": found.crossings,
        "crossing_ms": found.crossing_s * 1e3,
        "overhead_ms": found.overhead_s * 1e3,
        "memory_mib": found.memory.total / 2**20,
        "memory_areas_mib": {area: size / 2**20 for area, size in asdict(found.memory).items()},
        "traffic_mb": found.bytes * 1e-6,
        "index_bytes": found.index_bytes,
        "groups_by_n": [int(n) for n in found.histogram],
        "packing_loss": {k: float(v) for k, v in found.losses.items()},
        "constants": kinds,
        "layers": layers,
        "tensors": [asdict(tensor) for tensor in found.residency.held],
        "fallbacks": [
            {key: row[key] for key in ("name", "op", "reason")}
            | {"ms": row["us"] * 1e-3, "crossing_ms": row["crossing_us"] * 1e-3}
            for row in layers
            if row["unit"] == "cpu"
        ],
    }
