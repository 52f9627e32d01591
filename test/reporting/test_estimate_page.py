# SPDX-License-Identifier: Apache-2.0
"""The page of an estimate: the verdict names what takes the time, whatever the network."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from page_checks import check_page

from drp_slam import cli
from drp_slam.reporting.estimate_page import verdict

ROW = {"unit": "ai-mac", "op": "Conv", "us": 10.0, "crossing_us": 0.0, "bound_by": "macs"}


def result(*rows: dict[str, object], **facts: object) -> dict[str, object]:
    layers = [ROW | row for row in rows]
    total_ms = sum(float(r["us"]) + float(r["crossing_us"]) for r in layers) * 1e-3
    return {"layers": layers, "total_ms": total_ms, "overhead_ms": 0.0, "incomplete": [], "notes": []} | facts


def test_the_verdict_leads_with_the_largest_group() -> None:
    rows = [{"op": "Gather", "unit": "drp", "us": 400.0}] * 3 + [{"us": 500.0}, {"op": "Add", "us": 1.0}]
    first, second = verdict(result(*rows))
    assert first.startswith("1.20 of 1.70 ms: Gather on the DRP (3 layers); the AI-MAC array waits")
    assert second.startswith("0.50 of 1.70 ms: Conv on the AI-MAC array (1 layer)") and "pruning" in second


@pytest.mark.parametrize(("bound", "words"), [("weights", "pruning shortens"), ("features", "pruning does not")])
def test_the_verdict_says_whether_pruning_helps(bound: str, words: str) -> None:
    assert words in verdict(result({"bound_by": bound}))[0]


def test_what_is_incomplete_comes_first_and_a_small_network_is_called_small() -> None:
    found = verdict(result({"us": 100.0}, total_ms=1.1, overhead_ms=1.0, incomplete=["Loop body unknown"]))
    assert found[0] == "Incomplete, not in any sum: Loop body unknown." and "fixed overhead" in found[-1]


def test_a_page_with_sortable_layers_is_written(tmp_path: Path) -> None:
    weight = numpy_helper.from_array(np.ones((8, 3, 3, 3), np.float32), "w")
    nodes = [helper.make_node("Conv", ["x", "w"], ["<c>"], name="<c>"), helper.make_node("Erf", ["<c>"], ["y"])]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", [1, 3, 32, 32]), ("y", None))]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "n.onnx")
    assert cli.main(["estimate", str(tmp_path / "n.onnx"), "--html", "--out", str(tmp_path)]) == 0
    text = check_page(tmp_path / "estimate.html")
    assert 'class="sortable"' in text and "Erf on the Cortex-A55" in text and "&lt;c&gt;" in text
    assert "<c>" not in text and len(re.findall('<svg class="plot"', text)) == 2
