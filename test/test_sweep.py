# SPDX-License-Identifier: Apache-2.0
"""The sweep's bookkeeping, its two engines, its resumption after a kill, and the advice."""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from damage import CASES, damaged, survives
from hypothesis import given, settings
from hypothesis import strategies as st
from page_checks import check_page

from drp_slam import cli
from drp_slam.card import load_card
from drp_slam.commands.sweep import plan
from drp_slam.errors import ConfigError, DrpSlamError, PruningError
from drp_slam.evaluation import measured, oneshot
from drp_slam.sweep import advise, sweep
from drp_slam.sweep.sweep_figures import curves, front
from drp_slam.sweep.sweep_page import verdict
from drp_slam.sweep.sweep_point import Point

ROOT = Path(__file__).parent.parent
SMALL = ["--pairs", "4", "--configurations", "1"]


def command(wall: Path, out: Path, networks: str, *more: str) -> list[str]:
    return ["sweep", "--sequence", str(wall), "--out", str(out), "--networks", networks, *SMALL, *more]


@pytest.fixture(scope="session")
def swept(wall: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep that was killed after its first point, then started again."""
    out = tmp_path_factory.mktemp("sweep")
    line = [sys.executable, "-m", "drp_slam", *command(wall, out, "xfeat,xfeat-p50", "--jobs", "1")]
    killed = subprocess.Popen(
        line, cwd=ROOT, start_new_session=True, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    while killed.poll() is None and not list((out / "points").glob("*.json")):
        time.sleep(0.02)
    if killed.poll() is None:
        os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    before = {p.name: p.stat().st_mtime_ns for p in (out / "points").glob("*.json")}
    (out / "before.json").write_text(json.dumps(before))
    assert cli.main([*command(wall, out, "xfeat,xfeat-p50", "--jobs", "2"), "--json"]) == 0
    return out


def test_a_killed_sweep_resumes_and_repeats_nothing(swept: Path) -> None:
    before = json.loads((swept / "before.json").read_text())
    after = {p.name: p.stat().st_mtime_ns for p in (swept / "points").glob("*.json")}
    assert before and before.items() <= after.items()
    result = sweep.load(swept)
    assert result["measured_now"] == len(after) - len(before)
    assert [p["name"] for p in result["points"]] == ["xfeat", "xfeat-fp32", "xfeat-p50"]


def test_a_point_has_its_cost_and_its_accuracy(swept: Path) -> None:
    dense, reference, pruned = sweep.load(swept)["points"]
    assert reference["cycles"] is None and reference["all"]["inliers"]["ratio"] == 1.0
    assert pruned["cycles"] < dense["cycles"] and pruned["energy_mj"] < dense["energy_mj"]
    assert pruned["sparsity"] == pytest.approx(0.5, abs=0.02)
    for point in (dense, pruned):
        assert point["all"]["inliers"]["ratio"] > 0.5 and 0 < point["all"]["overlap"]["mean"] <= 1
        assert point["ate_m"]["mean"] < 0.05 and point["file_bytes"] > 1e5
    page = check_page(swept / "sweep.html")
    assert page.count("<svg") == 2 and "xfeat-p50 is the fastest that keeps 95 % of the inliers" in page


COSTS = ("latency_ms", "energy_mj", "cycles")


def test_a_network_that_finds_no_pose_is_said_to_and_not_on_the_front() -> None:
    pose = {"mean": 1.0, "ratio": 1.0, "ratio_low": 0.9, "ratio_high": 1.1, "median_ratio": 1.0, "count": 4}
    nothing = dict.fromkeys(pose, 0.0) | {"count": 4}
    every = {"inliers": pose, "overlap": pose, "error_m": pose, "lost_pairs": 0}
    none = every | {"inliers": nothing, "error_m": dict.fromkeys(pose), "lost_pairs": 4}
    asked = {"network": "", "pattern": "flexible-nm", "saliency": "obs", "gap_s": 0.4, "configurations": 0}
    costs = {"shape": [48, 64], "file_bytes": 9, "kept_out": None, "dtype": "int8"}
    points = [
        {"name": f"obs-{rate}", "point": asked | {"rate": rate, "sequence": "s", "reference": "r"}, "sparsity": rate}
        | costs
        | {"all": worth}
        for rate, worth in ((0.5, every), (0.7, every), (0.9, none))
    ]
    model = {0.5: (3.0, 1.2, 5e5), 0.7: (2.9, 1.1, 3e5), 0.9: (2.8, 1.0, 1e5)}
    result = sweep.with_front([p | dict(zip(COSTS, model[p["sparsity"]])) for p in points])
    assert [p["pareto"] for p in result] == [False, True, False]
    told = verdict({"points": result, "reference": "r"})
    assert told[0].startswith("obs-0.7 is the fastest") and told[-1] == "No pose found by: obs-0.9."
    assert any("flexible-nm, obs keeps 95 % of the inliers up to a rate of 70 %" in text for text in told)
    assert any("80 % of the array's cycles" in text and "7 % of the latency" in text for text in told)
    assert front(result) and curves(result)


def test_further_choices_add_to_a_sweep(swept: Path, wall: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*command(wall, swept, "xfeat"), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["measured_now"] == 0
    assert [p["name"] for p in result["points"]] == ["xfeat", "xfeat-fp32", "xfeat-p50"]
    other = sweep.finished(swept, Point(str(wall), network="xfeat", pairs=3))
    assert other == [], "points that were judged otherwise do not mix"


def test_workers_of_a_cluster_give_the_same_points(
    swept: Path, wall: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    distributed = pytest.importorskip("distributed")
    pruned = ["--rates", "0.5", "--patterns", "unstructured"]
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        address = cluster.scheduler_address
        line = command(wall, tmp_path, "xfeat-p50", "--scheduler", address, *pruned)
        assert cli.main([*line, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    here = {p["key"]: p for p in sweep.load(swept)["points"]}
    there = {p["key"]: p for p in result["points"]}
    assert len(there) == 3 and len(set(there) & set(here)) == 2
    for key in set(there) & set(here):
        varies = {"wall_s": 0, "pareto": 0}  # the front depends on the other points
        assert there[key] | varies == here[key] | varies
    made = next(p for p in result["points"] if p["name"] == "oneshot-unstructured-magnitude-p50")
    card = load_card(str(tmp_path / "networks" / "oneshot-unstructured-magnitude-p50.onnx"))
    assert card.facts["sparsity"]["overall"] == pytest.approx(made["sparsity"]) == 0.5
    assert (
        cli.main(
            ["run", str(wall), "--network", str(card.onnx), "--json", "--frames", "2", "--out", str(tmp_path / "run")]
        )
        == 0
    )


def test_a_scheduler_that_is_not_there_is_an_error(
    wall: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("distributed")
    assert cli.main(command(wall, tmp_path, "xfeat", "--scheduler", "nonsense://x")) == 1
    assert "--scheduler nonsense://x" in capsys.readouterr().err.splitlines()[-1]
    assert cli.main(command(wall, tmp_path, "nothing")) == 1
    assert "'nothing' is neither a file nor shipped" in capsys.readouterr().err.splitlines()[-1]


def arguments(**values: Any) -> argparse.Namespace:
    defaults = dict.fromkeys(("networks", "rates", "calibration", "camera", "frames", "jobs")) | {
        "sequence": "synthetic",
        "patterns": "flexible-nm",
        "saliencies": "magnitude",
        "reference": "xfeat-fp32",
        "start": 0,
        "pairs": 9,
        "configurations": 1,
        "gap": 0.4,
    }
    return argparse.Namespace(**(defaults | values))


def test_plan_is_the_product_of_the_choices_behind_the_reference() -> None:
    points = plan(
        arguments(rates="0,0.5, 0.9", patterns="flexible-nm,fixed-nm", saliencies="magnitude,obs", networks="xfeat")
    )
    assert [p.network for p in points[:2]] == ["xfeat-fp32", "xfeat"]
    assert len(points) == 2 + 3 * 2 * 2
    assert len({p.key() for p in points}) == len(points)
    assert "xfeat-p50" in [p.network for p in plan(arguments())]
    for wrong in (
        {"rates": "1.0"},
        {"rates": "half"},
        {"rates": "0.5", "patterns": "checkers"},
        {"rates": "0.5", "saliencies": "luck"},
        {"pairs": 0},
        {"configurations": -1},
        {"jobs": -2},
        {"calibration": Path("nowhere")},
    ):
        with pytest.raises((ConfigError, PruningError)):
            plan(arguments(**wrong))


def test_the_key_follows_definition_and_recording(wall: Path) -> None:
    point = Point(str(wall), network="xfeat")
    assert point.key() == Point(str(wall), network="xfeat").key()
    assert point.key() != Point(str(wall), network="xfeat-p50").key()
    assert point.key() != Point(str(wall), network="xfeat", pairs=7).key()
    assert point.key() != Point("synthetic", network="xfeat").key()
    extra = wall / "notes.txt"
    extra.write_text("another file")
    changed = point.key()
    extra.unlink()
    assert changed != point.key()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6) | st.none(), st.integers(0, 6)), max_size=9))
def test_pareto_front_by_its_definition(costs: list[tuple[int | None, int]]) -> None:
    front = sweep.pareto(costs)
    known = [c for c in costs if c[0] is not None]
    for i, (a, b) in enumerate(costs):
        if a is None:
            assert i not in front
            continue
        beaten = any(x <= a and y <= b and (x < a or y < b) for x, y in known)
        assert (i in front) == (not beaten)


def test_results_of_another_version_are_refused(swept: Path, tmp_path: Path) -> None:
    point = next((swept / "points").glob("*.json"))
    old = json.loads(point.read_text()) | {"format": 1}
    (tmp_path / "points").mkdir()
    (tmp_path / "points" / point.name).write_text(json.dumps(old))
    assert sweep.stored(swept, point.stem) is not None
    assert sweep.stored(tmp_path, point.stem) is None, "it is measured again"
    (tmp_path / "sweep.json").write_text(json.dumps({"points": [old]}))
    with pytest.raises(DrpSlamError, match="another version"):
        sweep.load(tmp_path)
    (tmp_path / "reference.npz").write_bytes(b"PK\3\4 cut short")
    with pytest.raises(DrpSlamError, match="reference.npz: cannot read"):
        measured.stored(tmp_path / "reference.npz")


def test_one_shot_pruning_is_repeatable_and_exact(tmp_path: Path) -> None:
    """Two processes that prune the same point must write the same file."""
    pytest.importorskip("torch")
    images = [image[:, :, :256, :320] for image in oneshot.calibration_images(None)[:2]]
    files = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        made = oneshot.prune("n", 0.75, "flexible-nm", "magnitude", images, tmp_path / name)
        files.append((made.read_bytes(), made.with_suffix(".yaml").read_bytes()))
    assert files[0] == files[1]
    assert load_card(str(tmp_path / "a/n.onnx")).facts["sparsity"]["overall"] == pytest.approx(0.75, abs=0.01)


def test_a_damaged_sweep_is_one_line_or_advice(swept: Path, tmp_path: Path) -> None:
    """Bytes of `sweep.json`, and values of another kind in it."""
    data, rng, refused = (swept / "sweep.json").read_bytes(), random.Random(CASES), 0
    assert not survives(lambda: advise.choose(sweep.load(swept)["points"], [], swept))
    for case in range(CASES):
        (tmp_path / "sweep.json").write_bytes(with_odd_value(data, rng) if case % 2 else damaged(data, rng))
        refused += survives(lambda: advise.choose(sweep.load(tmp_path)["points"], [], tmp_path))
    assert refused > CASES // 4


def with_odd_value(data: bytes, rng: random.Random) -> bytes:
    """One value, at any depth, of another kind."""
    content = json.loads(data)
    places = [content]
    for place in places:
        values = list(place.values() if isinstance(place, dict) else place)
        places += [value for value in values if isinstance(value, (dict, list)) and value]
    place = rng.choice(places)
    key = rng.choice(list(place) if isinstance(place, dict) else range(len(place)))
    place[key] = rng.choice([None, -1, 1e308, float("nan"), "", "x" * 5000, [], {}, {"a": [1]}, True, "[/bold]"])
    return json.dumps(content).encode()
