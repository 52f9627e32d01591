# SPDX-License-Identifier: Apache-2.0
"""Plots of predicted against published latency."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from drp_slam.atomic import replacing
from drp_slam.errors import DrpAi3Error

NAME_HEIGHT = 1.13
"""Minimum ratio of two predictions whose labels do not overlap."""


def _apart(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows, worst first, without those whose labels would overlap."""
    kept: list[dict[str, Any]] = []
    for row in rows:
        ratios = [row["predicted_ms"] / other["predicted_ms"] for other in kept]
        if all(max(ratio, 1 / ratio) > NAME_HEIGHT for ratio in ratios):
            kept.append(row)
    return kept


@contextmanager
def _drawing(path: Path, columns: int) -> Iterator[list[Any]]:
    """Square axes with logarithmic scales, saved as a PNG at the end of the block."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, all_axes = plt.subplots(1, columns, figsize=(6.5 * columns, 6), dpi=110, squeeze=False)
    for axes in all_axes[0]:
        axes.set(xscale="log", yscale="log", aspect="equal")
        axes.grid(True, which="both", alpha=0.2)
    yield list(all_axes[0])
    figure.tight_layout()
    with replacing(path, DrpAi3Error) as temporary:
        figure.savefig(temporary, format="png")
    plt.close(figure)


def scatter(path: Path, result: dict[str, Any]) -> Path:
    """Writes a PNG: one point per network, with held-out predictions if there are any."""
    parts = [("shipped constants", result)]
    if "cross_validated" in result:
        parts.append(("held out by family", result["cross_validated"]))
    with _drawing(path, len(parts)) as all_axes:
        for axes, (title, part) in zip(all_axes, parts):
            _draw_networks(axes, title, part)
    return path


def _draw_networks(axes: Any, title: str, part: dict[str, Any]) -> None:
    values = [m[k] for m in part["models"] for k in ("published_ms", "predicted_ms")]
    low, high = min(values) * 0.7, max(values) * 1.4
    axes.fill_between(
        [low, high], [0.8 * low, 0.8 * high], [1.2 * low, 1.2 * high], color="#e2e8f0", label="within 20 %", lw=0
    )
    axes.plot([low, high], [low, high], color="#718096", lw=1)
    for mapped, colour, name in ((True, "#2b6cb0", "mapped"), (False, "#c53030", "with fallbacks")):
        rows = [m for m in part["models"] if m["mapped"] == mapped]
        if rows:
            axes.scatter(
                [m["published_ms"] for m in rows],
                [m["predicted_ms"] for m in rows],
                s=22,
                alpha=0.7,
                color=colour,
                edgecolors="none",
                label=f"{name} ({len(rows)})",
            )
    for row in _apart(sorted(part["models"], key=lambda m: -abs(m["error_pct"]))[:8]):
        left = row["published_ms"] ** 2 > low * high  # keeps the name inside the picture
        axes.annotate(
            row["id"],
            (row["published_ms"], row["predicted_ms"]),
            fontsize=6.5,
            xytext=(-4 if left else 4, -3),
            textcoords="offset points",
            ha="right" if left else "left",
        )
    median = part["all"]["median_ape_pct"]
    axes.set(
        xlim=(low, high),
        ylim=(low, high),
        xlabel="published on the board, ms",
        ylabel="predicted, ms (modelled)",
        title=f"{title}: median error {median:.1f} %",
    )
    axes.legend(fontsize=8, loc="upper left")


def layer_scatter(path: Path, result: dict[str, Any]) -> Path:
    """Writes a PNG: one point per operator, the translator's time against the model's."""
    with _drawing(path, 1) as (axes,):
        low, high = 1.0, 1.5 * max(max(r["vendor_us"], r["modelled_us"]) for r in result["rows"])
        axes.plot([low, high], [low, high], color="#718096", lw=1)
        for kind, part in result["kinds"].items():
            rows = [r for r in result["rows"] if r["operator"] == kind]
            axes.scatter(
                [r["vendor_us"] for r in rows],
                [max(r["modelled_us"], low) for r in rows],
                s=20,
                alpha=0.7,
                edgecolors="none",
                label=f"{kind}: {part['sum_error_pct']:+.0f} % of the sum",
            )
        axes.set(xlim=(low, high), ylim=(low, high), title=result["network"])
        axes.set(xlabel="translator's estimate, us", ylabel="model, us (at least 1)")
        axes.legend(fontsize=7, loc="upper left")
    return path
