# SPDX-License-Identifier: Apache-2.0
"""A graph that loses most of its frames says where; one that keeps up, or drops every other frame, says nothing."""

from __future__ import annotations

import pytest

from drp_slam.doctor.flow import Counts, Flow, check_flow, cpu_times


def counts(at_s: float, camera: int, drp: int, network: int, features: int, tracked: int, busy: float = 0.0) -> Counts:
    received = {"drp_node": drp, "pose_node": camera}
    frames = {"drp_node": features, "perception_node": network, "pose_node": tracked}
    return Counts(at_s, received, frames, busy * at_s, at_s)


@pytest.mark.parametrize(
    ("later", "step"),
    [
        ((300, 300, 300, 300, 300), None),
        ((300, 170, 168, 167, 166), None),
        ((300, 100, 98, 97, 96), "before drp_node takes them"),
        ((300, 300, 60, 59, 58), "before perception_node"),
        ((300, 299, 298, 40, 40), "before drp_node, after the network"),
        ((300, 299, 298, 297, 20), "before pose_node"),
        ((300, 299, 30, 290, 280), None),  # a detector that takes every tenth image
        ((12, 1, 1, 1, 1), None),
    ],
)
def test_where_frames_are_lost(later, step):
    found = check_flow(counts(10.0, 0, 0, 0, 0, 0), counts(20.0, *later))
    assert [f.check.name for f in found] == ([] if step is None else ["frames_dropped"])
    assert step is None or (step in found[0].seen and f"{later[-1]} of 300 images in 10 s" in found[0].seen)


def test_a_busy_host_is_named_only_where_frames_are_lost():
    lost, kept = (300, 100, 98, 97, 96), (300, 300, 300, 300, 300)
    before = counts(10.0, 0, 0, 0, 0, 0, busy=1.0)
    assert {f.check.name for f in check_flow(before, counts(20.0, *lost, busy=0.99))} == {
        "frames_dropped",
        "cpu_overload",
    }
    assert not check_flow(before, counts(20.0, *kept, busy=0.99))


def test_the_window_of_ten_seconds_ignores_restarts_and_other_publishers():
    flow = Flow()
    for second in range(30):
        n = 30 * second
        flow.note("pose_node", {"received_image": str(n), "frames": str(n // 3 if second < 20 else 5)})
        flow.note("drp_node", {"received_image": "abc", "frames": "-1"})
        found = flow.findings(float(second))
        if second < 11 or 20 <= second < 30:  # too early, or pose_node was started again
            assert not found
        elif second == 16:
            assert found[0].check.name == "frames_dropped" and "100 of 300" in found[0].seen


def test_cpu_times(tmp_path):
    stat = tmp_path / "stat"
    stat.write_text("cpu  10 1 5 80 3 0 1 0 0 0\ncpu0 1 1 1 1\n")
    assert cpu_times(stat) == (17.0, 100.0)
    assert cpu_times(tmp_path / "none") == (0.0, 0.0)
