# SPDX-License-Identifier: Apache-2.0
"""A folder of results belongs to one run: locked, cleared of what was before, never mixed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from drp_slam.config import Config
from drp_slam.errors import ProfilerError
from drp_slam.offline import UNFINISHED
from drp_slam.reporting import folder, results
from drp_slam.reporting.claim import claimed


def fill(out: Path, words: str = "1") -> None:
    for name in folder.OWN:
        (out / name).write_text(words)


def test_an_earlier_run_is_removed_and_nothing_else(tmp_path):
    fill(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    with claimed(tmp_path) as first:
        assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]
    with claimed(tmp_path) as second:
        assert first != second


def test_two_runs_do_not_share_a_folder(tmp_path):
    with claimed(tmp_path):
        fill(tmp_path)
        with pytest.raises(ProfilerError, match="another run writes there"), claimed(tmp_path):
            pass
        assert (tmp_path / folder.RUN).is_file()  # the refused one has removed nothing
    with claimed(tmp_path):
        pass


def test_a_recording_is_not_its_own_folder_of_results(tmp_path):
    (tmp_path / folder.GROUND_TRUTH).write_text("measured at great cost")
    with pytest.raises(ProfilerError, match="is the recording"), claimed(tmp_path, str(tmp_path / ".")):
        pass
    assert (tmp_path / folder.GROUND_TRUTH).is_file()


def test_a_folder_that_cannot_be_written_is_refused_before_the_work():
    with pytest.raises(ProfilerError, match="--out /sys: cannot write there"), claimed(Path("/sys")):
        pass


def test_the_target_of_a_planted_link_stays(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("keep")
    out = tmp_path / "out"
    out.mkdir()
    (out / folder.RUN).symlink_to(victim)
    with claimed(out):
        folder.write_run(out, Config(), "s", None, complete=True)
    assert victim.read_text() == "keep" and not (out / folder.RUN).is_symlink()


@pytest.mark.parametrize("name", folder.DIGESTED)
def test_files_of_another_run_are_not_mixed_in(tmp_path, name):
    for other in set(folder.DIGESTED) - {name}:
        (tmp_path / other).write_text("this run")
    folder.write_run(tmp_path, Config(), "s", None, complete=True)
    assert folder.read_run(tmp_path)["sequence"] == "s"
    (tmp_path / name).write_text("another run")
    with pytest.raises(ProfilerError, match=f"{name}: not of the run"):
        folder.read_run(tmp_path)


def test_a_run_that_ended_early_can_be_reported(tmp_path):
    folder.write_run(tmp_path, Config(), "s", UNFINISHED)
    (tmp_path / folder.TRAJECTORY).write_text("")
    assert "before all results" in folder.read_run(tmp_path)["error"]


def test_the_report_shows_findings_whatever_a_file_holds(tmp_path):
    sound = {"level": "WARN", "where": "/depth", "seen": "30 ms <late>", "why": "b", "remedy": "c", "first_s": 1.5}
    for found in ([sound, 7, {"seen": ["odd"], "last_s": "x"}], [], None, {"a": 1}):
        (tmp_path / folder.RUN).write_text(json.dumps({"sequence": "live", "findings": found}))
        result = results.build(tmp_path)
        page = (tmp_path / folder.REPORT_HTML).read_text()
        assert (
            ("30 ms &lt;late&gt;" in page) == (isinstance(found, list) and sound in found) == ("What was wrong" in page)
        )
        assert all(set(one) == {*results.FINDING, *results.SEEN_S} for one in result["findings"])
