# SPDX-License-Identifier: Apache-2.0
"""`validate-device`: the shipped timing model against published latencies."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from drp_slam.commands._networks import add_corpus
from drp_slam.commands._options import add_out, kept, out_folder
from drp_slam.commands._tables import console as stdout
from drp_slam.commands._tables import print_table, print_written

HELP = "check the timing model against published board latencies"
EXAMPLE = "validate-device calibration --pairs pruning_speedup.csv"


def add_arguments(p: argparse.ArgumentParser) -> None:
    add_corpus(p)
    text = "also cross-validate by family (takes minutes)"
    p.add_argument("--cross-validate", action="store_true", help=text)
    text = "compare with the translator's table of one network (CSV)"
    p.add_argument("--layers", type=Path, metavar="FILE", help=text)
    text = "the network of that table (default: YOLOX-S, 640 pixels)"
    p.add_argument("--network", type=Path, metavar="ONNX", help=text)
    add_out(p)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Errors of the shipped constants; with `--cross-validate`, of fits without the family."""
    from drp_slam.chip.constants import load_constants
    from drp_slam.drpai3.fitting.scatter import scatter
    from drp_slam.drpai3.fitting.validate import cross_validated, read_all, read_rows, validate

    constants = load_constants(args.device)
    skipped: list[str] = []
    samples = read_all(args.dir, args.pairs, constants, skipped, args.latencies)
    result: dict[str, Any] = {"device": f"emulated:{constants.name}", "folder": str(args.dir), "skipped": skipped}
    result |= validate(samples, constants)
    if args.cross_validate:
        rows = read_rows(args.layers, constants, args.network) if args.layers is not None else None
        result["cross_validated"] = cross_validated(samples, constants, rows)
    out = out_folder(args)
    result["plot"] = str(scatter(out / "predicted-vs-published.png", result))
    if args.layers is not None:
        from drp_slam.drpai3.fitting.translator_report import layer_report

        result["layers"] = layer_report(args.layers, args.network, constants, out)
    return kept(args, result)


def show(result: dict[str, Any]) -> None:
    """Prints errors by family, the pairs, and the worst networks."""
    parts = [("shipped constants", result)]
    if "cross_validated" in result:
        parts.append(("held out by family, 5 folds", result["cross_validated"]))
    show_errors(parts)
    console = stdout()
    for row in result["worst"]:
        times = f"published {row['published_ms']:.1f}, predicted {row['predicted_ms']:.2f} ms"
        console.print(f"{row['id']}: {times} ({row['error_pct']:+.0f} %): {row['reason']}")
    if "layers" in result:
        show_layers(result["layers"])
    print_written(result)


def show_errors(parts: Sequence[tuple[str, dict[str, Any]]]) -> None:
    """Prints a table of errors and the speed-ups of pruned networks for each (title, summary)."""
    for title, part in parts:
        totals = {name: part[name] for name in ("all", "mapped", "fallback")}
        shown = {name: row for name, row in (totals | part["families"]).items() if row["n"]}
        cells = [
            (name, str(row["n"]))
            + tuple(f"{row[key]:.1f}" for key in ("median_ape_pct", "mape_pct", "median_ape_rounded_pct"))
            + ("" if row["spearman"] is None else f"{row['spearman']:.3f}",)
            for name, row in shown.items()
        ]
        columns = "networks|n|median %|mean %|beyond rounding %|rank"
        styles = ["bold" if name in totals else None for name in shown]
        print_table(columns, cells, title=title, left=("networks",), styles=styles)
        for pair in part["pairs"]:
            gains = f"published {pair['published_speedup']:.2f} x, predicted {pair['predicted_speedup']:.2f} x"
            stdout().print(f"{pair['id']}: {gains} ({pair['error_pct']:+.0f} %)")
        for kind, row in part.get("rows", {}).items():
            sums = f"translator {row['vendor_us']:.0f} us, model {row['modelled_us']:.0f} us"
            errors = f"{row['sum_error_pct']:+.0f} %, median row {row['median_row_error_pct']:.0f} %"
            stdout().print(f"rows, {kind} ({row['operators']}): {sums} ({errors})")


def show_layers(result: Mapping[str, Any]) -> None:
    """Prints the rows in the translator's columns, then the sums by kind of operator."""
    cells = [
        (
            str(row["row"]),
            row["operator"],
            "x".join(map(str, row["kernel"])) if row["kernel"][0] > 0 else "",
            str(row["stride"]) if row["stride"] > 0 else "",
            "x".join(map(str, row["in_hwc"])),
            "x".join(map(str, row["out_hwc"])),
            f"{row['vendor_us']:.0f}",
            f"{row['modelled_us']:.0f}",
        )
        for row in result["rows"]
    ]
    title = f"{result['network']}: translator's estimate and model (both modelled)"
    columns = "row|operator|kernel|stride|input hwc|output hwc|translator us|model us"
    print_table(columns, cells, title=title, left=("operator",), spare="stride|kernel|input hwc")
    sums = [
        (
            kind,
            str(part["groups"]),
            f"{part['vendor_us']:.0f}",
            f"{part['modelled_us']:.0f}",
            f"{part['sum_error_pct']:+.0f}",
            f"{part['median_row_error_pct']:.0f}",
        )
        for kind, part in (result["kinds"] | {"whole table": result["whole"]}).items()
    ]
    print_table("operator|n|translator us|model us|sum %|median row %", sums, left=("operator",))
    if (left := result["without_row"])["layers"]:
        text = f"no row in the table: {left['layers']} layers ({', '.join(left['operators'])})"
        stdout().print(f"{text}, model {left['modelled_us']:.0f} us")
    stdout().print(f"wrote {result['plot']}")
