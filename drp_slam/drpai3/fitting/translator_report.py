# SPDX-License-Identifier: Apache-2.0
"""Compares the model with the translator's table by row and by kind of operator, and plots it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from drp_slam.chip.constants import Constants
from drp_slam.drpai3 import subgraphs, timing
from drp_slam.drpai3.estimate import estimate
from drp_slam.drpai3.fitting.translator import Group, align, read_rows
from drp_slam.drpai3.graph import load
from drp_slam.drpai3.layers import Layer, layers
from drp_slam.drpai3.order import chain_first


def layer_report(table: Path, network: Path | None, c: Constants, folder: Path) -> dict[str, Any]:
    """The comparison for one network, by default YOLOX-S at 640 pixels, dense; writes the picture.

    Raises DataError for a table and DrpAi3Error for a network that cannot be read.
    """
    from drp_slam.drpai3.fitting.scatter import layer_scatter
    from drp_slam.drpai3.fitting.yolox import save_yolox_s

    rows = read_rows(table)
    graph = load(network if network is not None else save_yolox_s(folder / "yolox_s.onnx"))
    work = chain_first(graph, layers(graph))
    wires = subgraphs.wiring(graph, work)
    found = estimate(graph, c.replace({"drpai3.exposed_share": 0.0}), sparsity=0.0)  # the table knows no contention
    sizes = {name: float(np.prod(graph.shapes[name])) for name in wires.results}
    result_s = {name: float(timing.result_seconds(1, size, c)) for name, size in sizes.items()}
    result = compare(align(rows, work, wires), work, np.array([row.seconds for row in found.rows]), result_s)
    result |= {"network": graph.name, "table": str(table)}
    result["plot"] = str(layer_scatter(folder / "layers-vs-translator.png", result))
    return result


def compare(
    groups: Sequence[Group], layers: Sequence[Layer], seconds: np.ndarray, result_s: Mapping[str, float]
) -> dict[str, Any]:
    """Compares the model with the table: `rows` (one per group) and `kinds` (sums and errors).

    `seconds` (L,) is the model's time of each layer, `result_s` the time to convert each network
    output for the CPU.
    """
    rows: list[dict[str, Any]] = []
    claimed: set[int] = set()
    for group in groups:
        ours = sum(float(seconds[n]) for n in group.layers) + sum(result_s.get(o, 0.0) for o in group.outputs)
        claimed.update(group.layers)
        first, last = group.rows[0], group.rows[-1]
        rows.append(
            {
                "row": first.number,
                "operator": group.kind,
                "kernel": list(first.kernel),
                "stride": first.stride,
                "in_hwc": list(first.in_hwc),
                "out_hwc": list(last.out_hwc),
                "layers": [layers[n].name for n in group.layers],
                "vendor_us": group.vendor_us,
                "modelled_us": ours * 1e6,
            }
        )
    kinds = {
        kind: _of_kind([r for r in rows if r["operator"] == kind])
        for kind in dict.fromkeys(r["operator"] for r in rows)
    }
    left = [(layers[n].op, float(seconds[n])) for n in range(len(layers)) if n not in claimed and seconds[n] > 0]
    return {
        "rows": rows,
        "kinds": kinds,
        "whole": _of_kind(rows),
        "without_row": {
            "layers": len(left),
            "modelled_us": sum(s for _, s in left) * 1e6,
            "operators": sorted({o for o, _ in left}),
        },
    }


def _of_kind(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    vendor = np.array([r["vendor_us"] for r in rows])
    ours = np.array([r["modelled_us"] for r in rows])
    return {
        "groups": len(rows),
        "vendor_us": float(vendor.sum()),
        "modelled_us": float(ours.sum()),
        "median_row_error_pct": float(np.median(100 * np.abs(ours / vendor - 1))),
        "sum_error_pct": float(100 * (ours.sum() / vendor.sum() - 1)),
    }
