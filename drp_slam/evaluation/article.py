# SPDX-License-Identifier: Apache-2.0
"""The source article's figures and the model's: read `figures` first. The model is never fitted to the article."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from drp_slam.atomic import make_folder, write_bytes
from drp_slam.chip import intervals, thermal
from drp_slam.chip.constants import Constants, load_constants
from drp_slam.chip.cpu_alone import ARTICLE
from drp_slam.chip.soc import Meter, Soc
from drp_slam.drpai3.estimate import Estimate, estimate
from drp_slam.drpai3.fitting.resnet import resnet50
from drp_slam.drpai3.fitting.yolox import yolox
from drp_slam.drpai3.graph import Graph, load
from drp_slam.errors import ProfilerError
from drp_slam.profiler.span import read_spans
from drp_slam.profiler.work_table import FrameWorks, averaged, read_works
from drp_slam.reporting import folder as files
from drp_slam.reporting.frame_schedule import CHIP, on_cpu, price
from drp_slam.reporting.on_chip import chip_of

SOURCE = "Shingo Kojima (Renesas) on RZ/V2H"
PREVIOUS = "rzv2l"
"""The generation before, whose accelerator does not skip zeros."""
RATES = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95)
"""Shares of zeros assumed for the networks."""
PRUNED = 0.9
"""The share at which the article states its peak."""
SECTIONS = ("drpai3.", "fallback.", "cpu.", "drp.", "thermal.")
PUBLIC_HEAT_C = {"four A55": 50.0, "YOLOX": 42.0}
"""A second, undocumented run on the same kind of board (rzv2h-hardware-map @12cd8bb)."""
PUBLIC_STAGES_MS = {"pre-processing on the DRP": 6.86, "YOLOX-nano": 15.26, "post-processing, partly on the A55": 1.62}
"""The one published chain (rzv2h-hardware-map @12cd8bb): 1280 x 720 UYVY, 416 x 416."""


@dataclass(frozen=True)
class Ranged:
    """A modelled figure, and the range of nine in ten draws of the constants."""

    value: float
    low: float
    high: float

    @staticmethod
    def of(model: Callable[[Constants], float], constants: Constants, draws: int) -> Ranged:
        keys = intervals.uncertain(constants, SECTIONS)
        drawn = intervals.monte_carlo(lambda c: [model(c)], constants, keys, draws)
        return Ranged(model(constants), *intervals.spread(drawn[:, 0]))

    def over(self, other: float = 1.0) -> tuple[float, tuple[float, float]]:
        """The figure and its range, divided by another figure."""
        return self.value / other, (self.low / other, self.high / other)


def figures(
    compared: Mapping[str, Any], folder: Path, networks: Sequence[Path], draws: int, out: Path
) -> dict[str, Any]:
    """Every claim with its source, the modelled figure, its range and the command that computes it.

    `compared` is the result of `compare`, whose runs are in `folder`. `networks` are ONNX files beside
    ResNet-50 and YOLOX-S, which are generated into `out`. Raises DrpSlamError.
    """
    soc, frames = measured_frames(folder, compared["headline"]["features"])
    graphs = {path.stem.removesuffix(".onnx"): load(path) for path in (*built(make_folder(out)), *networks)}
    previous = load_constants(PREVIOUS)
    result: dict[str, Any] = {
        "device": soc.name,
        "previous": previous.name,
        "sequence": compared["sequence"],
        "draws": draws,
        "peak": peak(graphs, soc.constants, previous),
        "offload": offload(averaged(frames.values()), soc),
        "efficiency": [efficiency(n, g, soc.constants, previous, draws) for n, g in graphs.items()],
        "heat": heat(graphs["yolox_s"], compared, soc.constants, draws),
        "slam": [row for row in compared["workloads"] if "speedup" in row],
        "published_stages_ms": PUBLIC_STAGES_MS,
    }
    return result | {"claims": claims(result, compared, graphs, soc, averaged(frames.values()), out, draws)}


def measured_frames(folder: Path, features: str) -> tuple[Soc, dict[int, FrameWorks]]:
    """The chip and the works of every frame of a front end's run in a folder of `compare`."""
    run = folder / features.replace(":", "-")
    if not (run / files.KERNELS).is_file():
        raise ProfilerError(
            f"{run}: no {files.KERNELS}; make it with python -m drp_slam compare SEQUENCE --out {folder}"
        )
    soc = chip_of(files.read_run(run), read_spans(run / files.SPANS), None)
    if soc is None:
        raise ProfilerError(f"{run}: its device file is missing; run compare again")
    return soc, dict(read_works(run / files.KERNELS))


