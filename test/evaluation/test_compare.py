# SPDX-License-Identifier: Apache-2.0
"""The comparison against closed forms, and the command on a made room."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from page_checks import check_page

from drp_slam.chip.constants import load_constants
from drp_slam.chip.cost import Cost
from drp_slam.chip.soc import Meter, Soc
from drp_slam.cli import main
from drp_slam.device import Work
from drp_slam.drpai3.fitting.resnet import resnet50
from drp_slam.evaluation.public_pair import yolox_nano
from drp_slam.evaluation.ratios import MeanFrame, ranges, rests_on
from drp_slam.evaluation.workloads import AGAINST, SYSTEMS, WORKLOADS, in_time, searched
from drp_slam.profiler.page import number
from drp_slam.reporting.frame_schedule import price, with_wake_ups

QUIET = load_constants().replace({"cpu.wake_up": 1e-12, "cpu.wake_up_worst": 1e-12, "memory.bandwidth": 1e15})
SOC = Soc(QUIET, {"drpai3": lambda constants, work: Cost(4e-3, 5e-3, "")})
FRAME = {
    "image": (Work("drp", "blur", {"pixels": 1e6, "ops": 2e7, "bytes": 2e6}, "custom", "stencil", "blur"),),
    "network": (Work("drpai3", "net", {"macs": 2e9}),),
    "detect": (Work("drpai3", "detector", {"macs": 1e9}),),
    "track": (Work("cpu", "track", {"flops": 3e7}),),
}
FRAMES = {round(1e9 * i / 30): FRAME for i in range(90)}
CALLS = {"image": 50.0, "track": 200.0}


def test_recognition_runs_at_its_rate() -> None:
    counts = [sum("detect" in f for f in searched(FRAMES, w)) for w in WORKLOADS]
    assert counts == [0, 15, 30, 90]
    assert all(len(searched(FRAMES, w)) == 90 for w in WORKLOADS)


def test_systems_run_the_same_work_on_other_units() -> None:
    chip, bare, alone, python, alone_python = (price(FRAME, s, Meter(SOC), CALLS) for s in SYSTEMS)
    assert [s.unit.name for s in chip.steps] == ["DRP1", "DRP-AI3", "DRP-AI3", "CPU"]
    assert [s.unit.name for s in bare.steps] == ["CPU", "DRP-AI3", "DRP-AI3", "CPU"]
    assert [(s.stage, s.unit.name) for s in alone.steps][-1] == ("detect", "CPU"), "the pose comes first"
    track = [next(s.modelled_s for s in p.steps if s.stage == "track") for p in (chip, python, alone, alone_python)]
    assert track[0] == track[2] and track[1] - track[0] == pytest.approx(200 * QUIET["cpu.python_call"], rel=0.02)
    assert alone_python.energy_j > alone.energy_j


def test_the_simulation_agrees_with_the_closed_form() -> None:
    mean = MeanFrame.of(FRAMES, WORKLOADS, CALLS, 4)
    ratios = mean.ratios(SOC)
    for w, workload in enumerate(WORKLOADS):
        rows = []
        for system in SYSTEMS:
            meter = Meter(SOC)
            rows.append(in_time([price(f, system, meter, CALLS) for f in searched(FRAMES, workload)], SOC, 1 / 30))
        for k, (chip, alone) in enumerate(AGAINST.items()):
            assert rows[chip]["fps"] / rows[alone]["fps"] == pytest.approx(ratios[w, k, 0], rel=0.05)
            assert rows[chip]["energy_j"] / rows[alone]["energy_j"] == pytest.approx(ratios[w, k, 1], rel=0.05)


def test_ranges_hold_the_ratio_and_vanish_without_intervals() -> None:
    mean = MeanFrame.of(FRAMES, WORKLOADS, CALLS, 4)
    low, high = ranges(mean, SOC, 60, seed=1)
    assert (low < 1.0).all() and (high > 1.0).all()
    found = rests_on(mean, SOC, len(WORKLOADS) - 1)
    assert sum(found["shares_pct"].values()) == pytest.approx(100)
    widest = [max(r["speedup"]) / min(r["speedup"]) for r in found["tornado"]]
    assert widest == sorted(widest, reverse=True) and widest[0] > 1.1


def test_fewer_cores_make_the_tracker_slower_by_the_published_scaling() -> None:
    def track_s(cores: int) -> float:
        return next(
            s.modelled_s for s in price(FRAME, SYSTEMS[0], Meter(SOC), CALLS, cores).steps if s.stage == "track"
        )

    assert track_s(1) / track_s(4) == pytest.approx(3.87)
    assert track_s(2) / track_s(4) == pytest.approx(math.sqrt(3.87))


def test_wake_ups_have_the_published_mean_and_worst() -> None:
    soc = Soc(load_constants())
    job = list(price(FRAME, SYSTEMS[2], Meter(SOC), CALLS).steps)
    wakes = np.array([s.wake_s for j in with_wake_ups([job] * 40000, soc) for s in j])
    assert wakes.mean() == pytest.approx(25e-6, rel=0.05)
    assert 3e-4 < wakes.max() < 2e-3


def test_the_public_pair_is_priced_by_the_same_model() -> None:
    pair = yolox_nano(Soc(load_constants()))
    assert pair["modelled"]["gmac"] == pytest.approx(0.54, rel=0.05)  # 1.08 GFLOP, as its authors say
    assert pair["published"]["ratio"] == pytest.approx(9.5, abs=0.1)
    assert 0 < pair["modelled"]["accelerator_ms"] < pair["modelled"]["cpu_ms"]


def test_the_command_writes_what_it_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["compare", "synthetic", "--features", "orb", "--frames", "4", "--draws", "5", "--out", str(tmp_path)]
    assert main([*argv, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    keys = {"speedup", "speedup_range", "energy_ratio", "energy_ratio_range", "assumed_share_pct", "workloads"}
    assert keys | {"host_measured", "article", "yolox_nano"} <= set(result)
    assert [r["system"] for r in result["workloads"]] == [s.name for s in SYSTEMS]
    assert result["tracking"]["orb"]["tracked"] == 4
    assert json.loads((tmp_path / "compare.json").read_text())["speedup"] == result["speedup"]
    low, high = sorted(result["tornado"][0]["speedup"])
    assert low <= result["speedup"] <= high, "a constant's ends lie on both sides of the ratio that is shown"
    assert f"{number(result['speedup'])} times as fast" in check_page(tmp_path / "compare.html")
    for wrong in (["--draws", "0"], ["--tracker-cores", "9"], ["--features", "surf"], ["--detector", "none.onnx"]):
        assert main([*argv, *wrong]) == 1
        told = capsys.readouterr().err.strip().splitlines()
        assert told[-1].startswith("drp_slam compare: ") and "Traceback" not in "".join(told)


@pytest.mark.parametrize("device", ["rzv2n", "rzv2l"])
def test_other_chips(device: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """RZ/V2L has no DRP for image kernels: its CPU does that work."""
    argv = ["compare", "synthetic:frames=3,width=320", "--draws", "3", "--features", "xfeat", "--device", device]
    assert main([*argv, "--out", str(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    placed, bare, *_ = found["workloads"]
    low, high = found["speedup_range"]
    assert found["device"] == device and found["speedup"] > 0 and 0 < low <= high
    assert (placed["fps"] == pytest.approx(bare["fps"])) == (device == "rzv2l")
    assert ("DRP" in placed["utilisation"]) == (device == "rzv2n")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--frames", "1"], "1 frame(s) have no frame rate"),
        (["--set", "drpai3.detector_rate_hz=-1"], "drpai3.detector_rate_hz is -1.0 Hz"),
        (["--device", "eie"], "device 'eie'"),
        (["--detector", "{network}"], "as FastestDet exports it"),
    ],
)
def test_wrong_input_is_one_line(
    options: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "resnet50.onnx").write_bytes(resnet50(64).SerializeToString())
    given = [text.format(network=tmp_path / "resnet50.onnx") for text in options]
    argv = ["compare", "synthetic:frames=3,width=320", "--draws", "3", "--features", "xfeat", "--out", str(tmp_path)]
    assert main([*argv, *given]) == 1
    *_, line = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("drp_slam compare: ") and told in line
