# SPDX-License-Identifier: Apache-2.0
"""Compares the timing model with published latencies, for `validate-device` and `fit-device`."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from drp_slam.chip.constants import Constants
from drp_slam.drpai3 import placement
from drp_slam.drpai3.fitting import fit, translator
from drp_slam.drpai3.fitting.batch import FEATURE_SHARE, Rows, batch, predict
from drp_slam.drpai3.fitting.corpus import (
    Published,
    Sample,
    read_corpus,
    read_index,
    read_pairs,
    sample_of,
    with_latencies,
    with_pairs,
)
from drp_slam.drpai3.fitting.metrics import summary
from drp_slam.drpai3.fitting.yolox import save_yolox_s

log = logging.getLogger(__name__)
WORST = 10
ROWS_FAMILY = "yolox"
"""Family of the table's network: held out together."""


def likely_reason(sample: Sample, error_pct: float, mapped: bool) -> str:
    """A likely reason for a large error, from the contents of the network."""
    tags = set(sample.tags)
    slow = error_pct < 0
    if sample.published.precision_s / sample.published.latency_s > 0.25:
        return "published as whole milliseconds: rounding alone is a quarter or more"
    if {"attention", "normalisation", "gelu"} & tags:
        return "transformer or layer norm: its partition by this release is unknown"
    if "scale-branch" in tags:
        return "batch norm on a branch: its unit is uncertain"
    if not mapped:
        return "a fallback costs more than modelled" if slow else "a fallback costs less than modelled"
    return "slower kernels than the mean" if slow else "better kernels than the mean"


def validate(samples: Sequence[Sample], c: Constants) -> dict[str, Any]:
    """Errors of the shipped constants (`metrics.summary`), and the worst networks."""
    whole = batch(samples, {}, c)
    (predicted_s,) = predict(whole, [c], c["drpai3.mac_clock"])
    result = summary(samples, predicted_s, whole.mapped)
    add_worst(result, samples)
    return result


def cross_validated(samples: Sequence[Sample], c: Constants, rows: Rows | None = None) -> dict[str, Any]:
    """Errors of constants and rules fitted without the network's family, and the folds."""
    return _held_out(samples, run_fit(samples, c, rows), rows)


def _held_out(samples: Sequence[Sample], found: fit.Fit, rows: Rows | None) -> dict[str, Any]:
    count = len(samples)
    result = summary(samples, found.held_out_s[:count], found.mapped[:count]) | {"folds": _folds(samples, found)}
    if rows is not None:
        result["rows"] = row_summary(rows, found.held_out_s[count:])
    return result


def row_summary(rows: Rows, predicted_s: np.ndarray) -> dict[str, Any]:
    """Errors against a translator's table, by kind of operator and for the whole network."""
    vendor = np.array([group.vendor_us * 1e-6 for group in rows.known])
    kind = np.array([group.kind for group in rows.known])

    def of(keep: np.ndarray) -> dict[str, Any]:
        ratio = predicted_s[keep] / vendor[keep] - 1
        return {
            "operators": int(keep.sum()),
            "vendor_us": float(vendor[keep].sum() * 1e6),
            "modelled_us": float(predicted_s[keep].sum() * 1e6),
            "median_row_error_pct": float(100 * np.median(np.abs(ratio))),
            "sum_error_pct": float(100 * (predicted_s[keep].sum() / vendor[keep].sum() - 1)),
        }

    return {"whole": of(np.ones(len(vendor), bool))} | {str(k): of(kind == k) for k in dict.fromkeys(kind)}


def read_rows(table: Path, c: Constants, network: Path | None = None) -> Rows:
    """A translator's table with its network, by default YOLOX-S at 640 pixels."""
    with tempfile.TemporaryDirectory() as folder:
        path = network if network is not None else save_yolox_s(Path(folder) / "yolox_s.onnx")
        sample = sample_of(Published(path.stem, ROWS_FAMILY, 1.0, 1e-6, placement.NEW_RELEASE, path.stem), path, c)
    return Rows(sample, tuple(translator.align(translator.read_rows(table), sample.layers, sample.wires)))


def add_worst(result: dict[str, Any], samples: Sequence[Sample]) -> None:
    """Adds the networks with the largest errors and the likely reason of each."""
    by_name = {s.published.name: s for s in samples}
    worst = sorted(result["models"], key=lambda m: -abs(np.log(m["predicted_ms"] / m["published_ms"])))
    result["worst"] = [
        {**m, "reason": likely_reason(by_name[m["id"]], m["error_pct"], m["mapped"])} for m in worst[:WORST]
    ]


def read_all(
    folder: Path, pairs_file: Path | None, c: Constants, skipped: list[str] | None = None, latencies: Path | None = None
) -> list[Sample]:
    """Samples with their pruned twins, with a progress bar on standard error.

    `latencies` is a table of other chips' latencies (`rzv2l_ms` ...), which replace those of the
    index. Errors of graphs that cannot be read are printed and appended to `skipped`; without it the
    first such graph raises.
    """
    from rich.console import Console
    from rich.progress import Progress

    pairs = read_pairs(pairs_file) if pairs_file else []
    index = read_index(folder)
    if latencies is not None:
        index = with_latencies(index, latencies, f"{c.name}_ms")
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("graphs", total=len(index))
        samples = read_corpus(folder, index, c, lambda name: progress.update(task, advance=1), skipped)
    for line in skipped or ():
        log.warning("left out: %s", line)
    return with_pairs(samples, pairs, c)


def run_fit(samples: Sequence[Sample], c: Constants, rows: Rows | None = None) -> fit.Fit:
    """The fit with its cross-validation, with a spinner on standard error.

    Priors are `fit.START` with a table of rows or for RZ/V2H, else those of the device's own file.
    """
    priors = fit.START if rows is not None or c.name == fit.STARTS_FOR else fit.priors_of(c)
    from rich.console import Console

    with Console(stderr=True).status("fit") as status:
        return fit.fit(samples, c, rows, lambda text: status.update(f"fit: {text}"), priors)


def _folds(samples: Sequence[Sample], found: fit.Fit) -> list[dict[str, Any]]:
    rows = []
    for k, chosen in enumerate(found.chosen_in_folds):
        families = {s.published.family for s, f in zip(samples, found.fold_of) if f == k}
        rows.append({"fold": k, "families": sorted(families), "rules": _named(chosen)})
    return rows


def _named(chosen: Mapping[str, float]) -> dict[str, str]:
    units = {tag: placement.UNIT_NAMES[int(unit)] for tag, unit in chosen.items() if tag != FEATURE_SHARE}
    return units | {FEATURE_SHARE: f"{chosen[FEATURE_SHARE]:.3f}"}


def fitted(samples: Sequence[Sample], c: Constants, rows: Rows | None = None) -> dict[str, Any]:
    """Constants and rules fitted to all samples, with errors fitted and held out by family."""
    found = run_fit(samples, c, rows)
    count = len(samples)
    result = summary(samples, found.predicted_s[:count], found.mapped[:count])
    if rows is not None:
        result["rows"] = row_summary(rows, found.predicted_s[count:])
    return {
        "device": c.name,
        "constants": dict(found.constants),
        "placement": {
            key: unit
            for tag, unit in found.chosen.items()
            if (key := f"{placement.PREFIX}{tag}") in c and tag in fit.alternatives(samples)
        },
        "rules": _named(found.chosen),
        "fitted": result,
        "cross_validated": _held_out(samples, found, rows),
    }
