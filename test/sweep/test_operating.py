# SPDX-License-Identifier: Apache-2.0
"""Operating points priced from a recorded run, and the choice against brute force."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drp_slam import resources
from drp_slam.cli import main
from drp_slam.commands import run as run_command
from drp_slam.commands._options import configured, parsed
from drp_slam.device import Work
from drp_slam.drpai3.network_cost import RESULTS_STAY
from drp_slam.errors import DrpSlamError
from drp_slam.profiler import work_table
from drp_slam.reporting import folder
from drp_slam.sweep.operating import Bound, OperatingPoint, operating_points, pick

SHAPE = (1, 1, 128, 160)
FRAME = {
    "preprocess": (Work("drp", "resize", {"pixels": 1e6, "ops": 2e7, "bytes": 2e6}, "custom", "stencil", "resize"),),
    "network": (
        Work("drpai3", "xfeat-p50", {"macs": 1e8}, "", RESULTS_STAY, str(resources.network("xfeat-p50")), SHAPE),
    ),
    "detect": (Work("drpai3", "xfeat", {"macs": 1e8}, "", RESULTS_STAY, str(resources.network("xfeat")), SHAPE),),
    "track": (Work("cpu", "track", {"flops": 3e7}, "cpu"),),
}


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("compared")
    (out / "xfeat").mkdir()
    with work_table.writing(out / "xfeat" / folder.KERNELS) as rows:
        for stamp_ns in range(3):
            for stage, works in FRAME.items():
                work_table.add(rows, stamp_ns, stage, works)
    tracking = {"xfeat": {"ate_rmse_m": 0.01}}
    content = {"sequence": "made", "device": "rzv2h", "camera_hz": 25.0, "tracking": tracking}
    (out / "compare.json").write_text(json.dumps(content))
    return out


@pytest.fixture(scope="module")
def points(compared: Path) -> list[OperatingPoint]:
    return operating_points(json.loads((compared / "compare.json").read_text()), compared, 20.0)


def test_every_choice_is_there_once_and_behaves_as_it_must(points: list[OperatingPoint]) -> None:
    def key(p: OperatingPoint) -> tuple:
        return p.network, p.freq_index, p.mindiv, p.detector_hz

    by_key = {key(p): p for p in points}
    assert len(by_key) == len(points)
    assert {p.network for p in points} == {"xfeat", "xfeat-p50", "xfeat-p70", "xfeat-p80", "xfeat-p90"}
    for p in points:
        assert p.power_w == pytest.approx(p.energy_mj * 1e-3 * 20)
        slower = by_key.get((p.network, p.freq_index, 9, p.detector_hz))
        assert slower is not None and slower.fps <= p.fps and slower.latency_ms >= p.latency_ms
        none, every = (by_key[p.network, p.freq_index, p.mindiv, hz] for hz in (0.0, 20.0))
        share = p.detector_hz / 20.0
        assert p.energy_mj == pytest.approx(none.energy_mj + share * (every.energy_mj - none.energy_mj))
    dense, pruned = (by_key[n, 2, 2, 0.0] for n in ("xfeat", "xfeat-p90"))
    assert pruned.latency_ms < dense.latency_ms and pruned.energy_mj < dense.energy_mj
    assert by_key["xfeat-p50", 2, 2, 0.0].ate_m == 0.01, "the network that ran"


def test_the_options_say_the_choice(points: list[OperatingPoint]) -> None:
    for p in points[::37]:
        config = configured(parsed(run_command, ["synthetic", *p.options().split()]))
        assert (config.drp.mindiv, config.drpai3.freq_index) == (p.mindiv, p.freq_index)
        assert config.graph.network == p.network
        if p.detector_hz == p.rate_hz:
            assert (config.drpai3.detector_every, config.drpai3.detector_rate_hz) == (1, 0.0)
        else:
            assert config.drpai3.detector_rate_hz == p.detector_hz


def made(fps: float, power_w: float, ate_m: float | None, detector_hz: float) -> OperatingPoint:
    return OperatingPoint(20.0, "orb", None, 2, 2, detector_hz, fps, 1.0, power_w * 50, power_w, ate_m)


POINT = st.builds(made, st.integers(1, 9), st.integers(1, 9), st.none() | st.integers(1, 9), st.integers(0, 3))


@settings(max_examples=200, deadline=None)
@given(st.lists(POINT, min_size=1, max_size=8), st.integers(1, 9), st.integers(1, 9), st.integers(1, 9))
def test_the_choice_is_what_brute_force_finds(points: list[OperatingPoint], fps: int, watts: int, ate: int) -> None:
    wanted = [
        Bound("fps", "--min-fps", fps, "", least=True),
        Bound("power_w", "--budget-w", watts, ""),
        Bound("ate_m", "--max-ate", ate, "m"),
    ]
    fits = [p for p in points if p.fps >= fps and p.power_w <= watts and p.ate_m is not None and p.ate_m <= ate]
    if not fits:
        with pytest.raises(DrpSlamError, match="none of"):
            pick(points, wanted)
        return
    best, fitting = pick(points, wanted)
    assert fitting == fits and best in fits
    most = max(p.detector_hz for p in fits)
    assert best.detector_hz == most and best.power_w == min(p.power_w for p in fits if p.detector_hz == most)


def test_the_command_chooses_or_names_the_limit_to_ease(compared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["advise", "--compared", str(compared)]
    assert main([*argv, "--budget-w", "2.5", "--min-fps", "20", "--max-ate", "2cm", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    choice = found["choice"]
    assert choice["fps"] >= 20 and choice["power_w"] <= 2.5 and choice["ate_m"] <= 0.02 and choice["detector_hz"] == 20
    assert main([*argv, "--budget-w", "2.5"]) == 0, "at the camera's rate"
    assert "25 frames/s" in capsys.readouterr().out
    for wrong, told in (
        (["--max-ate", "1mm"], "--max-ate 0.0"),
        (["--max-ate", "2kg"], "--max-ate"),
        (["--min-fps", "0"], "--min-fps is 0"),
        (["--budget-w", "nan"], "--budget-w is nan"),
        (["--max-latency", "2ms"], "no limit of a sweep"),
    ):
        assert main([*argv, *wrong]) == 1
        line = capsys.readouterr().err.strip().splitlines()[-1]
        assert line.startswith("drp_slam advise: ") and told in line
