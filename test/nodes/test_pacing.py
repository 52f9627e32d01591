# SPDX-License-Identifier: Apache-2.0
"""Pacing `realtime`: never earlier than modelled, in the order of the chip's queues, beside the event schedule."""

from __future__ import annotations

import dataclasses
import functools
import json
import threading
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy")

import yaml
from graphs import SEQUENCE

from drp_slam import resources
from drp_slam.chip.constants import load_constants
from drp_slam.chip.schedule import simulate
from drp_slam.chip.soc import Meter, Soc
from drp_slam.device import StageRun, Work
from drp_slam.nodes.pacing import Pacer, Timeline, timeline_path
from drp_slam.reporting.frame_schedule import CHIP, price

MS = 1_000_000
SOC = Soc(load_constants().replace({"drp.configuration_load": 1e-9}))
IMAGE = Work("drp", "blur", {"pixels": 1.0, "ops": 54 * 4.2e8 * 0.03}, "custom", "stencil", "blur")  # 30 ms on DRP1
HEADS = dataclasses.replace(IMAGE, name="softmax", place="preruntime")  # 30 ms on DRP0
TRACK = Work("cpu", "track", {"flops": SOC.constants["cpu.float_rate"] * 0.04})  # 40 ms


def stage(name: str, *works: Work) -> StageRun:
    return StageRun(name, works[0].unit, "emulated", 0.001, works)


def test_queues_are_shared_by_all_who_open_the_file(tmp_path: Path) -> None:
    one, other = Timeline(tmp_path / "t"), Timeline(tmp_path / "t")
    now_ns = time.monotonic_ns()
    assert one.reserve("CPU", now_ns, 5 * MS) == now_ns + 5 * MS
    assert other.reserve("CPU", now_ns + 1 * MS, 5 * MS) == now_ns + 10 * MS
    assert other.reserve("DRP1", now_ns, 5 * MS) == now_ns + 5 * MS
    assert one.reserve("CPU", now_ns + 50 * MS, 5 * MS) == now_ns + 55 * MS, "idle in between"
    assert other.ended(7) is None
    one.claim("DRP1", now_ns + 20 * MS)
    assert other.reserve("DRP1", now_ns + 10 * MS, 1 * MS) == now_ns + 11 * MS, "it came before the claim"
    assert one.reserve("DRP1", now_ns + 20 * MS, 5 * MS, claimed=True) == now_ns + 25 * MS
    one.claim("DRP1", now_ns + 30 * MS)
    threading.Timer(0.05, lambda: one.reserve("DRP1", now_ns + 30 * MS, 5 * MS, claimed=True)).start()
    assert other.reserve("DRP1", now_ns + 31 * MS, 1 * MS) == now_ns + 36 * MS, "it waited behind the claim"
    one.ends(7, now_ns)
    assert other.ended(7) == now_ns and other.ended(8) is None
    one.ends(7, now_ns - 100_000 * MS)
    assert other.ended(7) is None, "of an earlier run"
    for period_ns in (32 * MS, 33_333_333, 64 * MS, 1):
        for frame in range(8):
            one.ends(frame * period_ns, now_ns + frame)
        kept = [one.ended(frame * period_ns) == now_ns + frame for frame in range(8)]
        assert sum(kept) >= 6, "frames that are under way at once rarely share a row"
    assert timeline_path("/a/b").name.endswith("-a-b") and timeline_path("/") != timeline_path("/a")


def test_nothing_is_published_before_its_modelled_time_and_lateness_is_said(tmp_path: Path) -> None:
    pacer = Pacer(tmp_path / "t", lambda f: f)
    pacer.meter = Meter(SOC)
    pacer.hold(0, [stage("image", IMAGE)], time.monotonic_ns() - 10_000 * MS, lambda: None, wait=True)  # loads
    begun_ns, seen = time.monotonic_ns(), []
    for stamp in range(1, 4):
        pacer.hold(stamp, [stage("image", IMAGE)], begun_ns, lambda: seen.append(time.monotonic_ns() - begun_ns))
    pacer.close()
    assert len(seen) == 3 and all(at_ns >= k * 30 * MS for k, at_ns in enumerate(seen, 1)), "one queue, one at a time"
    assert int(pacer.figures()["held"]) == 4 and float(str(pacer.figures()["late_share"])) > 0, "the first was late"


