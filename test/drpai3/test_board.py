# SPDX-License-Identifier: Apache-2.0
"""The kit for a board, and a compiled folder beside the prediction."""

from __future__ import annotations

import json
import subprocess
import sys

import cv2
import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx_networks import Builder, residual

from drp_slam import cli, resources
from drp_slam.drpai3 import board_artifacts
from drp_slam.drpai3.fitting.yolox import save_yolox_s
from drp_slam.drpai3.quantize_check import sqnr_by_output
from drp_slam.drpai3.upsample_blocks import in_blocks
from drp_slam.errors import DataError

YOLOX_AREAS = {
    "data_in": 4_915_200,
    "data": 35_563_904,
    "data_out": 840_000,
    "weight": 0x8E6988,
    "drp_config": 1_162_024,
}


def compiled(folder):
    """A folder as the compiler leaves it: YOLOX-S' published areas, one subgraph on each side."""
    (folder / "sub_0").mkdir(parents=True)
    start, lines = 0x240000000, []
    for area, size in YOLOX_AREAS.items():
        lines.append(f"{area} {start:x} {size:x}")
        start += size
    (folder / "sub_0" / "addr_map.txt").write_text("\n".join(lines) + "\n")
    stage = {"backend": "DRP-AI", "name": "sub_0", "binaries_location": "sub_0", "input_buffers": ["images"]}
    stage["output_buffers"] = [{"name": "mid"}]
    cpu = {"backend": "CPU", "name": "sub_1", "input_buffers": ["mid"], "output_buffers": ["out"]}
    memory = {"buffers": [{"name": "mid", "shape": [1, 25], "data_type": "float32", "bytes_size": 2**20, "offset": 0}]}
    (folder / "mera.plan").write_text(json.dumps({"execution": {"stages": [[stage], [[cpu]]]}, "memory": memory}))
    summary = "Name,Operator,Mode,Out H,Out W,Out C,Time [us]\nc0,Conv,int8,320,320,32,682\nn0,NOP,int8,160,160,64,92\n"
    (folder / "sub_0" / "net_summary.csv").write_text(summary)
    profile = "Subgraph,Duration (us),%,Device\nsub_0,15000,90,DRP-AI\nsub_1,1620,10,CPU\nTotal,16620,100,\n"
    (folder / "profile.csv").write_text(profile)
    return folder


