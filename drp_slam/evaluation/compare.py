# SPDX-License-Identifier: Apache-2.0
"""Compares a sequence on the chip and on its CPU alone, with and without recognition: read `compare` first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from drp_slam.atomic import make_folder
from drp_slam.chip.constants import load_constants
from drp_slam.chip.cpu_alone import ARTICLE
from drp_slam.chip.soc import Meter, Soc
from drp_slam.config import Config
from drp_slam.config.config_file import override
from drp_slam.errors import ConfigError
from drp_slam.evaluation import public_pair
from drp_slam.evaluation.calls import library_calls
from drp_slam.evaluation.ratios import MeanFrame, ranges, rests_on
from drp_slam.evaluation.workloads import AGAINST, SYSTEMS, WORKLOADS, Workload, in_time, searched
from drp_slam.frontend.front_end import front_end_class
from drp_slam.frontend.modelled import open_soc
from drp_slam.frontend.recognise import DETECT
from drp_slam.offline import run_sequence
from drp_slam.profiler.span import Span, read_spans
from drp_slam.profiler.work_table import FrameWorks, read_works
from drp_slam.reporting import folder as files
from drp_slam.reporting.claim import claimed
from drp_slam.reporting.frame_schedule import jitter_ms, percentiles_ms, price
from drp_slam.reporting.results import build

if TYPE_CHECKING:
    from drp_slam.data.sequence import Sequence as Recording

Progress = Callable[[str], None]
"""Called with a description of the next step."""


def compare(
    sequence: Recording,
    config: Config,
    features: Sequence[str],
    out: Path,
    draws: int = 200,
    cores: int = 4,
    progress: Progress = print,
) -> dict[str, Any]:
    """Runs the sequence once for each front end, with detection on every frame, and prices its work for each system.

    `cores` is the number of cores that the tracker uses. Results go to `out/<front end>`. Raises DrpSlamError.
    """
    for name in features:
        front_end_class(name)  # unknown names are refused before anything runs
    known = WORKLOADS if config.drpai3.detector else WORKLOADS[:1]
    period_s = float(np.median(np.diff(sequence.stamps_ns))) * 1e-9 if len(sequence) > 1 else 0.0
    if not period_s > 0:
        raise ConfigError(f"{sequence.name}: {len(sequence)} frame(s) have no frame rate; use at least two")
    # work without a unit on the chip runs on its CPU
    served = {runs.partition(".")[0] for unit in load_constants(config.graph.device).units for runs in unit.runs}
    runs, rows, measured, reports = {}, [], [], {}
    for name in features:
        progress(f"run {name}")
        values = {"features": name, "drpai3.detector_every": 1, "drpai3.detector_rate_hz": 0.0}
        values |= {f"{unit}.backend": "emulated" if unit in served else "cpu" for unit in ("drp", "drpai3")}
        mine, folder = override(config, values), make_folder(out / name.replace(":", "-"))
        reports[name] = executed(sequence, mine, folder)
        frames, spans = read_works(folder / files.KERNELS), read_spans(folder / files.SPANS)
        soc = open_soc(mine, {w.unit for f in frames.values() for works in f.values() for w in works})
        progress(f"price {name}")
        calls = library_calls(sequence, mine)
        mean = MeanFrame.of(frames, known, calls, cores)
        runs[name] = (mean, soc)
        rows += priced(name, frames, known, mean, soc, period_s, draws)
        measured += [on_host(name, w, frames, spans) for w in known]
    mean, soc = runs[features[0]]
    headline = next(r for r in rows if r["features"] == features[0] and r["workload"] == known[-1].name)
    basis = rests_on(mean, soc, len(known) - 1)
    return {
        "sequence": sequence.name,
        "device": soc.name,
        "frames": len(sequence),
        "camera_hz": 1.0 / period_s,
        "detector": Path(config.drpai3.detector).stem or None,
        "tracker_cores": cores,
        "draws": draws,
        "headline": {k: headline[k] for k in ("features", "workload", "system", "against")},
        **{k: headline[k] for k in ("speedup", "speedup_range", "energy_ratio", "energy_ratio_range")},
        "assumed_share_pct": basis["shares_pct"]["assumed"],
        "shares_pct": basis["shares_pct"],
        "tornado": [
            row | {key: [headline[key] * factor for factor in row[key]] for key in ("speedup", "energy_ratio")}
            for row in basis["tornado"]
        ],
        "workloads": rows,
        "host_measured": measured,
        "tracking": reports,
        "python_calls": {name: run[0].calls for name, run in runs.items()},
        "yolox_nano": public_pair.yolox_nano(soc),
        "article": article(headline, rows, mean, soc),
    }


def executed(sequence: Recording, config: Config, out: Path) -> dict[str, Any]:
    """Runs every frame on this host and measures the tracking."""
    with claimed(out, None) as run_id:
        run_sequence(sequence, config, out, None, {"run_id": run_id})
    report = build(out)
    return {k: report[k] for k in ("ate_rmse_m", "tracked", "frames", "keyframes", "fps", "trajectory_sha256")}


def priced(
    name: str,
    frames: Mapping[int, FrameWorks],
    workloads: Sequence[Workload],
    mean: MeanFrame,
    soc: Soc,
    period_s: float,
    draws: int,
) -> list[dict[str, Any]]:
    """One row per workload and system; rows of the chip have ratios and ranges. All modelled."""
    around, rows = ranges(mean, soc, draws, seed=0), []
    for w, workload in enumerate(workloads):
        chosen = searched(frames, workload)
        table: list[dict[str, Any]] = []
        for system in SYSTEMS:
            meter = Meter(soc)
            found = in_time([price(f, system, meter, mean.calls, mean.cores) for f in chosen], soc, period_s)
            table.append({"features": name, "workload": workload.name, "system": system.name, **found})
        for k, (chip, alone) in enumerate(AGAINST.items()):
            speedup = table[chip]["fps"] / table[alone]["fps"]
            energy = table[chip]["energy_j"] / table[alone]["energy_j"]
            (speed_low, energy_low), (speed_high, energy_high) = around[:, w, k]
            table[chip] |= {
                "against": SYSTEMS[alone].name,
                "speedup": speedup,
                "speedup_range": [float(speedup * speed_low), float(speedup * speed_high)],
                "energy_ratio": energy,
                "energy_ratio_range": [float(energy * energy_low), float(energy * energy_high)],
            }
        rows += table
    return rows


def on_host(name: str, workload: Workload, frames: Mapping[int, FrameWorks], spans: Sequence[Span]) -> dict[str, Any]:
    """Measured on this host, stages in sequence: the speed of the emulation itself."""
    stamps = sorted(frames)
    wanted = {t for t, f in zip(stamps, searched(frames, workload)) if DETECT.name in f}
    pose, total = dict.fromkeys(stamps, 0.0), dict.fromkeys(stamps, 0.0)
    for span in spans:
        if span.stage != DETECT.name:
            pose[span.stamp_ns] += span.wall_s
        if span.stage != DETECT.name or span.stamp_ns in wanted:
            total[span.stamp_ns] += span.wall_s
    each_s = np.array([total[t] for t in stamps])
    return {
        "features": name,
        "workload": workload.name,
        "fps": float(1.0 / each_s.mean()),
        "latency_ms": percentiles_ms(np.array([pose[t] for t in stamps])),
        "jitter_ms": jitter_ms(np.cumsum(each_s)),
    }


def article(
    headline: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], mean: MeanFrame, soc: Soc
) -> dict[str, Any]:
    """The article's figures, and the values that they require, given the model of everything else."""
    alone = next(
        r
        for r in rows
        if (r["features"], r["workload"], r["system"])
        == (headline["features"], headline["workload"], headline["against"])
    )
    cpu_s, chip_s = 1.0 / alone["fps"], 1.0 / headline["fps"]
    tracker_s = soc.cpu_cost(mean.works["track"]).modelled_s
    wanted_s = cpu_s / ARTICLE["speedup"]
    return {
        **ARTICLE,
        "most_speedup_with_this_tracker": cpu_s / tracker_s,
        "tracker_ms": tracker_s * 1e3,
        "tracker_ms_needed": wanted_s * 1e3,
        "cpu_alone_ms": cpu_s * 1e3,
        "cpu_alone_ms_needed": chip_s * ARTICLE["speedup"] * 1e3,
        "chip_mj": headline["energy_j"] * 1e3,
        "chip_mj_needed": alone["energy_j"] * ARTICLE["power_ratio"] * 1e3,
        "modelled_power_ratio": headline["power_w"] / alone["power_w"],
    }
