# SPDX-License-Identifier: Apache-2.0
"""`estimate` on a folder, on dynamic dimensions and with --annotate; incomplete totals say so everywhere."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx_networks import Builder, residual

from drp_slam import cli


def incomplete(path: Path) -> Path:
    """A network with a product of three tensors, whose work depends on their order."""
    b = Builder((2, 4, 4))
    return b.save(path, b.op("Relu", b.op("Einsum", "x", "x", "x", equation="bij,bjk,bkl->bil")))


def dynamic(path: Path) -> Path:
    b = Builder(("N", 16, "H", "W"))
    return b.save(path, b.conv("x", 16, 8))


def run(capsys, *argv: str) -> dict:
    assert cli.main([*argv, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_folder_gets_one_row_a_file(tmp_path, capsys):
    (tmp_path / "more").mkdir()
    residual(tmp_path / "a.onnx")
    incomplete(tmp_path / "more" / "b.onnx")
    dynamic(tmp_path / "c.onnx")
    (tmp_path / "d.onnx").write_bytes(b"no network")
    result = run(capsys, "estimate", str(tmp_path))
    rows = {row["file"]: row for row in result["survey"]}
    assert {name: row["outcome"] for name, row in rows.items()} == {
        "a.onnx": "answered",
        "c.onnx": "refused",
        "d.onnx": "refused",
        "more/b.onnx": "incomplete",
    }
    assert result["outcomes"] == {"answered": 1, "refused": 2, "incomplete": 1}
    assert "Einsum" in rows["more/b.onnx"]["why"] and "--dim" in rows["c.onnx"]["why"]
    assert rows["a.onnx"]["gmacs"] > 0 and rows["d.onnx"]["gmacs"] is None
    assert run(capsys, "estimate", str(tmp_path), "--dim", "64")["outcomes"]["answered"] == 2
    assert cli.main(["estimate", str(tmp_path)]) == 0
    assert "2 refused" in capsys.readouterr().out


def test_named_dimensions(tmp_path, capsys):
    path = str(dynamic(tmp_path / "a.onnx"))
    layer = run(capsys, "estimate", path, "--dim", "H=32", "--dim", "48")["layers"][0]
    assert layer["shape"] == [1, 8, 32, 48]
    layer = run(capsys, "estimate", path, "--dim", "N=2", "--dim", "H=32", "--dim", "W=16")["layers"][0]
    assert layer["shape"] == [2, 8, 32, 16]


@pytest.mark.parametrize("argv, says", [(["--dim", "H=a"], "expected NAME=64"), (["--verify"], "is a folder")])
def test_bad_arguments_are_one_line(tmp_path, capsys, argv, says):
    residual(tmp_path / "a.onnx")
    assert cli.main(["estimate", str(tmp_path), *argv]) == 1
    err = capsys.readouterr().err
    assert says in err and err.count("\n") == 1
    (tmp_path / "none").mkdir()
    assert cli.main(["estimate", str(tmp_path / "none")]) == 1
    assert "has no .onnx" in capsys.readouterr().err


def test_an_incomplete_total_says_so_beside_every_sum(tmp_path, capsys):
    path = str(incomplete(tmp_path / "a.onnx"))
    assert "Einsum" in run(capsys, "estimate", path)["incomplete"][0]
    assert cli.main(["estimate", path, "--html", "--out", str(tmp_path / "o")]) == 0
    out = capsys.readouterr().out
    assert "INCOMPLETE" in out and "not in any sum above" in out
    assert "Incomplete" in (tmp_path / "o" / "estimate.html").read_text()
    assert cli.main(["compare-networks", path, path]) == 0
    assert "(incomplete)" in capsys.readouterr().out


def test_annotated_network_runs_and_names_units(tmp_path, capsys):
    b = Builder((1, 16, 8, 8))
    y = b.op("Softmax", b.op("Relu", b.conv("x", 16, 8)), axis=1)
    path = b.save(tmp_path / "a.onnx", b.op("Reshape", y, b.constant(np.array([1, 512]))))
    out = tmp_path / "annotated.onnx"
    result = run(capsys, "estimate", str(path), "--annotate", str(out))
    assert result["onnx"] == str(out)
    model = onnx.load(out)
    onnx.checker.check_model(model, full_check=True)
    facts = {n.op_type: {p.key: p.value for p in n.metadata_props} for n in model.graph.node}
    assert facts["Conv"]["drp_slam.unit"] == "ai-mac" and float(facts["Conv"]["drp_slam.us"]) > 0
    assert facts["Softmax"]["drp_slam.reason"] == "softmax inside the network"
    assert facts["Reshape"] == {"drp_slam.unit": "folded"}
    assert {p.key for p in model.metadata_props} == {f"drp_slam.{k}" for k in ("device", "total_ms (modelled)", "gmac")}
