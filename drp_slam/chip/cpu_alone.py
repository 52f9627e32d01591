# SPDX-License-Identifier: Apache-2.0
"""The same work on the CPU alone: measured on this host, and modelled for the chip's A55 cores.

The modelled comparison is first order: counted operations divided by sustained rates. It is shown beside
the claim of the article about the chip, and does not replace it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

ARTICLE = {
    "speedup": 17.0,
    "power_ratio": 1.0 / 12.0,
    "source": "Renesas on RZ/V2H: SLAM about 17 times faster than CPU alone at 1/12 of the power; "
    "algorithm, frame and baseline are not public",
}


def ratio(over: float | None, under: float | None) -> float | None:
    """`over / under`, None if either is missing or `under` is zero."""
    return None if over is None or not under else over / under


@dataclass(frozen=True)
class FrameMeans:
    """Modelled means per frame: on the units of the chip as placed, and on its CPU alone.

    Energies are None if not modelled. `cpu_busy_ms` also counts work that the pose does
    not wait for, such as that of a detector; None without such work.
    """

    chip_ms: float
    cpu_ms: float
    chip_mj: float | None
    cpu_mj: float | None
    cpu_busy_ms: float | None = None


def compare(means: FrameMeans, throughput_hz: float | None) -> dict[str, Any]:
    """Ratios, all modelled: of latency, of throughput, of energy per frame, of power while busy.

    `throughput_hz` is the chip's, with overlapping units; the CPU processes one frame after the other.
    """
    chip_ms, cpu_ms, chip_mj, cpu_mj = means.chip_ms, means.cpu_ms, means.chip_mj, means.cpu_mj
    chip_w, busy_ms = ratio(chip_mj, chip_ms), means.cpu_busy_ms or cpu_ms
    return {
        "chip_ms": chip_ms,
        "cpu_ms": cpu_ms,
        "latency_speedup": ratio(cpu_ms, chip_ms),
        "throughput_hz": throughput_hz,
        "cpu_throughput_hz": ratio(1e3, busy_ms),
        "throughput_speedup": throughput_hz and throughput_hz * busy_ms * 1e-3,
        "chip_mj": chip_mj,
        "cpu_mj": cpu_mj,
        "energy_ratio": ratio(chip_mj, cpu_mj),
        "power_ratio": ratio(chip_w, ratio(cpu_mj, busy_ms)),
    }


def without_custom(kernels: Sequence[Mapping[str, Any]], means: FrameMeans) -> dict[str, Any] | None:
    """The chip with every `custom` DRP kernel moved to its CPU, means per frame, modelled.

    `kernels` is one frame's: `place`, `modelled_s`, `energy_j`, `cpu_modelled_s`,
    `cpu_energy_j`. None if they or the energy are missing.
    """
    if not kernels or means.chip_mj is None:
        return None
    custom = [k for k in kernels if k["place"] == "custom"]
    moved_ms = sum(k["cpu_modelled_s"] - k["modelled_s"] for k in custom) * 1e3
    moved_mj = sum(k["cpu_energy_j"] - k["energy_j"] for k in custom) * 1e3
    moved = replace(means, chip_ms=means.chip_ms + moved_ms, chip_mj=means.chip_mj + moved_mj)
    return {"kernels": [k["kernel"] for k in custom], **compare(moved, None)}
