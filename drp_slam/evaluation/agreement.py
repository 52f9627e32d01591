# SPDX-License-Identifier: Apache-2.0
"""Summarises the measurements of `evaluate`: means, bootstrap intervals, paired ratios; writes them into cards."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from drp_slam.atomic import write_text
from drp_slam.errors import DataError

METRICS = ("inliers", "matches", "overlap", "error_m", "error_deg")
"""Columns of `evaluate.Measured.table`."""
STATISTICS = ("mean", "low", "high", "ratio", "ratio_low", "ratio_high", "median", "median_ratio")
RESAMPLES = 2000
LOST_M, LOST_DEG = 0.1, 5.0
"""A pair is lost if no pose is found, or its error is larger than this."""


def lost(table: np.ndarray) -> int:
    """Pairs of an (N, len(METRICS)) table that are lost. Without ground truth: without a pose."""
    wrong = (table[:, METRICS.index("error_m")] > LOST_M) | (table[:, METRICS.index("error_deg")] > LOST_DEG)
    return int((wrong | (table[:, METRICS.index("inliers")] == 0)).sum())


def estimate(values: np.ndarray, reference: np.ndarray, seed: int = 0) -> dict[str, Any]:
    """`STATISTICS` of `values` paired with `reference`, and their `count`.

    Means and ratios of means have 95 % bootstrap intervals. Items that are NaN in either (no pose
    found) are omitted from both, so read a mean error together with `lost`: one wrong pose can
    dominate the mean, but not the median. None if no item is left.
    """
    good = np.isfinite(values) & np.isfinite(reference)
    values, reference = values[good], reference[good]
    found: dict[str, Any] = dict.fromkeys(STATISTICS) | {"count": len(values)}
    if not len(values):
        return found
    picks = np.random.default_rng(seed).integers(0, len(values), (RESAMPLES, len(values)))
    means, base = values[picks].mean(1), reference[picks].mean(1)
    low, high = np.percentile(means, (2.5, 97.5))
    middle, base_middle = float(np.median(values)), float(np.median(reference))
    found |= {"mean": float(values.mean()), "low": float(low), "high": float(high), "median": middle}
    found["median_ratio"] = middle / base_middle if base_middle else None
    if (base > 0).all():
        low, high = np.percentile(means / base, (2.5, 97.5))
        found |= {"ratio": float(values.mean() / reference.mean()), "ratio_low": float(low), "ratio_high": float(high)}
    return found


def write_agreement(name: str, result: Mapping[str, Any]) -> Path:
    """Writes the measurement into the card of a network."""
    import yaml

    from drp_slam.card import load_card

    card, body = load_card(name), result["networks"][name]
    means = {m: _short(body["all"][m]) for m in METRICS}
    options = f" --ate --configurations {result['configurations']}" if result["configurations"] else ""
    agreement: dict[str, Any] = {
        "command": f"python -m drp_slam evaluate {Path(result['reference']).stem} {card.name} "
        f"--sequence {result['sequence']}{options}",
        "reference": Path(result["reference"]).stem,
        "pairs": result["pairs"],
        "gap_s": result["gap_s"],
        **means,
    }
    agreement["lost_pairs"] = body["all"]["lost_pairs"]
    if body["kept_out"] is not None:
        agreement["kept_out"] = {m: _short(body["kept_out"][m]) for m in METRICS}
        agreement["kept_out"]["lost_pairs"] = body["kept_out"]["lost_pairs"]
    if "ate_m" in body:
        agreement["ate_m"] = _short(body["ate_m"])
    path = card.onnx.with_suffix(".yaml")
    write_text(path, yaml.safe_dump({**card.facts, "agreement": agreement}, sort_keys=False, width=100), DataError)
    return path


def _short(body: Mapping[str, Any]) -> dict[str, Any]:
    return {k: None if body[k] is None else float(f"{body[k]:.4g}") for k in STATISTICS if k != "median"}
