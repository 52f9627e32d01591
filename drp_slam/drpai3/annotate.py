# SPDX-License-Identifier: Apache-2.0
"""Writes the normalised network with each node's modelled unit, time and reason as metadata, for Netron."""

from __future__ import annotations

from pathlib import Path

from drp_slam.atomic import write_bytes
from drp_slam.drpai3.estimate import Estimate
from drp_slam.drpai3.graph import Graph
from drp_slam.drpai3.layers import layers
from drp_slam.errors import DrpAi3Error

METADATA_IR = 10
"""IR version since which nodes carry metadata."""


def annotate(graph: Graph, found: Estimate, device: str, path: Path) -> None:
    """Writes the ONNX file. Keys of a node: `unit`, `us`, `crossing_us`, `mmac`, `reason`, all modelled.

    Quantize and dequantize nodes and views only have `unit`. Raises DrpAi3Error if the file
    cannot be written, or an onnx before 1.16 is installed.
    """
    model = graph.model()
    if not hasattr(model.graph.node[0], "metadata_props"):
        raise DrpAi3Error("--annotate needs onnx 1.16 or later, whose nodes carry metadata; upgrade onnx")
    model.ir_version = max(model.ir_version, METADATA_IR)
    rows = {layer.node.outputs[0]: row for layer, row in zip(layers(graph), found.rows)}
    for node in model.graph.node:
        row = rows.get(node.output[0])
        facts = {"unit": "folded" if row is None else row.unit}
        if row is not None:
            facts |= {"us": f"{row.seconds * 1e6:.2f}", "mmac": f"{row.macs * 1e-6:.3f}"}
            facts |= {"crossing_us": f"{row.wait_s * 1e6:.2f}"} if row.wait_s else {}
            facts |= {"reason": row.reason} if row.reason else {}
        for key, value in facts.items():
            node.metadata_props.add(key=f"drp_slam.{key}", value=value)
    total = {"device": device, "total_ms (modelled)": f"{found.total_s * 1e3:.3f}", "gmac": f"{found.macs * 1e-9:.4f}"}
    total |= {"incomplete": "; ".join(found.incomplete)} if found.incomplete else {}
    for key, value in total.items():
        model.metadata_props.add(key=f"drp_slam.{key}", value=value)
    write_bytes(path, model.SerializeToString(), DrpAi3Error)
