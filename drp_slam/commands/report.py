# SPDX-License-Identifier: Apache-2.0
"""`report`: `report.json` and `report.html` of a folder of results."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from drp_slam.commands._options import add_device, add_out, out_folder
from drp_slam.profiler.terminal import show as show

HELP = "rebuild the report of a folder of results"
EXAMPLE = "report results/run-1 --baseline results/run-cpu --device rzv2n"


def add_arguments(p: argparse.ArgumentParser) -> None:
    p.add_argument("folder", type=Path, help="folder of results of `run` or `up`")
    text = "compare with these results of the same frames, run with --backend cpu"
    p.add_argument("--baseline", type=Path, metavar="DIR", help=text)
    add_device(p, None, "the run's own")
    add_out(p, "the folder itself")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """The report, written to `--out`, else beside the results. Raises ProfilerError."""
    from drp_slam.reporting.results import build

    return build(args.folder, args.baseline, out_folder(args) if args.out else None, args.device)
