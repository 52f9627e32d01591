# SPDX-License-Identifier: Apache-2.0
"""The timing model against published board latencies: errors by network, family and pair."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from drp_slam.device import Constants, load_constants
from drp_slam.drpai3 import fit, placement
from drp_slam.drpai3.corpus import Pair, Sample, read_corpus, read_index, read_pairs, with_pairs

WORST = 10


def ranks(values: np.ndarray) -> np.ndarray:
    """(N,) average ranks, ties shared."""
    order = np.argsort(values, kind="stable")
    out = np.empty(len(values))
    out[order] = np.arange(len(values))
    for value in np.unique(values):
        same = values == value
        out[same] = out[same].mean()
    return out


def spearman(a: np.ndarray, b: np.ndarray) -> float | None:
    """Rank correlation; None for fewer than two values or no spread."""
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(np.corrcoef(ranks(a), ranks(b))[0, 1])


def metrics(published_s: np.ndarray, predicted_s: np.ndarray,
            precision_s: np.ndarray) -> dict[str, Any]:  # fmt: skip
    """Median and mean absolute percentage error, also to the nearest end of the rounding interval
    (zero inside it), and rank correlation."""
    if not len(published_s):
        return {"n": 0, "median_ape_pct": None, "mape_pct": None, "spearman": None,
                "median_ape_rounded_pct": None, "mape_rounded_pct": None}  # fmt: skip
    error = 100 * np.abs(predicted_s / published_s - 1)
    half = precision_s / 2
    outside = np.maximum(np.abs(predicted_s - published_s) - half, 0)
    rounded = 100 * outside / published_s
    return {
        "n": len(published_s), "median_ape_pct": float(np.median(error)),
        "mape_pct": float(error.mean()), "spearman": spearman(published_s, predicted_s),
        "median_ape_rounded_pct": float(np.median(rounded)),
        "mape_rounded_pct": float(rounded.mean()),
    }  # fmt: skip


def summary(samples: Sequence[Sample], predicted_s: np.ndarray, mapped: np.ndarray,
            pairs: Sequence[Pair]) -> dict[str, Any]:  # fmt: skip
    """What `validate-device --json` prints. Pruned twins count for the pairs only."""
    dense = np.array([s.share == 1.0 for s in samples])
    published = np.array([s.published.latency_s for s in samples])
    precision = np.array([s.published.precision_s for s in samples])
    family = np.array([s.published.family for s in samples])

    def of(keep: np.ndarray) -> dict[str, Any]:
        keep = keep & dense
        return metrics(published[keep], predicted_s[keep], precision[keep])

    models = [
        {"id": s.published.name, "family": s.published.family, "mapped": bool(m),
         "published_ms": s.published.latency_s * 1e3, "predicted_ms": float(p) * 1e3,
         "error_pct": 100 * (float(p) / s.published.latency_s - 1)}
        for s, p, m, d in zip(samples, predicted_s, mapped, dense) if d
    ]  # fmt: skip
    return {
        "all": of(np.ones(len(samples), bool)), "mapped": of(mapped), "fallback": of(~mapped),
        "families": {str(name): of(family == name) for name in np.unique(family)},
        "models": models, "pairs": _pairs(samples, predicted_s, pairs),
    }  # fmt: skip


def _pairs(samples: Sequence[Sample], predicted_s: np.ndarray,
           pairs: Sequence[Pair]) -> list[dict[str, Any]]:  # fmt: skip
    rows = []
    for n, sample in enumerate(samples):
        if sample.share == 1.0:
            continue
        dense, pruned = float(predicted_s[n - 1]), float(predicted_s[n])
        published = samples[n - 1].published.latency_s / sample.published.latency_s
        rows.append({"id": sample.published.name, "published_speedup": published,
                     "predicted_speedup": dense / pruned, "published_pruned_ms":
                     sample.published.latency_s * 1e3, "predicted_dense_ms": dense * 1e3,
                     "predicted_pruned_ms": pruned * 1e3,
                     "error_pct": 100 * (dense / pruned / published - 1)})  # fmt: skip
    return rows


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
        return (
            "a fallback costs more than the rules say"
            if slow
            else "fewer fallbacks than the rules say"
        )
    if "resize-nearest" in tags or "add" in tags or "concat" in tags:
        return "many operators of the DRP, whose cost varies with the release"
    return "slower kernels than the mean" if slow else "better kernels than the mean"


def validate(args: argparse.Namespace) -> dict[str, Any]:
    """`validate-device DIR`: the shipped constants; with `--cross-validate`, fits without them."""
    from drp_slam.cli import out_folder

    constants = load_constants(args.device)
    samples, pairs = read_all(args.dir, args.pairs, constants)
    whole = fit.batch(samples, {})
    predicted = fit.predict(whole, constants, constants["drpai3.mac_clock"])
    result: dict[str, Any] = {"device": f"emulated:{constants.name}", "folder": str(args.dir)}
    result |= summary(samples, predicted, whole.mapped, pairs)
    if args.cross_validate:
        found = run_fit(samples, constants)
        result["cross_validated"] = summary(samples, found.held_out_s, found.mapped, pairs)
        result["cross_validated"]["folds"] = _folds(samples, found)
    add_worst(result, samples)
    folder = out_folder(args)
    from drp_slam.drpai3.scatter import scatter

    result["plot"] = str(scatter(folder / "predicted-vs-published.png", result))
    return result


def add_worst(result: dict[str, Any], samples: Sequence[Sample]) -> None:
    """Adds the networks with the largest errors and the likely reason of each."""
    by_name = {s.published.name: s for s in samples}
    worst = sorted(
        result["models"], key=lambda m: -abs(np.log(m["predicted_ms"] / m["published_ms"]))
    )
    result["worst"] = [
        {**m, "reason": likely_reason(by_name[m["id"]], m["error_pct"], m["mapped"])}
        for m in worst[:WORST]
    ]


def read_all(folder: Path, pairs_file: Path | None,
             c: Constants) -> tuple[list[Sample], list[Pair]]:  # fmt: skip
    """Samples with their pruned twins, with a progress bar on standard error."""
    from rich.console import Console
    from rich.progress import Progress

    pairs = read_pairs(pairs_file) if pairs_file else []
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("graphs", total=len(read_index(folder)))
        samples = read_corpus(folder, c, lambda name: progress.update(task, advance=1))
    return with_pairs(samples, pairs, c), pairs


def run_fit(samples: Sequence[Sample], c: Constants) -> fit.Fit:
    """The fit with its cross-validation, with a spinner on standard error."""
    from rich.console import Console

    with Console(stderr=True).status("fit") as status:
        return fit.fit(samples, c, lambda text: status.update(f"fit: {text}"))


def _folds(samples: Sequence[Sample], found: fit.Fit) -> list[dict[str, Any]]:
    rows = []
    for k, chosen in enumerate(found.chosen_in_folds):
        families = {s.published.family for s, f in zip(samples, found.fold_of) if f == k}
        rows.append({"fold": k, "families": sorted(families), "rules": {
            tag: placement.UNIT_NAMES[unit] for tag, unit in chosen.items()}})  # fmt: skip
    return rows


def fit_device(args: argparse.Namespace) -> dict[str, Any]:
    """`fit-device DIR`: fits the constants, cross-validates, and with `--write` keeps them."""
    constants = load_constants(args.device)
    samples, pairs = read_all(args.dir, args.pairs, constants)
    found = run_fit(samples, constants)
    result: dict[str, Any] = {
        "device": constants.name, "constants": dict(found.constants),
        "rules": {tag: placement.UNIT_NAMES[u] for tag, u in found.chosen.items()},
        "fitted": summary(samples, found.predicted_s, found.mapped, pairs),
        "cross_validated": summary(samples, found.held_out_s, found.mapped, pairs),
        "folds": _folds(samples, found),
    }  # fmt: skip
    if args.write:
        from drp_slam.drpai3.write_constants import write_constants

        errors = result["cross_validated"]
        note = (f"fitted: fit-device, {errors['all']['n']} networks, median error held out "
                f"{errors['all']['median_ape_pct']:.1f} % (mapped "
                f"{errors['mapped']['median_ape_pct']:.1f} %)")  # fmt: skip
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
                table.add_row(name, str(row["n"]), f"{row['median_ape_pct']:.1f}",
                              f"{row['mape_pct']:.1f}",
                              f"{row['median_ape_rounded_pct']:.1f}", rank,
                              style="bold" if name in rows else None)  # fmt: skip
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
    for key in ("plot", "written"):
        if key in result:
            console.print(f"wrote {result[key]}")
