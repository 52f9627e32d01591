# SPDX-License-Identifier: Apache-2.0
"""A folder of results -> `report.json` and `report.html`: what `run`, `up` and `report` call last."""

from __future__ import annotations

import argparse
import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from drp_slam import folder as files
from drp_slam.data.trajectory import Ate, ate, read_tum, rpe
from drp_slam.datatypes import Trajectory
from drp_slam.device import Constants, load_constants
from drp_slam.errors import DataError, DrpSlamError, ProfilerError
from drp_slam.profiler import baseline as cpu_only
from drp_slam.profiler import summary, thermal
from drp_slam.profiler.assumptions import listing
from drp_slam.profiler.report import Curves, render
from drp_slam.profiler.schedule import Schedule, Step, simulate, write_trace
from drp_slam.profiler.span import Span, read_spans

log = logging.getLogger(__name__)

RPE_DELTA_S = 1.0
IN_FLIGHT = (1, 3)
"""Frames under way for which the chip's schedule is computed."""
UNIT_OF_PLACE = {"opencva": "DRP1", "custom": "DRP1", "preruntime": "DRP0", "cpu": "CPU"}
Z_UP = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
"""Turns the first camera's optical axes (x right, y down) so that z is up, for the pictures."""


def report(args: argparse.Namespace) -> dict[str, Any]:
    """`python -m drp_slam report DIR [--baseline DIR]`."""
    return build(args.folder, args.baseline)


def build(out: Path, baseline: Path | None = None) -> dict[str, Any]:
    """Reads the results in `out`, writes `report.json` and `report.html` there, returns the report.

    A file that is missing makes its part of the report None. `baseline` is the folder of the same
    frames run with backend `cpu`. Raises ProfilerError where `out` is no folder or is empty, and
    the reader's own error for a file that is there and cannot be read.
    """
    for folder in (out, *([baseline] if baseline else [])):
        if not folder.is_dir() or not any(folder.iterdir()):
            raise ProfilerError(f"{folder}: no results in it; make some with python -m drp_slam run "
                                f"SEQUENCE --out {folder}")  # fmt: skip
    run = files.read_json(out / files.RUN) if (out / files.RUN).is_file() else {}
    spans = read_spans(out / files.SPANS) if (out / files.SPANS).is_file() else []
    rows = files.read_frames(out / files.FRAMES) if (out / files.FRAMES).is_file() else None
    estimate, live, truth = (_trajectory(out / name) for name in (
        files.TRAJECTORY, files.ODOMETRY, files.GROUND_TRUTH))  # fmt: skip
    error, live_error = _ate(estimate, truth), _ate(live, truth)

    result: dict[str, Any] = {name: run.get(name) for name in (
        "sequence", "backend", "network", "features", "device", "wall_total_s", "error")}  # fmt: skip
    result["host"] = (run.get("host") or {}).get("processor")
    result |= _counts(run, rows, spans, estimate)
    result |= {
        "ate_rmse_m": error and error.rmse_m,
        "ate_live_rmse_m": live_error and live_error.rmse_m,
        "rpe": _rpe(estimate, truth),
        "trajectory_sha256": _sha256(out / files.TRAJECTORY),
        "stages": summary.stages(spans) or None,
        "latency": summary.latency(spans, [r.latency_s for r in rows or ()]) if spans else None,
    }
    result |= _anatomy(run, spans)
    schedules = _schedules(spans, result["kernels"])
    other = read_spans(baseline / files.SPANS) if baseline else []
    result |= _chip(result, spans, other, schedules)
    if schedules:
        write_trace(out / files.TRACE, schedules[-1], f"{result['device'] or 'device'}")
    result["report"] = str(out / files.REPORT_HTML)
    curves = _curves(out, rows, estimate, truth, error, schedules)
    files.write_json(out / files.REPORT_JSON, result)
    files.write_text(out / files.REPORT_HTML, render(result, curves))
    return result


def _trajectory(path: Path) -> Trajectory | None:
    return read_tum(path) if path.is_file() else None


def _ate(estimate: Trajectory | None, truth: Trajectory | None) -> Ate | None:
    """None without ground truth, or where too few poses have one."""
    if estimate is None or truth is None:
        return None
    try:
        return ate(estimate, truth)
    except DataError as error:
        log.warning("no ATE: %s", error)
        return None


def _rpe(estimate: Trajectory | None, truth: Trajectory | None) -> dict[str, float] | None:
    if estimate is None or truth is None:
        return None
    try:
        drift = rpe(estimate, truth, RPE_DELTA_S)
    except DataError as error:
        log.warning("no RPE: %s", error)
        return None
    return {"delta_s": RPE_DELTA_S, "translation_rmse_m": drift.translation_rmse_m,
            "rotation_rmse_deg": drift.rotation_rmse_deg, "pairs": len(drift.errors_m)}  # fmt: skip


