# SPDX-License-Identifier: Apache-2.0
"""`validate-device`: the shipped timing model against published latencies."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from drp_slam.commands._networks import add_corpus
from drp_slam.commands._options import out_folder, table_console

HELP = "check the timing model against published board latencies"
EXAMPLE = "validate-device calibration --pairs pruning_speedup.csv"


def add_arguments(p: argparse.ArgumentParser) -> None:
    add_corpus(p)
    text = "also fit without each fold's families and predict them (takes minutes)"
    p.add_argument("--cross-validate", action="store_true", help=text)
    text = "compare with the translator's table of one network (CSV)"
    p.add_argument("--layers", type=Path, metavar="FILE", help=text)
    text = "take this as the network of that table (default: YOLOX-S, 640 pixels)"
    p.add_argument("--network", type=Path, metavar="ONNX", help=text)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Errors of the shipped constants; with `--cross-validate`, of fits that have not seen the family."""
    from drp_slam.chip.constants import load_constants
    from drp_slam.drpai3.fitting.scatter import scatter
    from drp_slam.drpai3.fitting.validate import cross_validated, read_all, validate

    constants = load_constants(args.device)
    skipped: list[str] = []
    samples = read_all(args.dir, args.pairs, constants, skipped)
    result: dict[str, Any] = {"device": f"emulated:{constants.name}", "folder": str(args.dir), "skipped": skipped}
    result |= validate(samples, constants)
    if args.cross_validate:
        result["cross_validated"] = cross_validated(samples, constants)
    out = out_folder(args)
    result["plot"] = str(scatter(out / "predicted-vs-published.png", result))
    if args.layers is not None:
        from drp_slam.drpai3.fitting.translator_report import layer_report

        result["layers"] = layer_report(args.layers, args.network, constants, out)
    return result


def show(result: dict[str, Any]) -> None:
    """Prints errors by family, the pairs, and the worst networks."""
    parts = [("shipped constants", result)]
    if "cross_validated" in result:
        parts.append(("held out by family, 5 folds", result["cross_validated"]))
    show_errors(parts)
    console = table_console()
    for row in result["worst"]:
        times = f"published {row['published_ms']:.1f}, predicted {row['predicted_ms']:.2f} ms"
        console.print(f"{row['id']}: {times} ({row['error_pct']:+.0f} %): {row['reason']}")
    if "layers" in result:
        from drp_slam.drpai3.fitting.translator_report import show_layers

        show_layers(result["layers"], console)
    console.print(f"wrote {result['plot']}")


def show_errors(parts: Sequence[tuple[str, dict[str, Any]]]) -> None:
    """Prints a table of errors and the speed-ups of pruned networks for each (title, summary)."""
    from rich.table import Table

    console = table_console()
    for title, part in parts:
        table = Table(title=title, header_style="bold")
        for column in ("networks", "n", "median %", "mean %", "median % beyond rounding", "rank"):
            table.add_column(column, justify="left" if column == "networks" else "right")
        totals = {name: part[name] for name in ("all", "mapped", "fallback")}
        for name, row in (totals | part["families"]).items():
            if row["n"]:
                errors = (row["median_ape_pct"], row["mape_pct"], row["median_ape_rounded_pct"])
                rank = "" if row["spearman"] is None else f"{row['spearman']:.3f}"
                cells = (str(row["n"]), *(f"{error:.1f}" for error in errors), rank)
                table.add_row(name, *cells, style="bold" if name in totals else None)
        console.print(table)
        for pair in part["pairs"]:
            gains = f"published {pair['published_speedup']:.2f} x, predicted {pair['predicted_speedup']:.2f} x"
            console.print(f"{pair['id']}: {gains} ({pair['error_pct']:+.0f} %)")
