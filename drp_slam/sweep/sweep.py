# SPDX-License-Identifier: Apache-2.0
"""`python -m drp_slam sweep`: pruning choices against cycles, latency, energy and accuracy.

Every finished point is one JSON file under the hash of its definition and of the files it rests
on, written at once: a sweep that was killed goes on where it stopped when it is started again
with the same `--out`, and further choices add to it. Costs are modelled anew each time: another
device file repeats no point.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drp_slam.errors import ConfigError, DrpSlamError, ProfilerError
from drp_slam.pruning.methods import PATTERNS, SALIENCIES

if TYPE_CHECKING:
    from drp_slam.evaluation.measured import Measured
    from drp_slam.sweep.sweep_point import Outcome, Point

POINTS, NETWORKS, SWEEP_JSON, SWEEP_HTML = "points", "networks", "sweep.json", "sweep.html"
FORMAT = 2
"""Of `sweep.json` and of a point's file; goes up when a key changes its meaning."""


def sweep(args: argparse.Namespace) -> dict[str, Any]:
    """Handler of `sweep`. Raises the first point's error after all others are done."""
    from drp_slam.atomic import write_text
    from drp_slam.cli import out_folder
    from drp_slam.data.progress import track
    from drp_slam.offline import one_thread_a_library
    from drp_slam.reporting.folder import write_json
    from drp_slam.sweep.sweep_page import render
    from drp_slam.sweep.sweep_workers import completed

    one_thread_a_library()
    points = plan(args)
    keys = {point.key(): point for point in points}  # once: a file may change meanwhile
    names = {point: key for key, point in keys.items()}
    out = out_folder(args)
    (out / POINTS).mkdir(exist_ok=True)
    (out / NETWORKS).mkdir(exist_ok=True)
    todo = [point for key, point in keys.items() if not stored(out, key)]
    failures: list[tuple[str, Exception]] = []
    if todo:
        reference = reference_of(points[0], out / f"reference-{names[points[0]]}.npz")
        found = completed(todo, reference, args.scheduler, args.jobs)
        for point, outcome in track(found, len(todo), f"{len(todo)} of {len(keys)} points to do"):
            if isinstance(outcome, Exception):
                failures.append((point.name, outcome))
            else:
                keep(out, names[point], outcome)
                print(f"{point.name}: {outcome.result['wall_s']:.0f} s", file=sys.stderr)
    result = summarise(finished(out, points[0]), out, len(todo) - len(failures))
    write_json(out / SWEEP_JSON, result)
    write_text(out / SWEEP_HTML, render(result), ProfilerError)
    if failures:
        raise DrpSlamError(
            f"{len(failures)} of {len(keys)} points failed, first {failures[0][0]}: "
            f"{failures[0][1]}; the others are in {out}, and starting it again "
            "tries only the failed ones"
        )
    return result


def plan(args: argparse.Namespace) -> list[Point]:
    """The points that the arguments ask for, the reference first. Raises ConfigError.

    Without `--networks` and `--rates`: all shipped networks.
    """
    from drp_slam.sweep.sweep_point import Point, shipped

    for option, value, least in (
        ("--pairs", args.pairs, 1),
        ("--jobs", args.jobs or 1, 1),
        ("--configurations", args.configurations, 0),
    ):
        if value < least:
            raise ConfigError(f"{option} {value}: expected at least {least}")
    if args.calibration and not args.calibration.is_dir():
        raise ConfigError(f"--calibration {args.calibration}: no such folder")
    rates = [_rate(text) for text in _list(args.rates)]
    networks = _list(args.networks) or ([] if rates else shipped())
    sequence = str(Path(args.sequence).resolve()) if Path(args.sequence).exists() else args.sequence
    calibration = str(args.calibration.resolve()) if args.calibration else ""
    camera = args.camera or ""
    if camera and Path(camera).is_file():
        camera = str(Path(camera).resolve())
    common: dict[str, Any] = {
        "sequence": sequence,
        "reference": args.reference,
        "camera": camera,
        "start": args.start,
        "frames": args.frames or 0,
        "pairs": args.pairs,
        "configurations": args.configurations,
        "gap_s": args.gap,
    }
    points = [Point(network=name, **common) for name in dict.fromkeys([args.reference, *networks])]
    known = {"pattern": PATTERNS, "saliency": SALIENCIES}
    chosen = {"pattern": _list(args.patterns), "saliency": _list(args.saliencies)}
    for kind, names in chosen.items():
        for name in names:
            if name not in known[kind]:
                raise ConfigError(f"{kind} {name!r} is unknown; one of {', '.join(known[kind])}")
    for rate, pattern, saliency in itertools.product(rates, chosen["pattern"], chosen["saliency"]):
        points.append(Point(rate=rate, pattern=pattern, saliency=saliency, calibration=calibration, **common))
    return points


def _list(text: str | None) -> list[str]:
    return [item.strip() for item in (text or "").split(",") if item.strip()]


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = -1.0
    if not 0.0 <= rate < 1.0:
        raise ConfigError(f"--rates {text!r}: a rate is the part removed, 0 <= rate < 1")
    return rate


