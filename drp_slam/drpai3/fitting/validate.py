# SPDX-License-Identifier: Apache-2.0
"""The commands `validate-device` and `fit-device`: the timing model against published latencies."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from drp_slam.device import Constants, load_constants
from drp_slam.drpai3 import placement
from drp_slam.drpai3.fitting import fit
from drp_slam.drpai3.fitting.corpus import Sample, read_corpus, read_index, read_pairs, with_pairs
from drp_slam.drpai3.fitting.metrics import summary

log = logging.getLogger(__name__)
WORST = 10


def likely_reason(sample: Sample, error_pct: float, mapped: bool) -> str:
    """A guess, from what the network holds, of why the model is far off."""
    tags = set(sample.tags)
    slow = error_pct < 0
    if sample.published.precision_s / sample.published.latency_s > 0.25:
        return "published as whole milliseconds: rounding alone is a quarter or more"
    if {"attention", "normalisation", "gelu"} & tags:
        return "transformer or layer norm: how the release splits it between units is not known"
    if "scale-branch" in tags:
        return "batch norm on a branch: its place is uncertain"
    if not mapped:
        return "a fallback costs more than the rules say" if slow else "fewer fallbacks than the rules say"
    if slow and {"resize-nearest", "concat"} & tags:
        return "concatenation and nearest resizing are taken as free; here they seem not to be"
    if not slow and "add" in tags:
        return "additions on the DRP seem to cost less here, or join another layer"
    return "slower kernels than the mean" if slow else "better kernels than the mean"


def validate(args: argparse.Namespace) -> dict[str, Any]:
    """`validate-device DIR`: the shipped constants; with `--cross-validate`, fits without them."""
    from drp_slam.cli import out_folder

    constants = load_constants(args.device)
    skipped: list[str] = []
    samples = read_all(args.dir, args.pairs, constants, skipped)
    whole = fit.batch(samples, {})
    predicted = fit.predict(whole, constants, constants["drpai3.mac_clock"])
    result: dict[str, Any] = {"device": f"emulated:{constants.name}", "folder": str(args.dir), "skipped": skipped}
    result |= summary(samples, predicted, whole.mapped)
    if args.cross_validate:
        found = run_fit(samples, constants)
        result["cross_validated"] = summary(samples, found.held_out_s, found.mapped)
        result["cross_validated"]["folds"] = _folds(samples, found)
    add_worst(result, samples)
    folder = out_folder(args)
    from drp_slam.drpai3.fitting.scatter import scatter

    result["plot"] = str(scatter(folder / "predicted-vs-published.png", result))
    if args.layers is not None:
        from drp_slam.drpai3.fitting.translator_report import layer_report

        result["layers"] = layer_report(args.layers, args.network, constants, folder)
    return result


def add_worst(result: dict[str, Any], samples: Sequence[Sample]) -> None:
    """Adds the networks with the largest errors and the likely reason of each."""
    by_name = {s.published.name: s for s in samples}
    worst = sorted(result["models"], key=lambda m: -abs(np.log(m["predicted_ms"] / m["published_ms"])))
    result["worst"] = [
        {**m, "reason": likely_reason(by_name[m["id"]], m["error_pct"], m["mapped"])} for m in worst[:WORST]
    ]


def read_all(folder: Path, pairs_file: Path | None, c: Constants, skipped: list[str] | None = None) -> list[Sample]:
    """Samples with their pruned twins, with a progress bar on standard error.

    `skipped` takes the errors of graphs that cannot be read, which are said too; without it the
    first such graph raises.
    """
    from rich.console import Console
    from rich.progress import Progress

    pairs = read_pairs(pairs_file) if pairs_file else []
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("graphs", total=len(read_index(folder)))
        samples = read_corpus(folder, c, lambda name: progress.update(task, advance=1), skipped)
    for line in skipped or ():
        log.warning("left out: %s", line)
    return with_pairs(samples, pairs, c)


def run_fit(samples: Sequence[Sample], c: Constants) -> fit.Fit:
    """The fit with its cross-validation, with a spinner on standard error."""
    from rich.console import Console

    with Console(stderr=True).status("fit") as status:
        return fit.fit(samples, c, lambda text: status.update(f"fit: {text}"))


def _folds(samples: Sequence[Sample], found: fit.Fit) -> list[dict[str, Any]]:
    rows = []
    for k, chosen in enumerate(found.chosen_in_folds):
        families = {s.published.family for s, f in zip(samples, found.fold_of) if f == k}
        rows.append(
            {
                "fold": k,
                "families": sorted(families),
                "rules": {tag: placement.UNIT_NAMES[unit] for tag, unit in chosen.items()},
            }
        )
    return rows


def fit_device(args: argparse.Namespace) -> dict[str, Any]:
    """`fit-device DIR`: fits the constants, cross-validates, and with `--write` keeps them."""
    constants = load_constants(args.device)
    samples = read_all(args.dir, args.pairs, constants)
    found = run_fit(samples, constants)
    result: dict[str, Any] = {
        "device": constants.name,
        "constants": dict(found.constants),
        "rules": {tag: placement.UNIT_NAMES[u] for tag, u in found.chosen.items()},
        "fitted": summary(samples, found.predicted_s, found.mapped),
        "cross_validated": summary(samples, found.held_out_s, found.mapped),
        "folds": _folds(samples, found),
    }
    if args.write:
        from drp_slam.drpai3.fitting.write_constants import write_constants

        errors = result["cross_validated"]
        note = (
            f"fitted: fit-device, {errors['all']['n']} networks, median error held out "
            f"{errors['all']['median_ape_pct']:.1f} % (mapped "
            f"{errors['mapped']['median_ape_pct']:.1f} %)"
        )
        result["written"] = str(write_constants(args.device, found.constants, note))
    return result


def show(result: dict[str, Any]) -> None:
    """Prints errors by family, the pairs, and the worst networks."""
    from rich.table import Table

    from drp_slam.drpai3.command import wide_console

    console = wide_console()
    parts = [("shipped constants", result)] if "models" in result else [("fit", result["fitted"])]
    if "cross_validated" in result:
        parts.append(("held out by family, 5 folds", result["cross_validated"]))
    for title, part in parts:
        table = Table(title=title, header_style="bold")
        for column in ("networks", "n", "median %", "mean %", "median % beyond rounding", "rank"):
            table.add_column(column, justify="left" if column == "networks" else "right")
        rows = {"all": part["all"], "mapped": part["mapped"], "fallback": part["fallback"]}
        for name, row in (rows | part["families"]).items():
            if row["n"]:
                rank = "" if row["spearman"] is None else f"{row['spearman']:.3f}"
                table.add_row(
                    name,
                    str(row["n"]),
                    f"{row['median_ape_pct']:.1f}",
                    f"{row['mape_pct']:.1f}",
                    f"{row['median_ape_rounded_pct']:.1f}",
                    rank,
                    style="bold" if name in rows else None,
                )
        console.print(table)
        for pair in part["pairs"]:
            console.print(
                f"{pair['id']}: published {pair['published_speedup']:.2f} x, predicted "
                f"{pair['predicted_speedup']:.2f} x ({pair['error_pct']:+.0f} %)"
            )
    for row in result.get("worst", ()):
        console.print(
            f"{row['id']}: published {row['published_ms']:.1f}, predicted "
            f"{row['predicted_ms']:.2f} ms ({row['error_pct']:+.0f} %): {row['reason']}"
        )
    for tag, unit in result.get("rules", {}).items():
        console.print(f"rule {tag}: {unit}")
    for key, value in result.get("constants", {}).items():
        console.print(f"{key} = {value:.4g}")
    if "layers" in result:
        from drp_slam.drpai3.fitting.translator_report import show_layers

        show_layers(result["layers"])
    for key in ("plot", "written"):
        if key in result:
            console.print(f"wrote {result[key]}")
