# SPDX-License-Identifier: Apache-2.0
"""`prune`: from a network and a rate to a pruned network in FP32 and INT8."""

from __future__ import annotations

import argparse
import logging
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from drp_slam.commands._options import add_device, add_out, out_folder
from drp_slam.commands._tables import print_written
from drp_slam.errors import DrpSlamError, PruningError
from drp_slam.profiler.terminal import print_lines
from drp_slam.pruning.methods import BUDGETS, LAYER_RATES, PATTERNS, SALIENCIES, SCHEDULES

log = logging.getLogger(__name__)
HELP = "prune a network for DRP-AI3, write it in FP32 and INT8, estimate its latency"
EXAMPLE = "prune model.onnx --rate 0.9 --calibration DIR --out pruned"
REPORT = "prune.json"


def add_arguments(p: argparse.ArgumentParser) -> None:
    text = "ONNX file, shipped float network, or package.module:factory (imports and runs that code)"
    p.add_argument("source", help=text)
    p.add_argument("--rate", type=float, required=True, help="remove this fraction of the weights, in [0, 1)")
    text = f"use this pattern of zeros: {', '.join(PATTERNS)} (flexible-nm)"
    p.add_argument("--pattern", default="flexible-nm", choices=PATTERNS, metavar="NAME", help=text)
    text = f"rank weights by this saliency: {', '.join(SALIENCIES)}, or module:NAME of your own (obs)"
    p.add_argument("--saliency", default="obs", metavar="NAME", help=text)
    text = "read images, or .npz files of input arrays, from this folder (default: photographs of installed packages)"
    p.add_argument("--calibration", type=Path, metavar="DIR", help=text)
    p.add_argument("--bgr", action="store_true", help="feed blue first; RGB otherwise")
    p.add_argument("--images", type=int, default=100, metavar="N", help="use this many of them (100)")
    p.add_argument("--shape", metavar="1,C,H,W", help="set the input's shape, if the source does not fix it")
    text = "apply the rate of flexible-nm to this (weights)"
    p.add_argument("--budget", choices=BUDGETS, default="weights", help=text)
    text = "reach the rate at once or in stages (one-shot)"
    p.add_argument("--schedule", choices=SCHEDULES, default="one-shot", help=text)
    p.add_argument("--stages", type=int, default=4, metavar="N", help="prune in this many stages, unless one-shot (4)")
    text = f"set layer rates by this: {', '.join(LAYER_RATES)} (global)"
    p.add_argument("--layer-rates", default="global", choices=LAYER_RATES, metavar="NAME", help=text)
    p.add_argument("--layers", metavar="A,B", help="prune only these layers")
    p.add_argument("--spare", metavar="A,B", help="keep these layers dense")
    text = "distil from the dense network for this many steps after pruning (0)"
    p.add_argument("--retrain", type=int, default=0, metavar="STEPS", help=text)
    text = "initial learning rate of distillation; after OBS, small steps are best (1e-4)"
    p.add_argument("--learning-rate", type=float, default=1e-4, metavar="R", help=text)
    p.add_argument("--no-int8", action="store_true", help="write FP32 only")
    text = "choose INT8 ranges this way; best: whichever of the others preserves more signal (best)"
    p.add_argument("--calibrate-method", choices=("best", "minmax", "percentile"), default="best", help=text)
    text = "also write a Deep Compression file; with --retrain, its centroids are trained for a quarter as many steps"
    p.add_argument("--compress", action="store_true", help=text)
    add_device(p)
    p.add_argument("--seed", type=int, default=0, metavar="N", help="seed the random numbers (0)")
    add_out(p)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Prunes and writes the network; returns a report by layer. Raises PruningError."""
    from rich.console import Console
    from rich.progress import Progress

    from drp_slam.chip.constants import load_constants
    from drp_slam.pruning.cutting import Options
    from drp_slam.pruning.layout import Cell
    from drp_slam.pruning.prunefile import prune_file
    from drp_slam.reporting.folder import write_json

    constants = load_constants(args.device)
    options = Options(
        args.rate,
        args.pattern,
        args.saliency,
        args.budget,
        args.schedule,
        args.layer_rates,
        names(args.layers),
        names(args.spare),
        args.stages,
        args.retrain,
        args.seed,
        Cell.of(constants),
        args.learning_rate,
    )
    out, start = out_folder(args), time.perf_counter()
    with Progress(*Progress.get_default_columns(), console=Console(stderr=True)) as bar:
        pruning = bar.add_task("reading", total=1.0)
        rest = bar.add_task("", total=None, visible=False)

        def told(text: str, part: float) -> None:
            """Shows what is done now; how long what comes after pruning takes is not known."""
            if part < 1.0:
                bar.update(pruning, description=text, completed=part)
            else:
                bar.update(pruning, description="pruned", completed=1.0)
                bar.update(rest, description=text, visible=True)

        result = prune_file(
            args.source,
            options,
            args.calibration,
            out,
            told,
            shape=shape(args.shape),
            count=args.images,
            bgr=args.bgr,
            int8=not args.no_int8,
            method=args.calibrate_method,
            compress=args.compress,
        )
        bar.remove_task(rest)
        bar.update(pruning, description="done", completed=1.0)
    result |= {
        "rate": args.rate,
        "pattern": args.pattern,
        "saliency": args.saliency,
        "wall_s": time.perf_counter() - start,
        "device": constants.name,
    }
    result["totals"] = totals(result["layers"])
    result["modelled"] = modelled(result, args.source, constants)
    write_json(out / REPORT, result)
    return result


def names(text: str | None) -> tuple[str, ...]:
    """A comma-separated list."""
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def shape(text: str | None) -> tuple[int, ...] | None:
    """`1,3,224,224`. Raises PruningError."""
    if text is None:
        return None
    try:
        found = tuple(int(part) for part in text.split(","))
    except ValueError:
        found = ()
    if len(found) != 4 or min(found) < 1:
        raise PruningError(f"--shape {text}: expected four positive numbers, 1,C,H,W")
    return found


def totals(layers: list[dict[str, Any]]) -> dict[str, float]:
    """Sums over the pruned layers."""
    cycles, dense = (sum(row[key] for row in layers) for key in ("cycles", "dense_cycles"))
    return {"cycles": cycles, "dense_cycles": dense, "cycles_share": cycles / max(dense, 1)}


def modelled(result: Mapping[str, Any], source: str, constants: Any) -> dict[str, Any] | None:
    """Modelled time and energy of one inference of the pruned network: a float file, priced as INT8 like the dense one.

    Of the dense one too, if the source is a file. A network that the timing model cannot place gives None
    and a warning: the pruned files are valid in any case.
    """
    from drp_slam import resources
    from drp_slam.drpai3.estimate import estimate
    from drp_slam.drpai3.graph import load
    from drp_slam.evaluation.pruning_gain import gain

    shapes = {"": tuple(result["shape"])} if result["shape"] else {}
    try:
        pruned = estimate(load(Path(result["onnx"]), shapes), constants)
        found: dict[str, Any] = {"pruned_s": pruned.total_s, "pruned_energy_j": pruned.energy_j}
        if ":" not in source:
            found |= gain(estimate(load(resources.network(source), shapes), constants), pruned)
    except DrpSlamError as error:
        log.warning("no modelled time: %s", error)
        return None
    return found


def show(result: Mapping[str, Any]) -> None:
    """Prints the table of layers, then the files."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{result['pattern']}, {result['saliency']}, rate {result['rate']:.2f}")
    for column in ("layer", "shape", "pruned", "mean N", "cycles", "of dense"):
        table.add_column(column, justify="left" if column == "layer" else "right")
    for row in result["layers"]:
        table.add_row(
            row["layer"],
            "x".join(map(str, row["shape"])),
            f"{row['rate']:.1%}",
            f"{row['mean_n']:.1f}",
            f"{row['cycles']:,}",
            f"{row['cycles'] / row['dense_cycles']:.1%}",
        )
    Console().print(table)
    share, m, error = result["totals"]["cycles_share"], result["modelled"], result["output_error"]
    compared = "outputs not compared" if error is None else f"outputs differ by {error:.3g} of their variance (FP32)"
    lines = [f"packed cycles {share:.1%} of dense; {compared}", result["images"]]
    if rounds := Counter(result.get("rounds", {}).values()):
        each = ", ".join(f"{n} for {count} layers" for n, count in sorted(rounds.items(), reverse=True))
        lines.append(f"rounds of OBS, by layer size: {each}")
    for row in (left := result["left_dense"])["reasons"]:
        lines.append(f"left dense: {row['nodes']} {row['operator']}, {row['weights']:,} weights: {row['reason']}")
    if left["weights"]:
        lines.append(f"{left['share']:.1%} of the network's weights are left dense")
    if m is not None:
        from drp_slam.evaluation.pruning_gain import sentence

        dense = f", dense {m['dense_s'] * 1e3:.3f} ms; {sentence(m)}" if "dense_s" in m else ""
        lines.append(f"modelled on {result['device']} at {result['shape']}: {m['pruned_s'] * 1e3:.3f} ms{dense}")
    if (kept := result.get("int8_sqnr_db")) is not None:
        remedy = "; low: are the images preprocessed as in training?" if kept < 15 else ""
        how = f"INT8 ({result['int8_ranges']} ranges) keeps {kept:.1f} dB of signal over noise at its worst output"
        lines.append(how + remedy)
    if "int8_refused" in result:
        lines.append(f"no INT8 file: {result['int8_refused']}")
    if found := result.get("compressed"):
        centroids = "trained" if found["centroids_trained"] else "of k-means; --retrain trains them"
        lines.append(
            f"wrote {found['file']}, {found['ratio']:.1f} times smaller than dense FP32; outputs differ by "
            f"{found['output_error'] or float('nan'):.3g} of their variance (centroids {centroids})"
        )
    print_lines(lines, indent=2)
    print_written(result)