def _sha256(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def _counts(run: dict[str, Any], rows: list[files.FrameRow] | None, spans: Sequence[Span],
            estimate: Trajectory | None) -> dict[str, Any]:  # fmt: skip
    """Frames, how many of them were tracked, frames a second on this host, length in seconds."""
    stamps = [r.stamp_ns for r in rows] if rows else sorted({s.stamp_ns for s in spans})
    frames = run.get("frames", len(stamps) if stamps else None)
    tracked = sum(r.state == "tracked" for r in rows) if rows is not None else None
    wall_s = run.get("wall_total_s")
    return {
        "frames": frames,
        "tracked": len(estimate) if tracked is None and estimate is not None else tracked,
        "keyframes": sum(r.keyframe for r in rows) if rows is not None else None,
        "fps": frames / wall_s if frames and wall_s else None,
        "duration": (stamps[-1] - stamps[0]) * 1e-9 if stamps else None,
    }


def _anatomy(run: dict[str, Any], spans: Sequence[Span]) -> dict[str, Any]:
    """`kernels` and `assumptions`; None where nothing was emulated or the sequence is gone."""
    emulated = any(s.device.startswith("emulated") for s in spans)
    if not emulated or not run.get("sequence"):
        return {"kernels": None, "assumptions": None}
    from drp_slam import breakdown

    try:
        return breakdown.of_run(run, spans)
    except DrpSlamError as error:
        log.warning("no breakdown by kernel: %s", error)
        constants = load_constants(spans[0].device.partition(":")[2] or "rzv2h")
        return {"kernels": None,
                "assumptions": {"share": None, "stages": None, "constants": listing(constants)}}  # fmt: skip


def _schedules(spans: Sequence[Span], kernels: list[dict[str, Any]] | None) -> list[Schedule]:
    """One for each of `IN_FLIGHT`; none where a stage is not modelled."""
    if not spans or not all(np.isfinite(s.modelled_s) for s in spans):
        return []
    parts: dict[str, list[tuple[str, float]]] = {}  # stage -> (unit, share of its time), in order
    for kernel in kernels or ():
        stage = parts.setdefault(kernel["stage"], [])
        unit = UNIT_OF_PLACE[kernel["place"]]
        if stage and stage[-1][0] == unit:
            stage[-1] = (unit, stage[-1][1] + kernel["modelled_s"])
        else:
            stage.append((unit, kernel["modelled_s"]))
    jobs: dict[int, list[Step]] = {}
    for span in spans:
        shares = parts.get(span.stage) or [(summary.UNIT_NAMES.get(span.unit, span.unit), 1.0)]
        total = sum(seconds for _, seconds in shares) or 1.0
        jobs.setdefault(span.stamp_ns, []).extend(
            Step(span.stage, unit, span.modelled_s * seconds / total) for unit, seconds in shares
        )
    ordered = [jobs[stamp] for stamp in sorted(jobs)]
    return [simulate(ordered, in_flight) for in_flight in IN_FLIGHT]


def _chip(result: dict[str, Any], spans: Sequence[Span], other: Sequence[Span],
          schedules: Sequence[Schedule]) -> dict[str, Any]:  # fmt: skip
    """`schedule`, `comparison` and `thermal`."""
    throughput_hz = schedules[-1].throughput_hz if schedules else None
    if throughput_hz is not None and not np.isfinite(throughput_hz):
        throughput_hz = None
    modelled = cpu_only.modelled(spans, throughput_hz)
    heat = None
    if modelled and throughput_hz:
        constants: Constants = load_constants()
        heat = {
            "chip, as fast as it can": thermal.estimate(constants, modelled["chip_mj"], throughput_hz),
            "chip, at the rate of its CPU": thermal.estimate(
                constants, modelled["chip_mj"], modelled["cpu_throughput_hz"]),
            "CPU only, as fast as it can": thermal.estimate(
                constants, modelled["cpu_mj"], modelled["cpu_throughput_hz"]),
        }  # fmt: skip
    plan = {
        "in_flight": {
            str(count): {"throughput_hz": s.throughput_hz, "latency_ms": summary.spread_ms(s.latency_s),
                         "utilisation": s.utilisation()}
            for count, s in zip(IN_FLIGHT, schedules, strict=False)
        }
    }  # fmt: skip
    return {
        "schedule": plan if throughput_hz else None,
        "comparison": {
            "host_cpu": cpu_only.host(spans, other),
            "modelled_a55": modelled,
            "without_custom": cpu_only.without_custom(result["kernels"] or (), spans),
            "article": cpu_only.ARTICLE,
        },
        "thermal": heat,
    }


def _curves(out: Path, rows: list[files.FrameRow] | None, estimate: Trajectory | None,
            truth: Trajectory | None, error: Ate | None, schedules: Sequence[Schedule]) -> Curves:  # fmt: skip
    """Everything in one frame with z up: the ground truth's, else the first camera's, turned."""
    first_ns = rows[0].stamp_ns if rows else int(estimate.stamps_ns[0]) if estimate else 0
    R, t = (error.alignment.R, error.alignment.t) if error else (Z_UP, np.zeros(3))
    parts: dict[str, Any] = {"schedule": schedules[-1] if schedules else None}

    def seconds(stamps_ns: Any) -> np.ndarray:
        return (np.asarray(stamps_ns, np.int64) - first_ns) * 1e-9

    if estimate is not None and len(estimate):
        parts |= {"times_s": seconds(estimate.stamps_ns), "estimate_m": estimate.positions_m @ R.T + t}
    if error is not None and truth is not None and estimate is not None:
        inside = ((truth.stamps_ns >= estimate.stamps_ns[0] - 10**9)
                  & (truth.stamps_ns <= estimate.stamps_ns[-1] + 10**9))  # fmt: skip
        parts |= {"truth_s": seconds(truth.stamps_ns[inside]), "truth_m": truth.positions_m[inside],
                  "error_s": seconds(error.stamps_ns), "error_m": error.errors_m}  # fmt: skip
    if rows:
        parts |= {"frame_s": seconds([r.stamp_ns for r in rows]),
                  "matches": np.array([r.matches for r in rows]),
                  "inliers": np.array([r.inliers for r in rows]),
                  "lost_s": seconds([r.stamp_ns for r in rows if r.state != "tracked"]),
                  "keyframe_s": seconds([r.stamp_ns for r in rows if r.keyframe])}  # fmt: skip
    if (out / files.MAP).is_file():
        from drp_slam.ply import read_ply

        cloud = read_ply(out / files.MAP)
        parts |= {"map_m": cloud.xyz_m @ R.T + t, "map_rgb": cloud.rgb}
    return Curves(**parts)


def show(result: dict[str, Any]) -> None:
    """Prints a report for people."""
    from rich.console import Console
    from rich.table import Table

    def text(value: float | None, digits: int = 2) -> str:
        return "–" if value is None else f"{value:.{digits}f}"

    def pair(spread: dict[str, float] | None) -> list[str]:
        return ["–", "–"] if spread is None else [text(spread["p50"]), text(spread["p95"])]

    console = Console()
    if result["stages"]:
        device = result["device"] or "the chip"
        table = Table(title=f"{result['sequence']} · {result['network']} · {result['backend']} ({device})",
                      title_justify="left")  # fmt: skip
        for name in ("stage", "unit"):
            table.add_column(name)
        for name in ("measured p50 ms", "p95 ms"):
            table.add_column(name, justify="right", style="blue")
        for name in ("modelled p50 ms", "p95 ms", "energy mJ", "A55 only ms"):
            table.add_column(name, justify="right", style="dark_orange3")
        for name, s in result["stages"].items():
            cpu = s["cpu_modelled_ms"]
            table.add_row(name, s["unit"], *pair(s["wall_ms"]), *pair(s["modelled_ms"]),
                          text(s["energy_mj"]), text(cpu and cpu["p50"]))  # fmt: skip
        latency = result["latency"]
        cpu = latency["cpu_modelled_ms"]
        table.add_section()
        table.add_row("frame", "", *pair(latency["wall_ms"]), *pair(latency["modelled_ms"]), "",
                      text(cpu and cpu["p50"]))  # fmt: skip
        console.print(table)
    ate, live, fps = result["ate_rmse_m"], result["ate_live_rmse_m"], result["fps"]
    console.print(f"frames      {result['frames']}, tracked {result['tracked']}, keyframes {result['keyframes']}")
    console.print("ATE RMSE    " + ("no ground truth" if ate is None else f"{ate:.4f} m")
                  + ("" if live is None else f" (as published live {live:.4f} m)"))  # fmt: skip
    console.print(f"frame rate  {text(fps, 1)} Hz, measured on this host")
    host, a55 = result["comparison"]["host_cpu"], result["comparison"]["modelled_a55"]
    if host:
        console.print(f"CPU only    measured here, the same {host['frames']} frames: "
                      f"{text(host['cpu_wall_ms']['p50'])} ms a frame, ours {text(host['wall_ms']['p50'])} ms")  # fmt: skip
    if a55:
        console.print(f"CPU only    modelled, four A55, first order: {text(a55['cpu_ms'])} ms a frame, the chip "
                      f"{text(a55['chip_ms'])} ms: {text(a55['latency_speedup'], 1)} times faster at "
                      f"{text(a55['energy_ratio'])} of the energy")  # fmt: skip
    console.print(f"report      {result['report']}", soft_wrap=True)
