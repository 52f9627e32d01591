# SPDX-License-Identifier: Apache-2.0
"""The timing model against published latencies: what `validate-device` and `fit-device` compute."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from drp_slam.chip.constants import Constants
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


def validate(samples: Sequence[Sample], c: Constants) -> dict[str, Any]:
    """Errors of the shipped constants (`metrics.summary`), and the worst networks."""
    whole = fit.batch(samples, {})
    result = summary(samples, fit.predict(whole, c, c["drpai3.mac_clock"]), whole.mapped)
    add_worst(result, samples)
    return result


def cross_validated(samples: Sequence[Sample], c: Constants) -> dict[str, Any]:
    """Errors of constants that were fitted without the family of the network, and the folds."""
    found = run_fit(samples, c)
    return summary(samples, found.held_out_s, found.mapped) | {"folds": _folds(samples, found)}


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


def fitted(samples: Sequence[Sample], c: Constants) -> dict[str, Any]:
    """Constants and rules fitted to all samples, with errors fitted and held out by family."""
    found = run_fit(samples, c)
    return {
        "device": c.name,
        "constants": dict(found.constants),
        "rules": {tag: placement.UNIT_NAMES[u] for tag, u in found.chosen.items()},
        "fitted": summary(samples, found.predicted_s, found.mapped),
        "cross_validated": summary(samples, found.held_out_s, found.mapped),
        "folds": _folds(samples, found),
    }
