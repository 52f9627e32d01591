# SPDX-License-Identifier: Apache-2.0
"""The event simulation against a clock that ticks, and against what no schedule can beat."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drp_slam.chip.constants import load_constants
from drp_slam.chip.schedule import Schedule, Step, chrome_trace, simulate, write_trace

UNITS = load_constants().units
UNIT = {unit.name: unit for unit in UNITS}


def bound_hz(job: list[Step]) -> float:
    """Frames a second that no schedule can exceed: the busiest queue's."""
    queues = {step.unit.queue for step in job}
    return 1 / max(sum(step.modelled_s for step in job if step.unit.queue == queue) for queue in queues)


STEPS = st.builds(Step, st.sampled_from("abcd"), st.sampled_from(UNITS), st.integers(1, 6).map(float))
JOBS = st.lists(st.lists(STEPS, min_size=1, max_size=5), min_size=1, max_size=8)


def tick(jobs: list[list[Step]], in_flight: int, period: int) -> tuple[dict, list[int], list[int]]:
    """The same rules, played one second at a time over explicit queues: (slots, arrived, done)."""
    starts: dict[tuple[int, int], int] = {}
    arrived: list[int] = []
    done: dict[int, int] = {}
    lines: dict[str, list[tuple[int, int, int]]] = {s.unit.queue: [] for job in jobs for s in job}
    busy: dict[str, tuple[int, int, int] | None] = dict.fromkeys(lines)  # (end, frame, step)
    now = 0
    while len(done) < len(jobs):
        for queue, running in busy.items():
            if running and running[0] == now:
                _, frame, index = running
                busy[queue] = None
                if index + 1 < len(jobs[frame]):
                    lines[jobs[frame][index + 1].unit.queue].append((now, frame, index + 1))
                else:
                    done[frame] = now
        while (
            len(arrived) < len(jobs)
            and len(arrived) - len(done) < in_flight
            and (not arrived or now >= arrived[-1] + period)
        ):
            lines[jobs[len(arrived)][0].unit.queue].append((now, len(arrived), 0))
            arrived.append(now)
        for queue, line in lines.items():
            if busy[queue] is None and line:
                line.sort()
                _, frame, index = line.pop(0)
                starts[frame, index] = now
                busy[queue] = (now + int(jobs[frame][index].modelled_s), frame, index)
        now += 1
    return starts, arrived, [done[f] for f in range(len(jobs))]


@settings(max_examples=150, deadline=None)
@given(JOBS, st.integers(1, 4), st.integers(0, 5))
def test_events_equal_a_ticking_clock(jobs: list[list[Step]], in_flight: int, period: int) -> None:
    schedule = simulate(jobs, UNITS, in_flight, float(period))
    starts, arrived, done = tick(jobs, in_flight, period)
    found: dict[tuple[int, int], float] = {}
    for slot in sorted(schedule.slots, key=lambda s: s.start_s):
        index = sum(1 for key in found if key[0] == slot.frame)
        found[slot.frame, index] = slot.start_s
    assert found == starts
    assert schedule.arrived_s.tolist() == arrived
    assert schedule.done_s.tolist() == done


@settings(max_examples=60, deadline=None)
@given(JOBS, st.integers(1, 4))
def test_a_queue_serves_one_step_at_a_time(jobs: list[list[Step]], in_flight: int) -> None:
    slots = simulate(jobs, UNITS, in_flight).slots
    assert len(slots) == sum(map(len, jobs))
    for queue in {s.step.unit.queue for s in slots}:
        line = sorted((s.start_s, s.end_s) for s in slots if s.step.unit.queue == queue)
        assert all(a[1] <= b[0] for a, b in itertools.pairwise(line))


@settings(max_examples=60, deadline=None)
@given(st.lists(STEPS, min_size=1, max_size=5))
def test_throughput_lies_between_serial_and_bound(job: list[Step]) -> None:
    serial_hz = 1.0 / sum(s.modelled_s for s in job)
    one = simulate([job] * 40, UNITS, in_flight=1)
    many = simulate([job] * 400, UNITS, in_flight=60)
    assert one.throughput_hz == pytest.approx(serial_hz)
    assert np.allclose(one.latency_s, 1.0 / serial_hz)
    assert serial_hz * (1 - 1e-9) <= many.throughput_hz <= bound_hz(job) * (1 + 1e-9)
    assert many.throughput_hz >= bound_hz(job) * 0.8  # with plenty in flight the bound is near


def test_different_units_overlap_and_the_busiest_one_sets_the_pace() -> None:
    job = [Step("pre", UNIT["DRP1"], 2.0), Step("net", UNIT["DRP-AI3"], 3.0), Step("track", UNIT["CPU"], 5.0)]
    schedule = simulate([job] * 50, UNITS, in_flight=3)
    assert schedule.throughput_hz == pytest.approx(50 / 255)
    assert schedule.utilisation()["CPU"] == pytest.approx(250 / (250 + 5))
    shared = [Step("pre", UNIT["DRP0"], 2.0), Step("net", UNIT["DRP-AI3"], 3.0)]
    assert bound_hz(shared) == pytest.approx(1 / 5)  # DRP0 queues with inference


def test_trace_has_every_slot_on_its_units_row(tmp_path: Path) -> None:
    schedule: Schedule = simulate([[Step("pre", UNIT["DRP1"], 1e-3), Step("net", UNIT["DRP-AI3"], 2e-3)]] * 2, UNITS)
    write_trace(tmp_path / "trace.json", schedule, "emulated:rzv2h")
    trace = json.loads((tmp_path / "trace.json").read_text())
    assert trace == chrome_trace(schedule, "emulated:rzv2h")
    rows = {e["tid"]: e["args"]["name"] for e in trace["traceEvents"] if e["name"] == "thread_name"}
    drawn = [(rows[e["tid"]], e["name"], e["dur"]) for e in trace["traceEvents"] if e["ph"] == "X"]
    assert (
        sorted(drawn) == [("DRP-AI3", "net", pytest.approx(2000.0))] * 2 + [("DRP1", "pre", pytest.approx(1000.0))] * 2
    )