def built(out: Path) -> list[Path]:
    """ResNet-50 and YOLOX-S as files, so that `estimate` gives the same figures."""
    paths = [out / "resnet50.onnx", out / "yolox_s.onnx"]
    for path, model in zip(paths, (resnet50(), yolox())):
        write_bytes(path, model.SerializeToString(), ProfilerError)
    return paths


def _supposed(graph: Graph, constants: Constants, rate: float) -> Estimate:
    return estimate(graph, constants, sparsity=rate, pattern="balanced")


def peak(graphs: Mapping[str, Graph], new: Constants, old: Constants) -> dict[str, Any]:
    """Dense-equivalent TOPS of the array while it is busy, network by network over the pruning rate."""
    return {
        "rates": list(RATES),
        "dense_peak_tops": {c.name: c["drpai3.dense_peak"] * 1e-12 for c in (new, old)},
        "array_tops": {
            name: {c.name: [_supposed(graph, c, rate).array_tops for rate in RATES] for c in (new, old)}
            for name, graph in graphs.items()
        },
    }


def offload(frame: FrameWorks, soc: Soc) -> list[dict[str, Any]]:
    """Milliseconds per stage and frames per second, image kernels as placed, without custom ones, all on the CPU."""
    places = {
        "on the DRP": lambda w: w,
        "without custom kernels": lambda w: on_cpu(w) if w.place == "custom" else w,
        "on the CPU": lambda w: on_cpu(w) if w.unit == "drp" else w,
    }
    rows = []
    for name, move in places.items():
        stages_ms, queue_s = _steady({s: tuple(map(move, works)) for s, works in frame.items()}, soc)
        rows.append({"images": name, "stages_ms": stages_ms, "fps": 1 / max(queue_s.values())})
    return rows


def _steady(frame: FrameWorks, soc: Soc) -> tuple[dict[str, float], dict[str, float]]:
    """Milliseconds of each stage and seconds in each queue, of a frame in steady state."""
    meter = Meter(soc)
    price(frame, CHIP, meter, {})
    stages_ms, queue_s = dict.fromkeys(frame, 0.0), {u.queue: 0.0 for u in soc.units}
    for step in price(frame, CHIP, meter, {}).steps:
        stages_ms[step.stage] += step.modelled_s * 1e3
        queue_s[step.unit.queue] += step.modelled_s
    return stages_ms, queue_s


def efficiency(name: str, graph: Graph, new: Constants, old: Constants, draws: int) -> dict[str, Any]:
    """TOPS/W of the accelerator over the pruning rate, with ranges, on this generation and the previous one."""

    def ranged_at(rate: float, constants: Constants) -> Ranged:
        return Ranged.of(lambda c: _supposed(graph, c, rate).tops_per_w, constants, draws)

    ranged, before = [ranged_at(rate, new) for rate in RATES], ranged_at(PRUNED, old)
    return {
        "network": name,
        "rates": list(RATES),
        "tops_per_w": [r.value for r in ranged],
        "range": [[r.low, r.high] for r in ranged],
        "previous_tops_per_w": before.value,
        "previous_range": [before.low, before.high],
    }


def heat(yolox_s: Graph, compared: Mapping[str, Any], constants: Constants, draws: int) -> dict[str, Any]:
    """Temperature over ten minutes from idle, without a fan, and with a tenth of the efficiency."""
    if "thermal.resistance" not in constants:
        raise ProfilerError(f"device {constants.name!r} has no thermal constants; compare with --device rzv2h")
    room = constants.replace({"thermal.ambient": thermal.FOUR_CORES.room_c})

    def running_w(c: Constants) -> float:
        found = _supposed(yolox_s, c, 0.0)
        return found.energy_j / found.total_s

    def settled_c(c: Constants) -> float:
        return float(thermal.temperature_c(c, running_w(c), np.array([np.inf]))[0])

    slam = next(r for r in compared["workloads"] if r.get("speedup") == compared["speedup"])
    loads = {
        "four A55, stressed": room["cpu.power_busy"],
        "YOLOX-S continuously": running_w(room),
        f"{slam['workload']}, as fast as possible": slam["power_w"],
        "YOLOX-S at a tenth of the efficiency": 10 * running_w(room),
    }
    time_s = np.linspace(0.0, 600.0, 121)
    settled = Ranged.of(settled_c, room, draws)
    idle_c = room["thermal.ambient"] + room["thermal.idle_rise"]
    return {
        "time_s": time_s.tolist(),
        "room_c": room["thermal.ambient"],
        "idle_c": idle_c,
        "curves": [
            {"load": n, "power_w": w, "temperature_c": thermal.temperature_c(room, w, time_s).tolist()}
            for n, w in loads.items()
        ],
        "published": {"time_s": [0.0, thermal.FOUR_CORES.settled_after_s], "low_c": [34, 37], "high_c": [35, 39]},
        "undocumented_c": PUBLIC_HEAT_C,
        "settled_c": settled.value,
        "settled_range_c": [settled.low, settled.high],
        "fan_resistance_k_per_w": (settled.value - idle_c) / (10 * running_w(room)),
        "resistance_k_per_w": room["thermal.resistance"],
    }


