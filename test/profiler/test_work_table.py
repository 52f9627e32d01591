# SPDX-License-Identifier: Apache-2.0
"""`kernels.csv` keeps every bit of the work of a frame, and a mean frame is the mean."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drp_slam.device import COUNTERS, Work
from drp_slam.errors import ProfilerError
from drp_slam.profiler import work_table

TEXT = st.text(st.characters(categories=("L", "N", "P", "S", "Zs"), exclude_characters="|"), min_size=1, max_size=12)
WORKS = st.builds(
    Work,
    unit=st.sampled_from(("drp", "drpai3", "cpu", "null", "board")),
    name=TEXT,
    counters=st.dictionaries(st.sampled_from(COUNTERS), st.floats(0, 1e12)),
    place=st.sampled_from(("", "custom", "cpu")),
    kind=TEXT,
    configuration=TEXT,
    shape=st.lists(st.integers(1, 4096), max_size=4).map(tuple),
    reasons=st.lists(TEXT.map(str.strip).filter(bool), max_size=3).map(tuple),
)
FRAMES = st.dictionaries(
    st.integers(0, 2**62),
    st.dictionaries(TEXT, st.lists(WORKS, min_size=1, max_size=3), min_size=1, max_size=3),
    max_size=4,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(FRAMES)
def test_what_is_written_is_read(tmp_path: Path, frames: dict[int, dict[str, list[Work]]]) -> None:
    path = tmp_path / "kernels.csv"
    with work_table.writing(path) as rows:
        for stamp_ns, stages in frames.items():
            for stage, works in stages.items():
                work_table.add(rows, stamp_ns, stage, works)
    read = work_table.read_works(path)
    assert read == {t: {s: tuple(w) for s, w in stages.items()} for t, stages in frames.items()}


def test_a_mean_frame_has_the_mean_counters_of_the_first_frames_programs() -> None:
    frames = [
        {"post": [Work("cpu", "select", {"flops": flops, "ops": 1.0}, "cpu", "gather"), Work("drp", "describe")]}
        for flops in (10.0, 20.0, 60.0)
    ]
    frames[1]["track"] = [Work("cpu", "track", {"flops": 7.0})]
    mean = work_table.averaged(frames)
    assert [w.name for w in mean["post"]] == ["select", "describe"]
    assert math.isclose(mean["post"][0].counters["flops"], 30.0) and mean["post"][0].counters["ops"] == 1.0
    assert (mean["post"][0].place, mean["post"][0].kind) == ("cpu", "gather")
    assert mean["track"][0].counters["flops"] == 7.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n", "not a table of kernels"),
        (",".join(work_table.NAMES) + "\n1,post,cpu\n", "line 2"),
        (",".join(work_table.NAMES) + "\n1,post,cpu,x,cpu,,,,,many,,,,\n", "line 2"),
        (",".join(work_table.NAMES) + "\nsoon,post,cpu,x,cpu,,,,,1,,,,\n", "line 2"),
    ],
)
def test_a_damaged_table_names_its_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "kernels.csv"
    path.write_text(text)
    with pytest.raises(ProfilerError, match=message):
        work_table.read_works(path)


def test_a_table_of_a_version_with_fewer_counters_is_read(tmp_path: Path) -> None:
    path = tmp_path / "kernels.csv"
    names = work_table.NAMES[: work_table.NAMES.index("bytes") + 1]
    path.write_text(f"{','.join(names)}\n5,track,cpu,track,cpu,,,,,,,7.0,,\n")
    assert work_table.read_works(path)[5]["track"][0].counters == {"flops": 7.0}
    path.write_text(f"{','.join(names)}\n5,track,cpu,track,cpu,,,,,,,7.0,\n")
    with pytest.raises(ProfilerError, match="line 2"):
        work_table.read_works(path)
