# SPDX-License-Identifier: Apache-2.0
"""`report A B`: what differs between two runs, and what makes them hard to compare."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from page_checks import check_page

from drp_slam import cli
from drp_slam.config import Config
from drp_slam.config.config_file import override
from drp_slam.data.dataset import open_sequence
from drp_slam.offline import run_sequence
from drp_slam.reporting import difference, folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    sequence = open_sequence("synthetic:frames=12,width=160")
    settings = {"many": {}, "again": {}, "few": {"drp.top_k": 100}}
    found = {}
    for name, values in settings.items():
        found[name] = tmp_path_factory.mktemp(name)
        run_sequence(sequence, override(Config(), values), found[name])
    return found


def test_equal_runs_differ_in_nothing_modelled(runs: dict[str, Path], tmp_path: Path) -> None:
    result = difference.write(runs["many"], runs["again"], tmp_path)
    assert result["same_trajectory"] and not result["settings"] and not result["warnings"]
    assert all(d["verdict"] == "same" for d in result["differences"] if d["kind"] == "modelled")
    assert json.loads((tmp_path / folder.DIFFERENCE_JSON).read_text()) == result


def test_fewer_features_are_seen_in_settings_and_figures(runs: dict[str, Path], tmp_path: Path, capsys) -> None:
    assert cli.main(["report", str(runs["many"]), str(runs["few"]), "--out", str(tmp_path), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["settings"] == {"drp.top_k": [1024, 100]} and not result["same_trajectory"]
    track = next(d for d in result["differences"] if d["name"] == "track, p50" and d["kind"] == "modelled")
    assert track["verdict"] == "better" and track["change"] < 0
    text = check_page(tmp_path / folder.DIFFERENCE_HTML)
    assert "<code>drp.<wbr>top_<wbr>k</code>" in text and 'class="plot"' in text and 'class="verdict"' in text
    assert not (tmp_path / folder.REPORT_HTML).exists()
    cli.main(["report", str(runs["many"]), str(runs["few"]), "--out", str(tmp_path)])
    shown = capsys.readouterr().out
    assert "drp.top_k: 1024 -> 100" in shown and f"report {tmp_path / folder.DIFFERENCE_HTML}" in shown


def test_runs_of_different_parts_and_chips_come_with_a_warning(runs: dict[str, Path], tmp_path: Path) -> None:
    short = tmp_path / "short"
    short.mkdir()
    config = override(Config(), {"graph.device": "rzv2n"})
    run_sequence(open_sequence("synthetic:frames=12,width=160", None, 0, 8), config, short)
    result = difference.write(runs["many"], short, tmp_path)
    assert any("12 and 8 frames" in w for w in result["warnings"]) and any("rzv2n" in w for w in result["warnings"])
    same_chip = difference.write(runs["many"], short, tmp_path, device="rzv2h")
    assert not any("priced" in w for w in same_chip["warnings"])


def test_a_folder_without_a_run_is_refused(runs: dict[str, Path], tmp_path: Path, capsys) -> None:
    assert cli.main(["report", str(runs["many"]), str(tmp_path)]) == 1
    assert "no results in it" in capsys.readouterr().err


def report(**facts: object) -> dict[str, object]:
    return dict.fromkeys(("ate_live_rmse_m", "rpe", "keyframes", "latency", "schedule", "stages")) | {
        "ate_rmse_m": 0.01,
        "tracked": 10,
        "frames": 10,
        "fps": 20.0,
        "comparison": {"modelled_a55": None},
        **facts,
    }


@pytest.mark.parametrize(
    ("facts", "name", "word"),
    [
        ({"ate_rmse_m": 0.02}, "ATE RMSE", "worse"),
        ({"ate_rmse_m": 0.005}, "ATE RMSE", "better"),
        ({"ate_rmse_m": 0.01001}, "ATE RMSE", "same"),
        ({"fps": 30.0}, "frame rate", "better"),
        ({"tracked": 5}, "tracked", "worse"),
        ({"tracked": None}, "tracked", ""),
    ],
)
def test_better_and_worse_know_their_direction(facts: dict[str, object], name: str, word: str) -> None:
    found = {d["name"]: d for d in difference.compared(report(), report(**facts))}
    assert found[name]["verdict"] == word
