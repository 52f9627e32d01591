# SPDX-License-Identifier: Apache-2.0
"""`make bench`: frame rate and latency of the graph and of the single process on this host.

Not a test: speed is quoted from one run of this command, with ratios taken inside it.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

CASES = (("graph, 3 in flight", "up", 3), ("graph, 1 in flight", "up", 1), ("one process", "run", 0))


def bench(args: argparse.Namespace) -> dict[str, Any]:
    """Runs every case on the same frames; the rates, latencies and stage times measured here."""
    from drp_slam.cli import out_folder

    out = out_folder(args)
    rows = [case(args, name, command, in_flight, out) for name, command, in_flight in CASES]
    return {"sequence": args.sequence, "cases": rows, "out": str(out)}


def case(args: argparse.Namespace, name: str, command: str, in_flight: int, out: Path) -> dict[str, Any]:
    """One run through the command line's own handlers."""
    from drp_slam import cli

    folder = out / name.replace(", ", "-").replace(" ", "-")
    argv = [command, *(("--sequence",) if command == "up" else ()), args.sequence, "--out", str(folder)]
    if command == "up":
        argv += ["--rate", "max", "--in-flight", str(in_flight)]
    if args.frames:
        argv += ["--frames", str(args.frames)]
    parsed = cli.parser().parse_args(argv)
    handler = next(c.handler for c in cli.COMMANDS if c.name == command)
    report = cli.resolve(handler)(parsed)
    return {
        "case": name,
        "frames": report["frames"],
        "tracked": report["tracked"],
        "fps": report["fps"],
        "ate_rmse_m": report["ate_rmse_m"],
        "latency_ms": report["latency"]["wall_ms"],
        "stages_wall_ms": {k: v["wall_ms"] for k, v in report["stages"].items()},
    }


def show(result: dict[str, Any]) -> None:
    """Prints the cases as a table: everything in it was measured on this host."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{result['sequence']}: measured on this host, ms are p50 / p95")
    stages = list(result["cases"][0]["stages_wall_ms"])
    for name in ("case", "frames/s", "ATE m", "latency", *stages):
        table.add_column(name, justify="left" if name == "case" else "right")
    for row in result["cases"]:
        spreads = [row["latency_ms"], *(row["stages_wall_ms"][s] for s in stages)]
        ate = "–" if row["ate_rmse_m"] is None else f"{row['ate_rmse_m']:.4f}"
        times = ("–" if s is None else f"{s['p50']:.1f} / {s['p95']:.1f}" for s in spreads)
        table.add_row(row["case"], f"{row['fps']:.1f}", ate, *times)
    Console().print(table)
