# SPDX-License-Identifier: Apache-2.0
"""The commands `estimate` and `compare-networks`."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from onnx_networks import Builder, residual

from drp_slam import cli


def run(capsys, *argv: str) -> dict:
    assert cli.main([*argv, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_estimate_command(tmp_path, capsys):
    path = str(residual(tmp_path / "a.onnx", density=0.2))
    out = tmp_path / "out"
    result = run(capsys, "estimate", path, "--html", "--csv", "--verify", "--out", str(out))
    assert {"total_ms", "energy_mj", "gmacs", "fallbacks", "layers"} <= set(result)
    assert result["verified"]["exact"] and result["total_ms"] > 0
    rows = list(csv.DictReader((out / "layers.csv").open()))
    assert len(rows) == len(result["layers"]) and rows[0]["unit"] == "ai-mac"
    trace = json.loads((out / "timeline.json").read_text())["traceEvents"]
    last = max(e["ts"] + e["dur"] for e in trace if e["ph"] == "X")
    assert last == pytest.approx(result["total_ms"] * 1e3)
    assert "modelled" in (out / "estimate.html").read_text()
    assert (out / "roofline.png").read_bytes().startswith(b"\x89PNG")
    dense = run(capsys, "estimate", path, "--dense")
    supposed = run(capsys, "estimate", path, "--sparsity", "0.9")
    assert supposed["cycles"] < result["cycles"] < dense["cycles"]
    assert cli.main(["estimate", path]) == 0
    assert "ai-mac" in capsys.readouterr().out


def test_compare_networks_command(tmp_path, capsys):
    first = str(residual(tmp_path / "a.onnx"))
    second = str(residual(tmp_path / "b.onnx", density=0.1))
    result = run(capsys, "compare-networks", first, second)
    assert result["networks"][0]["speedup"] == 1.0 < result["networks"][1]["speedup"]


@pytest.mark.parametrize(
    "argv, says",
    [
        (["--pattern", "random"], "needs --sparsity"),
        (["--freq-index", "0"], "drpai3.mac_clock is 0, expected 1 (1000 MHz) to 127 (10 MHz) on rzv2h"),
        (["--sparsity", "1.5"], "expected 0 to below"),
        (["--device", "rzv9"], "shipped"),
        (["--run", "empty"], "no calibration image"),
    ],
)
def test_estimate_refuses_in_one_line(tmp_path, capsys, argv, says):
    b = Builder((1, 3, 32, 32))
    path = b.save(tmp_path / "a.onnx", b.conv("x", 3, 8))
    (tmp_path / "empty").mkdir()
    argv = [str(tmp_path / a) if a == "empty" else a for a in argv]
    assert cli.main(["estimate", str(path), *argv, "--out", str(tmp_path / "o")]) == 1
    err = capsys.readouterr().err
    assert says in err and err.count("\n") == 1


def test_an_fp32_network_is_quantised_and_run(tmp_path, capsys):
    cv2 = pytest.importorskip("cv2")
    b = Builder((1, 3, 32, 32))
    out = b.conv(b.op("Relu", b.conv("x", 3, 8)), 8, 8)
    path = b.save(tmp_path / "a.onnx", out)
    images = tmp_path / "images"
    images.mkdir()
    for n in range(3):
        image = np.random.default_rng(n).integers(0, 256, (40, 50, 3)).astype(np.uint8)
        cv2.imwrite(str(images / f"{n}.png"), image)
    result = run(capsys, "estimate", str(path), "--run", str(images), "--out", str(tmp_path / "o"))
    assert result["executed"]["images"] == 3 and result["executed"]["sqnr_db"] > 15
    again = run(capsys, "estimate", result["executed"]["network"])
    assert again["total_ms"] == pytest.approx(result["total_ms"], rel=0.2)
