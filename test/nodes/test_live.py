# SPDX-License-Identifier: Apache-2.0
"""The progress of a graph counts what was played: it ends at 100 %, even where a slow host drops frames."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy")
from drp_slam.config import Config
from drp_slam.doctor.findings import found
from drp_slam.nodes.live import SILENT, View


class Ten:
    def __len__(self) -> int:
        return 10


def test_dropped_frames_count_as_done() -> None:
    view = View(Config(), Ten())  # type: ignore[arg-type]
    with view:
        view.update({"player_node": {"frames": "4"}, "profiler_node": {"frames": "2", "fps": "1.0"}})
        view.update({"player_node": {"frames": "10"}, "profiler_node": {"frames": "3", "fps": "1.0"}})
    assert view.done == 10
    assert view._bar.tasks[0].finished, "the last health is drawn, however soon it came"


def test_live_frames_are_those_that_were_tracked() -> None:
    with View(Config(), None) as view:
        view.update({"profiler_node": {"frames": "7"}})
    assert view.done == 7


def test_a_player_that_has_finished_may_be_silent() -> None:
    silent, dark = found(SILENT, "/image", "no message for 9 s"), found("dark", "/image", "mean grey 3")
    with View(Config(), Ten()) as view:  # type: ignore[arg-type]
        view.update({"player_node": {"frames": "9"}}, [silent, dark])
        assert list(view._findings) == [silent, dark]
        view.update({"player_node": {"frames": "10"}}, [silent, dark])
        assert list(view._findings) == [dark]
        assert view._bar.tasks[0].description == "starting"
    assert view._bar.tasks[0].description == "finishing"
    with View(Config(), None) as view:  # a camera never finishes
        view.update({"profiler_node": {"frames": "10"}}, [silent])
        assert list(view._findings) == [silent]
