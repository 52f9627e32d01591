# SPDX-License-Identifier: Apache-2.0
"""`advise`: the network of a sweep, or the operating point of a compared recording, that satisfies limits."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from drp_slam.commands._options import add_out, kept
from drp_slam.commands._tables import print_written
from drp_slam.profiler.terminal import print_lines

HELP = "choose a network, or front end, clocks and detector rate, within given limits, and explain the choice"
EXAMPLE = "advise --budget-w 2.5 --min-fps 20 --max-ate 2cm"


def add_arguments(p: argparse.ArgumentParser) -> None:
    p.add_argument("--sweep", type=Path, metavar="DIR", help="choose from this `sweep` (default: the newest)")
    p.add_argument("--max-latency", metavar="2ms", help="limit the modelled latency of the network on DRP-AI3")
    p.add_argument("--max-energy", metavar="1mJ", help="limit the modelled energy of one inference")
    p.add_argument("--max-ate-increase", metavar="5%", help="limit the increase of the mean ATE over the reference")
    p.add_argument("--max-inliers-lost", metavar="5%", help="limit the loss of PnP inliers against the reference")
    p.add_argument("--compared", type=Path, metavar="DIR", help="choose from this `compare` (default: the newest)")
    p.add_argument("--budget-w", type=float, metavar="W", help="limit the modelled power of the busy units")
    p.add_argument("--min-fps", type=float, metavar="HZ", help="require this frame rate (default: the camera's)")
    p.add_argument("--max-ate", metavar="2cm", help="limit the trajectory error")
    p.add_argument("--min-detector-hz", type=float, metavar="HZ", help="require this detector rate")
    add_out(p, "write none")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """The choice, its reasons and the alternatives. Raises DrpSlamError with a remedy if none satisfies the limits."""
    if any(v is not None for v in (args.compared, args.budget_w, args.min_fps, args.max_ate, args.min_detector_hz)):
        return kept(args, operating_point(args))
    from drp_slam.sweep.advise import choose, latest, limits
    from drp_slam.sweep.sweep import load

    wanted = limits(args.max_latency, args.max_energy, args.max_ate_increase, args.max_inliers_lost)
    folder = args.sweep or latest()
    return kept(args, {"sweep": str(folder)} | choose(load(folder)["points"], wanted, folder))


LENGTHS = {"m": 1.0, "cm": 0.01, "mm": 0.001}


def operating_point(args: argparse.Namespace) -> dict[str, Any]:
    """Front end, network level, clocks and detector rate for a recording that `compare` has measured."""
    import dataclasses

    from drp_slam.errors import ConfigError
    from drp_slam.reporting.folder import read_json
    from drp_slam.sweep.advise import latest, quantity
    from drp_slam.sweep.operating import Bound, operating_points, pick

    if args.sweep or args.max_latency or args.max_energy or args.max_ate_increase or args.max_inliers_lost:
        raise ConfigError("--budget-w, --min-fps, --max-ate, --min-detector-hz, --compared: give no limit of a sweep")
    folder = args.compared or latest(name="compare")
    if not (folder / "compare.json").is_file():
        raise ConfigError(f"--compared {folder}: no compare.json; make it with compare SEQUENCE --out {folder}")
    compared = read_json(folder / "compare.json")
    for option in ("budget_w", "min_fps", "min_detector_hz"):
        value = getattr(args, option)
        if value is not None and not 0 < value < float("inf"):
            raise ConfigError(f"--{option.replace('_', '-')} is {value:g}, expected more than 0")
    rate_hz = args.min_fps or compared["camera_hz"]
    wanted = [Bound("fps", "--min-fps", rate_hz, "", least=True)]
    if args.budget_w is not None:
        wanted.append(Bound("power_w", "--budget-w", args.budget_w, ""))
    if args.max_ate is not None:
        wanted.append(Bound("ate_m", "--max-ate", quantity(args.max_ate, LENGTHS, "--max-ate"), "m"))
    if args.min_detector_hz is not None:
        wanted.append(Bound("detector_hz", "--min-detector-hz", args.min_detector_hz, "", least=True))
    points = operating_points(compared, folder, rate_hz)
    best, fitting = pick(points, wanted)
    sides = {True: "at least", False: "at most"}
    told = {b.option: f"{getattr(best, b.name):.3g}, {sides[b.least]} {b.value:.3g} required" for b in wanted}
    nearest = sorted(fitting, key=lambda p: (-p.detector_hz, p.power_w))[:10]
    return {
        "compared": str(folder),
        "sequence": compared["sequence"],
        "device": compared["device"],
        "rate_hz": rate_hz,
        "points": len(points),
        "fitting": len(fitting),
        "choice": dataclasses.asdict(best),
        "options": best.options(),
        "why": told,
        "nearest": [dataclasses.asdict(p) for p in nearest],
    }


def show_operating_point(result: Mapping[str, Any]) -> None:
    """Prints the choice, how to run it, and the next best ones."""
    from drp_slam.commands._tables import print_table

    def every(hz: float) -> str:
        return "every frame" if hz == result["rate_hz"] else f"{hz:g} Hz" if hz else "none"

    print_lines([f"up {result['options']}"], indent=3, style="bold")
    print_lines((f"  because  {option}: {text}" for option, text in result["why"].items()), indent=11)
    rule = "highest detector rate, then lowest power; all but the front end can be changed while it runs"
    print_lines([f"  then     {rule}"], indent=11)
    rows = []
    for p in result["nearest"]:
        ate = "–" if p["ate_m"] is None else f"{100 * p['ate_m']:.2f}"
        names = (p["features"], p["network"] or "", str(p["freq_index"]), str(p["mindiv"]), every(p["detector_hz"]))
        rows.append((*names, f"{p['fps']:.0f}", f"{p['latency_ms']:.1f}", f"{p['power_w']:.2f}", ate))
    fit = f"{result['fitting']} of {result['points']} operating points fit"
    title = f"{fit}, {result['device']} at {result['rate_hz']:.3g} frames/s (modelled)"
    columns = "features|network|freq_index|mindiv|detector|fps|ms|W|ATE cm"
    print_table(columns, rows, title=title, left=("features", "network", "detector"))
    print_written(result)


def show(result: Mapping[str, Any]) -> None:
    """Prints the choice, its reasons, and why the others were rejected."""
    if "choice" in result:
        show_operating_point(result)
        return
    print_lines([f"{result['name']}  (--network {result['network']})"], style="bold")
    print_lines((f"  because  {reason}" for reason in result["why"]), indent=11)
    low, high = result["ate_ratio_interval"]
    if low is not None:
        interval = f"95 % interval {low:.3f} to {high:.3f}"
        print_lines([f"  note     ATE is {result['ate_ratio']:.3f} of the reference's, {interval}"], indent=11)
    print_lines((f"  not      {other['name']}: {other['because']}" for other in result["others"]), indent=11)
    print_written(result)