def test_outputs_that_are_late_leave_in_order(tmp_path: Path) -> None:
    pacer, seen = Pacer(tmp_path / "t", lambda f: f), []
    pacer.meter = Meter(SOC)
    two = [stage("image", dataclasses.replace(IMAGE, counters={}), dataclasses.replace(TRACK, counters={}))]
    long_ago_ns = time.monotonic_ns() - 60_000 * MS

    def publish(stamp: int) -> None:
        time.sleep(0.002 * (stamp % 3 == 0))
        seen.append(stamp)

    for stamp in range(60):
        pacer.hold(stamp, two, long_ago_ns, functools.partial(publish, stamp))
    pacer.close()
    assert seen == list(range(60))


def test_steps_of_two_stages_meet_as_in_the_event_schedule(tmp_path: Path) -> None:
    """Three frames on two DRPs and the CPU: modelled ends are exact, however busy this host is."""
    frame = {"image": (IMAGE,), "heads": (HEADS,), "track": (TRACK,)}
    meter = Meter(SOC)
    price(frame, CHIP, meter, {})
    jobs = [price(frame, CHIP, meter, {}).steps for _ in range(3)]
    plan = simulate(jobs, SOC.units, in_flight=3)
    pacers = [Pacer(tmp_path / "t", lambda f: f) for _ in range(3)]
    for pacer in pacers:
        pacer.meter = Meter(SOC)
        for works in frame.values():
            for work in works:
                pacer.meter.cost(work)
    done: dict[int, int] = {}
    finished = threading.Event()
    start_ns = time.monotonic_ns()

    def go(stamp: int, left: list[tuple[str, tuple[Work, ...]]]) -> None:
        if not left:
            done[stamp] = time.monotonic_ns() - start_ns
            if len(done) == 3:
                finished.set()
            return
        (name, works), *rest = left
        pacer = pacers[list(frame).index(name)]
        pacer.hold(stamp, [stage(name, *works)], time.monotonic_ns(), lambda: go(stamp, rest))

    for stamp in (1, 2, 3):
        pacers[0]._timeline.ends(1000 * stamp, start_ns)
        go(1000 * stamp, list(frame.items()))
    assert finished.wait(30)
    ends_ns = [pacers[0]._timeline.ended(1000 * stamp) for stamp in (1, 2, 3)]
    for pacer in pacers:
        pacer.close()
    modelled_ns = plan.done_s * 1e9
    assert sorted(done, key=done.__getitem__) == [1000, 2000, 3000]
    assert all(done[1000 * k] >= ns - 1 for k, ns in enumerate(modelled_ns, 1)), "never earlier"
    assert [end_ns - start_ns for end_ns in ends_ns] == pytest.approx(modelled_ns, abs=100), "whenever it was published"


@pytest.mark.system
@pytest.mark.parametrize("flow", [("--rate", "max", "--in-flight", "1"), ("--rate", "0.018")], ids=["max", "live"])
def test_the_graph_agrees_with_the_event_schedule(command, tmp_path: Path, flow) -> None:
    """On a chip so slow that this host always waits for it: one frame at a time, and live with two on the way."""
    tree = yaml.safe_load(resources.device_file("rzv2h").read_text())
    for key in ("float_rate", "int8_mac_rate", "pixel_op_rate"):
        entry = tree["cpu"][key]
        tree["cpu"][key] = {"value": entry["value"] / 120, "unit": entry["unit"], "source": "test"}
    tree["drp"]["custom_overhead"]["value"] = 0.04
    chip = tmp_path / "slow.yaml"
    chip.write_text(yaml.safe_dump(tree))
    for attempt in range(3):  # a host that is starved meanwhile cannot keep the chip's time
        out = tmp_path / str(attempt)
        code, said, err = command(
            *("up", "--sequence", SEQUENCE, "--frames", 4, *flow, "--features", "orb", "--device", chip),
            *("--pacing", "realtime", "--json", "--out", out),
        ).finish()
        assert code == 0, err
        report = json.loads(said)
        found = report["pacing"]
        assert report["tracked"] == 4 and set(found["late"]) == {"drp_node", "pose_node"}
        graph, schedule = (np.array([found[k]["latency_ms"], 1e3 / found[k]["fps"]]) for k in ("graph", "schedule"))
        assert np.all(graph > 0.95 * schedule), found
        if np.all(graph < 1.05 * schedule):
            break
    else:
        raise AssertionError(found)
    assert "never published earlier" in (out / "report.html").read_text()