def reference_of(point: Point, path: Path) -> Measured:
    """The reference's measurement: from an earlier start of this sweep, else made now."""
    from drp_slam.evaluation import measured
    from drp_slam.sweep.sweep_point import measure_reference

    if not path.is_file():
        print(f"reference {point.reference} ...", file=sys.stderr, flush=True)
        measured.store(measure_reference(point), path)
    return measured.stored(path)


def keep(out: Path, key: str, outcome: Outcome) -> None:
    """Writes a point: its network first, then its JSON, each through a temporary name."""
    from drp_slam.atomic import write_bytes
    from drp_slam.reporting.folder import write_json

    for name, content in outcome.files.items():
        write_bytes(out / NETWORKS / name, content, ProfilerError)
    write_json(out / POINTS / f"{key}.json", {"format": FORMAT, "key": key} | outcome.result)


def stored(out: Path, key: str) -> dict[str, Any] | None:
    """A finished point of this version; None where it has to be measured."""
    from drp_slam.reporting.folder import read_json

    path = out / POINTS / f"{key}.json"
    body = read_json(path) if path.is_file() else {}
    return body if body.get("format") == FORMAT else None


def finished(out: Path, like: Point) -> list[dict[str, Any]]:
    """All points in a folder that are judged as `like` is and rest on files as they are now."""
    import dataclasses

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
    """None where a network is no longer there."""
    try:
        return point.key()
    except DrpSlamError:
        return None


def summarise(points: Sequence[dict[str, Any]], out: Path, measured_now: int) -> dict[str, Any]:
    """`sweep.json`: the points by rate with their cost, which are on the Pareto front, where."""
    from drp_slam.sweep.sweep_point import cost

    costed = [
        p
        | cost(
            p["point"]["network"] or str(out / NETWORKS / f"{p['name']}.onnx"), tuple(p["shape"]), p["point"]["device"]
        )
        for p in points
    ]
    ordered = sorted(costed, key=lambda p: (p["point"]["network"] == "", p["sparsity"], p["name"]))
    front = pareto([(p["latency_ms"], -(p["all"]["inliers"]["ratio"] or 0.0)) for p in ordered])
    body = [p | {"pareto": i in front} for i, p in enumerate(ordered)]
    return {
        "format": FORMAT,
        "sequence": points[0]["point"]["sequence"] if points else None,
        "reference": points[0]["point"]["reference"] if points else None,
        "points": body,
        "measured_now": measured_now,
        "report": str(out / SWEEP_HTML),
    }


def pareto(costs: Sequence[tuple[float | None, ...]]) -> set[int]:
    """Indices that no other one beats: at most as much of every cost, and less of one.

    A point with a cost that is None is on no front.
    """
    known = {i: c for i, c in enumerate(costs) if all(v is not None for v in c)}

    def beats(a: tuple[Any, ...], b: tuple[Any, ...]) -> bool:
        return a != b and all(x <= y for x, y in zip(a, b, strict=True))

    return {i for i, c in known.items() if not any(beats(other, c) for other in known.values())}


def show(result: dict[str, Any]) -> None:
    """Prints the table of the points."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    table = Table(box=box.SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    table.add_column("", no_wrap=True)
    for name in ("zero", "Mcyc", "ms", "mJ", "inl.", "ovl.", "err.", "ATE"):
        table.add_column(name, justify="right", no_wrap=True)
    for p in result["points"]:
        part, ate = p["all"], p.get("ate_m") or {}
        row = (
            _of(p["cycles"], 1e-6, 2),
            _of(p["latency_ms"], 1, 2),
            _of(p["energy_mj"], 1, 3),
            _of(part["inliers"]["ratio"], 100, 0),
            _of(part["overlap"]["mean"], 100, 0),
            _of(part["error_m"]["ratio"], 100, 0),
            _of(ate.get("ratio"), 100, 0),
        )
        mark = "* " if p["pareto"] else "  "
        name = mark + p["name"].removeprefix("oneshot-")
        table.add_row(name, f"{p['sparsity']:.0%}", *row)
    console.print(
        f"{Path(result['sequence'] or '').name}: Mcyc, ms and mJ are modelled; inliers, "
        f"overlap, errors in % of {result['reference']}"
    )
    console.print(table)
    console.print("* on the Pareto front of modelled latency and inliers")
    console.print(f"report  {result['report']}", soft_wrap=True)


def _of(value: float | None, scale: float, digits: int) -> str:
    return "–" if value is None else f"{value * scale:.{digits}f}"


def load(folder: Path) -> dict[str, Any]:
    """`sweep.json` of a finished sweep. Raises DrpSlamError."""
    path = folder / SWEEP_JSON
    again = f"make it with python -m drp_slam sweep --out {folder}"
    try:
        result = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DrpSlamError(f"{path}: cannot read: {error}; {again}") from error
    if not isinstance(result, dict) or result.get("format") != FORMAT:
        raise DrpSlamError(
            f"{path}: made by another version of drp_slam; {again}, finished points of this version are kept"
        )
    return result
