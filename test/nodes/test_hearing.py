# SPDX-License-Identifier: Apache-2.0
"""Nodes that run but hear nothing are told from busy, idle and restarted ones by their health."""

from __future__ import annotations

import pytest

from drp_slam.nodes.hearing import BEATS, FRAMES, Hearing


def seconds(hearing: Hearing, count: int, own: dict[str, int], peer: dict[str, int], start: int = 0) -> bool:
    """`count` seconds in which values grow by so much a second; whether pose_node was ever found deaf."""
    found = False
    for k in range(start, start + count):
        values = {name: str(rate * k) for name, rate in own.items()}
        sent = {name: str(rate * k) for name, rate in peer.items()}
        hearing.update({"pose_node": {"pid": "7", **values}, "drp_node": {"pid": "6", **sent}})
        found |= hearing.deaf() == {"pose_node": "drp_node"}
    return found


@pytest.mark.parametrize(
    "own, peer, deaf",
    [
        ({"beats": 1, "heard": 0}, {"frames": 30}, True),
        ({"beats": 1, "heard": 1}, {"frames": 30}, False),  # slow
        ({"beats": 0, "heard": 0}, {"frames": 30}, False),  # busy: no health either
        ({"beats": 1, "heard": 0}, {"frames": 0}, False),  # nothing is sent
        ({}, {"frames": 30}, False),
    ],
)
def test_who_is_deaf(own, peer, deaf):
    assert seconds(Hearing(), 3 * BEATS, own, peer) == deaf


def test_a_node_that_goes_deaf_later_is_found_and_its_successor_is_not():
    hearing = Hearing()
    assert not seconds(hearing, BEATS, {"beats": 1, "heard": 30}, {"frames": 30})
    stuck = {"pid": "7", "heard": "570"}
    for k in range(BEATS, 2 * BEATS + 1):
        hearing.update({"pose_node": {**stuck, "beats": str(k)}, "drp_node": {"pid": "6", "frames": str(30 * k)}})
        found = hearing.deaf()
    assert found == {"pose_node": "drp_node"}
    hearing.update({"pose_node": {"pid": "8", "heard": "0", "beats": "1"}})
    assert hearing.deaf() == {}


@pytest.mark.parametrize("text", ["", "-1", "abc", "²", "1e9", "9" * 5000, "[/bold]"])
def test_what_strangers_publish_is_no_error(text):
    hearing = Hearing()
    for k in range(FRAMES + BEATS):
        hearing.update({"pose_node": {"beats": text, "heard": text, "pid": text}, "drp_node": {"frames": text}})
        assert hearing.deaf() == {}
        hearing.update({"drp_node": {"frames": str(k), "pid": "1"}})
        hearing.deaf()
