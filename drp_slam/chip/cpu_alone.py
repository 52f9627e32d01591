# SPDX-License-Identifier: Apache-2.0
"""The same work on the CPU alone: measured on this host, and modelled for the chip's A55 cores.

The modelled comparison is first order: counted operations by sustained rates. It stands beside
what the article about the chip claims, and never takes its place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from drp_slam.profiler.span import Span
from drp_slam.profiler.summary import by_frame, mean, spread_ms, stages

ARTICLE = {
    "speedup": 17.0,
    "power_ratio": 1.0 / 12.0,
    "source": "Renesas on RZ/V2H: SLAM about 17 times faster than CPU alone at 1/12 of the power; "
    "algorithm, frame and baseline are not public",
}


def ratio(over: float | None, under: float | None) -> float | None:
    """`over / under`, None where either is missing or `under` is zero."""
    return None if over is None or not under else over / under


def host(spans: Sequence[Span], baseline: Sequence[Span]) -> dict[str, Any] | None:
    """Measured on this host, the same frames: this run, and the run with backend `cpu`.

    None where the two have no frame in common.
    """
    common = {s.stamp_ns for s in spans} & {s.stamp_ns for s in baseline}
    if not common:
        return None
    ours = [s for s in spans if s.stamp_ns in common]
    theirs = [s for s in baseline if s.stamp_ns in common]
    frame = spread_ms(by_frame(ours, lambda s: s.wall_s))
    cpu = spread_ms(by_frame(theirs, lambda s: s.wall_s))
    return {
        "frames": len(common),
        "wall_ms": frame,
        "cpu_wall_ms": cpu,
        "ratio": None if cpu is None or frame is None else ratio(cpu["p50"], frame["p50"]),
        "stages": {name: {"wall_ms": s["wall_ms"]} for name, s in stages(ours).items()},
        "cpu_stages": {name: {"device": s["device"], "wall_ms": s["wall_ms"]} for name, s in stages(theirs).items()},
    }


def modelled(spans: Sequence[Span], throughput_hz: float | None) -> dict[str, Any] | None:
    """The modelled chip beside its own four A55 cores doing all of it, means a frame.

    `throughput_hz` is the chip's, its units overlapping; the CPU does one frame after the other.
    None where nothing is modelled.
    """
    chip_ms = mean(by_frame(spans, lambda s: s.modelled_s), 1e3)
    cpu_ms = mean(by_frame(spans, lambda s: s.cpu_modelled_s), 1e3)
    chip_mj = mean(by_frame(spans, lambda s: s.energy_j), 1e3)
    cpu_mj = mean(by_frame(spans, lambda s: s.cpu_energy_j), 1e3)
    if chip_ms is None or cpu_ms is None:
        return None
    return {"order": "first", **compare(chip_ms, cpu_ms, chip_mj, cpu_mj, throughput_hz)}


def compare(
    chip_ms: float, cpu_ms: float, chip_mj: float | None, cpu_mj: float | None, throughput_hz: float | None
) -> dict[str, Any]:
    """Ratios, all modelled: of latency, of throughput, of energy a frame, of power while busy."""
    chip_w = ratio(chip_mj, chip_ms)
    return {
        "chip_ms": chip_ms,
        "cpu_ms": cpu_ms,
        "latency_speedup": ratio(cpu_ms, chip_ms),
        "throughput_hz": throughput_hz,
        "cpu_throughput_hz": ratio(1e3, cpu_ms),
        "throughput_speedup": throughput_hz and throughput_hz * cpu_ms * 1e-3,
        "chip_mj": chip_mj,
        "cpu_mj": cpu_mj,
        "energy_ratio": ratio(chip_mj, cpu_mj),
        "power_ratio": ratio(chip_w, ratio(cpu_mj, cpu_ms)),
    }


def without_custom(kernels: Sequence[Mapping[str, Any]], spans: Sequence[Span]) -> dict[str, Any] | None:
    """The chip with every `custom` DRP kernel moved to its A55 cores, means a frame, modelled.

    `kernels` is one frame's: `stage`, `place`, `modelled_s`, `energy_j`, `cpu_modelled_s`,
    `cpu_energy_j`. None where they or the model are missing.
    """
    chip_ms = mean(by_frame(spans, lambda s: s.modelled_s), 1e3)
    cpu_ms = mean(by_frame(spans, lambda s: s.cpu_modelled_s), 1e3)
    chip_mj = mean(by_frame(spans, lambda s: s.energy_j), 1e3)
    cpu_mj = mean(by_frame(spans, lambda s: s.cpu_energy_j), 1e3)
    if not kernels or chip_ms is None or cpu_ms is None or chip_mj is None:
        return None
    custom = [k for k in kernels if k["place"] == "custom"]
    moved_ms = sum(k["cpu_modelled_s"] - k["modelled_s"] for k in custom) * 1e3
    moved_mj = sum(k["cpu_energy_j"] - k["energy_j"] for k in custom) * 1e3
    without = compare(chip_ms + moved_ms, cpu_ms, chip_mj + moved_mj, cpu_mj, None)
    return {"kernels": [k["kernel"] for k in custom], **without}
