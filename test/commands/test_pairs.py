# SPDX-License-Identifier: Apache-2.0
"""What `bench --pairs` makes of the reports of graphs."""

from __future__ import annotations

import pytest

from drp_slam.commands import _pairs


def report(fps: float, p50_ms: float | None, cpu_s: float) -> dict:
    return {"fps": fps, "latency": None if p50_ms is None else {"wall_ms": {"p50": p50_ms}}, "cpu_s": cpu_s}


def test_ratios_are_of_pairs_and_delays_in_frames(capsys: pytest.CaptureFixture[str]) -> None:
    own = [report(10, 200, 3.3), report(5, 300, 3.0), report(9, 250, 3.0)]  # the host was slow in the second pair
    others = [report(12.5, 180, 3.0), report(6.25, 290, 3.0), report(10, 150, 3.0)]
    row = _pairs._row("detector", own, others)
    assert row["rate_ratio"] == pytest.approx(0.8) and row["rate_ratios"] == pytest.approx([0.8, 0.8, 0.9])
    assert row["cpu_ratio"] == pytest.approx(1.0)
    assert row["delay_ms"] == pytest.approx(20) and row["delay_frames"] == pytest.approx(0.2)
    bare = _pairs._row("profiling", own, [report(11, None, 2.9)] * 3)
    assert bare["delay_ms"] is None and bare["delay_frames"] is None
    _pairs.show([row, bare])
    assert "0.800 (0.800 to 0.900)" in capsys.readouterr().out
