# SPDX-License-Identifier: Apache-2.0
"""`make demo`: the real nodes on one sequence, emulated and then CPU only, side by side."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any


def demo(args: argparse.Namespace) -> dict[str, Any]:
    """The report of the emulated run, with the run on backend `cpu` as its baseline.

    Both run the same frames through the ROS graph, as fast as it gives credit.
    """
    from drp_slam.cli import out_folder
    from drp_slam.reporting.results import build

    out = out_folder(args)
    emulated = graph(args, "emulated", out)
    baseline = graph(args, "cpu", out / "cpu")
    return build(emulated, baseline)


def graph(args: argparse.Namespace, backend: str, out: Path) -> Path:
    """One run of the graph with `backend`; returns its folder of results."""
    from drp_slam.cli import parser
    from drp_slam.nodes.up import up

    print(f"the graph with backend {backend}:", file=sys.stderr)
    command = ["up", "--sequence", args.sequence, "--rate", "max", "--backend", backend, "--out", str(out)]
    if args.frames:
        command += ["--frames", str(args.frames)]
    up(parser().parse_args(command))
    return out
