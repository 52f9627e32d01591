# SPDX-License-Identifier: Apache-2.0
"""`estimate`: one network on DRP-AI3, layer by layer."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from drp_slam.commands._networks import add_network_model, add_preprocessing, add_shuffles, dimensions, read_network
from drp_slam.commands._options import add_out, kept, out_folder
from drp_slam.commands._tables import console as stdout
from drp_slam.commands._tables import print_table, print_written
from drp_slam.errors import DrpAi3Error

HELP = "estimate a network on DRP-AI3: placement, packing, time, energy"
EXAMPLE = "estimate model.onnx --sparsity 0.9 --html"
COLUMNS = "layer|op|unit|shape|MMAC|zeros|N/M|kcycle|us|+cross|kB|bound by|use|uJ"
LEFT = ("layer", "op", "unit", "shape", "bound by")
SPARE = "kB|uJ|zeros|kcycle|use|N/M|shape|MMAC"
"""Omitted in this order on a narrow terminal."""


def add_arguments(p: argparse.ArgumentParser) -> None:
    p.add_argument("model", help="ONNX file (.onnx, .onnx.gz), shipped network, or folder of ONNX files")
    add_network_model(p)
    add_shuffles(p)
    sparsity = p.add_mutually_exclusive_group()
    text = "assume this share of zeros instead of the file's own"
    sparsity.add_argument("--sparsity", type=float, metavar="S", help=text)
    sparsity.add_argument("--dense", action="store_true", help="ignore the file's zeros")
    text = "assume this pattern of zeros (default: the file's; balanced with --sparsity)"
    p.add_argument("--pattern", choices=("file", "balanced", "random"), help=text)
    text = "place operators as this release of the vendor's compiler (default: 2.7)"
    p.add_argument("--release", type=float, default=2.7, metavar="X.Y", help=text)
    p.add_argument("--verify", action="store_true", help="verify that packed weights give the dense INT8 accumulators")
    text = "also run it in INT8 over a folder of images or .npz files, which calibrate a float network"
    p.add_argument("--run", type=Path, metavar="DIR|NPZ", help=text)
    text = "multiply pixels by this before --mean and --std (default: 1/255)"
    p.add_argument("--input-scale", type=float, default=1 / 255, metavar="S", help=text)
    add_preprocessing(p)
    text = "order of the input's axes (default: channels are the axis of size 1 or 3)"
    p.add_argument("--layout", choices=("nchw", "nhwc"), help=text)
    text = "choose INT8 ranges this way for --run; best: whichever of the others preserves more signal (default)"
    p.add_argument("--method", choices=("best", "minmax", "percentile"), default="best", help=text)
    text = "keep this percentage of the values with --method percentile (default: 99.99)"
    p.add_argument("--percentile", type=float, default=99.99, metavar="P", help=text)
    p.add_argument("--csv", action="store_true", help="write layers.csv")
    text = "write the network with unit, time and reason in each node's metadata (open it in Netron)"
    p.add_argument("--annotate", type=Path, metavar="FILE", help=text)
    text = "write estimate.html, its pictures and timeline.json (Chrome trace)"
    p.add_argument("--html", action="store_true", help=text)
    add_out(p)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """The report of one network: modelled figures, and the results of `--verify` and `--run`."""
    from drp_slam.chip.constants import load_constants
    from drp_slam.drpai3.estimate import estimate
    from drp_slam.drpai3.estimate_result import as_dict
    from drp_slam.drpai3.shuffles import MOVES, NOTE

    start = time.perf_counter()
    constants = load_constants(args.device)
    sparsity = 0.0 if args.dense else args.sparsity
    pattern = args.pattern or ("file" if sparsity is None else "balanced")
    if sparsity is None and pattern != "file":
        raise DrpAi3Error(f"--pattern {pattern} needs --sparsity; without it the file's own zeros count")
    assumed: dict[str, Any] = {"sparsity": sparsity, "pattern": pattern, "release": args.release}
    assumed |= {"freq_index": args.freq_index, "results_stay": args.results_stay}
    if Path(args.model).expanduser().is_dir():
        return kept(args, _survey(args, constants, assumed))
    graph = read_network(args.model, args.input_shape, args.dim, args.results_stay, args.convolve_shuffles)
    found = estimate(graph, constants, **assumed)
    result = as_dict(found, constants, pattern)
    if not args.convolve_shuffles and any(row["op"] in MOVES for row in result["fallbacks"]):
        other = read_network(args.model, args.input_shape, args.dim, args.results_stay, True)
        if NOTE in other.notes:
            result["shuffles_convolved_ms"] = as_dict(estimate(other, constants, **assumed), constants, pattern)[
                "total_ms"
            ]
    if args.verify:
        from drp_slam.drpai3.verify import verify

        result["verified"] = verify(graph, constants)
    if args.run is not None:
        from drp_slam.drpai3.execute import execute
        from drp_slam.drpai3.samples import Preprocessing

        how = Preprocessing(args.input_scale, args.mean, args.std, args.bgr, args.layout)
        result["executed"] = execute(graph, args.run, how, args.method, args.percentile, out_folder(args))
    if args.annotate is not None:
        from drp_slam.drpai3.annotate import annotate

        annotate(graph, found, result["device"], args.annotate)
        result["onnx"] = str(args.annotate)
    result["wall_s"] = time.perf_counter() - start
    if args.html or args.csv:
        from drp_slam.reporting import estimate_files

        written = estimate_files.write(out_folder(args), result, constants, args.html, args.csv)
        result["files"] = [str(p) for p in written]
    return kept(args, result)


def _survey(args: argparse.Namespace, constants: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Every ONNX file of a folder."""
    from collections import Counter

    from drp_slam.drpai3.survey import survey

    if args.input_shape or args.verify or args.run or args.annotate or args.csv or args.html:
        raise DrpAi3Error(f"{args.model} is a folder: only --dim, --sparsity and options of the chip apply")
    rows = survey(Path(args.model).expanduser(), constants, dimensions(args.dim), **options)
    outcomes = dict(Counter(row["outcome"] for row in rows))
    return {"device": f"emulated:{constants.name}", "outcomes": outcomes, "survey": rows}


