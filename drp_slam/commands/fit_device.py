# SPDX-License-Identifier: Apache-2.0
"""`fit-device`: constants of the timing model from published latencies."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from drp_slam.commands._networks import add_corpus
from drp_slam.commands._options import add_out, kept
from drp_slam.commands._tables import console as stdout
from drp_slam.commands._tables import print_written
from drp_slam.commands.validate_device import show_errors

HELP = "fit the timing model to published latencies, cross-validated"
EXAMPLE = "fit-device calibration --pairs pruning_speedup.csv --layers translator_layers.csv --write"


def add_arguments(p: argparse.ArgumentParser) -> None:
    add_corpus(p)
    text = "also fit the rows of the translator's table of YOLOX-S (CSV)"
    p.add_argument("--layers", type=Path, metavar="FILE", help=text)
    p.add_argument("--write", action="store_true", help="write the constants into the device file")
    add_out(p, "write none")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Constants, rules and errors of a fit to all networks, and cross-validated errors by family."""
    from drp_slam.chip.constants import load_constants
    from drp_slam.drpai3.fitting.validate import fitted, read_all, read_rows

    constants = load_constants(args.device)
    rows = read_rows(args.layers, constants) if args.layers is not None else None
    result = fitted(read_all(args.dir, args.pairs, constants, latencies=args.latencies), constants, rows)
    if args.write:
        from drp_slam.drpai3.fitting.write_constants import write_constants

        errors = result["cross_validated"]
        every, mapped = (f"{errors[name]['median_ape_pct']:.1f} %" for name in ("all", "mapped"))
        count = errors["all"]["n"]
        note = f"fitted: fit-device, {count} networks, median error held out {every} (mapped {mapped})"
        result["written"] = str(write_constants(args.device, result["constants"] | result["placement"], note))
    return kept(args, result)


def show(result: dict[str, Any]) -> None:
    """Prints errors by family, the pairs, and the fitted rules."""
    show_errors([("fit", result["fitted"]), ("held out by family, 5 folds", result["cross_validated"])])
    console = stdout()
    for tag, unit in result["rules"].items():
        console.print(f"rule {tag}: {unit}")
    for key, value in result["constants"].items():
        console.print(f"{key} = {value:.4g}")
    print_written(result)
