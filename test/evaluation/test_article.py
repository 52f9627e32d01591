# SPDX-License-Identifier: Apache-2.0
"""The article's figures beside ours: closed forms, and the command on a made room."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from page_checks import check_page

from drp_slam.chip.constants import load_constants
from drp_slam.chip.cost import Cost
from drp_slam.chip.soc import Soc
from drp_slam.cli import main
from drp_slam.device import Work
from drp_slam.drpai3.fitting.resnet import resnet50
from drp_slam.drpai3.graph import load
from drp_slam.evaluation.article import PRUNED, RATES, Ranged, efficiency, offload, peak

NEW, OLD = load_constants("rzv2h"), load_constants("rzv2l")


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory):
    path = tmp_path_factory.mktemp("networks") / "resnet50.onnx"
    path.write_bytes(resnet50().SerializeToString())
    return load(path)


def test_the_array_gains_what_pruning_takes_away_and_the_last_generation_nothing(resnet) -> None:
    found = peak({"resnet50": resnet}, NEW, OLD)
    new, old = (found["array_tops"]["resnet50"][c.name] for c in (NEW, OLD))
    assert new[0] < found["dense_peak_tops"]["rzv2h"] and old[0] < found["dense_peak_tops"]["rzv2l"]
    assert old == pytest.approx([old[0]] * len(RATES))
    for rate, tops in zip(RATES, new):
        assert tops / new[0] <= 1 / (1 - rate) + 1e-9, "no more than the zeros allow"
    assert new[RATES.index(PRUNED)] / new[0] > 0.8 / (1 - PRUNED)


def test_ranges_hold_the_figure(resnet) -> None:
    found = efficiency("resnet50", resnet, NEW, OLD, draws=30)
    for value, (low, high) in zip(found["tops_per_w"], found["range"]):
        assert low <= value <= high
    assert found["tops_per_w"] == sorted(found["tops_per_w"])
    assert found["previous_tops_per_w"] < found["tops_per_w"][RATES.index(PRUNED)]


def test_a_figure_without_uncertain_constants_has_no_range() -> None:
    found = Ranged.of(lambda c: c["cpu.cores"], NEW, draws=5)
    assert (found.value, found.low, found.high) == (4, 4, 4)


def test_offloading_moves_image_kernels_and_nothing_else() -> None:
    soc = Soc(NEW, {"drpai3": lambda constants, work: Cost(4e-3, 5e-3, "")})
    frame = {
        "image": (Work("drp", "blur", {"pixels": 1e6, "ops": 2e8, "bytes": 2e6}, "custom", "stencil", "blur"),),
        "network": (Work("drpai3", "net", {"macs": 2e9}),),
        "track": (Work("cpu", "track", {"flops": 3e7}),),
    }
    drp, bare, cpu = offload(frame, soc)
    assert bare["stages_ms"] == cpu["stages_ms"], "its one kernel is custom"
    assert drp["stages_ms"]["network"] == cpu["stages_ms"]["network"] == pytest.approx(4)
    on_cpu_ms = soc.cpu_cost(frame["image"]).modelled_s * 1e3
    assert cpu["stages_ms"]["image"] == pytest.approx(on_cpu_ms)
    assert cpu["fps"] == pytest.approx(1e3 / (on_cpu_ms + cpu["stages_ms"]["track"]))


def test_the_command_writes_a_page_and_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["figures", "synthetic", "--features", "orb", "--frames", "3", "--draws", "3", "--json"]
    assert main([*argv, "--out", str(tmp_path)]) == 0
    result = json.loads(capsys.readouterr().out)
    assert {claim["figure"] for claim in result["claims"]} == {"3", "4", "5", "6", "SLAM"}
    assert all(claim["source"] and claim["command"] and len(claim["range"]) == 2 for claim in result["claims"])
    _, *pictures, page = (Path(path) for path in result["files"])
    assert check_page(page).count("<svg") == 5
    assert len(pictures) == 5 and all(p.read_bytes().startswith(b"\x89PNG") for p in pictures)
    # the figures can be asked for one by one
    for claim in result["claims"]:
        if claim["command"].startswith("estimate"):
            assert main([*claim["command"].split(), "--json"]) == 0
            found = json.loads(capsys.readouterr().out)
            key = "tops_per_w" if claim["unit"] == "TOPS/W" else "array_tops"
            assert claim["unit"] == "times" or found[key] == pytest.approx(claim["ours"])
    again = ["--compared", str(tmp_path / "compare"), "--out", str(tmp_path / "again")]
    assert main([*argv, *again]) == 0
    assert json.loads(capsys.readouterr().out)["slam"] == result["slam"]
    assert main([*argv, "--compared", str(tmp_path / "none")]) == 1
    assert capsys.readouterr().err.startswith("drp_slam figures: --compared")
