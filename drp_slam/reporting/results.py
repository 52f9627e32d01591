# SPDX-License-Identifier: Apache-2.0
"""A results folder -> `report.json`, `report.html`: the last step of `run`, `up` and `report`."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from drp_slam.atomic import write_text
from drp_slam.chip.schedule import Schedule, write_trace
from drp_slam.data.accuracy import Alignment, Ate, ate, mirrored_rmse_m, rpe
from drp_slam.data.trajectory import read_tum
from drp_slam.datatypes import Reason, Trajectory
from drp_slam.errors import DataError, ProfilerError
from drp_slam.profiler import summary
from drp_slam.profiler.report import Curves, render
from drp_slam.profiler.span import Span, read_spans
from drp_slam.reporting import folder as files
from drp_slam.reporting import on_chip
from drp_slam.reporting.moments import KEYFRAME
from drp_slam.resources import read_regular, sha256

log = logging.getLogger(__name__)

COPIED = (
    "sequence",
    "backend",
    "network",
    "features",
    "device",
    "wall_total_s",
    "frames_expected",
    "frames_skipped",
    "topics",
    "error",
)
"""Copied from run.json into the report."""
RPE_DELTA_S = 1.0
LARGEST_JPEG, JPEG_MAGIC = 1 << 18, b"\xff\xd8"
Z_UP = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
"""Rotates the first camera's optical axes (x right, y down) so that z is up, for the pictures."""


def build(
    out: Path, baseline: Path | None = None, into: Path | None = None, device: str | None = None
) -> dict[str, Any]:
    """Writes `report.json` and `report.html` of the results in `out`, there or into the folder `into`; returns the
    report.

    Reads and raises as `gather` does; raises ProfilerError if a file cannot be written.
    """
    result, curves, schedules = gather(out, baseline, device)
    into = into or out
    result["report"] = str(into / files.REPORT_HTML)
    if schedules:
        write_trace(into / files.TRACE, schedules[-1], f"{result['device'] or 'device'}")
    files.write_json(into / files.REPORT_JSON, result)
    write_text(into / files.REPORT_HTML, render(result, curves), ProfilerError)
    return result


def gather(
    out: Path, baseline: Path | None = None, device: str | None = None
) -> tuple[dict[str, Any], Curves, list[Schedule]]:
    """Reads the results in `out`: the report, the data of its pictures, the schedules of the chip.

    A missing file makes its part of the report None. `baseline` is the folder of the same frames run
    with backend `cpu`. `device` is another chip to price the run for; nothing runs again. Raises
    ProfilerError if `out` has no file of a run, and the reader's error for an unreadable file.
    """
    for folder in (out, *([baseline] if baseline else [])):
        if not any((folder / name).is_file() for name in files.MADE_BY_A_RUN):
            raise ProfilerError(
                f"{folder}: no results in it; make some with python -m drp_slam run SEQUENCE --out {folder}"
            )
    run = files.read_run(out)
    spans = read_spans(out / files.SPANS) if (out / files.SPANS).is_file() else []
    rows = files.read_frames(out / files.FRAMES) if (out / files.FRAMES).is_file() else None
    estimate, live, truth = (_trajectory(out / name) for name in (files.TRAJECTORY, files.ODOMETRY, files.GROUND_TRUTH))
    free = run.get("scale") == "free"
    (error, note), (live_error, _) = _ate(estimate, truth, free), _ate(live, truth, free)
    scaled = error.alignment.scale if error else 1.0
    soc = on_chip.chip_of(run, spans, device)
    if device is not None and soc is not None:
        spans = on_chip.priced(out, spans, soc)

    result: dict[str, Any] = {name: run.get(name) for name in COPIED} | ({"device": device} if device else {})
    warnings = run.get("warnings")
    result["warnings"] = [str(w)[:500] for w in warnings] if isinstance(warnings, list) else []
    result["findings"] = _findings(run.get("findings"))
    result["host"] = (run.get("host") or {}).get("processor")
    result |= _counts(run, rows, spans, estimate)
    result |= {
        "ate_rmse_m": error and error.rmse_m,
        "ate_note": note,
        "ate_live_rmse_m": live_error and live_error.rmse_m,
        "scale": "free" if free else "metric",
        "scale_factor": scaled if free and error else None,
        "rpe": _rpe(estimate, truth, scaled),
        "trajectory_sha256": _sha256(out / files.TRAJECTORY),
        "stages": summary.stages(spans) or None,
        "latency": summary.latency(spans, [r.latency_s for r in rows or ()]) if spans else None,
    }
    of_chip, schedules = on_chip.figures(out, spans, read_spans(baseline / files.SPANS) if baseline else [], soc)
    result |= of_chip | {"pacing": on_chip.pacing(out, run, result, soc)}
    return result, _curves(out, rows, estimate, truth, error, schedules), schedules


