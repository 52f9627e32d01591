# SPDX-License-Identifier: Apache-2.0
"""A sweep: pruning choices against cycles, latency, energy and accuracy.

Every finished point is one JSON file, named by the hash of its definition and of the files it
depends on, and written at once. An interrupted sweep resumes when it is run again with the same
`--out`; further choices extend it. Costs are computed each time, so another
`--device` measures no point again.
"""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drp_slam.atomic import write_bytes, write_text
from drp_slam.errors import DrpSlamError, ProfilerError
from drp_slam.reporting.folder import read_json, write_json

if TYPE_CHECKING:
    from drp_slam.chip.constants import Constants
    from drp_slam.evaluation.measured import Measured
    from drp_slam.sweep.sweep_point import Outcome, Point

POINTS, NETWORKS, SWEEP_JSON, SWEEP_HTML = "points", "networks", "sweep.json", "sweep.html"
FORMAT = 3
"""Version of `sweep.json` and of a point's file; raised when the meaning of a key changes."""


def sweep(
    points: Sequence[Point], out: Path, scheduler: str | None = None, jobs: int | None = None, device: str = "rzv2h"
) -> dict[str, Any]:
    """Measures the missing points in `out`, on `jobs` processes or a dask scheduler; returns `sweep.json`.

    `points` begins with the reference; `device` is the chip to price them for. Raises
    ResourceError, DeviceError for a wrong `device` before measuring, and the first point's error
    after all others are done.
    """
    from drp_slam.chip.constants import load_constants
    from drp_slam.data.progress import track
    from drp_slam.sweep.sweep_page import render
    from drp_slam.sweep.sweep_workers import completed

    constants = load_constants(device)
    keys = {point.key(): point for point in points}  # once: a file may change during the sweep
    names = {point: key for key, point in keys.items()}
    (out / POINTS).mkdir(exist_ok=True)
    (out / NETWORKS).mkdir(exist_ok=True)
    todo = [point for key, point in keys.items() if not stored(out, key)]
    failures: list[tuple[str, Exception]] = []
    if todo:
        reference = reference_of(points[0], out / f"reference-{names[points[0]]}.npz")
        found = completed(todo, reference, scheduler, jobs)
        for point, outcome in track(found, len(todo), f"{len(todo)} of {len(keys)} points to do"):
            if isinstance(outcome, Exception):
                failures.append((point.name, outcome))
            else:
                keep(out, names[point], outcome)
                print(f"{point.name}: {outcome.result['wall_s']:.0f} s", file=sys.stderr)
    result = summarise(finished(out, points[0]), out, len(todo) - len(failures), constants)
    write_json(out / SWEEP_JSON, result)
    write_text(out / SWEEP_HTML, render(result), ProfilerError)
    if failures:
        name, error = failures[0]
        raise DrpSlamError(
            f"{len(failures)} of {len(keys)} points failed, first {name}: {error}; the others are in {out}; "
            "run it again to retry the failed ones only"
        )
    return result


def reference_of(point: Point, path: Path) -> Measured:
    """The reference's measurement: from an earlier run of this sweep, else measured now."""
    from drp_slam.evaluation import measured
    from drp_slam.sweep.sweep_point import measure_reference

    if not path.is_file():
        measured.store(measure_reference(point), path)
    return measured.stored(path)


def keep(out: Path, key: str, outcome: Outcome) -> None:
    """Writes a point: its network first, then its JSON, each through a temporary name."""
    for name, content in outcome.files.items():
        write_bytes(out / NETWORKS / name, content, ProfilerError)
    write_json(out / POINTS / f"{key}.json", {"format": FORMAT, "key": key} | outcome.result)


def stored(out: Path, key: str) -> dict[str, Any] | None:
    """A finished point of this version; None if it has to be measured."""
    path = out / POINTS / f"{key}.json"
    body = read_json(path) if path.is_file() else {}
    return body if body.get("format") == FORMAT else None


def finished(out: Path, like: Point) -> list[dict[str, Any]]:
    """All points in a folder that were measured like `like`, with the current networks and files."""
    from drp_slam.sweep.sweep_point import Point

    def judged(point: Point) -> Point:
        return dataclasses.replace(point, network="", rate=0.0, pattern="", saliency="", calibration="")

    found = []
    for path in sorted((out / POINTS).glob("*.json")):
        body = stored(out, path.stem)
        point = Point(**body["point"]) if body else None
        if point is not None and judged(point) == judged(like) and _key(point) == path.stem:
            found.append(body)
    return [body for body in found if body is not None]


