# SPDX-License-Identifier: Apache-2.0
"""The `study` command: which measurement, and how its result is written and shown."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from typing import Any

from drp_slam.errors import PruningError

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
"""Of a point of `compression`, what the table shows."""
SAME = ("method", "pattern", "layer_rates", "rate")
"""Of a point of `resnet20`, what chose its masks."""


def study(args: argparse.Namespace) -> dict[str, Any]:
    """Handler: runs one study, writes `<name>.json` and `<name>.png`. Raises PruningError."""
    import torch
    from rich.console import Console
    from rich.progress import Progress

    from drp_slam.cli import out_folder
    from drp_slam.pruning.studies import compression, digits, pictures
    from drp_slam.pruning.studies import resnet20 as cifar
    from drp_slam.pruning.studies.checkpoints import Kept, write

    if args.seeds < 1:
        raise PruningError(f"--seeds {args.seeds}: expected at least 1")
    if args.name == "resnet20" and args.data is None:
        raise PruningError("study resnet20 needs --data: a folder with networks/resnet_cifar10 and cifar10_test_1000")
    torch.set_num_threads(1)  # the same sums in the same order, whatever the host
    out, start = out_folder(args), time.perf_counter()
    settings = {
        "resnet20": f"{cifar.STEPS} {cifar.LEARNING_RATE}",
        "compression": f"{compression.SETTINGS}",
        "regulariser": f"{digits.FEW} {digits.GAIN_RATES}",
    }
    kept = Kept(out / f"{args.name}-parts", settings[args.name])
    with Progress(*Progress.get_default_columns(), console=Console(stderr=True)) as bar:
        task = bar.add_task(args.name, total=1.0)

        def say(text: str, part: float) -> None:
            bar.update(task, description=text, completed=part)

        if args.name == "resnet20":
            result = cifar.resnet20(args.data, args.seeds, say, kept)
        elif args.name == "compression":
            result = compression.compression(args.seeds, args.data, say, kept)
        else:
            result = digits.regulariser(args.seeds, say, kept)
    result["wall_s"] = time.perf_counter() - start
    path = out / f"{args.name}.json"
    write(path, result)
    try:
        result["picture"] = str(pictures.draw(result, out / f"{args.name}.png"))
    except OSError as error:
        raise PruningError(f"{out}: cannot write the picture: {error.strerror}") from error
    return result | {"json": str(path)}


def show(result: Mapping[str, Any]) -> None:
    """The table of means (or of points) and where the files are."""
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
    console.print(f"wrote {result['json']} and {result['picture']}", soft_wrap=True)


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
