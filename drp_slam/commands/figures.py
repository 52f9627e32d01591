# SPDX-License-Identifier: Apache-2.0
"""`figures`: the source article's claims beside this project's figures."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from drp_slam.commands import compare as comparison
from drp_slam.commands._options import out_folder
from drp_slam.commands._tables import print_table, print_written
from drp_slam.errors import ConfigError

HELP = "compare the source article's figures with this model's: one HTML page, PNGs and JSON"
EXAMPLE = "figures rgbd_dataset_freiburg1_xyz --frames 100 --detector FastestDet.onnx"
COLUMNS = "figure|subject|claimed|ours|range"


def add_arguments(p: argparse.ArgumentParser) -> None:
    comparison.add_arguments(p)
    text = "use the results of this `compare` instead of running it now"
    p.add_argument("--compared", type=Path, metavar="DIR", help=text)
    text = "also show these networks (.onnx, .onnx.gz) beside ResNet-50 and YOLOX-S"
    p.add_argument("--networks", nargs="+", type=Path, default=[], metavar="FILE", help=text)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """The contents of `figures.json`."""
    from drp_slam.evaluation.article import figures
    from drp_slam.evaluation.article_page import write
    from drp_slam.reporting.folder import read_json, write_json

    for path in args.networks:
        if not path.is_file():
            raise ConfigError(f"--networks {path}: no such file")
    out = out_folder(args)
    args.out = folder = args.compared or out / "compare"
    if args.compared is None:
        comparison.run(args)
    elif not (folder / "compare.json").is_file():
        raise ConfigError(f"--compared {folder}: no compare.json; make it with compare SEQUENCE --out {folder}")
    found = figures(read_json(folder / "compare.json"), folder, args.networks, args.draws, out / "networks")
    write_json(out / "figures.json", found)
    return found | {"files": [str(out / "figures.json"), *write(out, found)]}


def show(result: Mapping[str, Any]) -> None:
    """Prints one row per claim."""
    rows = []
    for claim in result["claims"]:
        low, high = claim["range"]
        ours = f"{claim['ours']:.3g} {claim['unit']}"
        rows.append((claim["figure"], claim["subject"], claim["claimed"], ours, f"{low:.3g} to {high:.3g}"))
    title = f"{result['claims'][0]['source']}, beside our model of {result['device']}"
    print_table(COLUMNS, rows, title=title, left=("figure", "subject", "claimed"))
    print_written(result)