def _key(point: Point) -> str | None:
    """None if a network is missing."""
    try:
        return point.key()
    except DrpSlamError:
        return None


def summarise(points: Sequence[dict[str, Any]], out: Path, measured_now: int, constants: Constants) -> dict[str, Any]:
    """`sweep.json`: the points by sparsity with their cost, and the Pareto front."""
    from drp_slam.sweep.sweep_point import cost

    costed = [
        p | cost(p["point"]["network"] or str(out / NETWORKS / f"{p['name']}.onnx"), tuple(p["shape"]), constants)
        for p in points
    ]
    return {
        "format": FORMAT,
        "sequence": points[0]["point"]["sequence"] if points else None,
        "reference": points[0]["point"]["reference"] if points else None,
        "device": constants.name,
        "points": with_front(costed),
        "measured_now": measured_now,
        "report": str(out / SWEEP_HTML),
    }


def with_front(costed: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The points in the order of the table, each with `pareto`: whether no other is as fast and as good.

    A network that finds no pose is excluded.
    """
    ordered = sorted(costed, key=lambda p: (p["point"]["network"] == "", p["sparsity"], p["name"]))
    worth = [p["all"]["inliers"]["ratio"] or 0.0 for p in ordered]
    front = pareto([(p["latency_ms"] if w else None, -w) for p, w in zip(ordered, worth)])
    return [p | {"pareto": i in front} for i, p in enumerate(ordered)]


def pareto(costs: Sequence[tuple[float | None, ...]]) -> set[int]:
    """Indices of the costs that no other dominates: nowhere higher, and lower somewhere.

    A point with a cost that is None is on no front.
    """
    known = {i: c for i, c in enumerate(costs) if all(v is not None for v in c)}

    def beats(a: tuple[Any, ...], b: tuple[Any, ...]) -> bool:
        return a != b and all(x <= y for x, y in zip(a, b, strict=True))

    return {i for i, c in known.items() if not any(beats(other, c) for other in known.values())}


def load(folder: Path) -> dict[str, Any]:
    """`sweep.json` of a finished sweep, checked for `advise`. Raises DrpSlamError."""
    path = folder / SWEEP_JSON
    again = f"run python -m drp_slam sweep --out {folder}"
    try:
        result = read_json(path)
    except ProfilerError as error:
        raise DrpSlamError(f"{str(error)[:500].removesuffix('; run again')}; {again}") from error
    if result.get("format") != FORMAT:
        raise DrpSlamError(
            f"{path}: written by another version of drp_slam; {again}; finished points of this version are kept"
        )
    points = result.get("points")
    for number, point in enumerate(points if isinstance(points, list) else [None], 1):
        if wrong := _fault(point):
            raise DrpSlamError(f"{path}: damaged: point {number}: {wrong}; {again}")
    return result


def _fault(point: Any) -> str:
    """The defect of a point of `sweep.json`, or an empty string."""
    if not isinstance(point, dict):
        return "not an object"
    every = point.get("all")
    inliers = every.get("inliers") if isinstance(every, dict) else None
    given, ate = point.get("point"), point.get("ate_m") or {}
    if not (isinstance(given, dict) and isinstance(ate, dict) and isinstance(inliers, dict)):
        return "point, all, inliers and ate_m: expected objects"
    values = [point.get(key) for key in ("latency_ms", "energy_mj", "sparsity")]
    values += [ate.get("ratio"), inliers.get("ratio")]
    if not all(value is None or (type(value) in (int, float) and math.isfinite(value)) for value in values):
        return "latency_ms, energy_mj, sparsity and ratio: expected finite numbers or null"
    if not isinstance(point.get("name"), str) or not isinstance(given.get("network", ""), str):
        return "name and network: expected text"
    needed = {"latency_ms": point, "energy_mj": point, "sparsity": point, "network": given, "ratio": inliers}
    return ", ".join(f"no {key}" for key, part in needed.items() if key not in part)
