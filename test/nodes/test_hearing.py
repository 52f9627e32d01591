# SPDX-License-Identifier: Apache-2.0
"""Nodes that run without working are distinguished from busy, idle and restarted ones, and restarted."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest

from drp_slam.errors import GraphError
from drp_slam.nodes.hearing import BEATS, FRAMES, UNREADY, Hearing
from drp_slam.nodes.limits import INACTIVE
from drp_slam.nodes.processes import USELESS, Processes
from drp_slam.nodes.renewal import QUIET_S, SAID_S, Renewal
from drp_slam.nodes.table import NodeSpec


def seconds(hearing: Hearing, count: int, own: dict[str, int], peer: dict[str, int], start: int = 0) -> bool:
    """`count` seconds in which values grow by so much a second; whether pose_node was ever found deaf."""
    found = False
    for k in range(start, start + count):
        values = {name: str(rate * k) for name, rate in own.items()}
        sent = {name: str(rate * k) for name, rate in peer.items()}
        hearing.update({"pose_node": {"pid": "7", **values}, "drp_node": {"pid": "6", **sent}})
        found = found or hearing.deaf() == {"pose_node": "drp_node publishes features"}
    return found


@pytest.mark.parametrize(
    "own, peer, deaf",
    [
        ({"beats": 1, "heard_features": 0}, {"frames": 30}, True),
        ({"beats": 1, "heard_features": 1}, {"frames": 30}, False),  # slow
        ({"beats": 0, "heard_features": 0}, {"frames": 30}, False),  # busy: no health either
        ({"beats": 1, "heard_features": 0}, {"frames": 0}, False),  # nothing is sent
        ({}, {"frames": 30}, False),
    ],
)
def test_deaf_nodes_are_found(own, peer, deaf):
    assert seconds(Hearing(), 3 * BEATS, own, peer) == deaf


def test_a_node_that_goes_deaf_later_is_found_and_its_successor_is_not():
    hearing = Hearing()
    assert not seconds(hearing, BEATS, {"beats": 1, "heard_features": 30}, {"frames": 30})
    stuck = {"pid": "7", "heard_features": "570"}
    for k in range(BEATS, 2 * BEATS + 1):
        hearing.update({"pose_node": {**stuck, "beats": str(k)}, "drp_node": {"pid": "6", "frames": str(30 * k)}})
        found = hearing.deaf()
    assert found == {"pose_node": "drp_node publishes features"}
    hearing.update({"pose_node": {"pid": "8", "heard_features": "0", "beats": "1"}})
    assert hearing.deaf() == {}


@pytest.mark.parametrize("text", ["", "-1", "abc", "²", "1e9", "9" * 5000, "[/bold]"])
def test_what_strangers_publish_is_no_error(text):
    hearing = Hearing()
    for k in range(FRAMES + BEATS):
        hearing.update(
            {"pose_node": {"beats": text, "heard_features": text, "pid": text}, "drp_node": {"frames": text}}
        )
        assert hearing.deaf() == {}
        hearing.update({"drp_node": {"frames": str(k), "pid": "1"}})
        hearing.deaf()


def test_a_node_that_hears_one_of_its_two_topics_is_deaf_to_the_other():
    hearing = Hearing()
    for k in range(BEATS + FRAMES):
        own = {"pid": "6", "beats": str(k), "frames": "0", "heard_image": str(30 * k), "heard_heads": "0"}
        hearing.update({"drp_node": own, "player_node": {"frames": str(30 * k)}, "perception_node": {"frames": str(k)}})
        found = hearing.deaf()
    assert found == {"drp_node": "perception_node publishes heads"}


def test_a_topic_without_a_subscription_is_not_judged():
    """A front end without a network leaves perception_node to the detector: it takes no tensor, and hears none."""
    hearing = Hearing()
    for k in range(2 * (BEATS + FRAMES)):
        own = {"pid": "6", "beats": str(k), "frames": "0", "heard_image": str(3 * k)}
        hearing.update({"perception_node": own, "drp_node": {"pid": "7", "beats": str(k), "frames": str(30 * k)}})
        assert not hearing.deaf()


@pytest.mark.parametrize(("waits", "deaf"), [(True, True), (False, False)])
def test_a_player_that_hears_no_health_of_a_node_it_waits_for_is_deaf(waits, deaf):
    """It would wait for ever; once it plays it says nothing of whom it hears."""
    hearing, found = Hearing(), {}
    for k in range(2 * BEATS):
        counts = {"heard_/diagnostics of pose_node": "0", "heard_/diagnostics of drp_node": str(k)} if waits else {}
        player = {"pid": "5", "beats": str(k), "frames": "0", **counts}
        others = {name: {"pid": "6", "beats": str(k), "frames": "0"} for name in ("drp_node", "pose_node")}
        hearing.update({"player_node": player, **others})
        found |= hearing.deaf()
    assert found == ({"player_node": "pose_node publishes /diagnostics of pose_node"} if deaf else {})


def test_nodes_that_do_not_find_each_other_are_told_from_those_that_still_start():
    hearing = Hearing()

    def after(beats: int, other: int, pid: str = "6") -> set[str]:
        waits, ready = {"pid": "7", "beats": str(beats), "ready": "0"}, {"pid": pid, "beats": str(other), "ready": "1"}
        hearing.update({"drp_node": waits, "pose_node": ready} if other else {"drp_node": waits})
        return hearing.lonely({"drp_node", "pose_node"})

    assert not any(after(k, 0) for k in range(5 * UNREADY))  # the other one is not there yet
    assert not any(after(5 * UNREADY + k, 1 + k) for k in range(UNREADY))
    assert after(6 * UNREADY, 1 + UNREADY) == {"drp_node"}
    assert not any(after(7 * UNREADY + k, 1 + k, "8") for k in range(UNREADY))  # it was started again
    assert after(8 * UNREADY, 1 + UNREADY, "8") == {"drp_node"}


def test_nodes_that_wait_for_a_deactivated_one_are_not_restarted():
    """`ros2 lifecycle set /pose_node deactivate`: drp_node has no listener then, for as long as the user likes."""
    hearing = Hearing()

    def second(k: int, ready: str, other: dict[str, str]) -> set[str]:
        hearing.update({"drp_node": {"pid": "7", "beats": str(k), "ready": ready}, "pose_node": {"pid": "6", **other}})
        return hearing.lonely({"drp_node", "pose_node"})

    for k in range(2 * UNREADY):
        assert not second(k, "1", {"beats": str(k), "ready": "1"})
    still = {"beats": str(2 * UNREADY), "ready": "0", "message": INACTIVE}
    assert not any(second(2 * UNREADY + k, "0", still) for k in range(3 * UNREADY))
    for k in range(UNREADY - 1):  # active again; for a moment nobody is matched
        assert not second(5 * UNREADY + k, "0", {"beats": str(2 * UNREADY + k), "ready": "1"})


class Sleepers(Processes):
    """Processes that do nothing at all."""

    def __init__(self, tmp_path) -> None:
        names = ("drp_node", "pose_node")
        super().__init__([NodeSpec(name, {}) for name in names], tmp_path, {})
        for name in names:
            self._start(name, "ab")

    def _start(self, name: str, mode: str) -> None:
        self._running[name] = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])


@pytest.fixture
def sleepers(tmp_path) -> Iterator[Sleepers]:
    made = Sleepers(tmp_path)
    yield made
    made.kill()


def test_a_process_that_hangs_is_started_again_once_the_monitor_is_above_doubt(sleepers, caplog):
    clock, asked = [0.0], []
    renewal = Renewal(sleepers, lambda: asked.append(clock[0]), lambda: clock[0])
    before = sleepers.pids()

    def until(end_s: float) -> None:
        while clock[0] < end_s:
            clock[0] += 1.0
            pid = sleepers.pids()["drp_node"]
            renewal.step({"drp_node": {"pid": str(pid), "beats": str(int(clock[0])), "ready": "1"}})

    with caplog.at_level(logging.WARNING):
        until(QUIET_S)
        assert not asked
        until(SAID_S + 1)
        assert len(asked) == 1 and sleepers.pids() == before
        assert "not ready after" in caplog.text and "pose_node (has not reported yet)" in caplog.text
        until(2 * QUIET_S + 5)
    assert sleepers.restarts == {"pose_node": 1} and sleepers.pids()["drp_node"] == before["drp_node"]
    with pytest.raises(GraphError, match="pose_node runs, but has reported nothing"):
        until((2 * USELESS + 3) * QUIET_S)
    assert sleepers.restarts == {"pose_node": USELESS}


def test_a_player_is_restarted_only_before_its_first_frame(tmp_path):
    for played in (False, True):
        processes = Sleepers(tmp_path)
        processes._specs = {n: NodeSpec(n, {}, ends=n == "drp_node") for n in ("drp_node", "pose_node")}
        processes.played = played
        try:
            processes.renew("drp_node", "hangs")
        except GraphError:
            assert played
        else:
            assert not played and processes.restarts == {"drp_node": 1}
        finally:
            processes.kill()
