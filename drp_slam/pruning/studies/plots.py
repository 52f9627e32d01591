# SPDX-License-Identifier: Apache-2.0
"""Plots of the studies: accuracy over the fraction removed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from drp_slam.pruning.methods import SALIENCIES

STYLES = {"batch norm": "-", "refit": "--", "distilled": "-."}
FLEXIBLE = "flexible-nm"
BY_CYCLES, UNIFORM = (FLEXIBLE, "cycles"), (FLEXIBLE, "uniform")
NAMES = {BY_CYCLES: f"{FLEXIBLE} by cycles", UNIFORM: f"{FLEXIBLE}, uniform"}
COLOURS = {BY_CYCLES: "C6", UNIFORM: "C7"}


def draw(result: Mapping[str, Any], path: Path) -> Path:
    """One picture of a study's result; returns `path`."""
    wide = result["study"] == "resnet20"
    figure = Figure(figsize=(13, 6.5) if wide else (7.5, 5), layout="constrained")
    if wide:
        _resnet20(result, figure)
    elif result["study"] == "compression":
        _compression(result, figure.add_subplot())
    else:
        _regulariser(result, figure.add_subplot())
    figure.savefig(path, dpi=110)
    return path


def _resnet20(result: Mapping[str, Any], figure: Figure) -> None:
    """Left: methods with the same layer rates; right: patterns with OBS."""
    lines: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for row in result["means"]:
        key = row["method"], row["pattern"], row["layer_rates"], row["recovery"]
        lines.setdefault(key, []).append(row)
    left, right = figure.subplots(1, 2, sharey=True)
    colours = {name: f"C{index}" for index, name in enumerate(SALIENCIES)}
    shades = {"unstructured": "C2", "flexible-nm": "C4", "fixed-nm": "C5"}
    for (method, pattern, rates, recovery), rows in lines.items():
        style = STYLES[recovery]
        if pattern == "unstructured":
            note = f"{recovery}, one global budget" if rates == "global" else recovery
            _line(left, rows, "rate", f"{method} ({note})", colours[method], ":" if rates == "global" else style)
        if method == "obs" and rates != "global":
            rows = [{**row, "left": row["cycles_share"]} for row in rows]
            way = (pattern, rates)
            name, colour = NAMES.get(way, pattern), COLOURS.get(way, shades[pattern])
            _line(right, rows, "left", f"{name} ({recovery})", colour, style)
    left.set_title("methods, unstructured; layer rates by magnitude unless noted")
    right.set_title("patterns with OBS: savings on the chip")
    for axes, label in ((left, "fraction of the weights removed"), (right, "packed cycles of dense")):
        axes.axhline(result["dense_accuracy"], color="grey", lw=0.8, label="dense")
        _finish(axes, label)


def _line(axes: Axes, rows: list[Mapping[str, Any]], x: str, label: str, colour: str | None, style: str) -> None:
    rows = sorted(rows, key=lambda row: row[x])
    spread = [row["spread"] or 0.0 for row in rows]
    axes.errorbar(
        [row[x] for row in rows],
        [row["accuracy"] for row in rows],
        spread,
        marker="o",
        ms=4,
        capsize=2,
        lw=1.3,
        color=colour,
        ls=style,
        label=label,
    )


def _compression(result: Mapping[str, Any], axes: Axes) -> None:
    """Accuracy on the test images minus dense, over the compression ratio of the file."""
    names = dict.fromkeys((p["network"], p["seed"]) for p in result["points"])
    for index, (network, seed) in enumerate(names):
        mine = [p for p in result["points"] if (p["network"], p["seed"]) == (network, seed)]
        lost = [100 * (p["accuracy"] - p["dense_accuracy"]) for p in mine]
        axes.plot(
            [p["ratio"] for p in mine], lost, marker="o", ms=4, color=f"C{index}", label=f"{network}, seed {seed}"
        )
        for p in result["best"]:
            if (p["network"], p["seed"]) == (network, seed):
                axes.plot(p["ratio"], 100 * (p["accuracy"] - p["dense_accuracy"]), "*", ms=15, color=f"C{index}")
    axes.axhline(-0.5, color="grey", lw=0.8, label="0.5 points lost")
    _finish(axes, "times smaller than dense FP32 (star: chosen on other images)")
    axes.set_ylabel("accuracy minus dense, points")


def _regulariser(result: Mapping[str, Any], axes: Axes) -> None:
    for wrong in dict.fromkeys(row["wrong_labels"] for row in result["means"]):
        rows = [row for row in result["means"] if row["wrong_labels"] == wrong]
        axes.errorbar(
            [r["rate"] for r in rows],
            [100 * r["gain"] for r in rows],
            [100 * (r["gain_standard_error"] or 0.0) for r in rows],
            marker="o",
            capsize=3,
            label=f"{wrong:.0%} wrong labels",
        )
    axes.axhline(0.0, color="grey", lw=0.8, label="dense, trained equally long")
    _finish(axes, "fraction of the weights removed (bars: standard error over the seeds)")
    axes.set_ylabel("accuracy gained, points")
    axes.set_title(f"over-parametrised network on {result['train_images']} digits")


def _finish(axes: Axes, label: str) -> None:
    axes.set_xlabel(label)
    axes.set_ylabel("accuracy")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, handlelength=3.5)
