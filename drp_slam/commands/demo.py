# SPDX-License-Identifier: Apache-2.0
"""`demo`: what `make demo` runs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from drp_slam.commands import _options as options
from drp_slam.commands import up
from drp_slam.profiler.terminal import show as show

HELP = "run the ROS 2 graph on the synthetic room, emulated and CPU only, and compare"
EXAMPLE = "demo --out results/demo"


def add_arguments(p: argparse.ArgumentParser) -> None:
    options.add_sequence(p, "--sequence", default="synthetic")
    options.add_frames(p, start=False)
    options.add_device(p)
    options.add_dense(p)
    options.add_out(p)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """The report of the emulated run, with the run on backend `cpu` as its baseline.

    Both play the same frames through the graph, as fast as it keeps up.
    """
    from drp_slam.reporting.results import build

    out = options.out_folder(args)
    emulated = graph(args, "emulated", out)
    return build(emulated, graph(args, "cpu", out / "cpu")) | options.dense_files(args, emulated)


def graph(args: argparse.Namespace, backend: str, out: Path) -> Path:
    """Runs the graph with `backend`; returns its folder of results."""
    print(f"the graph with backend {backend}:", file=sys.stderr)
    frames = ["--frames", str(args.frames)] if args.frames else []
    sequence = ["--sequence", args.sequence, *frames]
    up.run(
        options.parsed(
            up, [*sequence, "--rate", "max", "--backend", backend, "--device", args.device, "--out", str(out)]
        )
    )
    return out
