# SPDX-License-Identifier: Apache-2.0
"""Errors of predicted against published latencies, by network, family and pair."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from drp_slam.drpai3.fitting.corpus import Sample


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


def metrics(published_s: np.ndarray, predicted_s: np.ndarray, precision_s: np.ndarray) -> dict[str, Any]:
    """Median and mean absolute percentage error, also to the nearest end of the rounding interval
    (zero inside it), and rank correlation."""
    if not len(published_s):
        return {
            "n": 0,
            "median_ape_pct": None,
            "mape_pct": None,
            "spearman": None,
            "median_ape_rounded_pct": None,
            "mape_rounded_pct": None,
        }
    error = 100 * np.abs(predicted_s / published_s - 1)
    half = precision_s / 2
    outside = np.maximum(np.abs(predicted_s - published_s) - half, 0)
    rounded = 100 * outside / published_s
    return {
        "n": len(published_s),
        "median_ape_pct": float(np.median(error)),
        "mape_pct": float(error.mean()),
        "spearman": spearman(published_s, predicted_s),
        "median_ape_rounded_pct": float(np.median(rounded)),
        "mape_rounded_pct": float(rounded.mean()),
    }


def summary(samples: Sequence[Sample], predicted_s: np.ndarray, mapped: np.ndarray) -> dict[str, Any]:
    """The result of `validate-device --json`. Pruned twins count only in the pairs."""
    dense = np.array([s.share == 1.0 for s in samples])
    published = np.array([s.published.latency_s for s in samples])
    precision = np.array([s.published.precision_s for s in samples])
    family = np.array([s.published.family for s in samples])

    def of(keep: np.ndarray) -> dict[str, Any]:
        keep = keep & dense
        return metrics(published[keep], predicted_s[keep], precision[keep])

    models = [
        {
            "id": s.published.name,
            "family": s.published.family,
            "mapped": bool(m),
            "published_ms": s.published.latency_s * 1e3,
            "predicted_ms": float(p) * 1e3,
            "error_pct": 100 * (float(p) / s.published.latency_s - 1),
        }
        for s, p, m, d in zip(samples, predicted_s, mapped, dense)
        if d
    ]
    return {
        "all": of(np.ones(len(samples), bool)),
        "mapped": of(mapped),
        "fallback": of(~mapped),
        "families": {str(name): of(family == name) for name in np.unique(family)},
        "models": models,
        "pairs": _pairs(samples, predicted_s),
    }


def _pairs(samples: Sequence[Sample], predicted_s: np.ndarray) -> list[dict[str, Any]]:
    """Each pruned twin with the dense network before it."""
    rows, first = [], 0
    for n, sample in enumerate(samples):
        if sample.share == 1.0:
            first = n
            continue
        dense, pruned = float(predicted_s[first]), float(predicted_s[n])
        published = samples[first].published.latency_s / sample.published.latency_s
        rows.append(
            {
                "id": sample.published.name,
                "published_speedup": published,
                "predicted_speedup": dense / pruned,
                "published_pruned_ms": sample.published.latency_s * 1e3,
                "predicted_dense_ms": dense * 1e3,
                "predicted_pruned_ms": pruned * 1e3,
                "error_pct": 100 * (dense / pruned / published - 1),
            }
        )
    return rows
