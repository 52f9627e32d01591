# SPDX-License-Identifier: Apache-2.0
"""`bench`: what `make bench` runs. Not a test: quote ratios taken inside one run of it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from drp_slam.commands import _overload, _pairs, _robustness, _scale, up
from drp_slam.commands import run as offline
from drp_slam.commands._options import SEQUENCE, add_device, add_frames, add_out, add_sequence, out_folder, parsed
from drp_slam.commands._tables import print_table
from drp_slam.profiler.terminal import print_lines

HELP = "measure frame rate and latency on this host: as processes, in one process, and without ROS"
EXAMPLE = "bench rgbd_dataset_freiburg1_xyz"
CASES: dict[str, tuple[int, tuple[str, ...]]] = {
    "graph, 3 in flight": (3, ()),
    "graph, 1 in flight": (1, ()),
    "container, 3 in flight": (3, ("--container",)),
    "without ROS": (0, ()),
    "container, 1 in flight": (1, ("--container",)),
    "graph, at the chip's speed": (3, ("--pacing", "realtime")),
}
"""Frames in flight (0: the command `run`), and more options of `up`."""


def add_arguments(p: argparse.ArgumentParser) -> None:
    add_sequence(p, nargs="?", default="synthetic", help=f"{SEQUENCE} (default: synthetic)")
    add_frames(p, start=False)
    add_device(p)
    add_out(p)
    _robustness.add_options(p)
    text = "measure the tracker instead, over 10 000 frames (or --frames) through a generated building"
    p.add_argument("--scale", action="store_true", help=text)
    text = "measure the cost of profiling and of --detector in N alternating pairs of runs"
    p.add_argument("--pairs", type=int, metavar="N", help=text)
    p.add_argument("--detector", metavar="NAME|FILE", help="with --pairs: this ONNX network on every 5th frame")
    text = "measure the live graph with a camera 2, 4 and 8 times as fast as the graph"
    p.add_argument("--overload", action="store_true", help=text)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Runs every case on the same frames; returns the rates, latencies and stage times measured here."""
    out = out_folder(args)
    if args.robustness:
        return _robustness.measure(args, out)
    if args.scale:
        return {"scale": _scale.measure(args.frames, out), "out": str(out)}
    if args.overload:
        return {"sequence": args.sequence, "overload": _overload.measure(args, out), "out": str(out)}
    if args.pairs is not None:
        return {"sequence": args.sequence, "pairs": _pairs.measure(args, max(args.pairs, 1), out), "out": str(out)}
    cases = [case(args, name, *how, out) for name, how in CASES.items()]
    return {"sequence": args.sequence, "cases": cases, "out": str(out)}


def case(args: argparse.Namespace, name: str, in_flight: int, options: tuple[str, ...], out: Path) -> dict[str, Any]:
    """One run through the command's own handler."""
    common = ["--out", str(out / name.replace(", ", "-").replace(" ", "-").replace("'", "")), "--device", args.device]
    if args.frames:
        common += ["--frames", str(args.frames)]
    if in_flight:
        common += ["--sequence", args.sequence, "--rate", "max", "--in-flight", str(in_flight)]
        report = up.run(parsed(up, [*common, *options]))
    else:
        report = offline.run(parsed(offline, [args.sequence, *common]))
    copied = ("frames", "tracked", "fps", "ate_rmse_m")
    return {
        "case": name,
        **{key: report[key] for key in copied},
        "latency_ms": report["latency"]["wall_ms"],
        "stages_wall_ms": {k: v["wall_ms"] for k, v in report["stages"].items()},
        "pacing": report["pacing"],
    }


def show(result: dict[str, Any]) -> None:
    """Prints the cases as a table, all measured on this host."""
    if "robustness" in result:
        return _robustness.show(result)
    if "scale" in result:
        _scale.show(result["scale"])
        return print_lines([f"wrote {result['out']}/scale.json"])
    if "overload" in result:
        _overload.show(result["overload"])
        return print_lines([f"wrote {result['out']}/overload.json"])
    if "pairs" in result:
        return _pairs.show(result["pairs"])
    stages = list(result["cases"][0]["stages_wall_ms"])
    rows = []
    for row in result["cases"]:
        spreads = [row["latency_ms"], *(row["stages_wall_ms"][s] for s in stages)]
        ate = "–" if row["ate_rmse_m"] is None else f"{row['ate_rmse_m']:.4f}"
        times = ("–" if s is None else f"{s['p50']:.1f} / {s['p95']:.1f}" for s in spreads)
        rows.append((row["case"], f"{row['fps']:.1f}", ate, *times))
    title = f"{result['sequence']}: measured on this host, ms are p50 / p95"
    columns = "|".join(("case", "frames/s", "ATE m", "latency", *stages))
    print_table(columns, rows, title=title, left=("case",), spare="|".join(stages))
    for row in result["cases"]:
        if pacing := row["pacing"]:
            late = ", ".join(f"{node} {body['late_ms']} ms" for node, body in pacing["late"].items())
            fps = pacing["schedule"]["fps"]
            print_lines(
                [f"the chip's schedule: {fps or 0:.1f} frames/s (modelled); this host was late by (p50) {late}"]
            )
    print_lines([f"reports  {result['out']}/*/report.html"])
