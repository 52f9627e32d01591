# SPDX-License-Identifier: Apache-2.0
"""`overhead`: the cost of emulation on this host."""

from __future__ import annotations

import argparse
from typing import Any

from drp_slam.commands._options import add_out, kept
from drp_slam.commands._tables import print_written
from drp_slam.profiler.terminal import print_lines

HELP = "measure emulated execution against bare onnxruntime on this host"
EXAMPLE = "overhead xfeat --repeats 50"


def add_arguments(p: argparse.ArgumentParser) -> None:
    p.add_argument("network", nargs="?", default="xfeat", help="shipped network with a card (default: xfeat)")
    p.add_argument("--height", type=int, default=480, metavar="PX", help="make the input this high (default: 480)")
    p.add_argument("--width", type=int, default=640, metavar="PX", help="make the input this wide (default: 640)")
    p.add_argument("--threads", type=int, default=1, metavar="N", help="run on this many threads (default: 1)")
    p.add_argument("--repeats", type=int, default=50, metavar="N", help="run each this many times (default: 50)")
    add_out(p, "write none")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Medians of wall and processor time. Raises DrpAi3Error."""
    from drp_slam.drpai3.overhead import measure

    return kept(args, measure(args.network, (args.height, args.width), args.threads, args.repeats))


def show(result: dict[str, Any]) -> None:
    """Prints wall and processor time of all three."""
    print(f"{result['network']} {result['shape']} on {result['device']}, {result['repeats']} runs")
    lines = (
        f"  {k} time: emulated {result[f'emulated_{k}_ms']:.2f} ms; bare onnxruntime "
        f"{result[f'bare_{k}_ms']:.2f} ms ({result[f'overhead_{k}_pct']:+.1f} %), over the "
        f"rewritten network {result[f'rewritten_{k}_ms']:.2f} ms "
        f"({result[f'overhead_over_rewritten_{k}_pct']:+.1f} %)"
        for k in ("wall", "cpu")
    )
    print_lines(lines, indent=4)
    print_written(result)