def show(result: dict[str, Any]) -> None:
    """Prints the layers, totals and fallbacks; for a folder, one line per file."""
    console = stdout()
    if "survey" in result:
        _show_survey(result)
        return
    title = f"{result['name']} on {result['device']}, AI-MAC {result['mac_mhz']:.0f} MHz (modelled)"
    busy = [row for row in result["layers"] if row["us"] or row["crossing_us"]]
    styles = ["red" if row["unit"] == "cpu" else None for row in busy]
    print_table(COLUMNS, [_cells(row) for row in busy], title=title, left=LEFT, spare=SPARE, styles=styles)
    hidden = len(result["layers"]) - len(busy)
    if hidden:
        console.print(f"{counted(hidden, 'layer runs', 'layers run')} in parallel with others and add no time")
    console.print(
        f"{'[red]INCOMPLETE[/] ' if result['incomplete'] else ''}"
        f"[bold]{result['total_ms']:.3f} ms, {result['energy_mj']:.2f} mJ[/] ({result['average_w']:.2f} W), "
        f"{result['gmacs']:.3f} GMAC, {result['tops_per_w']:.2f} TOPS/W of the accelerator "
        "(published: 9 to 11 for pruned ResNet-50 class, 23.9 for the ideal layer)"
    )
    for reason in result["incomplete"]:
        console.print(f"[red]incomplete[/], not in any sum above: {reason}", highlight=False)
    for note in result["notes"]:
        console.print(f"note: {note}", highlight=False)
    console.print(
        f"cycles {result['cycles']:.3g} of {result['dense_cycles']:.3g} dense; memory {result['memory_mib']:.1f} MiB ("
        + ", ".join(f"{area} {size:.1f}" for area, size in result["memory_areas_mib"].items())
        + f"); traffic {result['traffic_mb']:.1f} MB; fixed {result['overhead_ms']:.2f} ms; "
        f"{counted(result['crossings'], 'crossing', 'crossings')} {result['crossing_ms']:.2f} ms"
    )
    if sum(result["groups_by_n"]):
        counts = " ".join(f"{n}:{count}" for n, count in enumerate(result["groups_by_n"]) if count)
        balance, padding = (round(result["packing_loss"][key], 3) + 0.0 for key in ("balance", "padding"))
        lost = f"lost to unequal columns {balance:.1%}, to padding {padding:.1%} of the dense cycles"
        console.print(f"weight groups by N  {counts}; {lost}")
    for key in ("verified", "executed"):
        if key in result:
            console.print(f"{key}: " + ", ".join(f"{k} {v}" for k, v in result[key].items()))
    for reason, (count, ms, crossing) in _reasons(result["fallbacks"]):
        times = f"{ms:.2f} ms, and {crossing:.2f} ms to move data there and back"
        console.print(f"[red]{count:.0f} on the Cortex-A55[/]: {reason}: {times}")
    if convolved := result.get("shuffles_convolved_ms"):
        text = "channel shuffles as 1 x 1 convolutions (--convolve-shuffles, here and in board-kit)"
        console.print(f"[bold]{convolved:.2f} ms[/] with {text}", highlight=False)
    kinds = result["constants"]
    console.print(f"based on {kinds['cited']} cited, {kinds['fitted']} fitted and {kinds['assumed']} assumed constants")
    print_written(result)


