# SPDX-License-Identifier: Apache-2.0
"""`advise`: the network of a sweep that fits limits."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from drp_slam.commands._options import add_out, kept
from drp_slam.commands._tables import print_written

HELP = "choose the network of a sweep that fits limits, and say why"
EXAMPLE = "advise --max-latency 2ms --max-ate-increase 5%"


def add_arguments(p: argparse.ArgumentParser) -> None:
    p.add_argument("--sweep", type=Path, metavar="DIR", help="read the results of this `sweep` (the newest)")
    p.add_argument("--max-latency", metavar="2ms", help="limit the modelled latency of the network on DRP-AI3")
    p.add_argument("--max-energy", metavar="1mJ", help="limit the modelled energy of one inference")
    p.add_argument("--max-ate-increase", metavar="5%", help="limit the mean ATE beyond the reference's")
    p.add_argument("--max-inliers-lost", metavar="5%", help="limit the PnP inliers below the reference's")
    add_out(p, "write none")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """The choice, its reasons and the rest. Raises DrpSlamError with a remedy where no point fits."""
    from drp_slam.sweep.advise import choose, latest, limits
    from drp_slam.sweep.sweep import load

    wanted = limits(args.max_latency, args.max_energy, args.max_ate_increase, args.max_inliers_lost)
    folder = args.sweep or latest()
    return kept(args, {"sweep": str(folder)} | choose(load(folder)["points"], wanted, folder))


def show(result: Mapping[str, Any]) -> None:
    """Prints the choice, its reasons, and why not the others."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    console.print(f"[bold]{result['name']}[/bold]  (--network {result['network']})")
    for reason in result["why"]:
        console.print(f"  because  {reason}")
    low, high = result["ate_ratio_interval"]
    if low is not None:
        interval = f"95 % interval {low:.3f} to {high:.3f}"
        console.print(f"  note     ATE is {result['ate_ratio']:.3f} of the reference's, {interval}")
    for other in result["others"]:
        console.print(f"  not      {other['name']}: {other['because']}")
    print_written(result)
