# SPDX-License-Identifier: Apache-2.0
"""`run` on a small recording made here: the results, their repeatability, and damage on the way."""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from drp_slam import Config, Pipeline, cli, open_sequence
from drp_slam.commands._options import configured
from drp_slam.data.ply import read_ply
from drp_slam.data.trajectory import read_tum
from drp_slam.datatypes import Frame
from drp_slam.errors import ConfigError, DataError, ProfilerError
from drp_slam.offline import ahead, decoded_ahead, run_sequence
from drp_slam.profiler import terminal
from drp_slam.profiler.span import read_spans, write_spans
from drp_slam.reporting import folder, results

FRAMES = 8


@pytest.fixture(scope="session")
def done(wall: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of one run of it."""
    out = tmp_path_factory.mktemp("done") / "results"
    assert cli.main(["run", str(wall), "--out", str(out), "--json"]) == 0
    return out


def test_run_writes_every_part_of_the_results(done: Path) -> None:
    report = json.loads((done / folder.REPORT_JSON).read_text())
    assert (report["frames"], report["tracked"]) == (FRAMES, FRAMES)
    assert report["ate_rmse_m"] < 0.005
    assert list(report["stages"]) == ["preprocess", "network", "postprocess", "track"]
    for stage in report["stages"].values():
        assert set(stage["wall_ms"]) == set(stage["modelled_ms"]) == {"p50", "p95", "mean"}
        assert stage["energy_mj"] > 0 and stage["unit"] in ("drp", "drpai3", "cpu")
    assert len(read_tum(done / folder.TRAJECTORY)) == len(read_tum(done / folder.ODOMETRY)) == FRAMES
    assert len(read_ply(done / folder.MAP).xyz_m) > 50
    assert len(read_spans(done / folder.SPANS)) == 4 * FRAMES
    assert len(folder.read_frames(done / folder.FRAMES)) == FRAMES
    assert not list(done.glob("*.part*"))
    page = (done / folder.REPORT_HTML).read_text()
    assert page.startswith("<!doctype html>") and "http://" not in page.replace("http://www.w3.org", "").replace(
        "http://purl.org", ""
    ).replace("http://creativecommons.org", "")
    assert json.loads((done / folder.TRACE).read_text())["traceEvents"]


def test_the_same_input_gives_the_same_trajectory(done: Path, wall: Path, tmp_path: Path) -> None:
    assert cli.main(["run", str(wall), "--out", str(tmp_path), "--json"]) == 0
    assert (tmp_path / folder.TRAJECTORY).read_bytes() == (done / folder.TRAJECTORY).read_bytes()


def test_backend_cpu_gives_the_same_trajectory_and_a_comparison(
    done: Path, wall: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The arithmetic does not depend on what is said to run it."""
    out = tmp_path / "cpu"
    assert cli.main(["run", str(wall), "--out", str(out), "--backend", "cpu", "--json"]) == 0
    assert (out / folder.TRAJECTORY).read_bytes() == (done / folder.TRAJECTORY).read_bytes()
    alone = json.loads(capsys.readouterr().out)
    assert alone["comparison"]["modelled_a55"] is None and alone["kernels"] is None
    assert cli.main(["report", str(done), "--baseline", str(out), "--json"]) == 0
    both = json.loads(capsys.readouterr().out)
    assert both["comparison"]["host_cpu"]["frames"] == FRAMES
    assert both["comparison"]["modelled_a55"]["cpu_ms"] > 0
    assert 0 < both["assumptions"]["share"]["assumed"] <= 1
    # rates and overheads alone make a time, so no constant is missing where influences reach 1
    assert sum(k["influence"] for k in both["assumptions"]["constants"]) > 0.99
    assert {k["place"] for k in both["kernels"]} <= {"opencva", "preruntime", "custom", "cpu"}


def test_a_truncated_image_costs_its_frame_alone(wall: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    damaged = shutil.copytree(wall, tmp_path / "damaged")
    image = damaged / "rgb/5.png"
    image.write_bytes(image.read_bytes()[:-200])
    out = tmp_path / "out"
    assert cli.main(["run", str(damaged), "--out", str(out)]) == 0
    assert any("5.png" in message for message in caplog.messages)
    assert len(read_tum(out / folder.TRAJECTORY)) == 7
    report = results.build(out)
    assert (report["frames"], report["frames_expected"], report["frames_skipped"]) == (7, 8, 1)
    assert report["error"] is None and "5.png" in report["warnings"][0]
    assert "5.png" in (out / folder.REPORT_HTML).read_text()


def test_an_error_on_the_way_keeps_what_was_tracked(wall: Path, tmp_path: Path) -> None:
    def breaks_off() -> Iterator[Frame]:
        yield from list(open_sequence(str(wall)))[:5]
        raise DataError("bag: truncated")

    broken = dataclasses.replace(open_sequence(str(wall)), source=breaks_off)
    with pytest.raises(DataError, match="truncated"):
        run_sequence(broken, Config(), tmp_path)
    assert len(read_tum(tmp_path / folder.TRAJECTORY)) == 5
    assert json.loads((tmp_path / folder.RUN).read_text())["error"] == "bag: truncated"


def test_an_interrupt_keeps_what_was_tracked(wall: Path, tmp_path: Path) -> None:

    def stop_at_three(step: object, fps: float) -> None:
        seen.append(step)
        if len(seen) == 3:
            raise KeyboardInterrupt

    seen: list[object] = []
    with pytest.raises(KeyboardInterrupt):
        run_sequence(open_sequence(str(wall)), Config(), tmp_path, stop_at_three)
    assert len(read_tum(tmp_path / folder.TRAJECTORY)) == 3
    assert folder.read_json(tmp_path / folder.RUN)["error"] == "interrupted"


PARTS = (folder.TRAJECTORY, folder.ODOMETRY, folder.GROUND_TRUTH, folder.MAP, folder.SPANS, folder.FRAMES, folder.RUN)


@pytest.mark.parametrize("missing", PARTS)
def test_a_missing_file_makes_its_part_null(done: Path, tmp_path: Path, missing: str) -> None:
    for name in PARTS:
        if name != missing:
            shutil.copy(done / name, tmp_path)
    if missing != folder.RUN:  # the recording is gone too: no breakdown by kernel
        about = folder.read_json(tmp_path / folder.RUN)
        gone = {"sequence": str(tmp_path / "gone"), "source": None}
        folder.write_json(tmp_path / folder.RUN, about | gone)
    report = results.build(tmp_path)
    null = {
        folder.TRAJECTORY: ("ate_rmse_m", "trajectory_sha256"),
        folder.ODOMETRY: ("ate_live_rmse_m",),
        folder.GROUND_TRUTH: ("ate_rmse_m", "rpe"),
        folder.SPANS: ("stages", "latency", "schedule"),
        folder.FRAMES: ("keyframes",),
        folder.RUN: ("fps", "network"),
    }
    assert all(report[key] is None for key in null.get(missing, ()))
    assert (tmp_path / folder.REPORT_HTML).stat().st_size > 5000
    terminal.show(report)


@pytest.mark.parametrize("only", (folder.TRAJECTORY, folder.MAP, folder.SPANS))
def test_one_file_alone_is_enough_for_a_report(done: Path, tmp_path: Path, only: str) -> None:
    shutil.copy(done / only, tmp_path)
    terminal.show(results.build(tmp_path))
    assert (tmp_path / folder.REPORT_JSON).is_file()


def test_a_board_that_models_nothing_gets_a_report_too(done: Path, tmp_path: Path) -> None:
    """Backend mera: wall time is the board's, the rest of a span is NaN."""
    nan, into = float("nan"), tmp_path / "into"
    into.mkdir()
    spans = [
        dataclasses.replace(s, device="mera", modelled_s=nan, energy_j=nan, cpu_modelled_s=nan, cpu_energy_j=nan)
        for s in read_spans(done / folder.SPANS)
    ]
    write_spans(tmp_path / folder.SPANS, spans)
    report = results.build(tmp_path, into=into)
    assert report["latency"]["modelled_ms"] is None and report["schedule"] is None
    assert report["stages"]["network"]["wall_ms"]["p50"] > 0
    assert "NaN" not in (into / folder.REPORT_JSON).read_text()
    assert not (tmp_path / folder.REPORT_JSON).exists()
    terminal.show(report)


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ProfilerError, match="no results"):
        results.build(tmp_path)
    with pytest.raises(ProfilerError, match="no results"):
        results.build(tmp_path / "absent")
    (tmp_path / "holiday.jpg").write_bytes(b"not of a run")
    assert cli.main(["report", str(tmp_path)]) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["holiday.jpg"], "no page is written there"


def test_why_there_is_no_ate_is_said(wall: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One frame has ground truth, but no error: two poses do not determine the alignment."""
    assert cli.main(["run", str(wall), "--frames", "1", "--out", str(tmp_path)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "no ground truth" not in shown and "ATE RMSE" in shown
    report = folder.read_json(tmp_path / folder.REPORT_JSON)
    assert report["ate_rmse_m"] is None and "pose" in report["ate_note"]
    (tmp_path / folder.GROUND_TRUTH).unlink()
    assert results.build(tmp_path)["ate_note"] == "no ground truth"


def test_frames_without_depth_are_said(wall: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = open_sequence(str(wall))
    flat = dataclasses.replace(whole, source=lambda: (dataclasses.replace(f, depth=None) for f in whole.source()))
    assert run_sequence(flat, Config(), tmp_path)["frames"] == len(whole)
    assert "has no depth" in caplog.text


def test_a_frame_without_an_image_is_an_error(wall: Path) -> None:
    sequence = open_sequence(str(wall))
    with pytest.raises(DataError, match="no image"):
        Pipeline(sequence.camera).process(dataclasses.replace(next(iter(sequence)), image=None))


def test_a_damaged_table_names_itself(done: Path, tmp_path: Path) -> None:
    for name, text in ((folder.FRAMES, "index,stamp_ns\n1,2\n"), (folder.RUN, "{"), (folder.SPANS, "a,b\n")):
        (tmp_path / name).write_text(text)
        with pytest.raises(ProfilerError, match=name):
            results.build(tmp_path)
        (tmp_path / name).unlink()


def arguments(**values: object) -> argparse.Namespace:
    defaults = {"config": None, "backend": None, "network": None, "device": None, "features": None, "set": []}
    return argparse.Namespace(**(defaults | values))


def test_configuration_of_the_command_line(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("drp_node: {ros__parameters: {top_k: 500, threshold: 0.1}}\n")
    config = configured(arguments(config=file, backend="cpu", network="xfeat", set=["drp.top_k=300"]))
    assert (config.drp.top_k, config.drp.threshold) == (300, 0.1)
    assert config.drp.backend == config.drpai3.backend == "cpu"
    assert config.graph.network == "xfeat"
    for wrong in ("drp.top_k", "drp.none=1", "none.top_k=1", "drp.top_k=high", "drp.top_k=1"):
        with pytest.raises(ConfigError):
            configured(arguments(set=[wrong]))
    with pytest.raises(ConfigError, match="write 'network' without a section"):
        configured(arguments(set=["drp.network=xfeat"]))
    file.write_text("".join(f"{n}: {{ros__parameters: {{network: {n}}}}}\n" for n in ("drp_node", "perception_node")))
    with pytest.raises(ConfigError, match="one parameter of all nodes"):
        configured(arguments(config=file))


def test_decoding_ahead_keeps_order_and_passes_errors_on() -> None:
    assert list(ahead(range(100), 3, "test")) == list(range(100))

    def damaged() -> Iterator[int]:
        yield from range(5)
        raise DataError("6.png: truncated")

    seen = []
    with pytest.raises(DataError, match=r"6\.png"):
        for item in decoded_ahead(damaged()):
            seen.append(item)
    assert seen == list(range(5))


def test_decoding_stops_with_its_consumer() -> None:
    made = []

    def endless() -> Iterator[int]:
        for i in range(10**9):
            made.append(i)
            yield i

    items = ahead(endless(), 2, "test")
    assert [next(items) for _ in range(3)] == [0, 1, 2]
    items.close()
    assert len(made) < 20


def test_a_full_disk_loses_least(wall, tmp_path):
    """No file may grow beyond 6 kB, as on a disk that is nearly full: map and tables do not fit, the rest does."""
    limited = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (6144, 6144));"
    code = f"{limited} from drp_slam.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "run", str(wall), "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1 and "cannot write" in last and "Traceback" not in done.stderr
    assert len(read_tum(tmp_path / folder.TRAJECTORY)) == FRAMES
    assert folder.read_run(tmp_path)["error"] and not list(tmp_path.glob("*.part*"))