def test_a_compiled_folder_beside_the_prediction(tmp_path, capsys):
    network = save_yolox_s(tmp_path / "yolox_s.onnx")
    argv = ["board-compare", str(compiled(tmp_path / "c")), str(network)]
    assert cli.main([*argv, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["placement"]["subgraphs"] == 2 and found["placement"]["on_cpu"] == ["sub_1"]
    areas = found["memory"]["areas"]
    assert areas["inputs"]["compiled_mib"] == areas["inputs"]["modelled_mib"] == pytest.approx(4_915_200 / 2**20)
    assert areas["features"]["modelled_mib"] == pytest.approx(areas["features"]["compiled_mib"], rel=0.2)
    assert areas["weights"]["modelled_mib"] == pytest.approx(areas["weights"]["compiled_mib"], rel=0.05)
    assert found["translator"]["kinds"]["Concat"]["translator_us"] == 92
    assert found["profile"]["measured_us"] == {"DRP-AI": 15000, "CPU": 1620}
    assert any(line.startswith("placement: compiled with 1") for line in found["parts"])
    assert any(line.startswith("translator's Conv: 682 us") for line in found["parts"])
    assert cli.main(argv) == 0
    assert "differs by more than 15 %" in capsys.readouterr().out


@pytest.mark.parametrize(
    "name, text, says",
    [
        ("addr_map.txt", "data 240000000\n", r"line 1: 'data 240000000', expected: name start size"),
        ("addr_map.txt", "\n", "holds no area"),
        ("mera.plan", "no json", "no mera.plan"),
        ("mera.plan", '{"execution": {"stages": []}}', "no subgraph"),
        ("a_summary.csv", "a,b\n1,2\n", "no rows"),
        ("a_summary.csv", "operator,time\nConv,fast\n", "'fast' is not a number"),
        ("profile.csv", "a,b\n", "no header"),
        ("other.txt", "", "no mera.plan, addr_map.txt"),
    ],
)
def test_damaged_artefacts_are_one_line(tmp_path, capsys, name, text, says):
    import re

    (tmp_path / "c").mkdir()
    (tmp_path / "c" / name).write_text(text)
    assert cli.main(["board-compare", str(tmp_path / "c"), str(residual(tmp_path / "a.onnx"))]) == 1
    err = capsys.readouterr().err
    assert re.search(says, err) and "Traceback" not in err


def test_a_workbook_reads_like_its_csv(tmp_path):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in (["Name", "Operator", "time (us)"], ["c0", "Conv", 12.5]):
        book.active.append(row)
    book.save(tmp_path / "a_summary.xlsx")
    (row,) = board_artifacts.read_summary(tmp_path / "a_summary.xlsx")
    assert (row.operator, row.time_us) == ("Conv", 12.5)
    with pytest.raises(DataError, match="cannot read"):
        board_artifacts.read_summary(tmp_path / "none.csv")


@pytest.fixture
def pictures(tmp_path):
    (tmp_path / "p").mkdir()
    random = np.random.default_rng(0)
    for n in range(12):
        cv2.imwrite(str(tmp_path / "p" / f"{n}.png"), random.integers(0, 256, (40, 50, 3), np.uint8))
    return tmp_path / "p"


def test_the_kit_checks_its_own_outputs(tmp_path, pictures, capsys):
    b = Builder((1, 3, 32, 32))
    network = b.save(tmp_path / "net.onnx", b.op("Relu", b.conv("x", 3, 8)))
    out = tmp_path / "kit"
    argv = ["board-kit", str(network), "--images", str(pictures), "--mean", "0.5", "--std", "0.2,0.25,0.3"]
    assert cli.main([*argv, "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["expected"] == 10
    assert len(list((out / "calibration").glob("*.npy"))) == 12 and len(list((out / "expected").glob("*.npy"))) == 10
    tensor = np.load(out / "calibration" / "00.npy")
    facts = json.loads((out / "processing.json").read_text())["preruntime"]
    picture = cv2.imread(str(sorted(pictures.glob("*.png"))[0]))[:, :, ::-1]
    small = cv2.resize(picture[:, :, ::-1], (32, 32), interpolation=cv2.INTER_AREA)[:, :, ::-1].astype(float)
    drp = (small + np.array(facts["cof_add"])) * np.array(facts["cof_mul"])  # what PreRuntime computes
    np.testing.assert_allclose(tensor[0].transpose(1, 2, 0), drp, atol=1e-5)
    compile((out / "compile.py").read_text(), "compile.py", "exec")

    def compare(folder):
        return subprocess.run([sys.executable, str(out / "compare.py"), str(folder)], capture_output=True, text=True)

    same = compare(out / "expected")
    assert same.returncode == 0 and "worst: inf dB" in same.stdout
    board = tmp_path / "board"
    board.mkdir()
    for path in (out / "expected").glob("*.npy"):
        np.save(board / path.name, np.load(path) * 1.5)
    far = compare(board)
    assert far.returncode == 1 and "6.0 dB" in far.stdout
    assert "missing" in compare(tmp_path).stderr


@pytest.mark.parametrize(
    "more, says", [(["--std", "0"], "no std of 0"), (["--mean", "1,2"], "expected one value or 3")]
)
def test_a_kit_of_wrong_figures_is_one_line(tmp_path, pictures, capsys, more, says):
    b = Builder((1, 3, 32, 32))
    network = b.save(tmp_path / "net.onnx", b.conv("x", 3, 8))
    argv = ["board-kit", str(network), "--images", str(pictures), "--out", str(tmp_path / "k"), *more]
    assert cli.main(argv) == 1
    assert says in capsys.readouterr().err


def test_the_kit_of_a_shipped_network_is_float_with_its_zeros(tmp_path, pictures, capsys):
    out = tmp_path / "kit"
    argv = ["board-kit", "xfeat-p90", "--images", str(pictures), "--input-shape", "1,1,64,96", "--results-stay"]
    assert cli.main([*argv, "--out", str(out)]) == 0
    capsys.readouterr()
    written = onnx.load(out / "network.onnx")
    kinds = {node.op_type for node in written.graph.node}
    assert not kinds & {"QuantizeLinear", "DequantizeLinear"} and "Relu" in kinds
    assert written.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    int8 = in_blocks(onnx.load(resources.network("xfeat-p90")))
    sample = {"tensor": np.random.default_rng(0).normal(size=(1, 1, 64, 96)).astype(np.float32)}
    (kept,) = sqnr_by_output(written, int8, [sample]).values()
    assert kept > 15
    weights = {t.name: numpy_helper.to_array(t) for t in written.graph.initializer}
    stored = {t.name: numpy_helper.to_array(t) for t in int8.graph.initializer}
    fusion = next(n for n in written.graph.node if n.name.startswith("fusion_0"))
    name = next(n for n in stored if n.startswith("fusion_0.weight") and stored[n].ndim == 4)
    np.testing.assert_array_equal(weights[fusion.input[1]] == 0, stored[name] == 0)
