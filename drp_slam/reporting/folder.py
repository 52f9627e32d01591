# SPDX-License-Identifier: Apache-2.0
"""A folder of results: the names of its files, and reading and writing of its small tables.

| file              | what                                                                 |
|-------------------|----------------------------------------------------------------------|
| `trajectory.txt`  | final estimate, TUM format                                           |
| `odometry.txt`    | poses as they were published live, TUM format                        |
| `groundtruth.txt` | if known, TUM format                                                 |
| `map.ply`         | the map's points                                                     |
| `moments/`        | small pictures of keyframes and of the worst moments                 |
| `spans.csv`       | `profiler.span`: one line a stage and frame                          |
| `kernels.csv`     | `profiler.work_table`: one line a program and frame, its work        |
| `frames.csv`      | `FrameRow`: one line a frame                                         |
| `run.json`        | sequence, network, backend, configuration, host, wall time in all    |
| `report.json`, `report.html`, `trace.json` | made from the others by `results.build`     |
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drp_slam.atomic import write_table, write_text
from drp_slam.data.trajectory_export import NAMES
from drp_slam.datatypes import Track, Trajectory
from drp_slam.errors import ProfilerError
from drp_slam.frontend.front_end import network_of
from drp_slam.resources import read_text, sha256

if TYPE_CHECKING:
    from drp_slam.config import Config

TRAJECTORY, ODOMETRY, GROUND_TRUTH = "trajectory.txt", "odometry.txt", "groundtruth.txt"
JOURNAL = "odometry.journal"
"""Odometry of a running graph; removed once `odometry.txt` is written."""
SAVED_MAP = "saved.map"
"""The map of a running graph, for a restarted node; removed at the end."""
GROWING = ".journal"
"""Suffix of the tables of a running graph, until they are complete."""
LEDGER = "ledger.json"
"""Their committed length; removed with the suffix."""
STORED_MAP = "slam.map"
"""Default file of the service `save_map`; a later run keeps it."""
MAP, SPANS, KERNELS, FRAMES, RUN = "map.ply", "spans.csv", "kernels.csv", "frames.csv", "run.json"
MOMENTS = "moments"
REPORT_JSON, REPORT_HTML, TRACE = "report.json", "report.html", "trace.json"
DIFFERENCE_JSON, DIFFERENCE_HTML = "difference.json", "difference.html"
MADE_BY_A_RUN = (TRAJECTORY, ODOMETRY, GROUND_TRUTH, MAP, SPANS, KERNELS, FRAMES, RUN)
"""A report needs at least one of these files."""
GRAPH = "graph.json"
"""Facts from the running graph: number of frames, total wall time, problems of the nodes."""
LONGEST_JSON = 1 << 24
KINDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("sequence", "backend", "network", "device", "features", "scale", "error", "run_id"), (str,)),
    **dict.fromkeys(("config", "host", "topics"), (dict,)),
    **dict.fromkeys(("frames", "frames_skipped"), (int,)),
    "wall_total_s": (int, float),
}
"""Expected types of the keys in `run.json`."""
DIGESTED = (TRAJECTORY, ODOMETRY, MAP, SPANS, KERNELS, FRAMES)
"""Files written by one run, with digests in `run.json`; ground truth may be added later."""
DENSE_JSON = "dense.json"
"""What `--dense` fused, and the names of its files."""
DENSE = ("mesh.ply", "mesh.glb", "cloud.ply", "cloud.pcd", "grid.yaml", "grid.pgm", DENSE_JSON)
"""Files that `--dense` adds."""
EXPORTS = (*NAMES.values(), "trajectory_kitti_times.txt")
"""Files that `--export` adds."""
OWN = (*MADE_BY_A_RUN, JOURNAL, SAVED_MAP, LEDGER, GRAPH, REPORT_JSON, REPORT_HTML, TRACE, *DENSE, *EXPORTS)
OWN += (DIFFERENCE_JSON, DIFFERENCE_HTML, *(name + GROWING for name in (SPANS, KERNELS, FRAMES)))


@dataclass(frozen=True, slots=True)
class FrameRow:
    """One frame. `latency_s` is measured on this host, image in to pose out; `reason` is a value of `Reason`.

    `map` is the number of the map that it was tracked in, which may have been merged with another since.
    """

    index: int
    stamp_ns: int
    state: str
    matches: int
    inliers: int
    keyframe: int
    latency_s: float
    reason: str = ""
    map: int = 0


def frame_row(track: Track, latency_s: float) -> FrameRow:
    return FrameRow(
        track.index,
        track.stamp_ns,
        track.state,
        track.matches,
        track.inliers,
        int(track.keyframe),
        latency_s,
        track.reason.value,
        track.map,
    )


def write_trajectories(out: Path, trajectories: Sequence[Trajectory]) -> None:
    """Writes `trajectory.txt`, and `trajectory_map1.txt`, ... for maps that were not merged with its map."""
    from drp_slam.data.trajectory import write_tum

    for stale in out.glob("trajectory_map*.txt"):
        stale.unlink()
    write_tum(out / TRAJECTORY, trajectories[0] if trajectories else Trajectory.of([]))
    for number, trajectory in enumerate(trajectories[1:], 1):
        write_tum(out / f"trajectory_map{number}.txt", trajectory)


def write_frames(path: Path, rows: Iterable[FrameRow]) -> None:
    """Writes the table of frames as CSV. Raises ProfilerError."""
    write_table(path, FrameRow, rows, ProfilerError)


def read_frames(path: Path) -> list[FrameRow]:
    """Reads what `write_frames` wrote, by the names of the columns. Raises ProfilerError."""
    kinds = {f.name: {"int": int, "str": str, "float": float}[str(f.type)] for f in dataclasses.fields(FrameRow)}
    rows = csv.DictReader(io.StringIO(read_text(path, ProfilerError), newline=""))
    try:
        missing = set(kinds) - set(rows.fieldnames or ()) - {"reason", "map"}  # older results lack the column
        if missing:
            raise ProfilerError(
                f"{path}: no column {', '.join(sorted(missing))}; its first line must be {','.join(kinds)}"
            )
        read = [FrameRow(**{name: kind(row.get(name) or kind()) for name, kind in kinds.items()}) for row in rows]
    except (TypeError, ValueError, csv.Error) as error:
        raise ProfilerError(f"{path}: line {rows.line_num}: {error}") from error
    for line, row in enumerate(read, 2):
        counts = (row.index, row.matches, row.inliers, row.keyframe)
        if not (all(0 <= n < 2**31 for n in counts) and abs(row.stamp_ns) < 2**63 and not abs(row.latency_s) >= 1e6):
            raise ProfilerError(f"{path}: line {line}: a count, a stamp or the latency is out of range; run again")
    return read


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes JSON without NaN, through a temporary name. Raises ProfilerError."""
    try:
        text = json.dumps(content, indent=1, allow_nan=False)
    except ValueError as error:
        raise ProfilerError(f"{path}: a figure is not finite: the results are damaged; run again") from error
    write_text(path, text + "\n", ProfilerError)


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object. Raises ProfilerError that names the file."""
    try:
        content = json.loads(read_text(path, ProfilerError, LONGEST_JSON, "run again"))
    except (ValueError, RecursionError) as error:
        raise ProfilerError(f"{path}: cannot read: {error}; run again") from error
    if not isinstance(content, dict):
        raise ProfilerError(f"{path}: not a JSON object; run again")
    return content


def write_run(
    out: Path, config: Config, sequence: str, failure: BaseException | None, complete: bool = False, **facts: Any
) -> dict[str, Any]:
    """Writes `run.json` and returns it. `facts` are `frames`, `wall_total_s` and others.

    `failure` is the error that ended the run early. `complete`: the other files exist, and their
    digests are stored. Raises ProfilerError.
    """
    network = network_of(config)
    content = {
        "sequence": sequence,
        "backend": config.drpai3.backend if network else config.drp.backend,
        "network": network,
        "device": config.graph.device,
        "features": config.graph.features,
        "config": dataclasses.asdict(config),
        "host": host(),
        "scale": "free" if config.slam.sensor == "mono" else "metric",
        "error": None if failure is None else str(failure) or "interrupted",
        **facts,
    }
    if complete:
        content["files"] = {name: sha256(out / name) for name in DIGESTED if (out / name).is_file()}
    write_json(out / RUN, content)
    return content


def read_run(out: Path) -> dict[str, Any]:
    """Reads `run.json`; empty without one. Raises ProfilerError, also if the files come from different runs."""
    run = read_json(out / RUN) if (out / RUN).exists() else {}
    for name, kinds in KINDS.items():
        value = run.get(name)
        whole = isinstance(value, kinds) and not isinstance(value, bool)
        if value is not None and not (whole and (isinstance(value, (str, dict)) or 0 <= value < 1e12)):
            raise ProfilerError(f"{out / RUN}: {name} is {str(value)[:80]!r}; run again")
    known = run.get("files")
    for name in DIGESTED:
        if isinstance(known, dict) and (out / name).is_file() and known.get(name) != sha256(out / name):
            raise ProfilerError(
                f"{out / name}: not of the run {str(run.get('run_id', ''))[:8]} that {RUN} describes, or were changed "
                "since; run again into an empty folder"
            )
    return run


def host() -> dict[str, Any]:
    """Describes this host, on which wall time is measured."""
    processor = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                processor = line.partition(":")[2].strip()
                break
    return {"processor": processor, "cores": os.cpu_count(), "system": platform.platform()}
