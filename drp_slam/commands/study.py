# SPDX-License-Identifier: Apache-2.0
"""`study`: measurements of pruning methods for the documentation."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from drp_slam.commands._options import add_out, out_folder
from drp_slam.commands._tables import print_written
from drp_slam.errors import PruningError

HELP = "measure pruning methods on small networks: accuracy and size"
EXAMPLE = "study resnet20 --data DIR"
COLUMNS = (
    "network",
    "seed",
    "rate",
    "ratio",
    "file_bytes",
    "accuracy",
    "dense_accuracy",
    "choosing_accuracy",
    "dense_choosing_accuracy",
)
"""Printed values of a point of `compression`."""
SAME = ("method", "pattern", "layer_rates", "rate")
"""Keys that identify the masks of a point of `resnet20`."""


def add_arguments(p: argparse.ArgumentParser) -> None:
    p.add_argument("name", choices=("resnet20", "compression", "regulariser"))
    text = "read networks/resnet_cifar10 and cifar10_test_1000 here (compression: without it, digits only)"
    p.add_argument("--data", type=Path, metavar="DIR", help=text)
    text = "repeat with this many splits of the images; an interrupted study resumes with the same --out"
    p.add_argument("--seeds", type=int, default=3, metavar="N", help=text)
    add_out(p)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Runs one study, writes `<name>.json` and `<name>.png`. Raises PruningError."""
    from rich.console import Console
    from rich.progress import Progress

    from drp_slam.pruning.studies.measure import measure

    if args.seeds < 1:
        raise PruningError(f"--seeds {args.seeds}: expected at least 1")
    if args.name == "resnet20" and args.data is None:
        raise PruningError("study resnet20 needs --data: a folder with networks/resnet_cifar10 and cifar10_test_1000")
    out, start = out_folder(args), time.perf_counter()
    with Progress(*Progress.get_default_columns(), console=Console(stderr=True)) as bar:
        task = bar.add_task(args.name, total=1.0)

        def say(text: str, part: float) -> None:
            bar.update(task, description=text, completed=part)

        result = measure(args.name, args.data, args.seeds, out, say)
    return result | {"wall_s": time.perf_counter() - start}


def show(result: Mapping[str, Any]) -> None:
    """Prints the table of means (or of points) and the files."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    if result["study"] == "resnet20":
        rows = side_by_side(result["means"])
    else:
        rows = result.get("means") or [{k: p[k] for k in COLUMNS} for p in result["points"]]
    table = Table(title=result["study"], box=box.SIMPLE_HEAD, padding=0, pad_edge=False)
    for key in rows[0]:
        table.add_column(key.replace("_", " "), justify="right", no_wrap=isinstance(rows[0][key], str))
    for row in rows:
        table.add_row(*[_cell(v) for v in row.values()])
    console = Console()
    console.print(table)
    if "dense_accuracy" in result:
        console.print(f"dense accuracy {result['dense_accuracy']:.4f}")
    for found in result.get("best", []):
        ratio, at, dense = (found[k] for k in ("ratio", "accuracy", "dense_accuracy"))
        name = f"{found['network']}, seed {found['seed']}"
        console.print(
            f"{name}: {found['rate']:.0%} pruned, {ratio:.1f} times smaller, accuracy {at:.4f}, dense {dense:.4f}"
        )
    console.print(f"{result['cpu_s']:.0f} s of CPU time in all, {result['wall_s']:.0f} s now")
    print_written(result)


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def side_by_side(means: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row for the same masks: weights kept, packed cycles, and each recovery's accuracy."""
    recoveries = dict.fromkeys(row["recovery"] for row in means)
    found: dict[tuple, dict[str, Any]] = {}
    for row in means:
        key = tuple(row[k] for k in SAME)
        if key not in found:
            found[key] = (
                {k: row[k] for k in SAME}
                | {"kept": row["density"], "packed_cycles": row["cycles_share"]}
                | dict.fromkeys(recoveries)
            )
        found[key][row["recovery"]] = row["accuracy"]
    return list(found.values())
