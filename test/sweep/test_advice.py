# SPDX-License-Identifier: Apache-2.0
"""Advice from a sweep: the choice by limits, and limits that no point satisfies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drp_slam import cli
from drp_slam.commands.advise import show
from drp_slam.errors import ConfigError, DrpSlamError
from drp_slam.sweep import advise

ROOT = Path(__file__).parent


def point(
    name: str, latency: float | None, energy: float | None, ate: float | None, inliers: float = 1.0, network: str = ""
) -> dict[str, Any]:
    return {
        "name": name,
        "latency_ms": latency,
        "energy_mj": energy,
        "sparsity": 0.5,
        "point": {"network": network},
        "all": {"inliers": {"ratio": inliers}},
        "ate_m": {"ratio": ate, "ratio_low": ate, "ratio_high": ate},
    }


POINTS = [
    point("dense", 4.0, 3.0, 1.01, network="xfeat"),
    point("half", 2.0, 1.5, 1.03),
    point("most", 1.0, 0.5, 1.30),
    point("float", None, None, 1.0),
]


def limits(**values: str) -> list[advise.Limit]:
    names = ("latency", "energy", "ate_increase", "inliers_lost")
    return advise.limits(**(dict.fromkeys(names) | values))  # type: ignore[arg-type]


def test_advice_takes_the_least_energy_of_what_fits(tmp_path: Path) -> None:
    wanted = limits(latency="2ms", ate_increase="5%")
    found = advise.choose(POINTS, wanted, tmp_path)
    assert found["name"] == "half" and found["network"].endswith("networks/half.onnx")
    assert found["fitting"] == ["half"] and len(found["others"]) == 3
    show(found | {"sweep": str(tmp_path)})
    loose = limits(latency="0.005 s", ate_increase="0.05")
    assert advise.choose(POINTS, loose, tmp_path)["fitting"] == ["dense", "half"]
    assert advise.choose(POINTS, limits(energy="9000uJ"), tmp_path)["name"] == "most"


LIMIT = st.floats(0.1, 5.0)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(LIMIT, LIMIT, LIMIT), min_size=1, max_size=6), LIMIT, LIMIT)
def test_advice_names_the_limit_to_ease(
    rows: list[tuple[float, float, float]], latency: float, increase: float
) -> None:
    points = [point(str(i), a, b, 1 + c / 100) for i, (a, b, c) in enumerate(rows)]
    wanted = limits(latency=f"{latency}ms", ate_increase=f"{increase}%")
    fits = [i for i, (a, _, c) in enumerate(rows) if a <= latency and 100 * (1 + c / 100 - 1) <= increase]
    if fits:
        best = min(fits, key=lambda i: rows[i][1])
        assert int(advise.choose(points, wanted, ROOT)["name"]) == best
    else:
        with pytest.raises(DrpSlamError, match="none of"):
            advise.choose(points, wanted, ROOT)


def test_advice_that_cannot_be_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DrpSlamError, match=r"--max-latency 2ms"):
        advise.choose(POINTS, limits(latency="1.5ms", ate_increase="5%"), ROOT)
    for wrong in ("2", "2 kg", "ms", ""):
        with pytest.raises(ConfigError, match="max-latency"):
            limits(latency=wrong)
    with pytest.raises(ConfigError, match="no limit"):
        limits()
    assert cli.main(["advise", "--sweep", str(tmp_path), "--max-latency", "2ms"]) == 1
    assert "drp_slam sweep" in capsys.readouterr().err
