# SPDX-License-Identifier: Apache-2.0
"""`report`: `report.json` and `report.html` of a folder of results, or the difference of two."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from drp_slam.commands._options import add_device, add_out, out_folder
from drp_slam.commands._tables import print_table
from drp_slam.errors import ProfilerError
from drp_slam.profiler import terminal

HELP = "rebuild the report of a folder of results, or compare two"
EXAMPLE = "report results/run-1 results/run-2"


def add_arguments(p: argparse.ArgumentParser) -> None:
    p.add_argument("folder", type=Path, help="results folder of `run` or `up`")
    text = "a second folder: write difference.html instead, to --out or to this folder"
    p.add_argument("other", type=Path, nargs="?", metavar="OTHER", help=text)
    text = "compare with these results of the same frames, run with --backend cpu"
    p.add_argument("--baseline", type=Path, metavar="DIR", help=text)
    add_device(p, None, "the run's own")
    add_out(p, "the folder itself")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """The report, written to `--out`, else beside the results. Raises ProfilerError."""
    from drp_slam.reporting.results import build

    if args.other is not None:
        from drp_slam.reporting import difference

        if args.baseline:
            raise ProfilerError("--baseline needs a single run; omit it, or the second folder")
        return difference.write(args.folder, args.other, out_folder(args) if args.out else args.other, args.device)
    return build(args.folder, args.baseline, out_folder(args) if args.out else None, args.device)


def show(result: dict[str, Any]) -> None:
    """Prints the report, or the difference."""
    from drp_slam.profiler.page import number

    if "differences" not in result:
        return terminal.show(result)
    rows = [
        (f"{d['name']} {d['unit']}".rstrip(), d["kind"], number(d["first"]), number(d["second"]), _change(d))
        for d in result["differences"]
    ]
    print_table("figure|kind|first|second|change", rows, left=("figure", "kind", "change"))
    terminal.print_lines(f"{key}: {before} -> {after}" for key, (before, after) in result["settings"].items())
    terminal.print_lines(f"note: {text}" for text in result["warnings"])
    terminal.print_lines([f"report {result['report']}"])


def _change(d: dict[str, Any]) -> str:
    from drp_slam.reporting.difference import percent

    return "" if d["change"] is None else f"{percent(d['change'])} {d['verdict']}"
