# SPDX-License-Identifier: Apache-2.0
"""Strangers, a second graph, and dying nodes: the graph goes on, and its results stay."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from graphs import SEQUENCE
from nav_msgs.msg import Odometry

from drp_slam.data.accuracy import ate
from drp_slam.data.trajectory import read_tum
from drp_slam.nodes import qos, status_codec
from drp_slam.reporting import folder

pytestmark = pytest.mark.system


def test_strangers_and_a_second_graph_do_not_end_it(command, listen, small_room, tmp_path):
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
    assert json.loads(out)["frames"] >= 3


@pytest.mark.parametrize("victim", ["drp_node", "perception_node", "pose_node"])
def test_a_node_that_dies_is_started_again(command, listen, small_room, tmp_path, victim):
    up = command("up", "--sequence", SEQUENCE, "--rate", "1", "--loop", "--respawn", "--json", "--out", tmp_path)
    odometry = listen(Odometry, "odom", qos.world())
    pids = listen.ready(frames=3)
    before = [m.header.stamp.sec * 10**9 + m.header.stamp.nanosec for m in odometry]
    os.kill(pids[victim], signal.SIGKILL)
    killed_s = time.monotonic()
    listen.until(lambda: listen_pid(listen, victim) not in (0, pids[victim]), 60.0)
    seen = len(odometry)
    listen.until(lambda: len(odometry) >= seen + 3, 60.0)
    assert time.monotonic() - killed_s < 60.0
    up.process.send_signal(signal.SIGINT)
    code, _, err = up.finish()
    assert code == 0 and f"{victim} was killed by SIGKILL" in err, err
    assert folder.read_json(tmp_path / folder.RUN)["restarts"] == {victim: 1}
    # what was published before the kill is among the results, whoever died
    kept = set(read_tum(tmp_path / folder.ODOMETRY).stamps_ns.tolist())
    assert set(before) <= kept and len(kept) >= len(before) + 3
    assert not (tmp_path / folder.SAVED_MAP).exists()
    if victim == "pose_node":  # it goes on in the map that it had: no second world begins
        run = read_tum(tmp_path / folder.ODOMETRY)
        truth = small_room.ground_truth
        assert truth is not None and ate(run, truth).rmse_m < 0.05


def listen_pid(listen, node: str) -> int:
    """Process number that the node's next health gives."""
    heard = listen(DiagnosticArray, "/diagnostics", qos.health())
    listen.spin(1.3)
    found = 0
    for one in (s for message in heard for s in message.status):
        if one.name == f"{node}: health" and (values := status_codec.values_of(one)).get("ready") == "1":
            found = int(values["pid"])
    return found


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
