# SPDX-License-Identifier: Apache-2.0
"""Strangers, a second graph, and dying nodes: the graph goes on, and its results stay."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from graphs import RESULTS, SEQUENCE
from nav_msgs.msg import Odometry

from drp_slam.data.accuracy import ate
from drp_slam.data.trajectory import read_tum
from drp_slam.datatypes import Trajectory
from drp_slam.nodes import qos, status_codec
from drp_slam.reporting import folder

pytestmark = pytest.mark.system

GUARD_S = 60.0
"""A guard against hanging, not a measurement: hosts of continuous integration are starved at times."""
VICTIMS = ("pose_node", "perception_node", "drp_node", "profiler_node")
ROUNDS = int(os.environ.get("FAULT_ROUNDS", "2"))
"""How often the tests that repeat a fault do so; docs/reliability.md says what more rounds gave."""


def test_strangers_and_a_second_graph_do_not_end_it(command, listen, small_room, tmp_path):
    """Ctrl-C does, and leaves all results."""
    up = command("up", "--sequence", SEQUENCE, "--rate", "1", "--loop", "--json", "--out", tmp_path / "first")
    health = listen.node.create_publisher(DiagnosticArray, "/diagnostics", qos.health())
    spans = listen.node.create_publisher(DiagnosticArray, "spans", qos.ledger())
    odometry = listen(Odometry, "odom", qos.world())
    listen.ready(frames=3)
    strange = [
        {"pid": 1, "ready": 1, "frames": "abc", "fps": "[/bold]", "problems": "x" * 10_000},
        {"pid": "ⅳ", "ready": "", "last_problem": "[/bold]\n\x1b[2J"},
        {"pid": os.getpid()},
        {},
    ]
    for values in strange * 20:
        for node in ("pose_node", "profiler_node", "player_node", "[/bold]", ""):
            words = status_codec.entry(f"{node}: health", DiagnosticStatus.OK, "[/bold]", values)
            health.publish(status_codec.array_of(0, [words]))
            spans.publish(status_codec.array_of(2**60, [words]))
        listen.spin(0.02)

    late = command("up", "--sequence", SEQUENCE, "--rate", "1", "--loop", "--out", tmp_path / "second")
    code, _, err = late.finish(120)
    assert code == 1 and "another graph runs on this ROS domain" in err.strip().splitlines()[-1]

    before = len(odometry)
    listen.spin(3.0)
    assert up.process.poll() is None and len(odometry) > before
    up.process.send_signal(signal.SIGINT)
    code, out, err = up.finish()
    assert code == 0, err
    frames = json.loads(out)["frames"]
    assert frames >= 3 and all((tmp_path / "first" / name).is_file() for name in RESULTS)
    assert folder.read_json(tmp_path / "first" / folder.GRAPH)["frames"] == frames


@pytest.mark.parametrize("moment", ["the player's end", "the report"])
def test_an_interrupt_at_the_end_keeps_results(command, listen, small_room, tmp_path, moment):
    up = command("up", "--sequence", SEQUENCE, "--rate", "max", "--json", "--out", tmp_path)
    waits_for = folder.GRAPH if moment == "the player's end" else folder.RUN
    while not (tmp_path / waits_for).is_file():
        assert up.process.poll() is None
        time.sleep(0.002)
    up.process.send_signal(signal.SIGINT)
    up.finish(120)
    run = folder.read_run(tmp_path)
    assert run["frames"] == len(small_room) == len(folder.read_frames(tmp_path / folder.FRAMES))
    assert len(read_tum(tmp_path / folder.TRAJECTORY)) == len(small_room)


def test_no_node_outlives_up_whenever_it_is_killed(graph_env, small_room, tmp_path):
    """SIGKILL at any moment from its first second on."""
    rng = random.Random(ROUNDS)
    for round_ in range(ROUNDS):
        command = [sys.executable, "-m", "drp_slam", "up", "--sequence", SEQUENCE, "--rate", "1", "--loop"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        up = subprocess.Popen([*command, "--out", str(tmp_path / str(round_))], env=graph_env, **quiet)
        time.sleep(rng.uniform(0.5, 10.0))
        nodes = children(up.pid)
        up.kill()
        nodes |= children(up.pid)
        up.wait()
        end_s = time.monotonic() + 20.0
        while left := [pid for pid in nodes if alive(pid)]:
            assert time.monotonic() < end_s, f"round {round_}: {left} outlived up"
            time.sleep(0.1)


def test_nodes_that_die_are_started_again(command, listen, small_room, tmp_path):
    """Nodes in turn; each time odometry goes on in the map that there was, and what was published is kept.

    Prints the seconds from each kill to the next odometry.
    """
    up = command("up", "--sequence", SEQUENCE, "--rate", "1", "--loop", "--respawn", "--out", tmp_path)
    odometry = listen(Odometry, "odom", qos.world())
    listen.ready(frames=3)
    resumed_s, victims = [], [VICTIMS[round_ % len(VICTIMS)] for round_ in range(max(ROUNDS, len(VICTIMS)))]
    for victim in victims:
        (pid,) = [p for p in children(up.process.pid) if f"nodes.{victim}" in Path(f"/proc/{p}/cmdline").read_text()]
        os.kill(pid, signal.SIGKILL)
        listen.spin(0.3)  # what was under way
        killed_s, seen = time.monotonic(), len(odometry)
        listen.until(lambda seen=seen: len(odometry) > seen, GUARD_S)
        resumed_s.append(0.3 + time.monotonic() - killed_s)
        listen.ready()
        listen.spin(15.0 if len(VICTIMS) < ROUNDS else 0.5)  # more than 5 deaths of a node in a minute end the graph
    print("resumed after s:", " ".join(f"{s:.1f}" for s in resumed_s))
    assert up.process.poll() is None
    up.process.send_signal(signal.SIGINT)
    code, _, err = up.finish()
    assert code == 0, err
    assert all(f"{victim} was killed by SIGKILL" in err for victim in victims), err
    restarts = Counter(folder.read_json(tmp_path / folder.RUN)["restarts"])
    assert restarts >= Counter(victims)  # more where one came back deaf, was noticed, and started once more
    published = {m.header.stamp.sec * 10**9 + m.header.stamp.nanosec for m in odometry}
    run, truth = read_tum(tmp_path / folder.ODOMETRY), laps_of(small_room, 1000)
    assert published <= set(run.stamps_ns.tolist())
    assert not (tmp_path / folder.SAVED_MAP).exists()
    told = {row.stamp_ns for row in folder.read_frames(tmp_path / folder.FRAMES)}
    assert len(published - told) <= len(victims)  # a killed node may have published a pose and not yet its status
    assert ate(run, truth).rmse_m < 0.05  # no second world began


def laps_of(sequence, count: int) -> Trajectory:
    """The ground truth of a sequence that is played in a loop."""
    truth, lap_ns = sequence.ground_truth, int(1e9 / sequence.fps)
    lap_ns += int(sequence.stamps_ns[-1] - sequence.stamps_ns[0])
    stamps_ns = np.concatenate([truth.stamps_ns + k * lap_ns for k in range(count)])
    return Trajectory(stamps_ns, np.tile(truth.T_world_camera, (count, 1, 1)))


def children(pid: int) -> set[int]:
    """Processes that `pid` has started and that live."""
    found = set()
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError, IndexError):
            if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == pid and entry.name.isdecimal():
                found.add(int(entry.name))
    return found


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie whose parent was killed does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
