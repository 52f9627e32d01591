# SPDX-License-Identifier: Apache-2.0
"""`compare`: the chip and its CPU alone on one recording, localising and recognising, with ranges."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from drp_slam.commands._options import add_frames, add_out, add_sequence, add_slam, configured, out_folder
from drp_slam.commands._tables import print_written
from drp_slam.errors import ConfigError
from drp_slam.profiler.terminal import print_lines

HELP = "compare the chip with its CPU alone on a recording, with and without recognition"
EXAMPLE = "compare synthetic --frames 60 --features orb --json"


def add_arguments(p: argparse.ArgumentParser) -> None:
    add_sequence(p)
    add_slam(p)
    add_frames(p)
    p.add_argument("--draws", type=int, default=200, metavar="N", help="draw the constants N times (default: 200)")
    text = "give the tracker this many of the CPU's cores (default: all)"
    p.add_argument("--tracker-cores", type=int, metavar="N", help=text)
    add_out(p)
    p.set_defaults(features="xfeat,orb")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """The contents of `compare.json`."""
    from drp_slam.offline import one_thread_a_library

    one_thread_a_library()
    from rich.console import Console

    from drp_slam.chip.constants import load_constants
    from drp_slam.data.dataset import named, open_sequence
    from drp_slam.evaluation.compare import compare
    from drp_slam.evaluation.compare_page import write_page
    from drp_slam.reporting.folder import write_json

    features = tuple(dict.fromkeys(name.strip() for name in args.features.split(",") if name.strip()))
    if not features or args.draws < 1:
        raise ConfigError(
            f"--draws is {args.draws}, expected 1 or more" if features else "--features names no front end"
        )
    args.features = features[0]
    config = configured(args)
    available = int(load_constants(config.graph.device)["cpu.cores"])
    cores = available if args.tracker_cores is None else args.tracker_cores
    if not 1 <= cores <= available:
        raise ConfigError(f"--tracker-cores is {cores}, expected 1 to {available}")
    args.sequence = named(args.sequence, config.slam)
    sequence = open_sequence(args.sequence, args.camera, args.start, args.frames)
    out, console = out_folder(args), Console(stderr=True)
    result = compare(sequence, config, features, out, args.draws, cores, console.print)
    write_json(out / "compare.json", result)
    return result | {"json": str(out / "compare.json"), "report": str(write_page(out / "compare.html", result))}


def show(result: Mapping[str, Any]) -> None:
    """Prints the systems side by side, the constants behind them, and the article's figures."""
    from drp_slam.commands._tables import print_table
    from drp_slam.evaluation.compare_page import verdict

    rows = result["workloads"]
    for features, workload in dict.fromkeys((row["features"], row["workload"]) for row in rows):
        mine = [cells(row) for row in rows if (row["features"], row["workload"]) == (features, workload)]
        print_table(MODELLED, mine, title=f"{features}, {workload} (modelled)", left=("system",), spare=SPARE)
    rows = [[row["features"], row["workload"], *cells(row)[1:]] for row in result["host_measured"]]
    print_table(MEASURED, rows, title="emulation (measured on this host)", left=("features", "workload"))
    print_lines(verdict(result))
    print_written({"files": [result["json"], result["report"]]})


MODELLED, MEASURED = "system|fps|ms p50/p99|mJ|faster|energy", "features|workload|fps|ms p50/p99"
SPARE = "mJ|ms p50/p99"
"""Columns that a narrow terminal does without, the first one first."""


def cells(row: Mapping[str, Any]) -> list[str]:
    """A row of either table."""
    latency = (row.get("live") or row)["latency_ms"]
    first = [row.get("system", "emulation"), f"{row['fps']:.1f}"]
    first.append(f"{latency['p50']:.1f}/{latency['p99']:.1f}" if latency else "")
    if "energy_j" in row:
        first.append(f"{row['energy_j'] * 1e3:.1f}")
        for name, digits in (("speedup", 1), ("energy_ratio", 2)):
            low, high = row.get(f"{name}_range", (0, 0))
            ratio = f"{row[name]:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})" if name in row else ""
            first.append(ratio)
    return first
