# SPDX-License-Identifier: Apache-2.0
"""The translator's table: read, laid over a graph, compared; and YOLOX-S from its definition."""

from __future__ import annotations

import numpy as np
import pytest

from drp_slam.chip.constants import load_constants
from drp_slam.drpai3 import subgraphs
from drp_slam.drpai3.estimate import estimate
from drp_slam.drpai3.fitting import translator
from drp_slam.drpai3.fitting.translator_report import compare, layer_report
from drp_slam.drpai3.fitting.yolox import save_yolox_s
from drp_slam.drpai3.fitting.yolox import yolox as yolox_model
from drp_slam.drpai3.graph import load
from drp_slam.drpai3.layers import layers
from drp_slam.errors import DataError

HEADER = ",".join(translator.COLUMNS)
HEAD_CONVERSIONS = ("DequantizeLinear", "transpose", "cast_fp16_fp32")


@pytest.fixture(scope="module")
def yolox(tmp_path_factory):
    graph = load(save_yolox_s(tmp_path_factory.mktemp("yolox") / "yolox_s.onnx"))
    work = layers(graph)
    return work, subgraphs.wiring(graph, work)


def as_table(work, wires):
    """A table as the translator writes it, from the layers themselves; 10 us a row."""
    line = lambda op, k, s, i, o: f"{op},{k},{k},{s},{','.join(map(str, i))},{','.join(map(str, o))},10"  # noqa: E731
    hwc = lambda shape: (*shape[2:], shape[1])  # noqa: E731
    rows = [HEADER, line("imagescaler", -1, -1, (640, 640, 3), (640, 640, 3))]
    for layer in work:
        i, o = hwc(layer.in_shape), hwc(layer.out_shape)
        kernel = layer.node.attributes.get("kernel_shape", [1])[0]
        if layer.op in ("Conv", "MaxPool"):
            rows.append(line(layer.op, kernel, layer.node.attributes["strides"][0], i, o))
        elif layer.op == "Add":
            rows += [line("NOP", 1, 1, o, o), line("NOP", 1, 1, o, o), line("Add", 1, 1, o, o)]
        elif layer.op == "Concat" and work[wires.producer[wires.source(layer)[0]]].op == "Slice":
            rows += [line("Focus", -1, -1, (640, 640, 3), o), line("QuantizeLinear", -1, -1, o, o)]
        elif layer.op == "Concat":
            rows += [line("NOP", 1, 1, i, o)] * len(layer.node.inputs)
        elif layer.op == "Resize":
            rows += [line("DequantizeLinear", -1, -1, i, i), line("Resize", -1, -1, i, o)]
            rows.append(line("QuantizeLinear", -1, -1, o, o))
        if wires.results & set(layer.node.outputs):
            rows += [line(op, -1, -1, o, o) for op in HEAD_CONVERSIONS]
    return "\n".join(rows) + "\n"


def test_yolox_s_is_the_published_network(yolox):
    work, wires = yolox
    assert sum(layer.macs for layer in work) / 1e9 == pytest.approx(13.2783, abs=1e-4)
    assert sum(layer.op == "Conv" for layer in work) == 83
    shapes = {work[wires.producer[name]].out_shape for name in wires.results}
    assert shapes == {(1, 25, side, side) for side in (20, 40, 80)}


def test_yolox_nano_has_the_published_size(tmp_path):
    """0.91 M parameters and 1.08 GFLOP at 416 pixels, by its authors."""
    (tmp_path / "nano.onnx").write_bytes(yolox_model(416, 80, 0.25, depthwise=True).SerializeToString())
    work = layers(load(tmp_path / "nano.onnx"))
    assert 2e-9 * sum(layer.macs for layer in work) == pytest.approx(1.08, rel=0.05)
    assert 1e-6 * sum(layer.weight_elements for layer in work) == pytest.approx(0.91, rel=0.05)


def test_every_row_is_in_one_group_and_every_working_layer_in_one(yolox, tmp_path):
    work, wires = yolox
    path = tmp_path / "table.csv"
    path.write_text(as_table(work, wires))
    rows = translator.read_rows(path)
    groups = translator.align(rows, work, wires)
    assert [row.number for group in groups for row in group.rows] == list(range(len(rows)))
    claimed = [n for group in groups for n in group.layers]
    assert len(claimed) == len(set(claimed))
    assert set(claimed) == {n for n, layer in enumerate(work) if layer.op not in ("Sigmoid", "Mul")}
    assert {o for group in groups for o in group.outputs} == wires.results
    assert [group.kind for group in groups if not group.layers and not group.outputs] == ["imagescaler"]


def test_equal_times_have_no_error_and_a_missing_layer_is_said(yolox, tmp_path):
    work, wires = yolox
    path = tmp_path / "table.csv"
    path.write_text(as_table(work, wires).replace("imagescaler", "MaxPool"))
    groups = translator.align(translator.read_rows(path), work, wires)
    seconds, result_s = np.zeros(len(work)), {}
    for group in groups:
        for n in group.layers:
            seconds[n] = group.vendor_us * 1e-6 / len(group.layers)
        result_s |= dict.fromkeys(group.outputs, group.vendor_us * 1e-6)
    found = compare(groups, work, seconds, result_s)
    assert found["kinds"]["Concat (NOP)"]["sum_error_pct"] == pytest.approx(0)
    assert found["without_row"]["layers"] == 0
    assert found["kinds"]["MaxPool"]["groups"] == 4 and found["kinds"]["MaxPool"]["sum_error_pct"] < 0
    less = compare([g for g in groups if g.kind != "Conv"], work, seconds, result_s)
    assert less["without_row"] == {"layers": 83, "modelled_us": pytest.approx(830), "operators": ["Conv"]}


def test_memory_areas_of_yolox_s_are_those_of_the_compilers_map(tmp_path):
    """addr_map.txt of the compiled network: majima0/kakip_ai_apps @ba1ff33."""
    memory = estimate(load(save_yolox_s(tmp_path / "yolox_s.onnx")), load_constants("rzv2h")).memory
    assert memory.inputs == 4_915_200
    assert memory.features == pytest.approx(35_563_904, rel=0.03)
    assert memory.weights == pytest.approx(0x8E6988, rel=0.05)


def test_the_report_writes_its_picture(yolox, tmp_path):
    path = tmp_path / "table.csv"
    path.write_text(as_table(*yolox))
    result = layer_report(path, None, load_constants("rzv2h"), tmp_path)
    assert result["whole"]["vendor_us"] == pytest.approx(10 * (len(path.read_text().splitlines()) - 1))
    assert (tmp_path / "layers-vs-translator.png").stat().st_size > 1000


@pytest.mark.parametrize(
    "text, says",
    [
        ("a,b\n1,2\n", "line 2: cannot read 'operator'"),
        (HEADER + "\nConv" + ",x" * 10 + "\n", "line 2"),
        ("", "no rows"),
    ],
)
def test_a_bad_table_is_one_line(tmp_path, text, says):
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=says):
        translator.read_rows(path)
    with pytest.raises(DataError, match=r"none.csv: cannot read"):
        translator.read_rows(tmp_path / "none.csv")
