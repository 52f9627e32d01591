# SPDX-License-Identifier: Apache-2.0
"""`sweep`: cycles, latency, energy and accuracy of pruning choices."""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drp_slam.commands._options import add_camera, add_device, add_frames, add_out, add_sequence, out_folder
from drp_slam.errors import ConfigError
from drp_slam.profiler.terminal import print_lines
from drp_slam.pruning.methods import PATTERNS, SALIENCIES
from drp_slam.pruning.methods import saliency as saliency_of

if TYPE_CHECKING:
    from drp_slam.sweep.sweep_point import Point

HELP = "measure pruning choices: cycles, latency, energy, accuracy; resumes with the same --out"
EXAMPLE = "sweep --sequence DIR --rates 0.5,0.7 --saliencies magnitude,obs"


def add_arguments(p: argparse.ArgumentParser) -> None:
    add_sequence(p, "--sequence", required=True)
    p.add_argument("--networks", metavar="A,B,...", help="measure these shipped networks or ONNX files")
    text = "prune one-shot at these rates, such as 0,0.5,0.7,0.9; without both: all shipped networks"
    p.add_argument("--rates", metavar="R,R,...", help=text)
    text = f"prune with these patterns: {', '.join(PATTERNS)} (flexible-nm)"
    p.add_argument("--patterns", metavar="P,...", default="flexible-nm", help=text)
    text = f"rank weights by these saliencies: {', '.join(SALIENCIES)}, or module:NAME of your own (magnitude)"
    p.add_argument("--saliencies", metavar="S,...", default="magnitude", help=text)
    text = "compare the others with this network (xfeat-fp32)"
    p.add_argument("--reference", metavar="NAME|FILE", default="xfeat-fp32", help=text)
    text = "prune and quantise with these images too, in addition to photographs of installed packages"
    p.add_argument("--calibration", type=Path, metavar="DIR", help=text)
    add_camera(p)
    add_device(p)
    add_frames(p)
    p.add_argument("--pairs", type=int, default=100, metavar="N", help="measure this many frame pairs per point (100)")
    p.add_argument("--gap", type=float, default=0.4, metavar="S", help="pair frames this many seconds apart (0.4)")
    text = "evaluate a point on this many perturbed trajectories (5); 0: no ATE"
    p.add_argument("--configurations", type=int, default=5, metavar="N", help=text)
    p.add_argument("--jobs", type=int, metavar="N", help="run this many processes here (default: one per core)")
    text = "measure the points on the workers of this dask.distributed scheduler"
    p.add_argument("--scheduler", metavar="tcp://HOST:PORT", help=text)
    add_out(p)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """`sweep.json`. Raises the first error of a point after all others are done."""
    from drp_slam.offline import one_thread_a_library
    from drp_slam.sweep.sweep import sweep

    one_thread_a_library()
    return sweep(plan(args), out_folder(args), args.scheduler, args.jobs, args.device)


def plan(args: argparse.Namespace) -> list[Point]:
    """The points that the arguments ask for, the reference first. Raises ConfigError.

    Without `--networks` and `--rates`: all shipped networks.
    """
    from drp_slam.sweep.sweep_point import Point, shipped

    for option, value, least in (
        ("--pairs", args.pairs, 1),
        ("--jobs", 1 if args.jobs is None else args.jobs, 1),
        ("--configurations", args.configurations, 0),
    ):
        if value < least:
            raise ConfigError(f"{option} {value}: expected at least {least}")
    if args.calibration and not args.calibration.is_dir():
        raise ConfigError(f"--calibration {args.calibration}: no such folder")
    rates = [_rate(text) for text in _list(args.rates)]
    networks = _list(args.networks) or ([] if rates else shipped())
    common: dict[str, Any] = {
        "sequence": _absolute(args.sequence),
        "reference": args.reference,
        "camera": _absolute(args.camera or ""),
        "start": args.start,
        "frames": args.frames or 0,
        "pairs": args.pairs,
        "configurations": args.configurations,
        "gap_s": args.gap,
    }
    points = [Point(network=name, **common) for name in dict.fromkeys([args.reference, *networks])]
    patterns = _list(args.patterns)
    for name in patterns:
        if name not in PATTERNS:
            raise ConfigError(f"pattern {name!r} is unknown; one of {', '.join(PATTERNS)}")
    saliencies = _list(args.saliencies)
    for name in saliencies:
        saliency_of(name)  # unknown names are refused before anything runs
    calibration = str(args.calibration.resolve()) if args.calibration else ""
    for rate, pattern, saliency in itertools.product(rates, patterns, saliencies):
        points.append(Point(rate=rate, pattern=pattern, saliency=saliency, calibration=calibration, **common))
    return points


def _absolute(name: str) -> str:
    """An absolute path for all workers, if `name` is a path."""
    return str(Path(name).resolve()) if name and Path(name).exists() else name


def _list(text: str | None) -> list[str]:
    return [item.strip() for item in (text or "").split(",") if item.strip()]


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = -1.0
    if not 0.0 <= rate < 1.0:
        raise ConfigError(f"--rates {text!r}: a rate is the fraction removed, 0 <= rate < 1")
    return rate


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
            _number(p["cycles"], 1e-6, 2),
            _number(p["latency_ms"], 1, 2),
            _number(p["energy_mj"], 1, 3),
            _number(part["inliers"]["ratio"], 100, 0),
            _number(part["overlap"]["mean"], 100, 0),
            _number(part["error_m"]["ratio"], 100, 0),
            _number(ate.get("ratio"), 100, 0),
        )
        mark = "* " if p["pareto"] else "  "
        table.add_row(mark + p["name"].removeprefix("oneshot-"), f"{p['sparsity']:.0%}", *row)
    sequence, others = Path(result["sequence"] or "").name, "inliers, overlap, errors in % of"
    console.print(f"{sequence}: Mcyc, ms and mJ are modelled; {others} {result['reference']}")
    console.print(table)
    console.print("* on the Pareto front of modelled latency and inliers")
    print_lines([f"report  {result['report']}"])


def _number(value: float | None, scale: float, digits: int) -> str:
    return "–" if value is None else f"{value * scale:.{digits}f}"