def claims(
    result: Mapping[str, Any],
    compared: Mapping[str, Any],
    graphs: Mapping[str, Graph],
    soc: Soc,
    frame: FrameWorks,
    out: Path,
    draws: int,
) -> list[dict[str, Any]]:
    """One row a claim: figure, subject, claim, modelled figure with range, and the command that computes it."""
    yolox_s, new, old = graphs["yolox_s"], soc.constants, load_constants(PREVIOUS)

    def busy(rate: float) -> Ranged:
        return Ranged.of(lambda c: _supposed(yolox_s, c, rate).array_tops, new, draws)

    dense, sparse, before = busy(0.0), busy(PRUNED), _supposed(yolox_s, old, PRUNED).array_tops
    per_w = next(e for e in result["efficiency"] if e["network"] == "resnet50")
    at = RATES.index(PRUNED)
    value, ends, was = per_w["tops_per_w"][at], per_w["range"][at], per_w["previous_tops_per_w"]
    gain = value / was, (ends[0] / per_w["previous_range"][1], ends[1] / per_w["previous_range"][0])

    def slower(c: Constants) -> float:
        on, *_, off = (row["fps"] for row in offload(frame, soc.with_constants(c)))
        return off / on

    images, heated = Ranged.of(slower, new, draws), result["heat"]
    heat = heated["settled_c"], heated["settled_range_c"]
    yolox, resnet = (f"estimate {out / name} --sparsity" for name in ("yolox_s.onnx", "resnet50.onnx"))
    compare = f"compare {compared['sequence']} --device {compared['device']}"
    compare += f" --detector {compared['detector']}" if compared["detector"] else ""
    earlier, here = f"0.9 --device {PREVIOUS}", f"figures {compared['sequence']}"
    speed = ARTICLE["speedup"], compared["speedup"], compared["speedup_range"]
    energy = ARTICLE["power_ratio"], compared["energy_ratio"], compared["energy_ratio_range"]
    where = f"({compared['headline']['features']}, {compared['headline']['workload']})"
    offloaded = "frame rate with pre- and post-processing on the CPU instead of the DRP"
    previous, warm = "against the previous generation", "no hotter than a GPU board with a fan; no figure"
    main = "efficiency on main networks (ResNet-50, 90 % pruned)"
    rows: list[tuple[Any, ...]] = [
        ("3", "peak, dense", "8 TOPS", 8.0, *dense.over(), "TOPS", f"{yolox} 0"),
        ("3", "peak, 90 % pruned", "80 TOPS", 80.0, *sparse.over(), "TOPS", f"{yolox} 0.9"),
        ("3", f"{previous}, 90 % pruned", "80 times", 80.0, *sparse.over(before), "times", f"{yolox} {earlier}"),
        ("4", offloaded, "part of it offloaded; no figure", None, *images.over(), "of the rate", here),
        ("5", main, "10 TOPS/W", 10.0, value, ends, "TOPS/W", f"{resnet} 0.9"),
        ("5", f"efficiency {previous}", "10 times", 10.0, *gain, "times", f"{resnet} {earlier}"),
        ("6", "YOLOX-S continuously, no fan, room at 26 °C", warm, None, *heat, "°C", here),
        ("SLAM", f"speed-up over the CPU alone {where}", f"{ARTICLE['speedup']:.0f} times", *speed, "times", compare),
        ("SLAM", f"energy against the CPU alone {where}", "1/12 of the power", *energy, "of it", compare),
    ]
    names = ("figure", "subject", "claimed", "claimed_value", "ours", "range", "unit", "command")
    return [{**dict(zip(names, row)), "range": list(row[5]), "source": SOURCE} for row in rows]