FINDING = ("level", "where", "seen", "why", "remedy", "node")
SEEN_S = ("first_s", "last_s")
"""The part of a finding in the report: its texts, and when it was first and last seen."""


def _findings(found: Any) -> list[dict[str, Any]]:
    """The doctor's findings while the graph ran; other contents of the file are ignored."""
    rows = [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
    return [
        {name: str(one.get(name, ""))[:500] for name in FINDING}
        | {name: float(s) if isinstance(s := one.get(name), int | float) else None for name in SEEN_S}
        for one in rows
    ]


def _trajectory(path: Path) -> Trajectory | None:
    return read_tum(path) if path.is_file() else None


def _ate(estimate: Trajectory | None, truth: Trajectory | None, free: bool) -> tuple[Ate | None, str | None]:
    """The error, or None and the reason: no ground truth, or too few poses with it.

    An error has a note, too, if the scale is `free` and was aligned, or if the ground truth is a mirror
    image.
    """
    if truth is None:
        return None, "no ground truth"
    if estimate is None:
        return None, "no trajectory"
    try:
        found = ate(estimate, truth, with_scale=free)
    except DataError as error:
        return None, str(error)
    mirrored_m = mirrored_rmse_m(found)
    notes = [f"up to scale: aligned with a scale of {found.alignment.scale:.4g}"] if free else []
    if mirrored_m is not None:
        notes.append(f"{mirrored_m:.4f} m against its mirror image: the ground truth is left-handed")
    return found, "; ".join(notes) or None


def _rpe(estimate: Trajectory | None, truth: Trajectory | None, scale: float) -> dict[str, float] | None:
    if estimate is None or truth is None:
        return None
    if scale != 1.0:
        estimate = Alignment(np.eye(3), np.zeros(3), scale).apply(estimate)
    try:
        drift = rpe(estimate, truth, RPE_DELTA_S)
    except DataError as error:
        log.info("no RPE: %s", error)
        return None
    return {
        "delta_s": RPE_DELTA_S,
        "translation_rmse_m": drift.translation_rmse_m,
        "rotation_rmse_deg": drift.rotation_rmse_deg,
        "pairs": len(drift.errors_m),
    }


def _sha256(path: Path) -> str | None:
    return sha256(path) if path.is_file() else None


def _counts(
    run: dict[str, Any], rows: list[files.FrameRow] | None, spans: Sequence[Span], estimate: Trajectory | None
) -> dict[str, Any]:
    """Frames, how many of them were tracked, frames per second on this host, length in seconds."""
    stamps = [r.stamp_ns for r in rows] if rows else sorted({s.stamp_ns for s in spans})
    frames = run.get("frames", len(stamps) if stamps else None)
    tracked = sum(r.state == "tracked" for r in rows) if rows is not None else None
    wall_s = run.get("wall_total_s")
    return {
        "frames": frames,
        "tracked": len(estimate) if tracked is None and estimate is not None else tracked,
        "keyframes": sum(r.keyframe for r in rows) if rows is not None else None,
        "fps": frames / wall_s if frames and wall_s else None,
        "reasons": _reasons(rows or ()),
        "duration": (max(stamps) - min(stamps)) * 1e-9 if stamps else None,
    }


def _reasons(rows: Iterable[files.FrameRow]) -> list[dict[str, Any]]:
    """Reasons of lost frames or doubtful poses, most frequent first, each with its remedy."""
    known = {reason.value: reason.remedy for reason in Reason if reason.remedy}
    count = Counter((r.state, r.reason) for r in rows if r.reason in known)
    return [{"state": s, "reason": r, "frames": n, "remedy": known[r]} for (s, r), n in count.most_common()]


def _curves(
    out: Path,
    rows: list[files.FrameRow] | None,
    estimate: Trajectory | None,
    truth: Trajectory | None,
    error: Ate | None,
    schedules: Sequence[Schedule],
) -> Curves:
    """All positions in one frame with z up: the ground truth's, else the first camera's, rotated."""
    first_ns = rows[0].stamp_ns if rows else int(estimate.stamps_ns[0]) if estimate else 0
    R, t = (error.alignment.scale * error.alignment.R, error.alignment.t) if error else (Z_UP, np.zeros(3))
    parts: dict[str, Any] = {"schedule": schedules[-1] if schedules else None}

    def seconds(stamps_ns: Any) -> np.ndarray:
        return (np.asarray(stamps_ns, np.int64) - first_ns) * 1e-9

    if estimate is not None and len(estimate):
        parts |= {"times_s": seconds(estimate.stamps_ns), "estimate_m": estimate.positions_m @ R.T + t}
    if error is not None and truth is not None and estimate is not None:
        inside = (truth.stamps_ns >= estimate.stamps_ns[0] - 10**9) & (
            truth.stamps_ns <= estimate.stamps_ns[-1] + 10**9
        )
        parts |= {
            "truth_s": seconds(truth.stamps_ns[inside]),
            "truth_m": truth.positions_m[inside],
            "error_s": seconds(error.stamps_ns),
            "error_m": error.errors_m,
        }
    if rows:
        parts |= {
            "frame_s": seconds([r.stamp_ns for r in rows]),
            "matches": np.array([r.matches for r in rows]),
            "inliers": np.array([r.inliers for r in rows]),
            "lost_s": seconds([r.stamp_ns for r in rows if r.state == "lost"]),
            "keyframe_s": seconds([r.stamp_ns for r in rows if r.keyframe]),
        }
    if (out / files.MAP).is_file():
        from drp_slam.data.ply import read_ply

        cloud = read_ply(out / files.MAP)
        parts |= {"map_m": cloud.xyz_m @ R.T + t, "map_rgb": cloud.rgb}
    return Curves(**parts, moments=_moments(out, rows or (), first_ns))


def _moments(out: Path, rows: Iterable[files.FrameRow], first_ns: int) -> list[tuple[str, bytes]]:
    """(caption, JPEG) of the pictures of a run, the worst first."""
    known = {row.index: row for row in rows}
    found = []
    for path in sorted((out / files.MOMENTS).glob("*.jpg"), key=lambda p: (p.name.startswith(KEYFRAME), p.name)):
        kind, _, number = path.stem.partition("-")
        row = known.get(int(number)) if number.isdigit() else None
        jpeg = read_regular(path, LARGEST_JPEG, ProfilerError)
        if row is None or not jpeg.startswith(JPEG_MAGIC):
            continue
        state = f"{row.inliers} of {row.matches} matches agree" if row.matches else "the map begins"
        state = state if row.state == "tracked" else row.state
        reason = f", {row.reason.replace('_', ' ')}" if row.reason not in ("", "ok", "starting") else ""
        text = "keyframe, " if kind == KEYFRAME else ""
        found.append((f"{(row.stamp_ns - first_ns) * 1e-9:.2f} s, frame {row.index}: {text}{state}{reason}", jpeg))
    return found
