# SPDX-License-Identifier: Apache-2.0
"""`bench --robustness` on a small rendered room."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from drp_slam.commands import bench
from drp_slam.commands._options import parsed
from drp_slam.datatypes import Track
from drp_slam.evaluation.robustness import of_largest_map


def test_one_row_for_each_case(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    words = ["synthetic:frames=24,width=320", "--robustness", "--cases", "recorded,third,dark", "--out", str(out)]
    result = bench.run(parsed(bench, words))
    bench.show(result)
    shown = capsys.readouterr().out
    rows = {row["case"]: row for row in result["robustness"]}
    assert list(rows) == ["as recorded", "every third frame", "dark"]
    assert rows["as recorded"]["frames"] == 24 and rows["every third frame"]["frames"] == 8
    for name in ("as recorded", "every third frame"):
        row = rows[name]
        assert row["tracked"] == row["frames"] and not row["reasons"]
        assert 0 < row["ate_m"] < 0.02 and row["live_m"] < 0.02 and row["within_2_sigma"] > 0.5
        assert name in shown
    dark = rows["dark"]
    assert dark["tracked"] == 24 or sum(dark["reasons"].values()) == 24 - dark["tracked"]
    assert json.loads((out / "robustness.json").read_text())["robustness"] == result["robustness"]


def test_moving_scenes_are_grouped_by_what_moves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    words = ["synthetic:frames=72,width=320", "--robustness", "--cases", "moving", "--scenes", "1", "--out", str(out)]
    result = bench.run(parsed(bench, words))
    bench.show(result)
    assert "features that move" in capsys.readouterr().out
    scenes = result["moving_scenes"]["scenes"]
    assert result["robustness"] == [] and [s["kind"] for s in scenes] == ["crosses"]
    assert sum(g["scenes"] for g in result["moving_scenes"]["table"]) == 1
    for scene in scenes:
        assert scene["frames"] == 70 and 0.0 < scene["share"] < 1.0 and scene["wrong"] <= scene["over"]


def test_live_errors_are_of_one_world() -> None:
    """A map that begins where the camera was lost has a world of its own until it is joined."""
    poses = [(0, 2), (None, 0), (1, 3)]
    tracks = [
        Track(k, k, "lost" if number is None else "tracked", None if number is None else np.eye(4), map=number or 0)
        for number, count in poses
        for k in range(max(count, 1))
    ]
    assert [t.map for t in of_largest_map(tracks)] == [1, 1, 1] and of_largest_map([]) == []