def counted(count: int, one: str, many: str) -> str:
    """A number with its noun."""
    return f"{count} {one if count == 1 else many}"


def _show_survey(result: dict[str, Any]) -> None:
    rows = []
    for row in result["survey"]:
        sums = ["", "", ""]
        if row["outcome"] != "refused":
            sums = [f"{row['gmacs']:.4f}", f"{row['total_ms']:.2f}", str(row["on_cpu"])]
        rows.append((row["file"], row["outcome"], *sums, f"{row['wall_s']:.2f}", row["why"]))
    title = f"{result['device']} (ms modelled, wall s measured here)"
    print_table("file|outcome|GMAC|ms|on A55|wall s|why", rows, title=title, left=("file", "outcome", "why"))
    stdout().print(", ".join(f"{count} {outcome}" for outcome, count in sorted(result["outcomes"].items())))
    print_written(result)


def _cells(row: dict[str, Any]) -> list[str]:
    return [
        row["name"][-28:],
        row["op"],
        row["unit"],
        "x".join(map(str, row["shape"])),
        f"{row['macs'] * 1e-6:.1f}",
        f"{row['sparsity']:.0%}" if row["sparsity"] else "",
        "" if row["mean_n"] is None else f"{row['mean_n']:.1f}/{row['group_rows']}",
        f"{row['cycles'] * 1e-3:.1f}",
        f"{row['us']:.1f}",
        f"{row['crossing_us']:.0f}" if row["crossing_us"] else "",
        f"{row['bytes'] * 1e-3:.0f}",
        row["bound_by"],
        f"{row['utilisation']:.0%}",
        f"{row['uj']:.1f}",
    ]


def _reasons(fallbacks: list[dict[str, Any]]) -> list[tuple[str, list[float]]]:
    """Count, ms and crossing ms of the layers on the CPU by reason, slowest first."""
    reasons: dict[str, list[float]] = {}
    for row in fallbacks:
        entry = reasons.setdefault(f"{row['reason']} ({row['op']})", [0, 0.0, 0.0])
        for i, more in enumerate((1, row["ms"], row["crossing_ms"])):
            entry[i] += more
    return sorted(reasons.items(), key=lambda r: -sum(r[1][1:]))