def test_units_of_one_queue_do_not_overlap_where_they_share_the_drp() -> None:
    """On RZ/V2N OpenCVA and inference wait for each other, on RZ/V2H they overlap."""
    rates = []
    for device in ("rzv2h", "rzv2n"):
        units = load_constants(device).units
        job = [Step("pre", units[0], 2.0), Step("net", next(u for u in units if "drpai3" in u.runs), 3.0)]
        rates.append(simulate([job] * 200, units, in_flight=3).throughput_hz)
    assert rates == pytest.approx([1 / 3, 1 / 5], rel=0.01)


MEMORY = 10.0


def test_two_streams_share_the_memory_and_a_small_one_is_not_slowed() -> None:
    both = [Step("a", UNIT["DRP1"], 1.0, bytes=8.0), Step("b", UNIT["DRP-AI3"], 1.0, bytes=8.0)]
    together = simulate([both[:1], both[1:]], UNITS, bandwidth=MEMORY)
    assert together.done_s.tolist() == pytest.approx([1.6, 1.6])  # 16 bytes at 10 a second
    uneven = [Step("a", UNIT["DRP1"], 1.0, bytes=2.0), Step("b", UNIT["DRP-AI3"], 1.0, bytes=12.0)]
    shared = simulate([uneven[:1], uneven[1:]], UNITS, bandwidth=MEMORY)
    # b gets 8 of the 12 bytes a second that it asks for, then 10; a all of its 2
    assert shared.done_s.tolist() == pytest.approx([1.0, 1.0 + 4 / 10])
    assert simulate([both], UNITS, bandwidth=MEMORY).done_s.tolist() == pytest.approx([2.0]), "one after the other"


@settings(max_examples=60, deadline=None)
@given(JOBS, st.integers(1, 4), st.floats(0.5, 20.0))
def test_memory_never_exceeds_its_bandwidth_and_never_shortens_a_step(
    jobs: list[list[Step]], in_flight: int, bandwidth: float
) -> None:
    """Overlapping frames may end earlier all the same: another order can suit the queues better (Graham 1969)."""
    moving = [[dataclasses.replace(s, bytes=3.0 * s.modelled_s) for s in job] for job in jobs]
    tight = simulate(moving, UNITS, in_flight, bandwidth=bandwidth)
    total_s = max(s.end_s for s in tight.slots)
    assert sum(s.bytes for job in moving for s in job) <= bandwidth * total_s * (1 + 1e-9)
    assert all(s.end_s - s.start_s >= s.step.modelled_s * (1 - 1e-9) for s in tight.slots)
    alone = [simulate(moving, UNITS, 1, bandwidth=b).done_s for b in (bandwidth, 1e9)]
    assert (alone[0] >= alone[1] * (1 - 1e-9)).all(), "one frame at a time only ends later"


def test_a_camera_that_is_too_fast_loses_frames_and_a_slow_one_none() -> None:
    job = [Step("track", UNIT["CPU"], 3.0)]
    live = simulate([job] * 100, UNITS, in_flight=1, period_s=2.0, drop=True)
    assert live.dropped == 50 and np.allclose(live.latency_s, 3.0)
    assert live.throughput_hz == pytest.approx(50 / (2.0 * 98 + 3.0))
    slow = simulate([job] * 100, UNITS, in_flight=1, period_s=3.5, drop=True)
    assert slow.dropped == 0 and slow.utilisation()["CPU"] == pytest.approx(300 / (99 * 3.5 + 3))


def test_what_runs_beside_delays_later_frames_in_its_queue_alone() -> None:
    network, track = Step("network", UNIT["DRP-AI3"], 1.0), Step("track", UNIT["CPU"], 2.0)
    detect = Step("detect", UNIT["DRP-AI3"], 4.0, beside=True)
    job = [network, detect, track]
    alone = simulate([job], UNITS)
    assert alone.done_s.tolist() == [3.0] and max(s.end_s for s in alone.slots) == 5.0
    every_other = simulate([job, [network, track]] * 20, UNITS, period_s=4.0, drop=True)
    # the frame after a searched one finds the accelerator busy for 5 - 4 seconds more
    assert every_other.latency_s.tolist() == pytest.approx([3.0, 4.0] * 20)


def test_threads_share_the_cores_and_a_stage_keeps_the_order_of_frames() -> None:
    track, select = Step("track", UNIT["CPU"], 4.0, cores=2), Step("select", UNIT["CPU"], 1.0, cores=1)
    plan = simulate([[select, track]] * 30, UNITS, in_flight=3, cores=4)
    starts = [s.start_s for s in plan.slots if s.step.stage == "track"]
    assert np.diff(starts) == pytest.approx(4.0), "the tracker is the bottleneck: one frame at a time"
    whole = [dataclasses.replace(s, cores=0) for s in (select, track)]
    assert simulate([whole] * 30, UNITS, in_flight=3, cores=4).throughput_hz == pytest.approx(1 / 5)


def test_a_wake_up_delays_a_step_without_occupying_its_unit() -> None:
    job = [Step("a", UNIT["DRP1"], 1.0), Step("b", UNIT["CPU"], 1.0, wake_s=0.25)]
    plan = simulate([job] * 50, UNITS, in_flight=3)
    assert plan.done_s[0] == 2.25 and plan.throughput_hz == pytest.approx(50 / (50 + 1.25))
